"""llama.cpp's files; blocks of Q8_0 and Q4_0 are moved as they are."""

import math
from functools import cache

import numpy as np

from ...errors import ModelError, printable
from ...format.types import BF16, F16, F32, Q4_0, Q8_0
from ..arrays import Blocks, Rows, Unread
from ..damage import by_kind, reading, worded
from ..families.rules import window_size
from ..families.table import FAMILIES
from ..layers.stack import taken
from ..layers.weights import Weights
from ..say import need
from ..source import Source, check_model, sampled
from .ggufconfig import gguf_config, gguf_rope, gguf_second_rope
from .ggufparts import gguf_file

# what is kept to the bit; others become q8_0
KEPT_TYPES = {"F32": F32, "F16": F16, "BF16": BF16, "Q8_0": Q8_0, "Q4_0": Q4_0}
UNKNOWN = "a type of which the package gguf makes numbers; take the file in Q8_0"
WRONG = ("metadata: ", "; expected the sizes of a model; is the file whole?")


def read_gguf(path):
    """A GGUF of version 2 or 3, in one file or many -> Source."""
    after = "); expected version 2 or 3; is the download complete?"
    with worded("not a whole GGUF file (", after, by_kind):
        fields, tensors = gguf_file(path)
    arrays = gguf_arrays(path, tensors)
    family = gguf_family(fields)
    told = {name.removeprefix(family.gguf.arch + "."): value for name, value in fields.items()}
    w = Weights(family, family.gguf, arrays, f"GGUF of {family.gguf.arch}")
    source = gguf_source(told, w)
    said = [fields.get(f"general.sampling.{key}") for key in ("temp", "top_p", "top_k")]
    source.config = sampled(source.config, *said)
    source.gguf, source.note = fields, printable(str(fields.get("general.name", "")))
    left = {a.kind.name for a in w.arrays.values() if isinstance(a, Blocks)} - set(KEPT_TYPES)
    if left:
        kept = f"{', '.join(KEPT_TYPES)} are kept to the bit"
        source.notice = f"{', '.join(sorted(left))} become q8_0; {kept}"
    return source


def gguf_family(fields):
    """The Family of general.architecture; of two that share it, the one with or without experts."""
    there, arch = [f for f in FAMILIES if f.gguf], str(fields.get("general.architecture"))
    found = [family for family in there if family.gguf.arch == arch]
    if not found:
        known = ", ".join(dict.fromkeys(family.gguf.arch for family in there))
        raise ModelError(
            f"GGUF architecture {printable(arch)[:60]!r} is not supported; known: {known}"
        )
    mixture = bool(fields.get(f"{arch}.expert_count"))
    return next((f for f in found if bool(f.gguf.names.router) == mixture), found[0])


def gguf_source(told, w):
    """Metadata and weights of a file -> Source, but for what it says of itself."""
    with worded(*WRONG):
        with reading():
            j, kinds = w.form.adapt(told), w.form.kinds(told)
        w.look(kinds)
        with reading():
            forget_guesses(j, w)
        if not w.has(w.names.wqkv):
            w.rename(wqkv=None)
        c = gguf_config(told, j, w)
        check_model(c)
        with reading():
            window = gguf_window(j, w.form, c)
        table, rope_id, rotated, long = gguf_rope(j, w, c, window)
        c = c.changed(n_rope=len(table), rope_long=long)
        second = {"rope2": gguf_second_rope(told, w, c)} if c.second else {}
    tensors = taken(w, c, rotated) | second
    types = {name: kept_type(rows) for name, rows in tensors.items() if isinstance(rows, Rows)}
    more = dict(window=window, rope_id=np.array(rope_id, "<i4"), types=types)
    return Source(w.label, c, table, tensors, **more)


def forget_guesses(j, w):
    """Forget the layers that guess further ahead."""
    if j.get("nextn_predict_layers"):
        blocks = [name for name in w.arrays if name.startswith("blk.")]
        for name in blocks:
            if int(name.split(".")[1]) >= j["block_count"]:
                del w.arrays[name]


def gguf_window(j, form, c):
    """int32 [layers]: the positions that each sees, 0 = all."""
    size = window_size(j.get("attention.sliding_window") or 0)
    said = j.get("attention.sliding_window_pattern")
    slides = [said[i] if isinstance(said, list) else form.window(j, i) for i in range(c.n_layers)]
    return np.array([size if there else 0 for there in slides], "<i4")


def gguf_arrays(path, tensors):
    """{name: float array, uint16 array (bfloat16), Blocks or Unread}, mapped."""
    arrays, plain = {}, {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
    for name, shape, kind, data in tensors:
        if kind.name in plain:
            array = data.view(plain[kind.name]).reshape(shape)
        elif not dequantises(kind):
            array = Unread(path.name, kind.name, shape, UNKNOWN)
        else:
            array = Blocks(data.reshape(math.prod(shape[:-1]), -1), kind, shape[-1])
        if len(shape) == 3:  # a matrix for each expert
            for e in range(shape[0]):
                part = slice(e * shape[1], (e + 1) * shape[1])
                own = array[part] if isinstance(array, Blocks) else array[e]
                arrays[f"{name.removesuffix('weight')}{e}.weight"] = own
        else:
            arrays[name] = array
    return arrays


@cache
def dequantises(kind):
    """Whether the package gguf makes numbers of blocks of this type."""
    _, size = need("gguf").GGML_QUANT_SIZES[kind]
    try:
        need("gguf.quants").dequantize(np.zeros((1, size), np.uint8), kind)
        return True
    except NotImplementedError:
        return False


def kept_type(rows):
    """The Type of a matrix of one or several parts: theirs if that is one we have, else q8_0."""
    plain = {"float64": F32, "float32": F32, "float16": F16, "uint16": BF16}
    kinds = {
        KEPT_TYPES.get(a.kind.name, Q8_0) if isinstance(a, Blocks) else plain[a.dtype.name]
        for a, _ in rows.parts
    }
    return kinds.pop() if len(kinds) == 1 else Q8_0
