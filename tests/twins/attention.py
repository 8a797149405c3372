"""Attention over the whole text at once, head after head."""

import numpy as np

from twins.matmul import int8_activations, linear
from twins.rotation import rotate

ATT_GATE, V_NORM, SECOND = 1 << 16, 1 << 17, 3  # bits of config.flags; a kind of layer


def attention(c, t, i, h, int8, seen, kv="f32"):
    """seen: {kind of layer: the last keys and values}, for layers that have none of their own. kv: the type of the cache."""
    n, second = len(h), c.kinds[i] == SECOND
    hd, n_kv = (c.head_dim2, c.n_kv_heads2) if second else (c.head_dim, c.n_kv_heads)
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
        k, v = parts[:, c.n_heads : c.n_heads + n_kv], parts[:, c.n_heads + n_kv : c.n_heads + 2 * n_kv]
        seen[c.kinds[i]] = ready(k, wk), rms(v, np.ones(n_kv * hd)) if c.flags & V_NORM else v
    k, v = seen[c.kinds[i]]
    if c.temp_beta:
        q = q * (1 + c.temp_beta * np.log(1 + np.arange(n) // c.temp_len))[:, None, None]
    att = np.zeros((n, c.n_heads, hd))
    far = int(t["window"][i]) or n
    near = np.tri(n, dtype=bool) & ~np.tri(n, k=-far, dtype=bool)
    for head in range(c.n_heads):
        sink = t[f"l{i}.sinks"][head] if f"l{i}.sinks" in t else -np.inf
        own = head // (c.n_heads // n_kv)
        query = q[:, head] * (c.attn_scale or hd**-0.5)
        att[:, head] = attend(query, k[:, own], v[:, own], near, c.attn_cap, sink, kv)
    att = att.reshape(n, -1)
    return att if gate is None else att / (1 + np.exp(-gate))


def attend(q, k, v, near, cap=0.0, sink=-np.inf, kv="f32"):
    """One head: queries [m, size], keys and values [n, size], near: who sees whom [m, n] -> [m, size]."""
    if kv == "q8_0":
        q, k = hadamard(q), hadamard(k)
        numbers, scales = int8_activations(q)
        q = (numbers * scales.astype(float)[..., None]).reshape(len(q), -1)[:, : q.shape[1]]
        k = np.concatenate([numbers * scale for numbers, scale in narrow(k)], 1)
    elif kv == "f16":
        k, v = (np.float32(x).astype(np.float16).astype(float) for x in (k, v))
    scores = q @ k.T
    scores = cap * np.tanh(scores / cap) if cap else scores
    scores = np.where(near, scores, -np.inf)
    top = np.maximum(scores.max(1, keepdims=True), sink)
    weights = np.exp(scores - top)
    out = blended(weights, narrow(v)) if kv == "q8_0" else weights @ v
    return out / (weights.sum(1, keepdims=True) + np.exp(sink - top))


def hadamard(x):
    """Each whole 32 columns times Sylvester's matrix over its root, in float32: the order of the sums is the butterfly's."""
    x, at = np.array(x, np.float32), np.arange(32)
    for first in range(0, x.shape[1] - 31, 32):
        part = x[:, first : first + 32]
        for n in (16, 8, 4, 2, 1):
            part = part[:, at ^ n] + np.where(at & n, -part, part)
        x[:, first : first + 32] = part * np.float32(32**-0.5)
    return x


def narrow(x):
    """-> [(whole numbers [n, up to 32], scale [n, 1])], for 32 columns after 32: what a cache of q8_0 keeps of vectors."""
    found = []
    for part in np.split(np.asarray(x, np.float32), range(32, x.shape[1], 32), 1):
        scale = (np.abs(part).max(1, keepdims=True) / np.float32(127)).astype(np.float16).astype(float)
        numbers = np.divide(part, scale, out=np.zeros(part.shape), where=scale > 0)
        found.append((np.clip(np.rint(numbers), -127, 127), scale))
    return found


def blended(weights, groups):
    """weights [m, n] times values; those of 64 keys, times their scales, are taken as multiples of the largest / 16383."""
    out = []
    for numbers, scale in groups:
        out.append(0)
        for at in range(0, len(numbers), 64):
            part = weights[:, at : at + 64] * scale[at : at + 64].T
            unit = part.max(1, keepdims=True) / 16383
            whole = np.rint(np.divide(part, unit, out=np.zeros_like(part), where=unit > 0))
            out[-1] = out[-1] + whole * unit @ numbers[at : at + 64]
    return np.concatenate(out, 1)
