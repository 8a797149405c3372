"""The gated delta rule."""

import numpy as np

from twins.activation import CURVES
from twins.convolution import convolve
from twins.matmul import linear

TURNS = 1 << 19  # a bit of config.flags


def delta(c, t, i, h, int8):
    """The gated delta rule, position after position, head after head."""
    n, heads, silu = len(h), c.delta_v_heads, CURVES["silu"]
    row = linear(t, f"l{i}.qkv", h, int8)
    width, gate = row.shape[1] - heads * c.delta_v_dim, row[:, -heads * c.delta_v_dim :].reshape(n, heads, -1)
    mixed = silu(convolve(c, t, i, row[:, :width]))
    q, k = (x.reshape(n, c.delta_k_heads, -1) for x in np.split(mixed[:, : 2 * c.delta_k_heads * c.delta_k_dim], 2, axis=1))
    v = mixed[:, 2 * c.delta_k_heads * c.delta_k_dim :].reshape(n, heads, -1)
    q, k = (x / np.sqrt((x**2).sum(2, keepdims=True) + 1e-6) for x in (q, k))
    owner = np.arange(heads) % c.delta_k_heads if c.flags & TURNS else np.arange(heads) // (heads // c.delta_k_heads)
    q, k = q[:, owner], k[:, owner]
    b, a = np.split(h @ t[f"l{i}.ab"].T, 2, axis=1)
    slope, bias = np.split(t[f"l{i}.decay"], 2)
    rate, keep = 1 / (1 + np.exp(-b)), np.exp(slope * np.logaddexp(0, a + bias))
    state, out = np.zeros((heads, c.delta_k_dim, c.delta_v_dim)), np.zeros((n, heads, c.delta_v_dim))
    for p in range(n):
        for j in range(heads):
            s = state[j] * keep[p, j]
            state[j] = s + np.outer(k[p, j], rate[p, j] * (v[p, j] - k[p, j] @ s))
            out[p, j] = q[p, j] @ state[j] * c.delta_k_dim**-0.5
    out = out / np.sqrt((out**2).mean(2, keepdims=True) + c.eps) * t[f"l{i}.dn.w"] * silu(gate)
    return out.reshape(n, -1)
