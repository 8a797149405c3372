"""llama2.c's own files."""

import math
import struct
from types import SimpleNamespace

import numpy as np

from ...errors import ModelError
from ...format.config import FLAGS, RANGES, Config, _check_config
from ..arrays import mapped
from ..families.build import Family
from ..families.family import META_NAMES
from ..rope import rope_table


def llama2c(kind, arrays, shape, tied, max_ctx, theta=10000.0, eps=1e-5, **more):
    """A source with Meta's names and rotary pairs; shape = (dim, ffn, layers, heads, kv heads, vocab)."""
    dim, ffn, layers, heads, kv, vocab = shape
    sizes = dict(zip(("dim", "ffn_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size"), shape))
    if min(*shape, max_ctx) < 1 or dim % heads or heads % kv:
        raise ModelError(
            f"header says {sizes}, which is no model; expected heads that divide dim; is this a llama2.c file?"
        )
    special = {"bos": 1, "eos": 2} if vocab > 2 else {}
    c = Config(
        "llama",
        **sizes,
        head_dim=dim // heads,
        max_ctx=max_ctx,
        eps=eps,
        flags=0 if tied else FLAGS["head"],
        **special,
    )
    _check_config(c)
    tensors = Family("Llama", arrays, META_NAMES, dict(interleaved=True)).tensors(c, c.head_dim)
    return SimpleNamespace(
        kind=kind, config=c, rope=rope_table(c.head_dim, theta), tensors=tensors, **more
    )


def llama2c_shapes(shape):
    """[(name with {} for a layer, or the plain name, shape of one)] in the order of version 0."""
    dim, ffn, _, heads, kv, vocab = shape
    narrow = dim // heads * kv
    sizes = {"wq": (dim, dim), "wk": (narrow, dim), "wv": (narrow, dim), "wo": (dim, dim)}
    sizes |= {"w1": (ffn, dim), "w2": (dim, ffn), "w3": (ffn, dim)}
    return {
        k: (META_NAMES[k], sizes.get(k, (vocab, dim) if k in ("embed", "head") else (dim,)))
        for k in META_NAMES
    }


def read_llama2c_bin(path, head):
    """llama2.c .bin: version 0 (7 ints, no magic), 1 (float32) and 2 (int8 groups)."""
    raw, version = mapped(path), 0
    if head[:4] == b"24ka":
        (version,) = struct.unpack_from("<i", head, 4)
        if version not in (1, 2):
            raise ModelError(f"llama2.c version {version}, expected 0, 1 or 2")
    ints = struct.unpack_from("<7i", head, 8 if version else 0)
    dim, ffn, layers, heads, kv, vocab, max_ctx = ints
    tied, group = (
        (head[36] == 1, struct.unpack_from("<i", head, 37)[0]) if version else (vocab > 0, 0)
    )
    shape = (dim, ffn, layers, heads, kv, abs(vocab))
    most = [
        RANGES[k][1] for k in ("dim", "ffn_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size")
    ]
    if min(*shape, max_ctx) < 1 or any(n > m for n, m in zip(shape, most)) or dim % heads:
        raise ModelError(
            f"starts with {ints}, no sizes of a model; expected a llama2.c checkpoint or another known source"
        )
    if version == 2 and (group < 1 or dim % group):
        raise ModelError(
            f"groups of {group}, expected a divisor of {dim}; export it again with llama2.c"
        )
    known, at, arrays = llama2c_shapes(shape), 256 if version else 28, {}
    norms, matrices = ["an", "fn", "out_norm"], ["embed", "wq", "wk", "wv", "wo", "w1", "w2", "w3"]
    order = (
        norms + matrices if version else "embed an wq wk wv wo fn w1 w2 w3 out_norm freqs".split()
    )
    for key in order + ([] if tied else ["head"]):
        if key == "freqs":
            at += 4 * max_ctx * (dim // heads)  # tables that nobody needs: cos and sin by position
            continue
        name, size = known[key]
        for i in range(layers if "{}" in name else 1):
            n = math.prod(size)
            quantised = version == 2 and key not in norms
            nbytes = n + 4 * (n // group) if quantised else 4 * n
            part = raw[at : at + nbytes]
            if len(part) < nbytes:
                raise ModelError(
                    f"{len(raw):,} bytes, too short for {name.format(i)} of {size} at {at:,}; is it truncated?"
                )
            arrays[name.format(i)] = (
                dequantised(part, size, group) if quantised else part.view("<f4").reshape(size)
            )
            at += nbytes
    if at != len(raw):
        raise ModelError(
            f"{len(raw):,} bytes, the header promises {at:,}; is it a llama2.c checkpoint, and whole?"
        )
    return llama2c(f"llama2.c version {version}", arrays, shape, tied, max_ctx)


def dequantised(raw, shape, group):
    """llama2.c's int8 groups (all values, then all float32 scales) -> float32."""
    n = math.prod(shape)
    values, scales = raw[:n].view(np.int8), np.frombuffer(raw[n:].tobytes(), "<f4")
    return (values.reshape(-1, group).astype(np.float32) * scales[:, None]).reshape(shape)
