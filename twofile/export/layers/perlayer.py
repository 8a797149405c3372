"""Embeddings for each layer, and the factor that a layer ends with."""

from ..arrays import Rows
from .norms import norm


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
