"""Matrices times rows; activations rounded to int8 as the kernels round them, and a fused multiply-add of float32."""

import numpy as np


def linear(t, name, x, int8):
    if int8:
        values, scales = int8_activations(x)
        x = (values * scales.astype(float)[..., None]).reshape(len(x), -1)[:, : x.shape[1]]
    return x @ t[name].T + t.get(name + ".b", 0)


def int8_activations(x):
    """float [n, cols] -> int8 values and float32 scales by groups of 32, as the kernels make them; all in float32."""
    x = np.asarray(x, np.float32)
    n, cols = x.shape
    wide = np.zeros((n, -(-cols // 32) * 32), np.float32)
    wide[:, :cols] = x
    groups = wide.reshape(n, -1, 32)
    size = np.abs(groups).max(-1)
    inverse = np.divide(np.float32(127), size, out=np.zeros_like(size), where=size > 0)
    values = np.rint(groups * inverse[..., None])
    return values.astype(np.int64), (size / np.float32(127)).astype(np.float32)


def fma32(x, y, z):
    """round_float32(x * y + z), rounded once. The float64 sum is rounded to odd first, so that rounding twice does no harm
    (Boldo and Melquiond 2008)."""
    product = x.astype(np.float64) * y.astype(np.float64)  # exact: 48 bits at most
    z = z.astype(np.float64)
    total = product + z
    part = total - product
    error = (product - (total - part)) + (z - part)
    bits = total.view(np.int64)
    even = (bits & 1) == 0
    toward = np.where((error > 0) == (total > 0), 1, -1)
    odd = np.where((error != 0) & even, bits + toward, bits).view(np.float64)
    return odd.astype(np.float32)
