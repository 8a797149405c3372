"""The feed-forward part: gate and up, down."""

from ...layers.stack import FEEDFORWARD
from ..arrays import Rows
from .weights import whole


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
