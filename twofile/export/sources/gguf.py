"""llama.cpp's files; blocks of Q8_0 and Q4_0 are moved as they are."""

import math

import numpy as np

from ...errors import ModelError, printable
from ...format.types import BF16, F16, F32, Q4_0, Q8_0
from ..arrays import Blocks, Rows, to_float32
from ..damage import by_kind, theirs, worded
from ..families.build import Family
from ..families.family import NEVER, window_size
from ..families.gguf import GGUF_EXPERTS, GGUF_FAMILIES, gguf_names
from ..oldconfig import Old
from ..rope import rope_table
from ..source import Source, check_model, sampled
from .ggufbytes import gguf_file
from .ggufconfig import gguf_config, gguf_rope

# what is kept to the bit; others become q8_0
KEPT_TYPES = {"F32": F32, "F16": F16, "BF16": BF16, "Q8_0": Q8_0, "Q4_0": Q4_0}
WRONG = ("metadata: ", "; expected the sizes of a model; is the file whole?")


def read_gguf(path):
    """A GGUF of version 2 or 3 -> Source."""
    after = "); expected version 2 or 3; is the download complete?"
    with worded("not a whole GGUF file (", after, by_kind):
        fields, tensors = gguf_file(path)
    arrays = gguf_arrays(tensors)
    arch = str(fields.get("general.architecture"))
    if arch not in GGUF_FAMILIES:
        raise ModelError(
            f"GGUF architecture {printable(arch)[:60]!r} is not supported; known: {', '.join(GGUF_FAMILIES)}"
        )
    if fields.get("split.count", 0) not in (0, 1):
        raise ModelError(
            "one of several parts of a GGUF; expected one file; join them with llama-gguf-split --merge"
        )
    with theirs(*WRONG):
        f, j = gguf_family(fields, arrays, arch)
        c = gguf_config(j, f, arch)
        check_model(c)
        window = gguf_window(j, f, c)
        table, rope_id, rotated, long = gguf_rope(j, f, Old(c), window)
        c = c.changed(n_rope=len(table), rope_long=long)
        said = [fields.get(f"general.sampling.{key}") for key in ("temp", "top_p", "top_k")]
        c = sampled(c, *said)
        second = {}
        if c.second:  # the pairs that do not turn have factors out of all proportion
            factors = to_float32(f.arrays.pop("rope_freqs.weight"))
            second["rope2"] = rope_table(c.second.size, float(j["rope.freq_base2"]))
            second["rope2"][:, 0] *= (factors < 1e20) / factors
    tensors = f.tensors(Old(c), rotated) | second
    types = {name: kept_type(rows) for name, rows in tensors.items() if isinstance(rows, Rows)}
    left = sorted({a.kind.name for a in arrays.values() if isinstance(a, Blocks)} - set(KEPT_TYPES))
    lost = f"{', '.join(left)} become q8_0; {', '.join(KEPT_TYPES)} are kept to the bit"
    more = dict(window=window, rope_id=np.array(rope_id, "<i4"), types=types, gguf=fields)
    more |= dict(notice=lost if left else None, note=printable(str(fields.get("general.name", ""))))
    return Source(f"GGUF of {arch}", c, table, tensors, **more)


def gguf_family(fields, arrays, arch):
    """-> the Family of an architecture, with the arrays; what the metadata says of it."""
    names, settings = GGUF_FAMILIES[arch]
    if arch == "llama" and fields.get("llama.expert_count"):  # Mixtral
        names, settings = gguf_names(GGUF_EXPERTS), {**settings, "norm_topk": 1}
    j = {name.removeprefix(arch + "."): value for name, value in fields.items()}
    f = Family(f"GGUF of {arch}", arrays, dict(names), settings)
    j = settings.get("adapt", dict)(j)
    f.look(j.get("kinds", b""))
    blocks = [name for name in arrays if name.startswith("blk.")]
    ahead = [name for name in blocks if int(name.split(".")[1]) >= j["block_count"]]
    for name in ahead if j.get("nextn_predict_layers") else ():
        del arrays[name]
    for key in ("wqkv", "qn", "an2", "fn2", "positions"):
        f.names[key] = f.names.get(key) if f.has(key) else None
    return f, j


def gguf_window(j, f, c):
    """int32 [layers]: the positions that each sees, 0 = all."""
    size = window_size(j.get("attention.sliding_window") or 0)
    rule, said = f.settings("window") or NEVER, j.get("attention.sliding_window_pattern")
    slide = [said[i] if isinstance(said, list) else rule(j, i) for i in range(c.n_layers)]
    return np.array([size if slides else 0 for slides in slide], "<i4")


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


def kept_type(rows):
    """The Type of a matrix of one or several parts: theirs if that is one we have, else q8_0."""
    plain = {"float32": F32, "float16": F16, "uint16": BF16}
    kinds = {
        KEPT_TYPES.get(a.kind.name, Q8_0) if isinstance(a, Blocks) else plain[a.dtype.name]
        for a, _ in rows.parts
    }
    return kinds.pop() if len(kinds) == 1 else Q8_0
