"""The feed-forward part, also as a mixture of experts."""

import numpy as np

from ...layers.stack import FEEDFORWARD
from ..arrays import Mx, Rows
from .weights import one_name, whole


def feedforward(w, c, i):
    """{our name: Rows or vector} of layer i."""
    width = FEEDFORWARD.width(c, i)
    if not width:
        return {}
    out = {
        "gate_up": Rows(*gate_up(w, c, i, width)),
        "down": Rows(w.take(w.names.w2, (c.dim, width), i)),
    }
    if c.ffn.up_bias:
        out["gate_up.b"] = whole(*gate_up(w, c, i, width, bias=True))
    if c.ffn.down_bias:
        out["down.b"] = w.take(w.names.w2, (c.dim,), i, bias=True)
    return out


def gate_up(w, c, i, width, bias=False):
    """Parts of gate, if there is one, and up."""
    tail = () if bias else (c.dim,)
    if w.names.w13:
        return [w.take(w.names.w13, (2 * width, *tail), i, bias)]
    names = (w.names.w1, w.names.w3) if c.ffn.gated else (w.names.w3,)
    return [w.take(name, (width, *tail), i, bias) for name in names]


def feedforward_flags(w):
    names = w.names
    return {
        "gate_up_bias": w.has(names.w13 or names.w3, bias=True),
        "down_bias": w.has(names.w2, bias=True),
        "ungated": not (names.w1 or names.w13 or names.router),
    }


def experts(w, c, i):
    """{our name: Rows or vector} of layer i."""
    e, names = c.experts, w.names
    if not e:
        return {}
    out = {"router": Rows(w.take(names.router, (e.n, c.dim), i))}
    if w.form.alternate_experts:
        out |= alternate(w, c, i)
    elif names.e13 and (not names.e1 or one_name(names.e13, i) in w.arrays):
        out |= all_in_one(w, c, i)
    else:
        out |= one_by_one(w, c, i)
    if e.shared_gate:
        out["shared_gate"] = Rows(w.take(names.shared_gate, (1, c.dim), i))
    return out


def all_in_one(w, c, i):
    """Of three dims: [expert, rows, columns]."""
    e, names = c.experts, w.names
    down = w.take(names.e2s or names.e2, (e.n, c.dim, e.width), i)
    up = w.take(names.e13, (e.n, 2 * e.width, c.dim), i)
    return {
        "experts_up": Rows(up.reshape(-1, c.dim)),
        "experts_down": Rows(down.reshape(-1, e.width)),
    }


def one_by_one(w, c, i):
    """Each by itself; but biases of all experts in one, as a GGUF has them beside matrices that
    gguf_arrays took apart."""
    e, names, every = c.experts, w.names, range(c.experts.n)
    up = (
        w.take(name, (e.width, c.dim), i, expert=expert)
        for expert in every
        for name in (names.e1, names.e3)
    )
    out = {
        "experts_up": Rows(*up),
        "experts_down": Rows(
            *(w.take(names.e2, (c.dim, e.width), i, expert=expert) for expert in every)
        ),
    }
    if e.bias:
        bias = lambda name, rows: w.floats(name.replace("{}.weight", "bias"), (e.n, rows), i)
        parts = bias(names.e1, e.width), bias(names.e3, e.width)
        out["experts_up.b"] = np.concatenate(parts, axis=1).reshape(-1)
        out["experts_down.b"] = bias(names.e2, c.dim).reshape(-1)
        out["router.b"] = w.take(names.router, (e.n,), i, bias=True)
    return out


def alternate(w, c, i):
    """As gpt-oss has them: with biases, gate and up in alternate rows, stored [expert, columns,
    rows], or as MXFP4 [expert, rows, …]."""
    e = c.experts
    out = {"router.b": w.take(w.names.router, (e.n,), i, bias=True)}
    turn = np.concatenate((np.arange(0, 2 * e.width, 2), np.arange(1, 2 * e.width, 2)))
    for ours, name, cols, order in (
        ("experts_up", w.names.e13, c.dim, turn),
        ("experts_down", w.names.e2s, e.width, np.arange(c.dim)),
    ):
        rows = len(order)
        if one_name(name, i) + "_blocks" in w.arrays:
            values = w.take(name + "_blocks", (e.n, rows, cols // 32, 16), i, packed=True)
            scales = w.take(name + "_scales", (e.n, rows, cols // 32), i, packed=True)
            each = list(map(Mx, values, scales))
        else:
            each = [array.T for array in w.take(name, (e.n, cols, rows), i)]
        out[ours] = Rows(*((array, order) for array in each))
        bias = w.floats(name + "_bias", (e.n, rows), i)
        out[ours + ".b"] = np.ascontiguousarray(bias[:, order]).reshape(-1)
    return out


def expert_flags(w):
    return {
        "expert_bias": w.has(w.names.router, bias=True),
        "shared_gate": w.has(w.names.shared_gate),
    }
