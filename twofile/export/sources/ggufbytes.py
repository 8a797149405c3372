"""A GGUF's bytes: its metadata and its table of tensors."""

import math
import struct

import numpy as np

from ...errors import ModelError, printable
from ...format.types import padded
from ..arrays import mapped
from ..damage import reading
from ..say import need

GGUF_NUMBERS = {
    0: "u1",
    1: "i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}


class GgufBytes:
    """The description at the beginning of a GGUF, value by value. Whatever it promises, little is
    read: 64 MiB, 4 million values, no arrays of arrays."""

    def __init__(self, raw):
        self.raw, self.at, self.left = memoryview(raw), 4, 1 << 22

    def take(self, n):
        if n > len(self.raw) - self.at or self.at + n > 64 << 20:
            raise ModelError(
                "not a whole GGUF file: its description is cut short; is the download complete?"
            )
        self.at += n
        return bytes(self.raw[self.at - n : self.at])

    def number(self, form="<Q"):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def texts(self, n):
        """n texts, each behind its length."""
        head = self.raw[: 64 << 20]
        found, at, end, length = [], self.at, len(head), struct.Struct("<Q").unpack_from
        for _ in range(n):
            first = at + 8
            at = first + length(head, at)[0]
            if at > end:
                self.take(at - self.at)  # refuses it
            found.append(str(head[first:at], "utf-8"))
        self.at = at
        return found

    def value(self, kind, n=None):
        """One value of this type, or a list of n."""
        self.left -= n or 1
        if self.left < 0:
            raise ModelError(
                "more than 4 million values of metadata; expected a GGUF of llama.cpp; refused"
            )
        if kind == 8:
            with reading():
                texts = self.texts(1 if n is None else n)
            return texts[0] if n is None else texts
        if kind == 9 and n is None:
            return self.value(self.number("<I"), self.number())
        with reading():
            dtype = np.dtype(GGUF_NUMBERS[kind])
        found = np.frombuffer(self.take(dtype.itemsize * (1 if n is None else n)), dtype).tolist()
        return found[0] if n is None else found


def gguf_one(path):
    """One file -> ({name: value} of the metadata, [(name, shape, type, mapped bytes)]); every
    extent is checked, in Python ints."""
    raw = mapped(path)
    f = GgufBytes(raw)
    fields, rows = gguf_description(f)
    if not rows:
        return fields, []
    align = fields.get("general.alignment", 32)
    if not isinstance(align, int) or align not in [1 << i for i in range(21)]:
        found = f"alignment of {printable(str(align))[:20]}, expected a power of two"
        raise ModelError(f"{found}; convert it again")
    begin, tensors, expected = padded(f.at, align), [], 0
    for name, shape, number, off in rows:
        where = f"tensor {printable(name)[:60]}"
        kind, nbytes = gguf_extent(where, shape, number)
        if off != expected or begin + off + nbytes > len(raw):
            found = f"not a whole GGUF file: {where} is at {off:,}, {nbytes:,} bytes"
            wants = f"expected at {expected:,}, to {len(raw):,}"
            raise ModelError(f"{found}, {wants}; download it again")
        expected = padded(off + nbytes, align)
        tensors.append((name, tuple(shape), kind, raw[begin + off : begin + off + nbytes]))
    return fields, tensors


def gguf_description(f):
    """GgufBytes -> ({name: value} of the metadata, [(name, shape, number of its type, offset)])."""
    version, n_tensors, n_fields = f.number("<I"), f.number(), f.number()
    if version not in (2, 3) or max(n_tensors, n_fields) > 65536:
        found = (
            f"not a whole GGUF file: version {version}, {n_tensors} tensors and {n_fields} fields"
        )
        wants = "expected little-endian, version 2 or 3"
        raise ModelError(f"{found}; {wants}; is the download complete?")
    pairs = [(f.value(8), f.value(f.number("<I"))) for _ in range(n_fields)]
    fields, rows = dict(pairs), []
    for _ in range(n_tensors):
        name, shape = f.value(8), [f.number() for _ in range(min(f.number("<I"), 5))]
        rows.append((name, shape[::-1], f.number("<I"), f.number()))
    if len(fields) < n_fields or len({row[0] for row in rows}) < n_tensors:
        raise ModelError("a name stands twice in it; expected each once; convert it again")
    return fields, rows


def gguf_extent(where, shape, number):
    """-> gguf's type of that number, the bytes of a tensor of it; where: names it in messages."""
    gguf = need("gguf")
    if number not in iter(gguf.GGMLQuantizationType):
        found = f"{where} has type {number}, which the package gguf does not know"
        raise ModelError(f"{found}; pip install -U gguf")
    kind = gguf.GGMLQuantizationType(number)
    with reading():
        block, size = gguf.GGML_QUANT_SIZES[kind]
    if not 1 <= len(shape) <= 4 or min(shape) < 1 or max(shape) > 1 << 31 or shape[-1] % block:
        found = f"{where} has shape {shape} of {kind.name}, expected 1 to 4 whole sizes"
        raise ModelError(f"{found}; convert it again")
    return kind, math.prod(shape) // block * size
