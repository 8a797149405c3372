"""Short convolutions over the tokens."""

import numpy as np

from twins.matmul import linear


def convolve(c, t, i, x):
    """Every column by itself: the sum of its last conv_len rows by the taps, the last of which is the row's own."""
    taps = t[f"l{i}.conv"].reshape(c.conv_len, -1)
    before = np.concatenate([np.zeros((c.conv_len - 1, x.shape[1])), x])
    return sum(before[k : k + len(x)] * taps[k] for k in range(c.conv_len))


def short_conv(c, t, i, h, int8):
    b, gate, x = np.split(linear(t, f"l{i}.qkv", h, int8), 3, axis=1)
    return gate * convolve(c, t, i, b * x)
