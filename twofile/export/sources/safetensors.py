"""safetensors files."""

import math
import struct

import numpy as np

from ...errors import ModelError, printable
from ..arrays import mapped
from ..damage import reading, theirs
from ..settings import MOST_JSON, loads

STORED = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1"}


def read_safetensors(path):
    """name -> mapped array of one .safetensors file. The rules are those of the format's own
    reader."""
    raw, file = mapped(path), printable(path.name)
    size = struct.unpack("<Q", raw[:8].tobytes())[0] if len(raw) >= 8 else 0
    if not 2 <= size <= min(MOST_JSON, len(raw) - 8):
        found = f"header of {size:,} bytes in a file of {len(raw):,}"
        raise ModelError(f"{file}: {found}; is the download complete?")
    data, arrays, end = raw[8 + size :], {}, 0
    for row in safetensors_rows(raw[8 : 8 + size].tobytes(), file):
        with reading():
            (first, last), name, dtype, shape = row
            kind = STORED.get(dtype)
        if kind is None:
            found = f"tensor {printable(name)[:80]} has type {printable(str(dtype))[:40]}"
            raise ModelError(f"{file}: {found}; known: F32, F16, BF16, U8")
        whole = all(isinstance(n, int) and n >= 0 for n in (first, last, *shape))
        fits = whole and first == end and last - first == math.prod(shape) * np.dtype(kind).itemsize
        if not fits or last > len(data):
            found = f"tensor {printable(name)[:80]} at {printable(f'{first}..{last}')[:80]}"
            wrong = "overlaps, leaves a hole or is cut short"
            raise ModelError(f"{file}: {found} {wrong}; is the download complete?")
        with reading():
            arrays[name], end = data[first:last].view(kind).reshape(shape), last
    if end != len(data):
        found = f"{len(raw):,} bytes, tensors end at {8 + size + end:,}"
        raise ModelError(f"{file}: {found}; refused")
    return arrays


def safetensors_rows(header, file):
    """[(extent, name, type, shape)] of the JSON at the beginning, in the order of the data."""

    def no_twins(pairs):
        if len({k for k, _ in pairs}) != len(pairs):
            raise ModelError(f"{file}: a name stands twice in the header; refused")
        return dict(pairs)

    wrong = f"{file}: the header is not what safetensors writes; is the file damaged?"
    with theirs(wrong, "", lambda e: ""):
        rows = loads(header, 6, object_pairs_hook=no_twins)
        rows.pop("__metadata__", None)
        row = lambda name, v: (tuple(v["data_offsets"]), name, v["dtype"], tuple(v["shape"]))
        return sorted(row(name, v) for name, v in rows.items())
