"""The scales of 256 columns, as whole numbers times a float16."""

import numpy as np

from ...compiler.kernel import inline
from ...words.memory import load, load_f16, peek_f32, store, store_f16
from ...words.numbers import add, fma, larger, magnitude, mul, splat, sub, zeros1
from .groups import NEVER, inverse
from .words import nearest, smaller, where_less

# Of 16 rows, in lanes. found: scales as they were found; whole: as whole numbers; both float32,
# a vector for each group, and behind them (LEASTS bytes) those of leasts.
LEASTS = 64 * 16  # as many vectors as groups of 256 columns, at most
HALF_A_STEP = np.float32(2.0**-25)  # of the smallest float16: what is added rounds up there


def lost_of(levels, n):
    """-> what a group loses by a scale and a least."""
    near = levels.nearest

    def lost(x, w, scale, plus):
        by, sum_ = inverse(scale), zeros1()
        for i in range(n):
            v = load(x + 64 * i)
            off = sub(fma(near(mul(sub(v, plus), by)), scale, plus), v)
            sum_ = fma(mul(splat(peek_f32(w + 4 * i)), off), off, sum_)
        return sum_

    return inline(lost)


@inline
def halved(v, room):
    """The nearest float16, as float32."""
    store_f16(room, v)
    return load_f16(room)


def top_of(most):
    """-> the float16 above so many scales: the largest is then at most `most`."""
    part = np.float32(1 / most)

    def top(found, many, room):
        size = zeros1()
        for g in range(many):
            size = larger(size, magnitude(load(found + 64 * g)))
        return halved(fma(size, splat(part), splat(HALF_A_STEP)), room)

    return inline(top)


def rounded_to(least, most):
    """-> the whole number of a scale, within its bounds."""
    least, most = np.float32(least), np.float32(most)

    def rounded(v):
        return smaller(larger(nearest(v), splat(least)), splat(most))

    return inline(rounded)


def choose_scale(levels, n, most):
    """-> of a group the whole number of its scale, of those beside scale / above, that loses the
    least, and what it loses."""
    lost, rounded = lost_of(levels, n), rounded_to(-most, most)

    def choose(x, w, scale, above):
        middle = nearest(mul(scale, inverse(above)))
        least_lost, best = splat(NEVER), zeros1()
        for t in range(3):  # none, one more, one less
            number = rounded(add(middle, splat(np.float32((t + 1) % 3 - 1))))
            cost = lost(x, w, mul(number, above), zeros1())
            best = where_less(cost, least_lost, number, best)
            least_lost = where_less(cost, least_lost, cost, least_lost)
        return best, least_lost

    return inline(choose)


def settle_scales(levels, n, most, rounds):
    """-> the float16 above the scales of `many` groups, which become whole numbers at whole; then
    it is fitted to these, and they to it, so many rounds."""
    choose, top, near = choose_scale(levels, n, most), top_of(most), levels.nearest

    def sums(x, w, number, above):
        by, products, squares = inverse(mul(number, above)), zeros1(), zeros1()
        for i in range(n):
            v = load(x + 64 * i)
            level = mul(near(mul(v, by)), number)
            weighted = mul(splat(peek_f32(w + 4 * i)), level)
            products, squares = fma(weighted, v, products), fma(weighted, level, squares)
        return products, squares

    sums = inline(sums)

    def settle(x, w, many, found, whole, room):
        above = top(found, many, room)
        least_lost, best = splat(NEVER), above
        for _ in range(rounds):
            total, products, squares = zeros1(), zeros1(), zeros1()
            for g in range(many):
                at, at_w = x + 64 * n * g, w + 4 * n * g
                number, cost = choose(at, at_w, load(found + 64 * g), above)
                store(room + 64 * g, number)
                more, more2 = sums(at, at_w, number, above)
                total = add(total, cost)
                products, squares = add(products, more), add(squares, more2)
            for g in range(many):
                kept = where_less(total, least_lost, load(room + 64 * g), load(whole + 64 * g))
                store(whole + 64 * g, kept)
            best = where_less(total, least_lost, above, best)
            least_lost = where_less(total, least_lost, total, least_lost)
            above = halved(larger(mul(products, inverse(squares)), zeros1()), room)
        return best

    return inline(settle)


def choose_both(levels, n, most):
    """-> as choose_scale, of scale and least."""
    lost, rounded = lost_of(levels, n), rounded_to(0, most)

    def choose(x, w, scale, least, above, above2):
        middle = nearest(mul(scale, inverse(above)))
        middle2 = nearest(mul(least, inverse(above2)))
        least_lost, best, best2 = splat(NEVER), zeros1(), zeros1()
        for t in range(9):
            number = rounded(add(middle, splat(np.float32((t // 3 + 1) % 3 - 1))))
            number2 = rounded(add(middle2, splat(np.float32((t + 1) % 3 - 1))))
            cost = lost(x, w, mul(number, above), mul(number2, above2))
            best = where_less(cost, least_lost, number, best)
            best2 = where_less(cost, least_lost, number2, best2)
            least_lost = where_less(cost, least_lost, cost, least_lost)
        return best, best2, least_lost

    return inline(choose)


def settle_both(levels, n, most, rounds):
    """-> as settle_scales, of scales and leasts; the float16 above these has that sign."""
    choose, top, near = choose_both(levels, n, most), top_of(most), levels.nearest

    def sums(x, w, number, number2, above, above2):
        by, least = inverse(mul(number, above)), mul(number2, above2)
        a, b, c, p, q = zeros1(), zeros1(), zeros1(), zeros1(), zeros1()
        for i in range(n):
            v, weight = load(x + 64 * i), splat(peek_f32(w + 4 * i))
            level = mul(near(mul(sub(v, least), by)), number)
            one, two = mul(weight, level), mul(weight, number2)
            a, b, c = fma(one, level, a), fma(one, number2, b), fma(two, number2, c)
            p, q = fma(one, v, p), fma(two, v, q)
        return a, b, c, p, q

    sums = inline(sums)

    def refit(x, w, many, whole, above, above2):
        a, b, c, p, q = zeros1(), zeros1(), zeros1(), zeros1(), zeros1()
        for g in range(many):
            number, number2 = load(whole + 64 * g), load(whole + LEASTS + 64 * g)
            at = 64 * n * g
            a1, b1, c1, p1, q1 = sums(x + at, w + at // 16, number, number2, above, above2)
            a, b, c, p, q = add(a, a1), add(b, b1), add(c, c1), add(p, p1), add(q, q1)
        over = inverse(larger(sub(mul(a, c), mul(b, b)), zeros1()))
        return mul(sub(mul(p, c), mul(q, b)), over), mul(sub(mul(a, q), mul(b, p)), over)

    refit = inline(refit)

    def settle(x, w, many, found, whole, sign, room):
        above = top(found, many, room)
        above2 = mul(top(found + LEASTS, many, room), sign)
        least_lost, best, best2 = splat(NEVER), above, above2
        for _ in range(rounds):
            total = zeros1()
            for g in range(many):
                at, scale, least = 64 * n * g, load(found + 64 * g), load(found + LEASTS + 64 * g)
                number, number2, cost = choose(x + at, w + at // 16, scale, least, above, above2)
                store(room + 64 * g, number)
                store(room + LEASTS + 64 * g, number2)
                total = add(total, cost)
            for g in range(many):
                for at in (64 * g, LEASTS + 64 * g):
                    kept = where_less(total, least_lost, load(room + at), load(whole + at))
                    store(whole + at, kept)
            best = where_less(total, least_lost, above, best)
            best2 = where_less(total, least_lost, above2, best2)
            least_lost = where_less(total, least_lost, total, least_lost)
            above, above2 = refit(x, w, many, room, above, above2)
            none = zeros1()
            above = halved(larger(above, none), room)
            above2 = halved(where_less(mul(above2, sign), none, none, above2), room)
        return best, best2

    return inline(settle)
