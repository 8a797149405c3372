"""What comes before and behind the layers; norms; what layers get directly."""

import numpy as np

from ..arrays import Rows


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


def per_model(w, c):
    """{our name: Rows or vector} of the whole model's own."""
    if not c.perlayer:
        return {}
    width, names = c.perlayer.width, w.names
    return {
        "ple_embed": Rows(w.take(names.ple_embed, (c.vocab_size, c.n_layers * width))),
        "ple_proj": Rows(w.take(names.ple_proj, (c.n_layers * width, c.dim))),
        "ple_norm.w": w.take(names.ple_norm, (width,)),
    }


def per_layer(w, c, i):
    """{our name: Rows or vector} of layer i."""
    names, out = w.names, {}
    if c.perlayer:
        width = c.perlayer.width
        out["ple_gate"] = Rows(w.take(names.ple_gate, (width, c.dim), i))
        out["ple_up"] = Rows(w.take(names.ple_up, (c.dim, width), i))
        out |= norm(w, c, "pn", names.pn, i)
    if c.layer_scale:
        out["scale"] = w.take(names.scale, (1,), i)
    return out


def per_layer_flags(w):
    return {"layer_scale": w.has(w.names.scale)}


def embedding(w, c):
    """{our name: Rows or vector}"""
    names = w.names
    out = {"embed": Rows(w.take(names.embed, (c.vocab_size, c.dim)))}
    if c.embedding.positions:
        shift = w.form.shift
        out["positions"] = Rows(w.take(names.positions, (c.max_ctx + shift, c.dim))[shift:])
    if c.embedding.norm:
        out |= norm(w, c, "embed_norm", names.embed_norm)
    return out


def output(w, c):
    """{our name: Rows or vector}"""
    out = norm(w, c, "out_norm", w.names.out_norm)
    if c.output.own:
        out["head"] = Rows(w.take(w.names.head, (c.vocab_size, c.dim)))
    if c.output.bias:
        out["head.b"] = w.take(w.names.head, (c.vocab_size,), bias=True)
    return out


def end_flags(w, tied):
    return {
        "head": not tied,
        "head_bias": not tied and w.has(w.names.head, bias=True),
        "positions": w.has(w.names.positions),
        "embed_norm": w.family.embed_norm,
    }
