"""float32 rows become blocks of 16 rows; docs/format.md has the layout."""

from collections.abc import Callable
from dataclasses import dataclass

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
    Type,
    padded,
)
from .quantise import quantise4, quantise8
from .rounding.rounded import rounded

PLAIN = {Q8_0: quantise8, Q4_0: quantise4}  # without a search that needs to be compiled
HALF = 65504  # the largest float16


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
        values, scales = plain(whole.reshape(n, -1, GROUP))
        back = (values.astype(np.float32) - self.type.zero) * scales.astype(np.float32)[..., None]
        return *laid(self.type, values, scales), back.reshape(n, -1)[:, :cols]


def laid(kind, values, scales):
    """uint8 [rows, groups, 32] and float16 [rows, groups] -> the bytes of blocks of 16 rows, and
    what is beside them, by endings of names."""
    values = np.ascontiguousarray(values)
    if len(values) % BLOCK:
        more = np.full((-len(values) % BLOCK, *values.shape[1:]), kind.zero, np.uint8)
        values = np.concatenate((values, more))
    steps = values.view("<u4")  # four columns each
    if kind.bits == 4:
        steps = steps[..., 0::2] | steps[..., 1::2] << 4
    return interleaved(steps).view(np.uint8).reshape(-1), {".s": interleaved(scales)}


def interleaved(x):
    """[rows, ...] -> [blocks, ..., rows of a block], filled up with zeros."""
    n, shape = padded(len(x), BLOCK), x.shape[1:]
    if n > len(x):
        x = np.concatenate((x, np.zeros((n - len(x), *shape), x.dtype)))
    return np.ascontiguousarray(np.moveaxis(x.reshape(n // BLOCK, BLOCK, *shape), 1, -1))


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
