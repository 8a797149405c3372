"""A matrix of a source, converted to float32 a few rows at a time."""

import mmap
import os
import weakref

import numpy as np

from ..files import open_regular
from ..format.types import GROUP
from .say import need

AT_A_TIME = 1 << 22  # matrix elements converted at a time


class Rows:
    """A matrix [n, cols] made of parts stacked by rows, each a (mapped) array and perhaps an order of its rows.

    Arrays of uint16 hold bfloat16.
    """

    def __init__(self, *parts):
        self.parts = [p if isinstance(p, tuple) else (p, None) for p in parts]
        self.shape = (sum(len(a) for a, _ in self.parts), *self.parts[0][0].shape[1:])

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        """Rows of a matrix in parts, as float32: a part of another may be one."""
        if isinstance(rows, slice):
            return self.read(*rows.indices(len(self))[:2])
        out = np.empty((len(rows), *self.shape[1:]), np.float32)
        start = 0
        for array, order in self.parts:
            mine = (rows >= start) & (rows < start + len(array))
            own = rows[mine] - start
            out[mine] = to_float32(array[own if order is None else order[own]])
            start += len(array)
        return out

    def read(self, first, last):
        """-> float32 [last - first, cols]"""
        out, start = [], 0
        for array, order in self.parts:
            a, b = max(first - start, 0), min(last - start, len(array))
            if a < b:
                out.append(to_float32(array[a:b] if order is None else array[order[a:b]]))
            start += len(array)
        return np.concatenate(out)

    def blocks(self, dtype, first, last):
        """As read(), the values and scales of blocks that need no change; None if the parts are of another type."""
        out, start = [], 0
        for array, order in self.parts:
            if not isinstance(array, Blocks) or array.kind.name.lower() != dtype:
                return None
            a, b = max(first - start, 0), min(last - start, len(array))
            if a < b:
                out.append(array[a:b].parts() if order is None else array[order[a:b]].parts())
            start += len(array)
        return tuple(map(np.concatenate, zip(*out)))


class Mx:
    """Rows of MXFP4, which gpt-oss's experts are stored in: values uint8 [rows, groups, 16] of two numbers of 4 bits, the lower
    half first, and scales uint8 [rows, groups], powers of two (OCP Microscaling Formats 1.0)."""

    LEVELS = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    LEVELS = np.concatenate((LEVELS, -LEVELS))

    def __init__(self, values, scales):
        self.values, self.scales = values, scales
        self.shape = (len(values), values.shape[1] * 32)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return Mx(self.values[rows], self.scales[rows])

    def floats(self):
        pairs = np.stack((self.values & 15, self.values >> 4), -1).reshape(len(self), -1, 32)
        return np.ldexp(self.LEVELS[pairs], self.scales.astype(np.int32)[..., None] - 127).reshape(
            self.shape
        )


MAPS = weakref.WeakSet()  # of the files of the source


def mapped(path):
    """A file as uint8, read when it is looked at."""
    os.close(open_regular(path, "a file of weights")[0])  # a pipe would block
    array = np.memmap(path, np.uint8, "r")
    MAPS.add(array._mmap)
    return array


def forget():
    """Let go of the pages read so far: a source larger than memory would push everything else out."""
    for m in MAPS:
        if hasattr(m, "madvise"):
            m.madvise(mmap.MADV_DONTNEED)


def to_float32(array):
    if hasattr(array, "floats"):  # Blocks of a GGUF
        return array.floats()
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(array, dtype=np.float32)


class Blocks:
    """Rows of quantised blocks of a GGUF: raw uint8 [rows, bytes], of gguf's type kind."""

    def __init__(self, raw, kind, cols):
        self.raw, self.kind, self.shape = raw, kind, (len(raw), cols)

    def __len__(self):
        return len(self.raw)

    def __getitem__(self, rows):
        return Blocks(self.raw[rows], self.kind, self.shape[1])

    def floats(self):
        """float32 [rows, cols]"""
        dequantize = need("gguf.quants").dequantize
        return (
            dequantize(np.ascontiguousarray(self.raw), self.kind)
            .reshape(self.shape)
            .astype(np.float32, copy=False)
        )

    def parts(self):
        """Q8_0 or Q4_0 -> values int8 [rows, groups, 32] and scales float16 [rows, groups], as they stand."""
        rows = np.ascontiguousarray(self.raw).reshape(len(self.raw), self.shape[1] // GROUP, -1)
        scales, values = rows[..., :2].copy().view("<f2")[..., 0], rows[..., 2:]
        if self.kind.name == "Q8_0":
            return values.view(np.int8), scales
        return (np.concatenate((values & 15, values >> 4), -1).astype(np.int8) - 8), scales


class Columns:
    """A matrix whose columns are spread over several arrays; joined a few rows at a time."""

    def __init__(self, parts):
        self.parts = parts
        self.shape = (parts[0].shape[0], sum(part.shape[1] for part in parts))

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return np.concatenate([part[rows] for part in self.parts], axis=1)


def to_bfloat16(x):
    """float32 -> uint16 holding the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")
