"""float32 groups become q8_0 and q4_0, by numpy alone."""

import numpy as np


def quantise8(x):
    """float32 [rows, groups, 32] -> uint8 numbers, float16 scales. Rounded by the largest of each
    group (llama.cpp's Q8_0)."""
    scales = (np.abs(x).max(-1) / 127).astype("<f2")
    values = np.clip(np.rint(x * inverse(scales)[..., None]), -127, 127)
    return (values + 128).astype(np.uint8), scales


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
    return (values + 8).astype(np.uint8), scales


def inverse(scales):
    """1 / scales in float32, 0 for 0."""
    scales = scales.astype(np.float32)
    return np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)
