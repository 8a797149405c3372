"""llama.cpp's files; blocks of Q8_0 and Q4_0 are moved as they are."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from ...errors import ModelError, printable
from ...format.config import _check_config
from ..arrays import Blocks, Rows, to_float32
from ..families.build import Family
from ..families.family import NEVER, window_size
from ..families.gguf import GGUF_EXPERTS, GGUF_FAMILIES, gguf_names
from ..rope import rope_table
from ..say import DAMAGED, damaged, sampled
from .ggufbytes import gguf_file
from .ggufconfig import gguf_config, gguf_rope

# others become q8_0
KEPT_TYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16", "Q8_0": "q8_0", "Q4_0": "q4_0"}


def read_gguf(path):
    """A GGUF of version 2 or 3 -> source."""
    try:
        fields, tensors = gguf_file(path)
        arrays = gguf_arrays(tensors)
    except DAMAGED as e:
        found = f"{type(e).__name__}: {printable(str(e))[:80]}"
        raise ModelError(
            f"not a whole GGUF file ({found}); expected version 2 or 3; is the download complete?"
        ) from None
    arch = str(fields.get("general.architecture"))
    if arch not in GGUF_FAMILIES:
        raise ModelError(
            f"GGUF architecture {printable(arch)[:60]!r} is not supported; known: {', '.join(GGUF_FAMILIES)}"
        )
    if fields.get("split.count", 0) not in (0, 1):
        raise ModelError(
            "one of several parts of a GGUF; expected one file; join them with llama-gguf-split --merge"
        )
    names, settings = GGUF_FAMILIES[arch]
    if arch == "llama" and fields.get("llama.expert_count"):  # Mixtral
        names, settings = gguf_names(GGUF_EXPERTS), {**settings, "norm_topk": 1}
    j = {name.removeprefix(arch + "."): value for name, value in fields.items()}
    f = Family(f"GGUF of {arch}", arrays, dict(names), settings)
    try:
        j = settings.get("adapt", dict)(j)
        f.look(j.get("kinds", b""))
        ahead = [
            name
            for name in arrays
            if name.startswith("blk.") and int(name.split(".")[1]) >= j["block_count"]
        ]
        for name in ahead if j.get("nextn_predict_layers") else ():
            del arrays[name]
    except DAMAGED as e:
        raise damaged(e) from None
    for key in ("wqkv", "qn", "an2", "fn2", "positions"):
        f.names[key] = f.names.get(key) if f.has(key) else None
    try:
        c = gguf_config(j, f, arch)
        _check_config(c)
        rule, size = (
            settings.get("window", NEVER),
            window_size(j.get("attention.sliding_window") or 0),
        )
        said = j.get("attention.sliding_window_pattern")
        slide = [said[i] if isinstance(said, list) else rule(j, i) for i in range(c.n_layers)]
        window = np.array([size if slides else 0 for slides in slide], "<i4")
        table, rope_id, rotated, long = gguf_rope(j, f, c, window)
        c = replace(c, n_rope=len(table), rope_long=long)
        c = sampled(
            c, *(fields.get(f"general.sampling.{key}") for key in ("temp", "top_p", "top_k"))
        )
        second = {}
        if c.head_dim2:  # the pairs that do not turn have factors out of all proportion
            factors = to_float32(f.arrays.pop("rope_freqs.weight"))
            second["rope2"] = rope_table(c.head_dim2, float(j["rope.freq_base2"]))
            second["rope2"][:, 0] *= (factors < 1e20) / factors
        tensors = f.tensors(c, rotated) | second
    except DAMAGED as e:
        raise damaged(e) from None
    source = SimpleNamespace(
        kind=f"GGUF of {arch}", config=c, rope=table, tensors=tensors, window=window
    )
    source.rope_id, source.gguf = np.array(rope_id, "<i4"), fields
    source.types = {name: kind_of(rows) for name, rows in tensors.items() if isinstance(rows, Rows)}
    left = sorted({a.kind.name for a in arrays.values() if isinstance(a, Blocks)} - set(KEPT_TYPES))
    source.notice = (
        f"{', '.join(left)} become q8_0; {', '.join(KEPT_TYPES)} are kept to the bit"
        if left
        else ""
    )
    source.note = printable(str(fields.get("general.name", "")))
    return source


def gguf_arrays(tensors):
    """{name: float array, uint16 array (bfloat16) or Blocks}, mapped."""
    arrays = {}
    for name, shape, kind, data in tensors:
        if kind.name in ("F32", "F16", "BF16"):
            array = data.view({"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[kind.name]).reshape(shape)
        else:
            array = Blocks(data.reshape(math.prod(shape[:-1]), -1), kind, shape[-1])
        if len(shape) == 3:  # a matrix for each expert
            for e in range(shape[0]):
                own = (
                    array[e * shape[1] : (e + 1) * shape[1]]
                    if isinstance(array, Blocks)
                    else array[e]
                )
                arrays[f"{name.removesuffix('weight')}{e}.weight"] = own
        else:
            arrays[name] = array
    return arrays


def kind_of(rows):
    """The type in our file of a matrix of one or several parts: theirs if that is one we have, else q8_0."""
    plain = {"float32": "f32", "float16": "f16", "uint16": "bf16"}
    kinds = {
        KEPT_TYPES.get(a.kind.name, "q8_0") if isinstance(a, Blocks) else plain[a.dtype.name]
        for a, _ in rows.parts
    }
    return kinds.pop() if len(kinds) == 1 else "q8_0"
