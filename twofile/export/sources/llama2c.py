"""llama2.c's own files."""

import math
import struct

import numpy as np

from ...errors import ModelError
from ...format.config import Config
from ...format.fields import FIELDS
from ..arrays import mapped
from ..families.llama import LLAMA, META
from ..layers.stack import taken
from ..layers.weights import Weights
from ..rope import rope_table
from ..source import Source, check_model

SIZES = ("dim", "ffn_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size")  # of its header
MOST = {field.name: field.most for field in FIELDS}


def llama2c(kind, arrays, shape, tied, max_ctx, theta=10000.0, eps=1e-5):
    """A Source with Meta's names and rotary pairs; shape: the numbers of SIZES."""
    dim, ffn, layers, heads, kv, vocab = shape
    sizes = dict(zip(SIZES, shape))
    if min(*shape, max_ctx) < 1 or dim % heads or heads % kv:
        found = f"header says {sizes}, which is no model; expected heads that divide dim"
        raise ModelError(f"{found}; is this a llama2.c file?")
    special = {"bos": 1, "eos": 2} if vocab > 2 else {}
    sizes |= dict(head_dim=dim // heads, max_ctx=max_ctx, eps=eps, head=not tied)
    c = Config("llama", **sizes, **special)
    check_model(c)
    tensors = taken(Weights(LLAMA, META, arrays, "Llama"), c, c.heads.size)
    return Source(kind, c, rope_table(c.heads.size, theta), tensors)


def llama2c_shapes(shape):
    """{our key: (name with {} for a layer, or the plain name; shape of one)} of version 0."""
    dim, ffn, _, heads, kv, vocab = shape
    narrow = dim // heads * kv
    sizes = {"wq": (dim, dim), "wk": (narrow, dim), "wv": (narrow, dim), "wo": (dim, dim)}
    sizes |= {"w1": (ffn, dim), "w2": (dim, ffn), "w3": (ffn, dim)}
    sizes |= {"embed": (vocab, dim), "head": (vocab, dim)}
    names = {key: name for key, name in vars(META.names).items() if name}
    return {key: (name, sizes.get(key, (dim,))) for key, name in names.items()}


NORMS = ("an", "fn", "out_norm")  # stand first in versions 1 and 2, and are never quantised
ORDER = (*NORMS, "embed", "wq", "wk", "wv", "wo", "w1", "w2", "w3")
ORDER0 = "embed an wq wk wv wo fn w1 w2 w3 out_norm freqs".split()


def llama2c_header(head):
    """The first 256 bytes -> version, the 7 numbers, whether the output matrix is the embedding,
    columns of a group (of version 2, else 0)."""
    if head[:4] != b"24ka":
        ints = struct.unpack_from("<7i", head)
        return 0, ints, ints[5] > 0, 0
    (version,) = struct.unpack_from("<i", head, 4)
    if version not in (1, 2):
        raise ModelError(f"llama2.c version {version}, expected 0, 1 or 2")
    ints, (group,) = struct.unpack_from("<7i", head, 8), struct.unpack_from("<i", head, 37)
    return version, ints, head[36] == 1, group if version == 2 else 0


def read_llama2c_bin(path, head):
    """llama2.c .bin: version 0 (7 ints, no magic), 1 (float32) and 2 (int8 groups)."""
    raw = mapped(path)
    version, ints, tied, group = llama2c_header(head)
    *shape, vocab, max_ctx = ints
    shape = (*shape, abs(vocab))
    large = any(n > MOST[name] for n, name in zip(shape, SIZES))
    if min(*shape, max_ctx) < 1 or large or shape[0] % shape[3]:
        found = f"starts with {ints}, no sizes of a model"
        raise ModelError(f"{found}; expected a llama2.c checkpoint or another known source")
    if version == 2 and (group < 1 or shape[0] % group):
        found = f"groups of {group}, expected a divisor of {shape[0]}"
        raise ModelError(f"{found}; export it again with llama2.c")
    order = [*(ORDER if version else ORDER0), *([] if tied else ["head"])]
    arrays = llama2c_arrays(raw, 256 if version else 28, order, shape, max_ctx, group)
    return llama2c(f"llama2.c version {version}", arrays, shape, tied, max_ctx)


def llama2c_arrays(raw, at, order, shape, max_ctx, group):
    """{name: array} of the weights, which stand one after the other from byte at on. group: 0, or
    columns that share a scale."""
    known, arrays = llama2c_shapes(shape), {}
    dim, _, layers, heads, _, _ = shape
    for key in order:
        if key == "freqs":
            at += 4 * max_ctx * (dim // heads)  # tables that nobody needs: cos and sin by position
            continue
        name, size = known[key]
        n, quantised = math.prod(size), group and key not in NORMS
        nbytes = n + 4 * (n // group) if quantised else 4 * n
        for i in range(layers if "{}" in name else 1):
            part = raw[at : at + nbytes]
            if len(part) < nbytes:
                found = f"{len(raw):,} bytes, too short for {name.format(i)} of {size} at {at:,}"
                raise ModelError(f"{found}; is it truncated?")
            plain = part.view("<f4").reshape(size) if not quantised else None
            arrays[name.format(i)] = dequantised(part, size, group) if quantised else plain
            at += nbytes
    if at != len(raw):
        found = f"{len(raw):,} bytes, the header promises {at:,}"
        raise ModelError(f"{found}; is it a llama2.c checkpoint, and whole?")
    return arrays


def dequantised(raw, shape, group):
    """llama2.c's int8 groups (all values, then all float32 scales) -> float32."""
    n = math.prod(shape)
    values, scales = raw[:n].view(np.int8), np.frombuffer(raw[n:].tobytes(), "<f4")
    return (values.reshape(-1, group).astype(np.float32) * scales[:, None]).reshape(shape)
