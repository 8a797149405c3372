"""The scales and leasts by which groups of 16 rows lose the least."""

import numpy as np

from ...compiler.kernel import inline
from ...words.memory import load, peek_f32, store
from ...words.numbers import add, div, fma, larger, magnitude, mul, splat, sub, zeros1
from .words import nearest, smaller, where_less

# Everywhere: 16 rows in 16 lanes; x and w are addresses of the elements, float32 [columns, 16], and
# of what a square of an error costs in a column, float32 [columns], 0 for filling; n columns, of
# which the first `real` are not filling.

ZERO, ONE, NEVER = np.float32(0), np.float32(1), np.float32(np.inf)
FINISHING = 2  # times that the best is fitted again
ENDS = {  # by bits: how far the ends are tried within a group's, in steps: from, by, how many
    2: (np.float32(-0.2), np.float32(0.15), 6),
    4: (np.float32(-0.3), np.float32(0.3), 6),
    5: (np.float32(-0.4), np.float32(0.4), 6),
}


@inline
def inverse(v):
    """1 / v, 0 for 0."""
    none = zeros1()
    return where_less(none, magnitude(v), div(splat(ONE), v), none)


def fit_scale(levels, n):
    """-> the scale with which the levels nearest to x * by lose the least, and what it gains:
    sums of squares more than it loses."""
    near = levels.nearest

    def fit(x, w, by):
        products, squares = zeros1(), zeros1()
        for i in range(n):
            v = load(x + 64 * i)
            level = near(mul(v, by))
            weighted = mul(splat(peek_f32(w + 4 * i)), level)
            products = fma(weighted, v, products)
            squares = fma(weighted, level, squares)
        scale = mul(products, inverse(squares))
        return scale, mul(scale, products)

    return inline(fit)


def scales_alone(levels, n):
    """-> the best scale of a group: of several at which its largest element becomes the first or
    the last level or nearly so, fitted by least squares, and fitted again."""
    fit = fit_scale(levels, n)
    first, step, many = trials(levels.low, levels.below)
    first2, step2, many2 = trials(levels.high, levels.above)

    def scale_of(x, w, real):
        extreme = zeros1()
        for i in range(real):
            v = load(x + 64 * i)
            extreme = where_less(magnitude(extreme), magnitude(v), v, extreme)
        over, best, most = inverse(extreme), zeros1(), zeros1()
        for t in range(many + many2 + FINISHING):
            if t < many:
                by = mul(over, splat(first + step * np.float32(t)))
            elif t < many + many2:
                by = mul(over, splat(first2 + step2 * np.float32(t - many)))
            else:
                by = inverse(best)
            scale, gain = fit(x, w, by)
            best = where_less(most, gain, scale, best)
            most = where_less(most, gain, gain, most)
        return best

    return inline(scale_of)


def trials(level, parts):
    """-> the first, the step to the next, how many."""
    low, high, many = parts
    return np.float32(level * low), np.float32(level * (high - low) / (many - 1)), many


def fit_both(half, n, free):
    """-> (what is lost, scale, least) of the numbers 0 to 2 half - 1 that are nearest to
    y * by + over + half, fitted by least squares. y: the elements less their mean; about: that
    mean, and sums of weights, of weighted y, of its weighted squares; sign: of the least, unless
    it is free."""
    low, high, h = np.float32(-half), np.float32(half - 1), np.float32(half)
    twice, square = np.float32(2 * half), np.float32(half * half)

    def alone(about, levels, squares, products):
        mean, all_w, all_y, all_yy = about
        squares = fma(levels, splat(twice), fma(all_w, splat(square), squares))
        weights = fma(all_w, splat(h), levels)
        products = fma(mean, weights, fma(all_y, splat(h), products))
        scale = mul(products, inverse(squares))
        all_xx = fma(mean, add(add(all_y, all_y), mul(mean, all_w)), all_yy)
        return sub(all_xx, mul(scale, products)), scale

    alone = inline(alone)

    def fit(y, w, about, by, over, sign):
        levels, squares, products = zeros1(), zeros1(), zeros1()
        for i in range(n):
            v = load(y + 64 * i)
            level = smaller(larger(nearest(fma(v, by, over)), splat(low)), splat(high))
            weighted = mul(splat(peek_f32(w + 4 * i)), level)
            levels = add(weighted, levels)
            squares = fma(weighted, level, squares)
            products = fma(weighted, v, products)
        mean, all_w, all_y, all_yy = about
        spread = larger(sub(mul(all_w, squares), mul(levels, levels)), zeros1())
        shift = mul(sub(mul(squares, all_y), mul(levels, products)), inverse(spread))
        scale = mul(sub(products, mul(shift, levels)), inverse(squares))
        lost = sub(sub(all_yy, mul(shift, all_y)), mul(scale, products))
        least = sub(add(shift, mean), mul(scale, splat(h)))
        if not free:
            wrong, none = mul(least, sign), zeros1()
            lost0, scale0 = alone(about, levels, squares, products)
            lost, scale = (
                where_less(wrong, none, lost0, lost),
                where_less(wrong, none, scale0, scale),
            )
            least = where_less(wrong, none, none, least)
        lost = where_less(scale, zeros1(), splat(NEVER), lost)
        return lost, scale, least

    return inline(fit)


def scales_and_leasts(bits, n, free):
    """-> the best scale and least of a group: of a grid of ends (its smallest and its largest
    element, or less) at which the first and the last number stand, fitted by least squares, and
    fitted again. y: room for the elements less their mean."""
    half, span = 2 ** (bits - 1), np.float32(2**bits - 1)
    fit, h = fit_both(half, n, free), np.float32(half)
    first, step, many = ENDS[bits]

    def about_of(x, w, y):
        all_w, mean, all_y, all_yy = zeros1(), zeros1(), zeros1(), zeros1()
        for i in range(n):
            all_w = add(all_w, splat(peek_f32(w + 4 * i)))
            mean = fma(splat(peek_f32(w + 4 * i)), load(x + 64 * i), mean)
        mean = mul(mean, inverse(all_w))
        for i in range(n):
            v = sub(load(x + 64 * i), mean)
            store(y + 64 * i, v)
            weighted = mul(splat(peek_f32(w + 4 * i)), v)
            all_y, all_yy = add(all_y, weighted), fma(weighted, v, all_yy)
        return mean, all_w, all_y, all_yy

    about_of = inline(about_of)

    def both_of(x, w, real, sign, y):
        about = about_of(x, w, y)
        low, high = load(x), load(x)
        for i in range(1, real):
            low, high = smaller(low, load(x + 64 * i)), larger(high, load(x + 64 * i))
        if not free:  # a least of the other sign is none
            none = zeros1()
            low = where_less(mul(low, sign), none, none, low)
        low, high = sub(low, about[0]), sub(high, about[0])
        unit = mul(sub(high, low), splat(np.float32(1) / span))
        least_lost, best, best_least = splat(NEVER), zeros1(), zeros1()
        for t in range(many * many + FINISHING):
            if t < many * many:
                cut = fma(unit, splat(first + step * np.float32(t // many)), low)
                end = sub(high, mul(unit, splat(first + step * np.float32(t % many))))
                by = mul(inverse(sub(end, cut)), splat(span))
            else:
                by, cut = inverse(best), sub(best_least, about[0])
            over = sub(zeros1(), fma(cut, by, splat(h)))
            lost, scale, least = fit(y, w, about, by, over, sign)
            best = where_less(lost, least_lost, scale, best)
            best_least = where_less(lost, least_lost, least, best_least)
            least_lost = where_less(lost, least_lost, lost, least_lost)
        return best, best_least

    return inline(both_of)
