"""The norms of the stream."""

import numpy as np


def norm(w, c, ours, theirs, layer=0):
    """{our name: float32 [dim]}: a norm's weight, and its bias if it has one."""
    if w.family.bare_norms:
        return {ours + ".w": np.ones(c.dim, np.float32)}
    out = {ours + ".w": w.floats(theirs, (c.dim,), layer) + w.form.plus_one}
    if c.norms.bias:
        out[ours + ".b"] = w.take(theirs, (c.dim,), layer, bias=True)
    return out


def layer_norms(w, c, i):
    """Those of a layer: before attention and feed-forward, and behind them."""
    names, out = w.names, {}
    if c.norms.pre:
        out |= norm(w, c, "an", names.an, i) | norm(w, c, "fn", names.fn, i)
    if c.norms.post:
        out |= norm(w, c, "an2", names.an2, i) | norm(w, c, "fn2", names.fn2, i)
    return out


def norm_flags(w):
    return {
        "norm_bias": not w.family.bare_norms and w.has(w.names.out_norm, bias=True),
        "post_norm": w.has(w.names.an2),
        "no_pre_norm": w.names.an is None,
    }
