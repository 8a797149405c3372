"""A whole model: its tensors by name, what its config may say, its forward."""

from types import SimpleNamespace

from ..errors import ModelError
from ..format.fields import NONE
from ..kernels.activation import scale
from .attention import Attention, SecondAttention
from .convolution import ShortConvolution
from .delta import DeltaRule
from .ends import (
    PerLayer,
    check_output,
    embedding_tensors,
    output_tensors,
    record_begin,
    record_embedding,
    record_end,
)
from .feedforward import Experts, FeedForward, record_down, record_hidden, record_mixture
from .kind import Matrix, Piece, Slot, Vector, norm_slots, piece_name

KINDS = (Attention(), ShortConvolution(), DeltaRule(), SecondAttention())  # by their numbers
EXPERTS, FEEDFORWARD, PERLAYER = Experts(), FeedForward(), PerLayer()
PARTS_OF_LAYER = (EXPERTS, FEEDFORWARD, PERLAYER)
NORMS_OF_LAYER = ("an", "an2", "fn", "fn2")  # before and behind the mixer and the feed-forward
TABLES = ("rope", "rope2")  # of frequencies: nothing that was learned
WHOLE = "embed positions embed_norm ple_embed ple_proj ple_norm out_norm head".split()


def kind_of(c, i):
    """The Kind of layer i."""
    return KINDS[c.kind(i)]


def expected_tensors(c):
    """[Slot] of every tensor in file order; export writes exactly this list.

    The length of "tokenizer" is not known from the config: its shape is (0,).
    """
    out = [
        Slot("rope", (c.rope.tables, 2, c.heads.size // 2), "f32"),  # inverse frequency, amplitude
        Slot("window", (c.n_layers,), "i32"),  # keys a layer sees, 0 = all
        Slot("rope_id", (c.n_layers,), "i32"),  # which rope table, -1 = none
        *([Slot("rope2", (1, 2, c.second.size // 2), "f32")] if c.second else []),
        *embedding_tensors(c),
        *PERLAYER.whole(c),
    ]
    for i in range(c.n_layers):
        out += norm_slots(c, f"l{i}.an", c.norms.pre)
        out += kind_of(c, i).tensors(c, i)
        out += norm_slots(c, f"l{i}.an2", c.norms.post)
        out += norm_slots(c, f"l{i}.fn", c.norms.pre)
        out += EXPERTS.tensors(c, i)
        out += FEEDFORWARD.tensors(c, i)
        out += norm_slots(c, f"l{i}.fn2", c.norms.post)
        out += PERLAYER.tensors(c, i)
        out += [Slot(f"l{i}.scale", (1,), "f32")] if c.layer_scale else []
    return out + output_tensors(c)


def layer_names():
    """Of all tensors that a layer can have."""
    inside = [name for part in (*KINDS, *PARTS_OF_LAYER) for name in part.names]
    return dict.fromkeys([*NORMS_OF_LAYER, *inside, "scale"])


def check_config(c):
    """ModelError unless such a model can be run: every part has what it needs, and nothing is
    there for a part that is not."""
    s = c.sampling
    if not (0 <= s.temperature <= 100 and 0 <= s.top_p <= 1):
        found = f"temperature {s.temperature}, top_p {s.top_p}"
        raise ModelError(f"{found}, expected 0 to 100 and 0 to 1; export again")
    if not 0 < c.norms.eps < 1:
        found = f"eps is {c.norms.eps}, expected a number between 0 and 1"
        raise ModelError(f"{found}; export again")
    for name, token in (("bos", c.bos), ("eos", c.eos)):
        if token != NONE and token >= c.vocab_size:
            raise ModelError(
                f"{name} is {token}, expected an id below {c.vocab_size}; export again"
            )
    check_output(c)
    found = set(c.kinds[: c.n_layers])
    if any(c.kinds[c.n_layers :]) or max(found) >= len(KINDS):
        wants = f"0..{len(KINDS) - 1} and zeros behind them"
        raise ModelError(f"kinds of layers {sorted(found)}, expected {wants}; use a newer run.py")
    for kind in KINDS:
        kind.check(c, [i for i in range(c.n_layers) if c.kind(i) == kind.number])
    for part in PARTS_OF_LAYER:
        part.check(c)
    taps = c.conv.taps if c.conv else 0
    if bool(taps) != any(KINDS[number].convolves for number in found):
        wants = "taps for layers that convolve and for no others"
        raise ModelError(f"conv_len is {taps}, expected {wants}; export again")
    check_together(c)


def check_together(c):
    """What is run of layers of several kinds."""
    h, parts = c.heads, (c.conv, c.delta, c.second, c.shared, c.perlayer)
    several = any(c.kinds) or h.gate or h.v_norm or c.layer_scale or any(parts)
    other = h.bias or h.out_bias or not c.ffn.gated or not c.norms.pre or c.embedding.positions
    if several and (c.parallel or other):
        found = "layers of several kinds with biases, or in parallel, or without norms or gates"
        raise ModelError(f"{found}; use a newer run.py")


def keeps(c, i):
    """[Kept] of layer i."""
    return kind_of(c, i).keeps(c, i)


def record_model(p, model, ids):
    """The forward, part by part. -> the Place of the logits."""
    p.at("embedding")
    record_begin(p, model)
    c, every = p.config, range(p.config.n_layers)
    widest = max(kind_of(c, i).rows(c, i) + kind_of(c, i).behind(c, i) for i in every)
    row = p.floats("qkv", widest)
    for layer in model.layers:
        p.at(f"layer {layer.index}")
        record_layer(p, layer, row)
    p.at("output")
    return record_end(p, model, ids)


def record_layer(p, layer, row):
    """One layer; what a family lacks has no tensor, and leaves no record. row: of a token, what
    matrix qkv makes and what stands behind that."""
    c, kind = p.config, layer.kind
    p.norm(p.x, layer.an, *kind.readers(layer))
    p.matmul(row, layer.qkv)
    prepare = kind.record(p, layer, row)
    if not c.parallel:
        prepare()
        p.join(layer.o, layer.an2)
    if c.experts:
        record_mixture(p, layer)
    else:
        hidden = record_hidden(p, layer)
        if c.parallel:
            prepare()
            p.join(layer.o, layer.an2)
        record_down(p, layer, hidden)
    if c.perlayer:
        record_embedding(p, layer)
    if c.layer_scale:
        p.add(scale, x=p.x, width=c.dim, gain=float(layer.scale.floats()[0]))


def bind(c, tensors):
    """{name: Tensor} -> the model's own matrices and vectors by name, None for those that are not
    there; layers: likewise of each layer, with its index, kind, window and rope_id; tensors."""
    own = {name: named_tensor(tensors, name) for name in WHOLE}
    window, rope_id = (tensors[name].data.view("<i4").tolist() for name in ("window", "rope_id"))
    layers = []
    for i in range(c.n_layers):
        inside = {name: named_tensor(tensors, f"l{i}.{name}") for name in layer_names()}
        what = {"index": i, "kind": kind_of(c, i), "window": window[i], "rope_id": rope_id[i]}
        layers.append(SimpleNamespace(**what, **inside))
    return SimpleNamespace(layers=layers, tensors=tensors, **own)


def named_tensor(tensors, name):
    """The Matrix or the Vector of that name; None if there is none."""
    tensor = tensors.get(name) or tensors.get(f"{name}.w")
    if tensor is None:
        return None
    bias = tensors.get(f"{name}.b")
    if len(tensor.shape) == 1:
        return Vector(tensor.name, tensor, bias)
    pieces, rows = [], 0
    while tensor := tensors.get(part := piece_name(name, len(pieces))):
        beside = {end: tensors[part + end] for end, _, _ in tensor.type.beside(tensor.shape)}
        pieces.append(Piece(tensor.type, rows, tensor.shape[0], tensor, beside))
        rows, cols = rows + tensor.shape[0], tensor.shape[1]
    return Matrix(name, rows, cols, tuple(pieces), bias)
