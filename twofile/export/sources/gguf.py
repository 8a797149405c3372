"""llama.cpp's files; blocks are moved as they are."""

import math
from functools import cache

import numpy as np

from ...errors import ModelError, printable
from ...format.types import BF16, BLOCK, F16, F32, Q4_K, Q8_0
from ...layers.stack import expected_tensors
from ..arrays import Rows, Unread
from ..blocks import Blocks
from ..damage import by_kind, reading, worded
from ..families.rules import window_size
from ..families.table import FAMILIES
from ..layers.stack import taken
from ..layers.weights import Weights
from ..say import need
from ..source import Source, check_model, sampled
from .ggufconfig import gguf_config, gguf_rope, gguf_second_rope
from .ggufparts import gguf_file

# what is not kept to the bit becomes q8_0, or if it has fewer than 4 bits, q4_k
NUMBERS = {"float64": F32, "float32": F32, "float16": F16, "uint16": BF16}
FEWER = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0")
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
    types, notice = kept_types(c, tensors)
    more = dict(
        window=window,
        rope_id=np.array(rope_id, "<i4"),
        types=types,
        notice=notice,
        names=w.form.names,
    )
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


def kept_types(c, tensors):
    """-> {name of a matrix: [(rows, Type)]}, its pieces, each of the type of its parts; what people
    should know of those that are not kept, or None."""
    types, turned, joined = {}, {}, []
    for slot in expected_tensors(c):
        rows = tensors.get(slot.name)
        if not isinstance(rows, Rows):
            continue
        pieces = []
        for (array, _), count in zip(rows.parts, rows.counts):
            kind = kept_type(array)
            if isinstance(array, Blocks) and array.type is None:
                turned.setdefault(kind.name, set()).add(array.kind.name)
            n = pieces.pop()[0] if pieces and pieces[-1][1] is kind else 0
            pieces.append((n + count, kind))
        if len(pieces) > 1 and (slot.whole or any(n % BLOCK for n, _ in pieces[:-1])):
            joined.append(f"{slot.name} ({', '.join(kind.name for _, kind in pieces)})")
            pieces = [(slot.shape[0], Q8_0)]
        types[slot.name] = pieces
    told = [f"{', '.join(sorted(kinds))} become {name}" for name, kinds in turned.items()]
    if joined:
        some = ", ".join(joined[:3]) + (", …" if len(joined) > 3 else "")
        told.append(f"{len(joined)} matrices whose parts must be of one type become q8_0: {some}")
    return types, "; ".join(told) or None


def kept_type(array):
    """The Type that becomes of an array of a GGUF."""
    if not isinstance(array, Blocks):
        return NUMBERS[array.dtype.name]
    return array.type or (Q4_K if array.kind.name in FEWER else Q8_0)
