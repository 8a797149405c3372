"""Layers of the gated delta rule."""

import numpy as np

from ...layers.stack import kind_of
from ..arrays import Rows
from .convolution import taps


def delta_rule(w, c, i):
    """{our name: Rows or vector} of layer i."""
    d, kind = c.delta, kind_of(c, i)
    out = {
        "conv": taps(w, c, i, kind.convolved(c, i)),
        "o": Rows(w.take(w.names.out, (c.dim, kind.wide(c, i)), i)),
        "qkv": Rows(*mixed(w, c, i)),
        "ab": Rows(*both_rates(w, c, i)),
    }
    rates = w.floats(w.names.rates, (d.v_heads,), i)
    rates = rates if w.form.flat else -np.exp(rates)
    out["decay"] = np.concatenate((rates, w.floats(w.names.dt, (d.v_heads,), i)))
    out["dn.w"] = w.floats(w.names.dn, (d.v_dim,), i)
    return out


def mixed(w, c, i):
    """Parts of queries, keys and values, then of the gate."""
    d, kind = c.delta, kind_of(c, i)
    rows, wide, convolved = kind.rows(c, i), kind.wide(c, i), kind.convolved(c, i)
    if not w.names.qkvz:
        return [
            w.take(w.names.mix, (convolved, c.dim), i),
            w.take(w.names.z, (wide, c.dim), i),
        ]
    # each head of keys: its query, key, values and gates
    order = np.arange(rows).reshape(d.k_heads, -1)
    cuts = np.cumsum([d.k_dim, d.k_dim, wide // d.k_heads])
    array = w.take(w.names.qkvz, (rows, c.dim), i)
    return [(array, part.reshape(-1)) for part in np.split(order, cuts, axis=1)]


def both_rates(w, c, i):
    """Parts of how much each head of values learns, then of how much it forgets."""
    d = c.delta
    if not w.names.ba:
        names = w.names.b, w.names.a
        return [w.take(name, (d.v_heads, c.dim), i) for name in names]
    order = np.arange(2 * d.v_heads).reshape(d.k_heads, 2, -1)
    array = w.take(w.names.ba, (2 * d.v_heads, c.dim), i)
    return [(array, order[:, part].reshape(-1)) for part in (0, 1)]


def delta_flags(w):
    return {"delta_turns": w.form.delta_turns}
