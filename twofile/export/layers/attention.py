"""Layers of attention: q, k, v and gates, in our order of columns."""

import numpy as np

from ...format.fields import ATTENTION2
from ...layers.attention import seen
from ...layers.stack import kind_of
from ..arrays import Rows
from .weights import whole


def head_order(dim, rotated, interleaved):
    """Which column of a head stands at each place of ours, where pair j is (j, j + dim / 2) and the
    rotated pairs are first."""
    half, turn = dim // 2, rotated // 2
    if interleaved:
        pairs = np.arange(0, rotated, 2), np.arange(1, rotated, 2)
    else:
        pairs = np.arange(turn), np.arange(turn, rotated)
    rest = np.arange(rotated, dim)
    return np.concatenate((pairs[0], rest[: half - turn], pairs[1], rest[half - turn :]))


def in_order(w, c, rows, size):
    """Rows of heads of that size, in our order of a head's columns."""
    order = np.arange(size)
    if size == c.heads.size:
        order = head_order(size, w.rotated, w.form.interleaved)
    return rows.reshape(-1, size)[:, order].reshape(-1)


def attention(w, c, i):
    """{our name: Rows or vector} of layer i."""
    wide = kind_of(c, i).wide(c, i)
    out = {"qkv": Rows(*projections(w, c, i))}
    if c.heads.norm:
        out["qk.w"] = head_norms(w, c, i)
    out["o"] = Rows(w.take(w.names.wo, (c.dim, wide), i))
    if c.heads.bias:
        out["qkv.b"] = whole(*projections(w, c, i, bias=True))
    if c.heads.out_bias:
        out["o.b"] = w.take(w.names.wo, (c.dim,), i, bias=True)
    if c.heads.sinks:
        out["sinks"] = w.take(w.names.sinks, (c.heads.n,), i)
    return out


def projections(w, c, i, bias=False):
    """[(array, order of its rows)] of q, k and v, and of the gate if there is one."""
    kv, size = kind_of(c, i).heads(c)
    if w.names.wqkv:
        parts = fused(w, c, i, bias)
    elif c.heads.gate:
        parts = gated(w, c, i)
    else:
        values = w.names.wk if w.k_is_v and c.kind(i) == ATTENTION2 else w.names.wv
        there = [(w.names.wq, c.heads.n), (w.names.wk, kv), (values, kv)]
        tail, parts = () if bias else (c.dim,), []
        for name, heads in there[: 3 if seen(c, i) == i else 1]:
            array = w.take(name, (heads * size, *tail), i, bias)
            parts.append((array, np.arange(heads * size)))
    return [(array, in_order(w, c, rows, size)) for array, rows in parts[:2]] + parts[2:]


def fused(w, c, i, bias):
    """Of one matrix: all of q, of k, of v; or each head of keys with its queries before it and its
    values behind."""
    kv, size = kind_of(c, i).heads(c)
    q, k = c.heads.n * size, kv * size
    rows = np.arange(q + 2 * k)
    array = w.take(w.names.wqkv, (len(rows), *(() if bias else (c.dim,))), i, bias)
    if w.form.grouped:
        groups = rows.reshape(kv, -1, size)
        parts = groups[:, :-2], groups[:, -2], groups[:, -1]
    else:
        parts = np.split(rows, [q, q + k])
    return [(array, part.reshape(-1)) for part in parts]


def gated(w, c, i):
    """Each head's queries, then its gate, in one matrix; keys and values."""
    kv, size = kind_of(c, i).heads(c)
    parts = []
    for name, heads in ((w.names.wq, 2 * c.heads.n), (w.names.wk, kv), (w.names.wv, kv)):
        array = w.take(name, (heads * size, c.dim), i)
        parts.append((array, np.arange(heads * size)))
    array, rows = parts[0][0], parts[0][1].reshape(c.heads.n, 2, size)
    return [(array, rows[:, 0].reshape(-1)), *parts[1:], (array, rows[:, 1].reshape(-1))]


def head_norms(w, c, i):
    """float32 [columns of q and k]: the weight of each."""
    (kv, size), parts = kind_of(c, i).heads(c), []
    there = ((w.names.qn, c.heads.n), (w.names.kn, kv))
    for name, heads in there[: 2 if seen(c, i) == i else 1]:
        n = heads * size
        if w.family.bare_head_norms:
            parts.append(np.ones(n, np.float32))
            continue
        weights = w.floats(name, (n if c.heads.norm == 2 else size,), i)
        order = in_order(w, c, np.arange(n), size)
        parts.append(np.resize(weights, n)[order] + w.form.plus_one)
    return np.concatenate(parts)


def qk_norm(w, head_dim):
    """The number of the config: 1 = each head by itself, 2 = all together, 0 = no such norm."""
    if not w.has(w.names.qn):
        return int(w.family.bare_head_norms)
    return 1 if w.arrays[w.names.qn.format(w.first)].shape == (head_dim,) else 2


def attention_flags(w):
    return {
        "qkv_bias": w.has(w.names.wqkv or w.names.wq, bias=True),
        "o_bias": w.has(w.names.wo, bias=True),
        "sinks": w.names.sinks is not None,
        "attn_gate": w.family.gated,
        "v_norm": w.family.v_norm,
    }
