"""Blocks of 16 rows, rounded and packed: the kernel of each type."""

import hashlib
from pathlib import Path

import numpy as np

from ...compiler.kernel import Kernel, inline
from ...format.types import GROUP, SUPER
from ...words.memory import load, peek, peek_f32, store, store_f16
from ...words.numbers import add, fma, mul, splat, sub, zeros1
from .groups import inverse, scales_alone, scales_and_leasts
from .levels import levels_of
from .supers import LEASTS, halved, settled_alone, settled_both
from .words import (
    joined_bits,
    left,
    load_words,
    masked,
    right,
    roots,
    smaller,
    store_few,
    store_words,
    where_less,
    whole,
)

# What a kernel is given: int64 at a record, then where it may work, the first block, the one behind
# the last. X: float32 [blocks, columns of whole groups, 16], which become what a reader gets back;
# COST: float32 [columns], 0 for filling; EVEN, SIZE: a square of an error costs COST times the root
# of EVEN times the mean square of the row's 256 columns and SIZE times the element's own square.
X, COST, DATA, SCALES, ABOVE, COLS, EVEN, SIZE = range(0, 64, 8)
# where it works
WEIGHTS, CENTRED = 0, 64 * SUPER
FOUND, WHOLE, ROOM = (CENTRED + 64 * GROUP + 2 * LEASTS * k for k in range(3))
NUMBERS = ROOM + 2 * LEASTS
WORKING = NUMBERS + 64 * 8
ROUNDS = {"q2_k": 4, "q3_k": 3}  # of fitting what is above scales, if not 2


def weigh(record, x, cost, many, real, to):
    """What squares of errors cost, of the columns of a block."""
    squares = zeros1()
    for i in range(real):
        v = load(x + 64 * i)
        squares = fma(v, v, squares)
    even = mul(squares, splat(peek_f32(record + EVEN) / np.float32(max(real, 1))))
    size = splat(peek_f32(record + SIZE))
    for i in range(many):
        v = load(x + 64 * i)
        store(to + 64 * i, mul(splat(peek_f32(cost + 4 * i)), roots(fma(mul(v, v), size, even))))


def sign_of(x, real):
    """1 in rows whose elements are all positive, else -1."""
    low, one = load(x), splat(np.float32(1))
    for i in range(1, real):
        low = smaller(low, load(x + 64 * i))
    return where_less(zeros1(), low, one, sub(zeros1(), one))


weigh, sign_of = inline(weigh), inline(sign_of)


def lines_of(bits):
    """-> what packs a group: 8 words of 4 numbers for each row, as pack.words has them."""

    def nibbles(numbers, out):
        for k in range(4):
            low = masked(load_words(numbers + 128 * k), 0x0F0F0F0F)
            high = masked(load_words(numbers + 128 * k + 64), 0x0F0F0F0F)
            store_words(out + 64 * k, joined_bits(low, left(high, 4)))

    nibbles = inline(nibbles)

    def twos(numbers, out, down):
        for k in range(2):
            line = masked(right(load_words(numbers + 256 * k), down), 0x03030303)
            for j in range(1, 4):
                more = right(load_words(numbers + 256 * k + 64 * j), down)
                line = joined_bits(line, left(masked(more, 0x03030303), 2 * j))
            store_words(out + 64 * k, line)

    twos = inline(twos)

    def ones(numbers, out, down):
        line = masked(right(load_words(numbers), down), 0x01010101)
        for j in range(1, 8):
            more = masked(right(load_words(numbers + 64 * j), down), 0x01010101)
            line = joined_bits(line, left(more, j))
        store_words(out, line)

    ones = inline(ones)

    def lines(numbers, out):
        if bits >= 4:
            nibbles(numbers, out)
        if bits == 5:
            ones(numbers, out + 256, 4)
        if bits == 6:
            twos(numbers, out + 256, 4)
        if bits < 4:
            twos(numbers, out, 0)
        if bits == 3:
            ones(numbers, out + 128, 2)

    return inline(lines)


def put_group_of(kind, levels):
    """-> what rounds and packs a group whose scales and leasts are at found, a vector for each part
    of it; x becomes what a reader gets."""
    near, number, lines, share = levels.nearest, levels.number, lines_of(kind.bits), kind.share

    def put(x, found, numbers, out):
        for k in range(8):
            part = found + 64 * (4 * k // share)
            scale, least = load(part), load(part + LEASTS)
            by, word = inverse(scale), whole(zeros1())
            for j in range(4):
                at = x + 256 * k + 64 * j
                scaled = mul(sub(load(at), least), by)
                word = joined_bits(word, left(whole(number(scaled)), 8 * j))
                store(at, add(mul(near(scaled), scale), least))
            store_words(numbers + 64 * k, word)
        lines(numbers, out)

    return inline(put)


def scale_super_of(kind, levels):
    """-> what finds and stores the scales of a block's next 256 columns, or fewer; as a reader gets
    them they are then at FOUND."""
    n, least, parts = kind.share, kind.least, GROUP // kind.share
    most = 15 if kind.halves else 255 if least else 127
    rounds, halves, bits = ROUNDS.get(kind.name, 2), kind.halves, kind.bits
    if least:
        find = scales_and_leasts(bits, n, not kind.above)
        settle = settled_both(levels, n, most, rounds)
    else:
        find, settle = scales_alone(levels, n), settled_alone(levels, n, most, rounds)

    def found(x, groups, real, room):
        sign = sign_of(x, real)
        for g in range(groups * parts):
            at, to = 64 * n * g, room + FOUND + 64 * g
            mine = max(min(real - n * g, n), 0)
            if least:
                scale, plus = find(x + at, room + WEIGHTS + at, mine, sign, room + CENTRED)
                store(to, scale)
                store(to + LEASTS, plus)
            else:
                store(to, find(x + at, room + WEIGHTS + at, mine))
                store(to + LEASTS, zeros1())
        return sign

    found = inline(found)

    def scale_halves(x, groups, real, room, scales, above):
        found(x, groups, real, room)
        for g in range(groups):
            at, to = room + FOUND + 64 * g, scales + (64 if least else 32) * g
            for _ in range(2 if least else 1):
                store(at, halved(load(at), room + ROOM))
                store_f16(to, load(at))
                at, to = at + LEASTS, to + 32

    def scale_wholes(x, groups, real, room, scales, above):
        sign, many = found(x, groups, real, room), groups * parts
        at, numbers = room + FOUND, room + WHOLE
        if least:
            top, top2 = settle(x, room, many, at, numbers, sign, room + ROOM)
            store_f16(above + 32, top2)
        else:
            top = settle(x, room, many, at, numbers, room + ROOM)
            top2 = top
        store_f16(above, top)
        for g in range(many):
            number, number2 = load(numbers + 64 * g), load(numbers + LEASTS + 64 * g)
            store(at + 64 * g, mul(number, top))
            if least:
                store(at + LEASTS + 64 * g, mul(number2, top2))
            if halves:
                store_few(scales + 16 * g, whole(fma(number2, splat(np.float32(16)), number)))
            elif least:
                store_few(scales + 32 * g, whole(number))
                store_few(scales + 32 * g + 16, whole(number2))
            else:
                store_few(scales + 16 * g, whole(number))

    return inline(scale_wholes if kind.above else scale_halves)


def rounding_of(kind):
    """The Kernel that rounds to a Type."""
    levels = levels_of(kind)
    scale_super, put = scale_super_of(kind, levels), put_group_of(kind, levels)
    width, parts = 64 * kind.bits, GROUP // kind.share
    per_part = (16 if kind.above else 32) * (2 if kind.least and not kind.halves else 1)
    per_super = 32 * (1 + kind.least)

    def rounding(record, room, first, last):
        cols = peek(record + COLS)
        groups, supers = (cols + 31) // 32, (cols + 255) // 256
        for block in range(first, last):
            for s in range(supers):
                group, real = block * groups + 8 * s, cols - 256 * s
                x, many = peek(record + X) + 2048 * group, min(groups - 8 * s, 8)
                cost = peek(record + COST) + 1024 * s
                weigh(record, x, cost, 32 * many, min(real, 256), room + WEIGHTS)
                scales = peek(record + SCALES) + group * parts * per_part
                above = peek(record + ABOVE) + (block * supers + s) * per_super
                scale_super(x, many, min(real, 256), room, scales, above)
                for g in range(many):
                    at, out = room + FOUND + 64 * parts * g, peek(record + DATA)
                    put(x + 2048 * g, at, room + NUMBERS, out + (group + g) * width)
        return 0

    # not one of the house's, whose text names what is kept of them: this one's own text does
    return Kernel(f"round_{kind.name}_{OWN_TEXT}", lambda machine: rounding)


def own_text():
    """12 digits of the text of the rooms that these kernels are made of."""
    rooms = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(room.read_bytes() for room in rooms)).hexdigest()[:12]


OWN_TEXT = own_text()
