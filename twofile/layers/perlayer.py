"""What each layer gets of a token's own embedding for it (Gemma 3n and 4)."""

import numpy as np

from ..errors import ModelError
from ..files import padded
from ..format.fields import CLAMPED
from ..format.types import GROUP
from ..kernels.embed import EMBEDS
from ..kernels.norm import headnorm
from ..program.passes import TOKENS
from .feedforward import activate
from .kind import Part, Slot, norm_slots


class PerLayer(Part):
    """Its tensors in each layer; those of the whole model are whole()."""

    names = ("ple_gate", "ple_up", "pn")

    def check(self, c):
        width = c.perlayer.width if c.perlayer else 0
        wide = c.shared.width if c.shared else 0
        if wide and not c.shared.layers or width % 16 or c.n_layers * width > 1 << 22:
            found = f"ffn_dim2 is {wide}, ple_dim {width}"
            raise ModelError(f"{found}, expected shared layers, whole blocks; export again")
        if width and (c.experts or c.ffn.act == CLAMPED):
            found = "embeddings of layers beside experts are not run by this version"
            raise ModelError(f"{found}; use a newer run.py")

    def whole(self, c):
        """The slots of the model's own tensors: every layer's part of a token's embedding."""
        if not c.perlayer:
            return []
        width, wide = c.perlayer.width, c.n_layers * c.perlayer.width
        return [
            Slot("ple_embed", (c.vocab_size, wide), "matrix"),
            Slot("ple_proj", (wide, c.dim), "matrix"),
            Slot("ple_norm.w", (width,), "f32"),
        ]

    def tensors(self, c, i):
        if not c.perlayer:
            return []
        width = c.perlayer.width
        return [
            Slot(f"l{i}.ple_gate", (width, c.dim), "matrix"),
            Slot(f"l{i}.ple_up", (c.dim, width), "matrix"),
            *norm_slots(c, f"l{i}.pn"),
        ]


def per_layer_room(p):
    """A token's row: room for the first layer's gate, then what each layer gets."""
    c = p.config
    return p.rows("ple", 4 * padded((c.n_layers + 1) * c.perlayer.width, GROUP))


def record_embeddings(p, model):
    """What each layer gets of the tokens."""
    c, width = p.config, p.config.perlayer.width
    to = per_layer_room(p).columns(width)
    p.convert(p.x, model.ple_proj)
    p.matmul(to, model.ple_proj, gain=c.dim**-0.5)
    weight = p.constant("ple_norm.w", np.tile(model.ple_norm.floats() * 0.5**0.5, c.n_layers))
    more = {"heads": c.n_layers, "width": width, "eps": c.norms.eps}
    p.add(headnorm, x=to, weight=weight, **more)
    more = {"width": c.n_layers * width, "gain": (width / 2) ** 0.5, "add": 1, "ids": TOKENS}
    p.add(EMBEDS[model.ple_embed.type], out=to, **more, **p.weights(model.ple_embed))


def record_embedding(p, layer):
    """The stream += the layer's part of the embeddings, by a gate that the stream opens, put where
    the part of the layer before was."""
    at = per_layer_room(p).columns(layer.index * p.config.perlayer.width)
    p.convert(p.x, layer.ple_gate)
    p.matmul(at, layer.ple_gate)
    activate(p, at, p.config.perlayer.width, p.input(layer.ple_up))
    p.join(layer.ple_up, layer.pn)
