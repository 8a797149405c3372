"""What scales 16 rows of some columns, and what is added to them, for each type."""

from typing import NamedTuple

import numpy as np

from ..compiler.kernel import inline
from ..words.memory import (
    load_f16,
    load_high4,
    load_i8,
    load_low4,
    load_u8,
    peek_f16,
    peek_u8,
)
from ..words.numbers import mul

# Of a block of 16 rows: s, what lies in NAME.s; d, what lies in NAME.d; part: the number of the
# columns that share a scale.


@inline
def signed(byte):
    return byte - byte // 128 * 256


def halves(step, at):
    """-> float16 that lie by themselves, step bytes from part to part: 16 rows, one."""

    def scale(s, d, part):
        return load_f16(s + step * part + at)

    def one(s, d, part, lane):
        return peek_f16(s + step * part + at + 2 * lane)

    return inline(scale), inline(one)


def products(load, number, step, at, parts, above, over):
    """-> whole numbers, read by load, of each part, times a float16 for so many parts: above bytes
    of these from one to the next, over from their begin on."""

    def scale(s, d, part):
        return mul(load_f16(d + part // parts * above + over), load(s + step * part + at))

    def one(s, d, part, lane):
        whole = number(peek_u8(s + step * part + at + lane))
        return peek_f16(d + part // parts * above + over + 2 * lane) * np.float32(whole)

    return inline(scale), inline(one)


@inline
def as_it_is(byte):
    return byte


@inline
def low_half(byte):
    return byte % 16


@inline
def high_half(byte):
    return byte // 16


class Scales(NamedTuple):
    """scale(s, d, part), least(s, d, part) -> of 16 rows, float32; one, one_least(s, d, part, lane)
    of one. least is None where nothing is added. bytes: of s for a part; above: of d for SUPER
    columns."""

    scale: object
    one: object
    least: object
    one_least: object
    bytes: int
    above: int


def scales_of(kind):
    """The Scales of a quantised Type."""
    count = 2 if kind.least else 1
    parts, above = 256 // kind.share, 32 * count
    if not kind.above:
        scale, least = halves(32 * count, 0), halves(32 * count, 32)
        step, above = 32 * count, 0
    elif kind.halves:
        step = 16
        scale = products(load_low4, low_half, step, 0, parts, above, 0)
        least = products(load_high4, high_half, step, 0, parts, above, 32)
    elif kind.least:
        step = 32
        scale = products(load_u8, as_it_is, step, 0, parts, above, 0)
        least = products(load_u8, as_it_is, step, 16, parts, above, 32)
    else:
        step = 16
        scale = products(load_i8, signed, step, 0, parts, above, 0)
    more = least if kind.least else (None, None)
    return Scales(*scale, *more, step, above)
