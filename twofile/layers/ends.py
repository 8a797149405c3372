"""Where a forward begins and ends: the embedding, the output."""

from ..errors import ModelError
from ..files import padded
from ..kernels.activation import softcap
from ..kernels.embed import EMBEDS
from ..program.buffers import Place
from ..program.passes import CHUNK, N_WANTED, POSITIONS, TOKENS, WANTED_MAX
from .attention import record_angles
from .kind import Slot, matrix_slots, norm_slots
from .perlayer import record_embeddings


def check_output(c):
    if c.output.bias > c.output.own:
        raise ModelError("flags or rope tables that cannot be together; export again")


def embedding_tensors(c):
    """[Slot] of what comes before the layers, but for embeddings of layers."""
    return [
        Slot("embed", (c.vocab_size, c.dim), "matrix"),
        *([Slot("positions", (c.max_ctx, c.dim), "matrix")] if c.embedding.positions else []),
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
    kernel = EMBEDS[matrix.type]
    p.add(kernel, out=out, wait=False, **more, **p.weights(matrix))  # each thread has its columns,
    # in both; what comes next waits


def record_end(p, model, ids):
    """The logits of the wanted tokens; ids: the Room of the pass's rows of ids."""
    c, head = p.config, model.head or model.embed
    p.norm(p.x, model.out_norm, head, take=Place(ids, 8 * CHUNK * 3))
    logits = p.rows("logits", 4 * padded(c.vocab_size, 16), WANTED_MAX)
    p.matmul(logits, head, gain=c.output.scale or 1.0, count=N_WANTED)
    if c.output.cap:
        p.add(softcap, N_WANTED, x=logits, width=c.vocab_size, gain=c.output.cap)
    return logits
