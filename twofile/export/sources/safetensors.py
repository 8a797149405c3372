"""safetensors files."""

import math
import struct

import numpy as np

from ...errors import ModelError, printable
from ..arrays import PLAIN, Unread, mapped
from ..damage import reading, theirs
from ..settings import MOST_JSON, loads

STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1"}
# bits of an element of the types of which we make no numbers: of buffers, or of what is quantised
OTHERS = dict(BOOL=8, I8=8, I16=16, U16=16, I32=32, U32=32, I64=64, U64=64, C64=64, F4=4)
OTHERS |= dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6)
OTHERS |= dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8)


def read_safetensors(path):
    """name -> mapped array, or Unread, of one .safetensors file. The rules are those of the
    format's own reader."""
    raw, file = mapped(path), printable(path.name)
    size = struct.unpack("<Q", raw[:8].tobytes())[0] if len(raw) >= 8 else 0
    if not 2 <= size <= min(MOST_JSON, len(raw) - 8):
        found = f"header of {size:,} bytes in a file of {len(raw):,}"
        raise ModelError(f"{file}: {found}; is the download complete?")
    data, arrays, end = raw[8 + size :], {}, 0
    for row in safetensors_rows(raw[8 : 8 + size].tobytes(), file):
        with reading():
            (first, last), name, dtype, shape = row
            kind, bits = STORED.get(dtype), OTHERS.get(dtype)
        if kind is None and bits is None:
            found = f"tensor {printable(name)[:80]} has type {printable(str(dtype))[:40]}"
            known = ", ".join((*STORED, *OTHERS))
            raise ModelError(f"{file}: {found}; known: {known}; save it again with safetensors")
        bits = bits or 8 * np.dtype(kind).itemsize
        whole = all(isinstance(n, int) and n >= 0 for n in (first, last, *shape))
        fits = whole and first == end and 8 * (last - first) == math.prod(shape) * bits
        if not fits or last > len(data):
            found = f"tensor {printable(name)[:80]} at {printable(f'{first}..{last}')[:80]}"
            wrong = "overlaps, leaves a hole or is cut short"
            raise ModelError(f"{file}: {found} {wrong}; is the download complete?")
        end = last
        with reading():
            part = data[first:last]
            arrays[name] = (
                part.view(kind).reshape(shape) if kind else Unread(file, dtype, shape, PLAIN)
            )
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
