"""Rows of a matrix, taken by number: embeddings of tokens, of positions."""

import numpy as np

from ..compiler.kernel import Kernel
from ..program.operands import N_TOKENS, Number, Real, Rows, operands
from ..words.memory import peek, peek_f32, poke_f32
from .play import share
from .weights import ELEMENTS, WEIGHTS

EMBED = operands(
    "out [tokens, width] = gain * the rows of w that ids name, added to what stands there if add.",
    ELEMENTS,
    out=Rows(lambda r: 4 * r.width, writes=True),
    width=Number("columns"),
    gain=Real("factor"),
    add=Number("1 = added to out", 0),
)


def embed(weight):
    """EMBED with weight(record, row, k)."""

    def embed(record, pas, t, threads):
        cols = peek(record + EMBED.width)
        gain = peek_f32(record + EMBED.gain)
        for i in range(peek(pas + N_TOKENS)):
            row = peek(peek(pas + peek(record + EMBED.ids)) + 8 * i)
            out = peek(record + EMBED.out) + i * peek(record + EMBED.out_step)
            first, last = share(cols, t, threads)
            for k in range(first, last):
                before = np.float32(0)
                if peek(record + EMBED.add) != 0:
                    before = peek_f32(out + 4 * k)
                poke_f32(out + 4 * k, before + weight(record, row, k) * gain)
        return 0

    return embed


def embed_of(weights):
    """The embed of a type of weights."""
    make = lambda machine: embed(weights.element)
    return Kernel(f"embed_{weights.type.name}", make, EMBED, weights.type)


EMBEDS = {weights.type: embed_of(weights) for weights in WEIGHTS}
