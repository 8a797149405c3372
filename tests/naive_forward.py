"""A Llama in float64, whole sequence at once, no cache: the slow twin of run.py's forward. Shares no code with it."""

import naive
import numpy as np


def logits(config, tensors, ids, int8=False):
    """float64 [len(ids), vocab]. tensors: name -> float64 array of true shape (naive.read dequantises a model.bin).
    int8: round the inputs of every matrix to int8 by groups of 32, as the kernels do for q8_0 and q4_0."""
    c, t = config, tensors
    n, hd = len(ids), c.head_dim
    group = c.n_heads // c.n_kv_heads
    x = t["embed"][ids] * (c.embed_scale or 1)
    for i in range(c.n_layers):
        h = norm(x, t[f"l{i}.an.w"], c.eps)
        qkv = linear(t, f"l{i}.qkv", h, int8).reshape(n, -1, hd)
        q, k, v = np.split(qkv, [c.n_heads, c.n_heads + c.n_kv_heads], axis=1)
        if t["rope_id"][i] >= 0:
            table = t["rope"][int(t["rope_id"][i])]
            q, k = rotate(q, table), rotate(k, table)
        att = np.zeros((n, c.n_heads, hd))
        far = int(t["window"][i]) or n
        seen = np.tri(n, dtype=bool) & ~np.tri(n, k=-far, dtype=bool)
        for head in range(c.n_heads):
            scores = q[:, head] @ k[:, head // group].T * (c.attn_scale or hd**-0.5)
            scores = np.where(seen, scores, -np.inf)
            weights = np.exp(scores - scores.max(1, keepdims=True))
            att[:, head] = weights / weights.sum(1, keepdims=True) @ v[:, head // group]
        x = x + linear(t, f"l{i}.o", att.reshape(n, -1), int8) * (c.resid_scale or 1)
        gate, up = np.split(linear(t, f"l{i}.gate_up", norm(x, t[f"l{i}.fn.w"], c.eps), int8), 2, axis=1)
        x = x + linear(t, f"l{i}.down", gate / (1 + np.exp(-gate)) * up, int8) * (c.resid_scale or 1)
    x = norm(x, t["out_norm.w"], c.eps)
    head = {"head": t.get("head", t["embed"])}
    return linear(head, "head", x, int8) * (c.logit_scale or 1)


def linear(t, name, x, int8):
    if int8:
        values, scales = naive.int8_activations(x)
        x = (values * scales.astype(float)[..., None]).reshape(len(x), -1)[:, : x.shape[1]]
    return x @ t[name].T + t.get(name + ".b", 0)


def norm(x, weight, eps):
    return x / np.sqrt((x**2).mean(1, keepdims=True) + eps) * weight


def rotate(x, table):
    """Half-split rotary embedding by complex multiplication; the angle is the float32 product the format prescribes."""
    half = x.shape[2] // 2
    frequency, amplitude = table.astype(np.float32)
    angle = (np.arange(len(x), dtype=np.float32)[:, None] * frequency).astype(np.float64)
    turn = (np.exp(1j * angle) * amplitude.astype(np.float64))[:, None]
    z = (x[..., :half] + 1j * x[..., half:]) * turn
    return np.concatenate([z.real, z.imag], axis=-1)
