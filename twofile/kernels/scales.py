"""What scales 16 rows of weights, and what is added to them, by type."""

from typing import NamedTuple

import numpy as np

from ..compiler.kernel import inline
from ..format.types import SUPER
from ..words.memory import (
    load_f16,
    load_high4,
    load_i8,
    load_low4,
    load_u8,
    peek_f16,
    peek_u8,
)
from ..words.numbers import mul, splat

# Of a block of 16 rows: s, what lies in NAME.s; d, what lies in NAME.d; part: the number of the
# columns that share a scale; top: what is above them, float32 of 16 rows.


@inline
def signed(byte):
    return byte - byte // 128 * 256


@inline
def as_it_is(byte):
    return byte


@inline
def low_half(byte):
    return byte % 16


@inline
def high_half(byte):
    return byte // 16


def float_scales(step, at):
    """-> float16 that lie by themselves, step bytes from part to part: what is above them, which is
    nothing; those of 16 rows; of one."""

    def top(d, group):
        return splat(np.float32(1))

    def scale(s, top, part):
        return load_f16(s + step * part + at)

    def one(s, d, part, lane):
        return peek_f16(s + step * part + at + 2 * lane)

    return inline(top), inline(scale), inline(one)


def whole_scales(load, number, step, at, share, above, over):
    """-> whole numbers, read by load, of each part, times a float16 for all parts of SUPER columns:
    above bytes of these from one to the next, over from their begin on. As of float_scales."""
    parts = SUPER // share

    def top(d, group):
        return load_f16(d + group // 8 * above + over)

    def scale(s, top, part):
        return mul(top, load(s + step * part + at))

    def one(s, d, part, lane):
        whole = number(peek_u8(s + step * part + at + lane))
        return peek_f16(d + part // parts * above + over + 2 * lane) * np.float32(whole)

    return inline(top), inline(scale), inline(one)


class Scales(NamedTuple):
    """top(d, group) of a group of 32 columns; scale(s, top, part) -> of 16 rows, float32; one(s, d,
    part, lane), of one row; likewise for the least, which are None where there is none. bytes: of s
    for a part; above: of d for SUPER columns."""

    top: object
    scale: object
    one: object
    low: object
    least: object
    one_least: object
    bytes: int
    above: int


def scales_of(kind):
    """The Scales of a quantised Type."""
    above = 64 if kind.least else 32
    least = None, None, None
    if not kind.above:
        step, above = above, 0
        scale = float_scales(step, 0)
        least = float_scales(step, 32) if kind.least else least
    elif kind.halves:
        step = 16
        scale = whole_scales(load_low4, low_half, step, 0, kind.share, above, 0)
        least = whole_scales(load_high4, high_half, step, 0, kind.share, above, 32)
    elif kind.least:
        step = 32
        scale = whole_scales(load_u8, as_it_is, step, 0, kind.share, above, 0)
        least = whole_scales(load_u8, as_it_is, step, 16, kind.share, above, 32)
    else:
        step = 16
        scale = whole_scales(load_i8, signed, step, 0, kind.share, above, 0)
    return Scales(*scale, *least, step, above)
