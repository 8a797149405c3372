"""Memory that kernels work in, and places in it."""

import math
from typing import NamedTuple

import numpy as np

from ..format.types import padded

SPARE = 256  # bytes behind a buffer, for vectors read past the end of a row: at most 31 floats


class Buffer:
    """Zeroed bytes at a 64-byte boundary, with SPARE more behind them."""

    def __init__(self, nbytes):
        self.nbytes = nbytes
        self.raw = np.zeros(nbytes + 64 + SPARE, np.uint8)
        self.address = padded(self.raw.ctypes.data, 64)

    def view(self, dtype, *shape):
        start = self.address - self.raw.ctypes.data
        wide = np.dtype(dtype).itemsize * math.prod(shape)
        return self.raw[start : start + wide].view(dtype).reshape(shape)


class Room:
    """Bytes that a program works in: asked for while it is recorded, there when it is made."""

    writable = True

    def __init__(self, name, nbytes=0):
        self.name, self.nbytes, self.buffer = name, nbytes, None

    def ask(self, nbytes):
        """At least so many."""
        self.nbytes = max(self.nbytes, nbytes)

    def make(self):
        self.buffer = Buffer(self.nbytes)

    @property
    def address(self):
        return self.buffer.address

    def view(self, dtype, *shape):
        return self.buffer.view(dtype, *shape)


class Constant(Room):
    """float32 numbers that a program reads, padded to a multiple of them."""

    writable = False

    def __init__(self, name, data, multiple):
        super().__init__(name, 4 * padded(len(data), multiple))
        self.data = data

    def make(self):
        super().make()
        self.view(np.float32, len(self.data))[:] = self.data


class Mapped:
    """The bytes of a tensor of the file, which are only read."""

    writable = False

    def __init__(self, tensor):
        self.name, self.tensor, self.nbytes = tensor.name, tensor, tensor.nbytes

    @property
    def address(self):
        return self.tensor.data.ctypes.data


class Place(NamedTuple):
    """Where something is: bytes into a Room; step: bytes from one token's row to the next."""

    room: object
    at: int = 0
    step: int = 0

    @property
    def address(self):
        return self.room.address + self.at

    def columns(self, first):
        """The same rows, from float32 column first on."""
        return self._replace(at=self.at + 4 * first)
