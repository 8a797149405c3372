"""float32 rows become blocks of 16 rows; docs/format.md has the layout."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..format.types import (
    BF16,
    BLOCK,
    F16,
    F32,
    GROUP,
    MATRIX_TYPES,
    Q4_0,
    Q8_0,
    SUPER,
    Type,
    padded,
)
from .quantise import quantise4, quantise8
from .rounding.rounded import rounded

PLAIN = {Q8_0: quantise8, Q4_0: quantise4}  # without a search that needs to be compiled
HALF = 65504  # the largest float16


class Stored(NamedTuple):
    """Rows as their Type has them. values: uint8 [rows, groups, 32], the bits; scales: of the Type
    of its scales [rows, parts], or [rows, parts, 2] with the least; above: float16 [rows, supers],
    or [rows, supers, 2], or None."""

    values: np.ndarray
    scales: np.ndarray
    above: np.ndarray | None = None


@dataclass(frozen=True)
class Floats:
    """Numbers that stand by themselves. stored: float32 -> as they stand; back: and again. most:
    the largest magnitude that they can have, None = any; limit: how a message names it."""

    stored: Callable
    back: Callable
    most: float | None = None
    limit: str = ""

    def pack(self, rows, costs=None):
        """float32 [n, cols], n a multiple of 16 unless last -> uint8 bytes, what is beside them (by
        endings of names: nothing), and the float32 rows that a reader gets back. costs: as of
        rounding.rounded; nothing is chosen by them here."""
        n, cols = rows.shape
        tall = padded(n, BLOCK)
        whole = np.zeros((tall, cols), np.float32)
        whole[:n] = rows
        blocks = np.ascontiguousarray(whole.reshape(tall // BLOCK, BLOCK, cols).transpose(0, 2, 1))
        return self.stored(blocks).view(np.uint8).reshape(-1), {}, self.back(self.stored(rows))


@dataclass(frozen=True)
class Groups:
    """Values in groups of 32, scaled."""

    type: Type
    most: float
    limit: str

    def pack(self, rows, costs=None):
        """As of Floats."""
        plain = PLAIN.get(self.type)
        if not plain or self.type is Q4_0 and costs is not None:
            return rounded(self.type, rows, costs)
        n, cols = rows.shape
        whole = np.zeros((n, padded(cols, GROUP)), np.float32)
        whole[:, :cols] = rows
        stored = Stored(*plain(whole.reshape(n, -1, GROUP)))
        return *laid(self.type, stored), numbers(self.type, stored)[:, :cols]


def laid(kind, stored):
    """Stored -> the bytes of blocks of 16 rows, and what is beside them, by endings of names."""
    values = np.ascontiguousarray(stored.values)
    if len(values) % BLOCK:
        more = np.full((-len(values) % BLOCK, *values.shape[1:]), kind.zero, np.uint8)
        values = np.concatenate((values, more))
    data = interleaved(words(values.view("<u4"), kind.bits)).view(np.uint8).reshape(-1)
    beside = {".s": stored.scales} | ({".d": stored.above} if kind.above else {})
    return data, {end: interleaved(x) for end, x in beside.items()}


def interleaved(x):
    """[rows, ...] -> [blocks, ..., rows of a block], filled up with zeros."""
    n, shape = padded(len(x), BLOCK), x.shape[1:]
    if n > len(x):
        x = np.concatenate((x, np.zeros((n - len(x), *shape), x.dtype)))
    return np.ascontiguousarray(np.moveaxis(x.reshape(n // BLOCK, BLOCK, *shape), 1, -1))


ONES, TWOS, FOURS = (np.uint32(n * 0x01010101) for n in (1, 3, 15))  # bits of four bytes


def words(steps, bits):
    """uint32 [rows, groups, 8], a number in each byte -> [rows, groups, bits], as they lie."""
    if bits == 8:
        return steps
    parts = []
    if bits >= 4:
        low = steps & FOURS
        parts.append(low[..., 0::2] | low[..., 1::2] << 4)
    if bits in (2, 3, 6):
        parts.append(plane(steps >> (4 if bits == 6 else 0) & TWOS, 2))
    if bits in (3, 5):
        parts.append(plane(steps >> (4 if bits == 5 else 2) & ONES, 1))
    return np.concatenate(parts, -1)


def plane(steps, bits):
    """Numbers of so few bits, of as many steps as a byte has room for, in one."""
    many = 8 // bits
    steps = steps.reshape(*steps.shape[:-1], 8 // many, many)
    out = steps[..., 0].copy()
    for j in range(1, many):
        out |= steps[..., j] << bits * j
    return out


def numbers(kind, stored):
    """Stored -> float32 [rows, columns], what a reader gets: scale times number, and the least."""
    values, scales, above = stored
    whole = np.take(np.float32(kind.book), values) if kind.book else np.float32(values) - kind.zero
    if kind.halves:
        scales = np.stack((scales & 15, scales >> 4), -1)
    scales = scales.astype(np.float32)
    if kind.above:
        many = SUPER // kind.share
        scales *= np.repeat(above.astype(np.float32), many, 1)[:, : scales.shape[1]]
    whole = whole.reshape(len(values), -1, kind.share)
    if kind.least:
        return (whole * scales[..., :1] + scales[..., 1:]).reshape(len(values), -1)
    return (whole * scales[..., None]).reshape(len(values), -1)


def to_bfloat16(x):
    """float32 -> uint16 holding the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def from_bfloat16(x):
    """uint16 holding bfloat16 -> float32."""
    return (x.astype(np.uint32) << 16).view(np.float32)


def same(x):
    return x


def most_of(kind):
    """The largest magnitude that a Type surely holds."""
    return HALF * (127 if kind.book or kind.bits == 8 else max(1, kind.zero - 1))


PACKERS = {  # how a matrix of a Type is stored; the largest number times the largest scale
    F32: Floats(same, same),
    F16: Floats(lambda x: x.astype("<f2"), lambda x: x.astype(np.float32), HALF, "float16's 65504"),
    BF16: Floats(to_bfloat16, from_bfloat16),
    **{
        kind: Groups(kind, most_of(kind), f"what {kind.name} holds")
        for kind in MATRIX_TYPES
        if kind.quantised
    },
}
