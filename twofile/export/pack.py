"""float32 rows become blocks of 16 rows; docs/format.md has the layout."""

import numpy as np

from ..files import padded
from ..format.types import BLOCK, GROUP
from .arrays import to_bfloat16, to_float32


def pack(rows, dtype):
    """float32 [n, cols], n a multiple of 16 unless last -> (uint8 bytes, float16 scales or None, what a reader gets back)."""
    n, cols = rows.shape
    tall = padded(n, BLOCK)
    if dtype in ("f32", "f16", "bf16"):
        whole = np.zeros((tall, cols), np.float32)
        whole[:n] = rows
        blocks = np.ascontiguousarray(whole.reshape(tall // BLOCK, BLOCK, cols).transpose(0, 2, 1))
        if dtype == "f32":
            return blocks.view(np.uint8).reshape(-1), None, rows
        if dtype == "f16":
            half = blocks.astype("<f2")
            return half.view(np.uint8).reshape(-1), None, rows.astype(np.float16).astype(np.float32)
        brain = to_bfloat16(blocks)
        return brain.view(np.uint8).reshape(-1), None, to_float32(to_bfloat16(rows))
    wide = padded(cols, GROUP)
    whole = np.zeros((tall, wide), np.float32)
    whole[:n, :cols] = rows
    values, scales = (quantise8 if dtype == "q8_0" else quantise4)(whole.reshape(tall, -1, GROUP))
    back = (values * scales.astype(np.float32)[..., None]).reshape(tall, wide)[:n, :cols]
    return *interleaved(values, scales, dtype), back


def interleaved(values, scales, dtype):
    """Values [rows, groups, 32] and scales [rows, groups] -> the bytes of blocks of 16 rows, and their scales."""
    tall, wide = padded(len(values), BLOCK), values.shape[1] * GROUP
    if tall > len(values):
        values, scales = (
            np.concatenate((x, np.zeros((tall - len(x), *x.shape[1:]), x.dtype)))
            for x in (values, scales)
        )
    values = values.reshape(tall // BLOCK, BLOCK, wide).astype(np.int16)
    if dtype == "q8_0":
        data = (
            (values + 128).astype(np.uint8).reshape(-1, BLOCK, wide // 4, 4).transpose(0, 2, 1, 3)
        )
    else:
        steps = (
            (values + 8)
            .astype(np.uint8)
            .reshape(-1, BLOCK, wide // 8, 2, 4)
            .transpose(0, 2, 3, 1, 4)
        )
        data = steps[:, :, 0] | steps[:, :, 1] << 4
    scales = np.ascontiguousarray(scales.reshape(tall // BLOCK, BLOCK, -1).transpose(0, 2, 1))
    return np.ascontiguousarray(data).reshape(-1), scales


def quantise8(x):
    """float32 [rows, groups, 32] -> values -127..127 float32, scales float16 [rows, groups] (llama.cpp's Q8_0)."""
    scales = (np.abs(x).max(-1) / 127).astype("<f2")
    return np.clip(np.rint(x * inverse(scales)[..., None]), -127, 127), scales


def quantise4(x):
    """As quantise8, to -8..7. Of several scales takes the one whose least-squares refinement leaves the smallest error."""
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
