"""Attention: heads, norms, rotation, windows, sinks, gates, shared keys."""

import math

import numpy as np

from ..errors import ModelError
from ..format.fields import ATTENTION, ATTENTION2
from ..format.types import padded
from ..kernels.activation import sigmoid_gated
from ..kernels.attention import ATTENTIONS
from ..kernels.norm import headnorm
from ..kernels.rotation import ROPES, angles
from .kind import Kept, Kind, Slot, matrix_slots


class Attention(Kind):
    """Layers of kind ATTENTION, with the config's heads."""

    number = ATTENTION
    names = ("qkv", "qk", "sinks", "o")

    def heads(self, c):
        """(heads of keys, columns of a head)"""
        return c.heads.kv, c.heads.size

    def angles(self, p, layer, table):
        """The Place of the angles of one of rope's tables."""
        c = p.config
        table += c.rope.tables // 2 if 0 < c.rope.long < p.sizes.positions else 0
        return p.rows("cs", 4 * c.rope.tables * c.heads.size).columns(c.heads.size * table)

    def check(self, c, layers):
        h = c.heads
        if h.n % h.kv or h.size % 2:
            heads = f"{h.n} heads over {h.kv} of size {h.size}"
            raise ModelError(f"{heads}, expected a divisor and an even size; export again")
        if h.norm_after > bool(h.norm):
            raise ModelError("qk_after is 1 without a norm of queries and keys; export again")
        if h.n * h.size > 1 << 20:
            raise ModelError(f"{h.n} heads of {h.size} are wider than {1 << 20}; export again")
        if c.rope.long and c.rope.tables % 2:
            raise ModelError("flags or rope tables that cannot be together; export again")
        length = c.rope.length
        if length % 1 or length > 1 << 30 or bool(c.rope.beta) > bool(length):
            wants = "a whole number of positions to 2^30"
            raise ModelError(f"temp_len is {length}, expected {wants}; export again")
        check_shared(c)

    def rows(self, c, i):
        kv, size = self.heads(c)
        own = 2 * kv if seen(c, i) == i else 0
        return (c.heads.n + own + (c.heads.n if c.heads.gate else 0)) * size

    def wide(self, c, i):
        return c.heads.n * self.heads(c)[1]

    def behind(self, c, i):
        return self.wide(c, i) if c.heads.gate else 0

    def tensors(self, c, i):
        kv, size = self.heads(c)
        normed = c.heads.n + (kv if seen(c, i) == i else 0)
        slots = matrix_slots(f"l{i}.qkv", (self.rows(c, i), c.dim), c.heads.bias)
        slots += [Slot(f"l{i}.qk.w", (normed * size,), "f32")] if c.heads.norm else []
        slots += [Slot(f"l{i}.sinks", (c.heads.n,), "f32")] if c.heads.sinks else []
        return slots + matrix_slots(f"l{i}.o", (c.dim, self.wide(c, i)), c.heads.out_bias)

    def keeps(self, c, i):
        if seen(c, i) != i:
            return []
        kv, size = self.heads(c)
        return [Kept("keys", kv, size), Kept("values", kv, padded(size, 16))]

    def record(self, p, layer, row):
        c, h, i = p.config, p.config.heads, layer.index
        kv, size = self.heads(c)
        own, turned = seen(c, i) == i, layer.rope_id >= 0
        cs = self.angles(p, layer, layer.rope_id) if turned else None
        shared = {"size": size, "blocks": p.cache.blocks}
        if h.norm_after:  # rotate queries and keys, and no more
            more = {"heads": h.n + kv * own, "group": 1, "gain": 1.0}
            p.add(ROPES[p.cache.type], x=row, angles=cs, **more, **shared)
        self.norms(p, layer, row, own)
        shared |= {"heads": kv, "group": h.n // kv}
        kept = {name: p.cache.place(seen(c, i), name) for name in ("keys", "values")}
        kept["table"] = p.cache.table
        gain = h.scale or 1 / math.sqrt(size)
        more = (kept if own else {}) | tempered(p)
        cs = None if h.norm_after else cs
        p.add(ROPES[p.cache.type], x=row, angles=cs, gain=gain, **more, **shared)
        wide = self.wide(c, i)
        out = row.columns(self.rows(c, i)) if h.gate else p.floats(f"att{size}", wide)
        sinks = layer.sinks and p.vector(layer.sinks.data, 16)
        more = {"sinks": sinks, "window": layer.window, "cap": h.cap}
        p.add(ATTENTIONS[p.cache.type], x=row, out=out, **kept, **more, **shared)
        if not h.gate:
            return lambda: p.convert(out, layer.o)
        gate = row.columns(self.rows(c, i) - wide)
        return lambda: p.add(sigmoid_gated, x=gate, width=wide, **p.input(layer.o))

    def norms(self, p, layer, row, own):
        """Queries and keys normed in place, each head by itself or all together; values, if there
        is such a norm, without weights."""
        h, (kv, size), parts = p.config.heads, self.heads(p.config), []
        queries, keys = h.n * size, kv * size
        if h.norm:
            w = p.vector(layer.qk.data, 16)
            parts = [(0, queries, w), (queries, keys, w.columns(queries))][: 1 + own]
            parts = [(*part, part[1] if h.norm == 2 else size) for part in parts]
        if h.v_norm and own:
            ones = p.constant("ones", np.ones(keys))
            parts.append((queries + keys, keys, ones, size))
        for part in parts:
            at, wide, w, width = part
            more = {"heads": wide // width, "width": width, "eps": p.config.norms.eps}
            p.add(headnorm, x=row.columns(at), weight=w, wait=part is parts[-1], **more)


class SecondAttention(Attention):
    """Layers of kind ATTENTION2: other heads, one table of angles of their own."""

    number = ATTENTION2

    def heads(self, c):
        return c.second.kv, c.second.size

    def angles(self, p, layer, table):
        return p.rows("cs2", 4 * p.config.second.size)

    def check(self, c, layers):
        kv, size = self.heads(c) if c.second else (0, 0)
        odd = size % 2 or c.heads.n * size > 1 << 20 or c.rope.long
        wrong = c.second and (not kv or not size or c.heads.n % kv or odd)
        if bool(c.second) != bool(layers) or wrong:
            wants = f"a divisor of {c.heads.n} and an even size, for such layers"
            found = f"a second kind of attention of {kv} heads of {size}"
            raise ModelError(f"{found}, expected {wants}; export again")


def check_shared(c):
    """Layers that see an earlier one's keys and values are attention, and there is such a one."""
    if not c.shared:
        return
    n = c.shared.layers
    attends = lambda i: c.kind(i) in (ATTENTION, ATTENTION2)
    last = range(c.n_layers - n, c.n_layers)
    if n >= c.n_layers or any(not attends(i) or seen(c, i) is None for i in last):
        wants = "attention layers, each with one of its kind before them"
        raise ModelError(f"kv_shared is {n}, expected {wants}; export again")


def seen(c, i):
    """The layer whose keys and values attention layer i sees: its own, or an earlier one's; None
    if there is none."""
    own = c.n_layers - (c.shared.layers if c.shared else 0)
    if i < own:
        return i
    return max((j for j in range(own) if c.kind(j) == c.kind(i)), default=None)


def tempered(p):
    """The operands of rope that scale queries by their position, as Llama 4 does: times
    1 + beta log(1 + n) for each n whole lengths behind a position."""
    c = p.config
    if not c.rope.beta:
        return {}
    n = np.arange(1, (p.sizes.positions - 1) // int(c.rope.length) + 2)
    factors = p.once("factors", lambda: 1 + c.rope.beta * np.log(n))
    return {"factors": factors, "length": int(c.rope.length)}


def record_angles(p, model):
    """The angles of this pass's positions, of every table of the file."""
    c = p.config
    for name, tables, size in [("rope", c.rope.tables, c.heads.size)] + (
        [("rope2", 1, c.second.size)] if c.second else []
    ):
        out = p.rows("cs" if name == "rope" else "cs2", 4 * tables * size)
        frequencies = p.vector(model.tensors[name], 1)
        p.add(angles, out=out, frequencies=frequencies, half=size // 2, tables=tables)
