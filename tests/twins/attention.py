"""Attention over the whole text at once, head after head."""

import numpy as np

from twins.matmul import linear
from twins.rotation import rotate

ATT_GATE, V_NORM, SECOND = 1 << 16, 1 << 17, 3  # bits of config.flags; a kind of layer


def attention(c, t, i, h, int8, seen):
    """seen: {kind of layer: the last keys and values}, for layers that have none of their own."""
    n, second = len(h), c.kinds[i] == SECOND
    hd, kv = (c.head_dim2, c.n_kv_heads2) if second else (c.head_dim, c.n_kv_heads)
    parts = linear(t, f"l{i}.qkv", h, int8).reshape(n, -1, hd)
    gate = parts[:, -c.n_heads :].reshape(n, -1) if c.flags & ATT_GATE else None
    rms = lambda x, w, over=(2,): x / np.sqrt((x**2).mean(over, keepdims=True) + c.eps) * w.reshape(1, -1, hd)
    turn = lambda x: x
    if t["rope_id"][i] >= 0:
        turn = lambda x: rotate(x, t["rope2"][0] if second else t["rope"][int(t["rope_id"][i])])
    over = (2,) if c.qk_norm == 1 else (1, 2)
    q = parts[:, : c.n_heads]
    normed = lambda x, w: x if not c.qk_norm else rms(x, w, over)
    ready = lambda x, w: normed(turn(x), w) if c.qk_after else turn(normed(x, w))
    wq, wk = np.split(t[f"l{i}.qk.w"], [c.n_heads * hd]) if c.qk_norm else (None, None)
    q = ready(q, wq)
    if i < c.n_layers - c.kv_shared:
        k, v = parts[:, c.n_heads : c.n_heads + kv], parts[:, c.n_heads + kv : c.n_heads + 2 * kv]
        seen[c.kinds[i]] = ready(k, wk), rms(v, np.ones(kv * hd)) if c.flags & V_NORM else v
    k, v = seen[c.kinds[i]]
    if c.temp_beta:
        q = q * (1 + c.temp_beta * np.log(1 + np.arange(n) // c.temp_len))[:, None, None]
    att = np.zeros((n, c.n_heads, hd))
    far = int(t["window"][i]) or n
    near = np.tri(n, dtype=bool) & ~np.tri(n, k=-far, dtype=bool)
    for head in range(c.n_heads):
        scores = q[:, head] @ k[:, head // (c.n_heads // kv)].T * (c.attn_scale or hd**-0.5)
        scores = c.attn_cap * np.tanh(scores / c.attn_cap) if c.attn_cap else scores
        scores = np.where(near, scores, -np.inf)
        sink = np.full((n, 1), t[f"l{i}.sinks"][head]) if f"l{i}.sinks" in t else np.full((n, 1), -np.inf)
        top = np.maximum(scores.max(1, keepdims=True), sink)
        weights = np.exp(scores - top)
        weights /= weights.sum(1, keepdims=True) + np.exp(sink - top)
        att[:, head] = weights @ v[:, head // (c.n_heads // kv)]
    att = att.reshape(n, -1)
    return att if gate is None else att / (1 + np.exp(-gate))
