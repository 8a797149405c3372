"""safetensors files."""

import math
import struct

import numpy as np

from ...errors import ModelError, printable
from ..arrays import mapped
from ..say import MOST_JSON, loads


def read_safetensors(path):
    """name -> mapped array of one .safetensors file. The rules are those of the format's own reader."""
    raw = mapped(path)
    size = struct.unpack("<Q", raw[:8].tobytes())[0] if len(raw) >= 8 else 0
    if not 2 <= size <= min(MOST_JSON, len(raw) - 8):
        found = f"header of {size:,} bytes in a file of {len(raw):,}"
        raise ModelError(f"{printable(path.name)}: {found}; is the download complete?")

    def no_twins(pairs):
        if len({k for k, _ in pairs}) != len(pairs):
            raise ModelError(f"{printable(path.name)}: a name stands twice in the header; refused")
        return dict(pairs)

    try:
        header = loads(raw[8 : 8 + size].tobytes(), 6, object_pairs_hook=no_twins)
        header.pop("__metadata__", None)
        rows = sorted(
            (tuple(v["data_offsets"]), k, v["dtype"], tuple(v["shape"])) for k, v in header.items()
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(
            f"{printable(path.name)}: the header is not what safetensors writes; is the file damaged?"
        ) from None
    arrays, end = {}, 0
    for (first, last), name, dtype, shape in rows:
        kind = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1"}.get(dtype)
        if kind is None:
            found = f"tensor {printable(name)[:80]} has type {printable(str(dtype))[:40]}"
            raise ModelError(f"{printable(path.name)}: {found}; known: F32, F16, BF16, U8")
        whole = all(isinstance(n, int) and n >= 0 for n in (first, last, *shape))
        fits = whole and first == end and last - first == math.prod(shape) * np.dtype(kind).itemsize
        if not fits or 8 + size + last > len(raw):
            where = f"{printable(path.name)}: tensor {printable(name)[:80]} at {printable(f'{first}..{last}')[:80]}"
            raise ModelError(
                f"{where} overlaps, leaves a hole or is cut short; is the download complete?"
            )
        arrays[name], end = raw[8 + size + first : 8 + size + last].view(kind).reshape(shape), last
    if 8 + size + end != len(raw):
        raise ModelError(
            f"{printable(path.name)}: {len(raw):,} bytes, tensors end at {8 + size + end:,}; refused"
        )
    return arrays
