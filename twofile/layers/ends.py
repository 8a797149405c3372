"""Where a forward begins and ends; what layers get of tokens directly."""

import numpy as np

from ..errors import ModelError
from ..format.fields import CLAMPED
from ..format.types import GROUP, padded
from ..kernels.activation import softcap
from ..kernels.embed import EMBEDS
from ..kernels.norm import headnorm
from ..program.buffers import Place
from ..program.operands import CHUNK, IDS, N_WANTED, POSITIONS, TOKENS, WANTED, WANTED_MAX
from .attention import record_angles
from .feedforward import activate
from .kind import Part, Slot, matrix_slots, norm_slots


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
            Slot("ple_embed", (c.vocab_size, wide), "matrix", whole=True),
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
    (piece,) = model.ple_embed.pieces
    p.add(EMBEDS[piece.type], out=to, **more, **p.weights(piece, model.ple_embed.cols))


def record_embedding(p, layer):
    """The stream += the layer's part of the embeddings, by a gate that the stream opens, put where
    the part of the layer before was."""
    at = per_layer_room(p).columns(layer.index * p.config.perlayer.width)
    p.convert(p.x, layer.ple_gate)
    p.matmul(at, layer.ple_gate)
    activate(p, at, p.config.perlayer.width, p.input(layer.ple_up))
    p.join(layer.ple_up, layer.pn)


def check_output(c):
    if c.output.bias > c.output.own:
        raise ModelError("flags or rope tables that cannot be together; export again")


def embedding_tensors(c):
    """[Slot] of what comes before the layers, but for embeddings of layers."""
    return [
        Slot("embed", (c.vocab_size, c.dim), "matrix", whole=True),
        *(matrix_slots("positions", (c.max_ctx, c.dim), whole=True) * c.embedding.positions),
        *norm_slots(c, "embed_norm", c.embedding.norm),
    ]


def output_tensors(c):
    """[Slot] of what comes behind the layers."""
    head = matrix_slots("head", (c.vocab_size, c.dim), c.output.bias) if c.output.own else []
    inside = [Slot("tokenizer", (0,), "u8")] if c.tokenizer else []
    return [*norm_slots(c, "out_norm"), *head, *inside]


def record_begin(p, model):
    """Rows of the embedding, by tokens and perhaps by positions, normed; the angles."""
    c = p.config
    first = p.branch if model.embed_norm else p.x
    take_rows(p, first, model.embed, TOKENS, c.embedding.scale or 1.0)
    if model.positions:
        take_rows(p, p.x, model.positions, POSITIONS, 1.0)
    record_angles(p, model)
    if model.embed_norm:
        p.norm(first, model.embed_norm, out=p.x)
    if c.perlayer:
        record_embeddings(p, model)


def take_rows(p, out, matrix, ids, gain):
    """out = rows of a matrix, those of tokens; or += those of positions."""
    more = {"ids": ids, "gain": gain, "add": int(ids != TOKENS), "width": p.config.dim}
    # each thread has its columns, in both; what comes next waits
    (piece,) = matrix.pieces
    p.add(EMBEDS[piece.type], out=out, wait=False, **more, **p.weights(piece, matrix.cols))


def record_end(p, model, ids):
    """The logits of the wanted tokens; ids: the Room of the pass's rows of ids."""
    c, head = p.config, model.head or model.embed
    p.norm(p.x, model.out_norm, head, take=Place(ids, 8 * CHUNK * IDS.index(WANTED)))
    logits = p.rows("logits", 4 * padded(c.vocab_size, 16), WANTED_MAX)
    p.matmul(logits, head, gain=c.output.scale or 1.0, count=N_WANTED)
    if c.output.cap:
        p.add(softcap, N_WANTED, x=logits, width=c.vocab_size, gain=c.output.cap)
    return logits
