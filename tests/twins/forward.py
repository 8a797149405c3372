"""The forward in float64, whole sequence at once, no cache: the twin of what twofile records."""

from types import SimpleNamespace

import numpy as np

from twins.activation import BY_NUMBER, CURVES
from twins.attention import attention
from twins.convolution import short_conv
from twins.delta import delta
from twins.experts import mixture
from twins.matmul import linear
from twins.norm import norm
from twins.perlayer import layers_embeddings

UNGATED, POST_NORM, NO_PRE_NORM = 64, 128, 256  # bits of config.flags
MIXERS = {1: short_conv, 2: delta}  # kinds of layers that are no attention, by number


def slow_logits(config, tensors, ids, int8=False, kv="f32"):
    """float64 [len(ids), vocab]. tensors: name -> float64 array of true shape (read_tensors dequantises a model.bin).
    int8: round the inputs of every matrix to int8 by groups of 32, as the kernels do for q8_0 and q4_0.
    kv: the type of the cache whose roundings are made."""
    c, t = SimpleNamespace(**config.numbers()), tensors
    x = slow_stream(config, tensors, ids, int8, kv)
    head = {"head": t.get("head", t["embed"]), **({"head.b": t["head.b"]} if "head.b" in t else {})}
    x = linear(head, "head", x, int8) * (c.logit_scale or 1)
    return c.final_cap * np.tanh(x / c.final_cap) if c.final_cap else x


def slow_stream(config, tensors, ids, int8=False, kv="f32"):
    """float64 [len(ids), dim], normed: what the head is given."""
    c, t = SimpleNamespace(**config.numbers()), tensors
    x = t["embed"][ids] * (c.embed_scale or 1)
    if "positions" in t:
        x = x + t["positions"][: len(ids)]
    if "embed_norm.w" in t:
        x = norm(c, t, "embed_norm", x)
    parts, seen = layers_embeddings(c, t, x, ids, int8) if c.ple_dim else None, {}
    for i in range(c.n_layers):
        h = x if c.flags & NO_PRE_NORM else norm(c, t, f"l{i}.an", x)
        mixer = MIXERS.get(c.kinds[i])
        a = mixer(c, t, i, h, int8) if mixer else attention(c, t, i, h, int8, seen, kv)
        a = linear(t, f"l{i}.o", a, int8)
        a = norm(c, t, f"l{i}.an2", a) if c.flags & POST_NORM else a * (c.resid_scale or 1)
        y = x if c.parallel else x + a
        h = y if c.flags & NO_PRE_NORM else norm(c, t, f"l{i}.fn", y)
        if c.n_experts:
            x = x + a + mixture(c, t, i, h, int8) * (c.resid_scale or 1)
            continue
        h = linear(t, f"l{i}.gate_up", h, int8)
        act = CURVES[BY_NUMBER[c.act]]
        h = act(h) if c.flags & UNGATED else act(h[:, : h.shape[1] // 2]) * h[:, h.shape[1] // 2 :]
        h = linear(t, f"l{i}.down", h, int8)
        x = x + a + (norm(c, t, f"l{i}.fn2", h) if c.flags & POST_NORM else h * (c.resid_scale or 1))
        if c.ple_dim:
            h = linear(t, f"l{i}.ple_up", act(linear(t, f"l{i}.ple_gate", x, int8)) * parts[:, i], int8)
            x = x + norm(c, t, f"l{i}.pn", h)
        x = x * t.get(f"l{i}.scale", 1)
    return norm(c, t, "out_norm", x)
