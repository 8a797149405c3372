"""A matrix of a source, converted to float32 a few rows at a time."""

import mmap
import os
import re
import weakref

import numpy as np

from ..files import open_regular
from .damage import reading
from .pack import from_bfloat16

AT_A_TIME = 1 << 22  # matrix elements converted at a time


class Part:
    """Rows of a matrix that are stored in a way that numpy does not know. shape: (rows, cols);
    part[rows]: such a part; type: our Type that it is of, to the bit; None = of none."""

    type = None

    def __len__(self):
        return self.shape[0]

    def floats(self):
        """float32 [rows, cols]"""
        raise NotImplementedError

    def laid(self, others):
        """As pack.laid, with the rows of other parts of its type behind its own."""
        raise NotImplementedError


class Unread:
    """A tensor of a type that we make no numbers of. file: where it is; kind: what its type is
    called there; wants: which types we read there, and what to do."""

    def __init__(self, file, kind, shape, wants):
        self.file, self.kind, self.shape, self.wants = file, kind, tuple(shape), wants

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, i):
        return Unread(self.file, self.kind, self.shape[1:], self.wants)

    @property
    def ndim(self):
        return len(self.shape)


PLAIN = "F32, F16, BF16 or F64; save the model as bfloat16, not quantised"
NUMBERS = np.float32, np.float16, np.float64, np.uint16  # uint16: bfloat16


def of_numbers(array):
    """Whether an array of a source holds what becomes float32."""
    return (
        array.dtype in NUMBERS if isinstance(array, np.ndarray) else not isinstance(array, Unread)
    )


def type_name(array):
    """What the type of an array is called where it comes from."""
    return array.kind if isinstance(array, Unread) else array.dtype.name


def counts(array):
    """Whether an array is of whole numbers or truth values, as masks and positions are."""
    known = isinstance(array, (np.ndarray, Unread)) and not of_numbers(array)
    return bool(known and re.fullmatch(r"bool|u?int\d+|[iu]\d+", type_name(array).lower()))


class Rows:
    """A matrix [n, cols] made of parts stacked by rows, each an array (of uint16: bfloat16) or a
    Part, and the rows of it that are taken, in their order; None = all."""

    def __init__(self, *parts):
        self.parts = [p if isinstance(p, tuple) else (p, None) for p in parts]
        self.counts = [len(a if order is None else order) for a, order in self.parts]
        self.shape = (sum(self.counts), *self.parts[0][0].shape[1:])

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        """Rows of a matrix in parts, as float32: a part of another may be one."""
        if isinstance(rows, slice):
            return self.read(*rows.indices(len(self))[:2])
        out = np.empty((len(rows), *self.shape[1:]), np.float32)
        start = 0
        for (array, order), count in zip(self.parts, self.counts):
            mine = (rows >= start) & (rows < start + count)
            own = rows[mine] - start
            found = to_float32(array[own if order is None else order[own]])
            with reading():  # parts of a file may be of other widths
                out[mine] = found
            start += count
        return out

    def between(self, first, last):
        """What each part has of rows first to last."""
        start = 0
        for (array, order), count in zip(self.parts, self.counts):
            a, b = max(first - start, 0), min(last - start, count)
            if a < b:
                yield array[a:b] if order is None else array[order[a:b]]
            start += count

    def read(self, first, last):
        """-> float32 [last - first, cols]"""
        parts = [to_float32(part) for part in self.between(first, last)]
        with reading():
            return np.concatenate(parts)

    def packed(self, type, first, last):
        """Rows first to last as pack.laid gives them, if all are of that type, so that they need
        no change; else None."""
        parts = list(self.between(first, last))
        if any(not isinstance(part, Part) or part.type is not type for part in parts):
            return None
        with reading():
            return parts[0].laid(parts[1:])


class Columns:
    """A matrix whose columns are spread over several arrays; joined a few rows at a time."""

    def __init__(self, parts):
        self.parts = parts
        self.shape = (parts[0].shape[0], sum(part.shape[1] for part in parts))

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        parts = [part[rows] for part in self.parts]
        with reading():
            return np.concatenate(parts, axis=1)


class Mx(Part):
    """Rows of MXFP4, which gpt-oss's experts are stored in: values uint8 [rows, groups, 16] of two
    numbers of 4 bits, the lower half first, and scales uint8 [rows, groups], powers of two (OCP
    Microscaling Formats 1.0)."""

    LEVELS = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    LEVELS = np.concatenate((LEVELS, -LEVELS))

    def __init__(self, values, scales):
        self.values, self.scales = values, scales
        self.shape = (len(values), values.shape[1] * 32)

    def __getitem__(self, rows):
        return Mx(self.values[rows], self.scales[rows])

    def floats(self):
        pairs = np.stack((self.values & 15, self.values >> 4), -1).reshape(len(self), -1, 32)
        scaled = np.ldexp(self.LEVELS[pairs], self.scales.astype(np.int32)[..., None] - 127)
        return scaled.reshape(self.shape)


MAPS = weakref.WeakSet()  # of the files of the source


def mapped(path):
    """A file as uint8, read when it is looked at."""
    os.close(open_regular(path, "a file of weights")[0])  # a pipe would block
    array = np.memmap(path, np.uint8, "r")
    MAPS.add(array._mmap)
    return array


def forget():
    """Let go of the pages read so far: a source larger than memory would push everything else
    out."""
    if hasattr(mmap, "MADV_DONTNEED"):  # not on every system
        for m in MAPS:
            m.madvise(mmap.MADV_DONTNEED)


def equal(a, b):
    """Whether two matrices are the same numbers, compared a few rows at a time."""
    known = a.shape == b.shape and of_numbers(a) and of_numbers(b)
    return known and all(
        np.array_equal(to_float32(a[i : i + 1024]), to_float32(b[i : i + 1024]))
        for i in range(0, len(a), 1024)
    )


def to_float32(array):
    """float32 of an array (of uint16: bfloat16) or of a Part."""
    if isinstance(array, Part):
        return array.floats()
    if array.dtype == np.uint16:
        return from_bfloat16(array)
    return np.ascontiguousarray(array, dtype=np.float32)
