"""What stands before the layers and behind them."""

from ..arrays import Rows
from .norms import norm


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
