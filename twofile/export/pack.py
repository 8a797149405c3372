"""float32 rows become blocks of 16 rows; docs/format.md has the layout."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..format.types import BF16, BLOCK, F16, F32, GROUP, Q4_0, Q8_0, padded

HALF = 65504  # the largest float16


@dataclass(frozen=True)
class Floats:
    """Numbers that stand by themselves. stored: float32 -> as they stand; back: and again. most:
    the largest magnitude that they can have, None = any; limit: how a message names it."""

    stored: Callable
    back: Callable
    most: float | None = None
    limit: str = ""

    def pack(self, rows):
        """float32 [n, cols], n a multiple of 16 unless last -> uint8 bytes, None (its scales), and
        the float32 rows that a reader gets back."""
        n, cols = rows.shape
        tall = padded(n, BLOCK)
        whole = np.zeros((tall, cols), np.float32)
        whole[:n] = rows
        blocks = np.ascontiguousarray(whole.reshape(tall // BLOCK, BLOCK, cols).transpose(0, 2, 1))
        return self.stored(blocks).view(np.uint8).reshape(-1), None, self.back(self.stored(rows))


@dataclass(frozen=True)
class Groups:
    """Values in groups of 32 that share a scale. quantise: float32 [rows, groups, 32] -> values and
    scales; laid: values of blocks int16 [blocks, 16, columns] -> uint8 as they stand."""

    quantise: Callable
    laid: Callable
    most: float
    limit: str

    def pack(self, rows):
        """As of Floats; the scales are float16 [blocks, groups, 16]."""
        n, cols = rows.shape
        tall, wide = padded(n, BLOCK), padded(cols, GROUP)
        whole = np.zeros((tall, wide), np.float32)
        whole[:n, :cols] = rows
        values, scales = self.quantise(whole.reshape(tall, -1, GROUP))
        back = (values * scales.astype(np.float32)[..., None]).reshape(tall, wide)[:n, :cols]
        return *self.interleaved(values, scales), back

    def interleaved(self, values, scales):
        """Values [rows, groups, 32] and scales [rows, groups] -> the bytes of blocks of 16 rows,
        and their scales."""
        tall, wide = padded(len(values), BLOCK), values.shape[1] * GROUP
        if tall > len(values):
            more = lambda x: np.zeros((tall - len(x), *x.shape[1:]), x.dtype)
            values, scales = (np.concatenate((x, more(x))) for x in (values, scales))
        values = values.reshape(tall // BLOCK, BLOCK, wide).astype(np.int16)
        scales = scales.reshape(tall // BLOCK, BLOCK, -1).transpose(0, 2, 1)
        return np.ascontiguousarray(self.laid(values)).reshape(-1), np.ascontiguousarray(scales)


def laid8(values):
    """Four columns of all rows of a block, then the next four."""
    steps = (values + Q8_0.zero).astype(np.uint8)
    return steps.reshape(*steps.shape[:2], -1, 4).transpose(0, 2, 1, 3)


def laid4(values):
    """Eight columns of all rows of a block: the second four in the upper halves of the bytes."""
    steps = (values + Q4_0.zero).astype(np.uint8)
    steps = steps.reshape(*steps.shape[:2], -1, 2, 4).transpose(0, 2, 3, 1, 4)
    return steps[:, :, 0] | steps[:, :, 1] << 4


def quantise8(x):
    """float32 [rows, groups, 32] -> values -127..127 float32, scales float16 [rows, groups]
    (llama.cpp's Q8_0)."""
    scales = (np.abs(x).max(-1) / 127).astype("<f2")
    return np.clip(np.rint(x * inverse(scales)[..., None]), -127, 127), scales


def quantise4(x):
    """As quantise8, to -8..7. Of several scales takes the one whose least-squares refinement leaves
    the smallest error."""
    at = np.abs(x).argmax(-1)[..., None]
    largest = np.take_along_axis(x, at, -1)[..., 0]
    best = np.full(largest.shape, np.inf, np.float32)
    values, scales = np.zeros_like(x), np.zeros(largest.shape, "<f2")
    for steps in (-8.0, -7.5, -7.0, -6.5, 7.0):
        first = np.clip(np.rint(x * inverse(largest / np.float32(steps))[..., None]), -8, 7)
        square = np.einsum("rgk,rgk->rg", first, first)
        scale = (np.einsum("rgk,rgk->rg", first, x) * inverse(square)).astype("<f2")
        q = np.clip(np.rint(x * inverse(scale)[..., None]), -8, 7)
        left = x - q * scale.astype(np.float32)[..., None]
        error = np.einsum("rgk,rgk->rg", left, left)
        better = error < best
        best[better], scales[better], values[better] = error[better], scale[better], q[better]
    return values, scales


def inverse(scales):
    """1 / scales in float32, 0 for 0."""
    scales = scales.astype(np.float32)
    return np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)


def to_bfloat16(x):
    """float32 -> uint16 holding the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def from_bfloat16(x):
    """uint16 holding bfloat16 -> float32."""
    return (x.astype(np.uint32) << 16).view(np.float32)


def same(x):
    return x


PACKERS = {  # how a matrix of a Type is stored; the largest number times the largest scale
    F32: Floats(same, same),
    F16: Floats(lambda x: x.astype("<f2"), lambda x: x.astype(np.float32), HALF, "float16's 65504"),
    BF16: Floats(to_bfloat16, from_bfloat16),
    Q8_0: Groups(quantise8, laid8, HALF * 127, "what q8_0 holds"),
    Q4_0: Groups(quantise4, laid4, HALF * 7, "what q4_0 holds"),
}
