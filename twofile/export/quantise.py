"""float32 rows become numbers of few bits, and what scales them."""

import numpy as np

from ..format.types import Q4_0, Q8_0, SUPER

MOST = 65504  # the largest float16


def quantiser(kind):
    """-> what makes of float32 [rows, groups, 32] the values, scales and above of Stored, for a
    Type."""
    if kind is Q8_0:
        return quantise8
    if kind is Q4_0:
        return quantise4
    return lambda x: quantise(kind, x)


def quantise8(x):
    """Values that are rounded by the largest of each group (llama.cpp's Q8_0)."""
    scales = (np.abs(x).max(-1) / 127).astype("<f2")
    values = np.clip(np.rint(x * inverse(scales)[..., None]), -127, 127)
    return (values + 128).astype(np.uint8), scales, None


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
    return (values + 8).astype(np.uint8), scales, None


def quantise(kind, x):
    """Of any other type: by the smallest and the largest of the columns that share a scale."""
    n, groups, _ = x.shape
    parts = x.reshape(n, -1, kind.share)
    low, high = parts.min(-1), parts.max(-1)
    if kind.least:
        least = np.minimum(low, 0)
        scale = (np.maximum(high, 0) - least) / (2**kind.bits - 1)
    else:
        most = 127 if kind.book else kind.zero
        scale, least = np.where(high > -low, high, low) / np.float32(-most), None
    scale, least, scales, above = stored_scales(kind, scale, least)
    left = parts if least is None else parts - least[..., None]
    left = left * inverse(scale)[..., None]
    if kind.book:
        book = np.float32(kind.book)
        values = np.searchsorted((book[1:] + book[:-1]) / 2, left)
    else:
        values = np.clip(np.rint(left) + kind.zero, 0, 2**kind.bits - 1)
    return values.astype(np.uint8).reshape(n, groups, 32), scales, above


def stored_scales(kind, scale, least):
    """float32 [rows, parts] -> scales and leasts as a reader gets them; as they are stored; what is
    above them."""
    if not kind.above:
        scales = (scale if least is None else np.stack((scale, least), -1)).astype("<f2")
        back = scales.astype(np.float32)
        return (
            (back, None, scales, None)
            if least is None
            else (*back.transpose(2, 0, 1), scales, None)
        )
    n, parts = scale.shape
    many = SUPER // kind.share
    supers = -(-parts // many)
    most = 15 if kind.halves else 255 if kind.least else 127

    def by_supers(x):
        wide = np.zeros((n, supers * many), np.float32)
        wide[:, :parts] = x
        wide = wide.reshape(n, supers, many)
        at = np.abs(wide).argmax(-1)[..., None]
        top = (np.take_along_axis(wide, at, -1)[..., 0] / most).astype("<f2")
        whole = np.rint(wide * inverse(top)[..., None]).clip(-128 if most == 127 else 0, most)
        back = whole * top.astype(np.float32)[..., None]
        flat = lambda x: x.reshape(n, -1)[:, :parts]
        return flat(back), flat(whole), top

    back, whole, top = by_supers(scale)
    if least is None:
        return back, None, whole.astype(np.int8), top
    back2, whole2, top2 = by_supers(least)
    above = np.stack((top, top2), -1)
    if kind.halves:
        return back, back2, (whole + 16 * whole2).astype(np.uint8), above
    return back, back2, np.stack((whole, whole2), -1).astype(np.uint8), above


def inverse(scales):
    """1 / scales in float32, 0 for 0."""
    scales = scales.astype(np.float32)
    return np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)
