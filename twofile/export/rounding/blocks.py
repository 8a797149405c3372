"""Blocks of 16 rows, rounded and packed: the kernel of each type."""

import numpy as np

from ...compiler.kernel import Kernel, inline
from ...format.types import GROUP, SUPER
from ...words.memory import load, load_f16, peek, peek_f32, store, store_f16
from ...words.numbers import add, fma, mul, splat, sub, zeros1
from .groups import inverse, scales_alone, scales_and_leasts
from .levels import levels_of
from .lines import lines_of
from .supers import LEASTS, choose_both, choose_scale, halved, settle_both, settle_scales
from .words import (
    joined_bits,
    left,
    smaller,
    store_few,
    store_words,
    where_less,
    whole,
)

# What a kernel is given: int64 at a record, then where it may work, the first block, the one behind
# the last. X: float32 [blocks, columns of whole groups, 16], which become what a reader gets back;
# COST: float32 [columns], 0 for filling: what a square of an error costs; FEEDS: float32 [supers,
# 256, 256], or none: how much of a column's error is added to those behind it.
X, COST, FEEDS, DATA, SCALES, ABOVE, COLS = range(0, 56, 8)
# where it works: elements less their mean, and for each part of 256 columns that has a scale of its
# own the scale as found, as a whole number, as tried; numbers of a group
CENTRED = 0
FOUND, WHOLE, ROOM = (64 * GROUP + 2 * LEASTS * k for k in range(3))
NUMBERS = ROOM + 2 * LEASTS
WORKING = NUMBERS + 64 * 8
ROUNDS = {"q2_k": 4, "q3_k": 3}  # of fitting what is above scales, if not 2
ROW = 4 * SUPER  # bytes of a column's FEEDS


@inline
def sign_of(x, real):
    """1 in rows whose elements are all positive, else -1."""
    low, one = load(x), splat(np.float32(1))
    for i in range(1, real):
        low = smaller(low, load(x + 64 * i))
    return where_less(zeros1(), low, one, sub(zeros1(), one))


def put_part_of(kind, levels):
    """-> what rounds the columns that share a scale, whose scale and least are at found, and puts
    their numbers, 4 in a word; x becomes what a reader gets. What is lost of a column is made good
    by those behind it, of which the last of this super is `real` columns from here."""
    near, number, steps = levels.nearest, levels.number, kind.share // 4

    def feed(x, off, feeds, first, real):
        for i in range(first, real):
            store(x + 64 * i, fma(off, splat(peek_f32(feeds + 4 * i)), load(x + 64 * i)))

    feed = inline(feed)

    def put(x, found, numbers, feeds, real):
        scale, least = load(found), load(found + LEASTS)
        by = inverse(scale)
        for k in range(steps):
            word = whole(zeros1())
            for j in range(4):
                i = 4 * k + j
                v = load(x + 64 * i)
                scaled = mul(sub(v, least), by)
                word = joined_bits(word, left(whole(number(scaled)), 8 * j))
                back = add(mul(near(scaled), scale), least)
                store(x + 64 * i, back)
                if feeds != 0:
                    feed(x, sub(v, back), feeds + ROW * i, i + 1, real)
            store_words(numbers + 64 * k, word)

    return inline(put)


def scales_of(kind, levels):
    """-> find(x, w, real, room, at): the scale and the least of a part go to room + at; settle:
    what is above those of all parts; again: those of a part once more, below what is above."""
    n, most = kind.share, 15 if kind.halves else 255 if kind.least else 127
    rounds, least, above = ROUNDS.get(kind.name, 2), kind.least, kind.above
    if least:
        best, chosen = scales_and_leasts(kind.bits, n, not above), choose_both(levels, n, most)
        settled = settle_both(levels, n, most, rounds)
    else:
        best, chosen = scales_alone(levels, n), choose_scale(levels, n, most)
        settled = settle_scales(levels, n, most, rounds)

    def find(x, w, real, sign, room, at):
        if least:
            scale, plus = best(x, w, real, sign, room + CENTRED)
        else:
            scale, plus = best(x, w, real), zeros1()
        store(room + FOUND + at, scale)
        store(room + FOUND + at + LEASTS, plus)

    def settle(x, w, many, sign, room, above):
        if least:
            top, top2 = settled(x, w, many, room + FOUND, room + WHOLE, sign, room + ROOM)
            store_f16(above + 32, top2)
        else:
            top = settled(x, w, many, room + FOUND, room + WHOLE, room + ROOM)
        store_f16(above, top)

    def again(x, w, room, at, above):
        scale, plus = load(room + FOUND + at), load(room + FOUND + at + LEASTS)
        if least:
            top, top2 = load_f16(above), load_f16(above + 32)
            number, number2, _ = chosen(x, w, scale, plus, top, top2)
            store(room + WHOLE + at + LEASTS, number2)
        else:
            number, _ = chosen(x, w, scale, load_f16(above))
        store(room + WHOLE + at, number)

    return inline(find), inline(settle), inline(again)


def put_scales_of(kind):
    """-> what stores a part's scale and least; as a reader gets them they are then at FOUND."""
    least, halves = kind.least, kind.halves

    def floats(room, at, scales, above):
        one = room + FOUND + at
        store(one, halved(load(one), room + ROOM))
        store_f16(scales, load(one))
        if least:
            store(one + LEASTS, halved(load(one + LEASTS), room + ROOM))
            store_f16(scales + 32, load(one + LEASTS))

    def wholes(room, at, scales, above):
        one, number = room + FOUND + at, load(room + WHOLE + at)
        store(one, mul(number, load_f16(above)))
        if least:
            number2 = load(room + WHOLE + at + LEASTS)
            store(one + LEASTS, mul(number2, load_f16(above + 32)))
            if halves:
                number = fma(number2, splat(np.float32(16)), number)
            else:
                store_few(scales + 16, whole(number2))
        store_few(scales, whole(number))

    return inline(wholes if kind.above else floats)


def super_of(kind, levels):
    """-> what rounds the next 256 columns of a block, or fewer, and packs them; n: with filling,
    real: without. Where errors are fed on, a part's scale is found once more when it has what came
    from the parts before."""
    find, settle, again = scales_of(kind, levels)
    put, put_scales, lines = put_part_of(kind, levels), put_scales_of(kind), lines_of(kind.bits)
    share, width, has_above = kind.share, 64 * kind.bits, kind.above
    per_part = (16 if kind.above else 32) * (2 if kind.least and not kind.halves else 1)

    def super_(x, w, feeds, n, real, room, data, scales, above):
        sign, parts = sign_of(x, real), n // share
        for g in range(parts):
            find(
                x + 64 * share * g,
                w + 4 * share * g,
                min(real - share * g, share),
                sign,
                room,
                64 * g,
            )
        if has_above:
            settle(x, w, parts, sign, room, above)
        for g in range(parts):
            at, at_w, at_feeds, left_ = x + 64 * share * g, w + 4 * share * g, 0, real - share * g
            if feeds != 0:
                at_feeds = feeds + (ROW + 4) * share * g
                if g > 0:
                    find(at, at_w, min(left_, share), sign, room, 64 * g)
                    if has_above:
                        again(at, at_w, room, 64 * g, above)
            put_scales(room, 64 * g, scales + per_part * g, above)
            numbers = room + NUMBERS + 16 * (share * g % 32)
            put(at, room + FOUND + 64 * g, numbers, at_feeds, left_)
            if share * (g + 1) % 32 == 0:
                lines(room + NUMBERS, data + share * g // 32 * width)

    return inline(super_), per_part


def rounding_of(kind):
    """The Kernel that rounds to a Type."""
    super_, per_part = super_of(kind, levels_of(kind))
    per_group, width, per_super = (
        GROUP // kind.share * per_part,
        64 * kind.bits,
        32 + 32 * kind.least,
    )

    def rounding(record, room, first, last):
        cols, feeds = peek(record + COLS), peek(record + FEEDS)
        groups, supers = (cols + 31) // 32, (cols + 255) // 256
        for block in range(first, last):
            for s in range(supers):
                group, n = block * groups + 8 * s, min(32 * groups - 256 * s, 256)
                fed = feeds + s * ROW * 256 if feeds != 0 else 0
                super_(
                    peek(record + X) + 2048 * group,
                    peek(record + COST) + 1024 * s,
                    fed,
                    n,
                    min(cols - 256 * s, 256),
                    room,
                    peek(record + DATA) + group * width,
                    peek(record + SCALES) + group * per_group,
                    peek(record + ABOVE) + (block * supers + s) * per_super,
                )
        return 0

    return Kernel(f"round_{kind.name}", lambda machine: rounding)
