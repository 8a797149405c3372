"""Memory that kernels work in."""

import math

import numpy as np

from ..files import padded

SPARE = 256  # bytes behind a buffer, for vectors read past the end of a row; Forward.extents() has who reads how far


class Buffer:
    """Zeroed bytes at a 64-byte boundary, with SPARE more behind them."""

    def __init__(self, nbytes):
        self.nbytes = nbytes
        self.raw = np.zeros(nbytes + 64 + SPARE, np.uint8)
        self.address = padded(self.raw.ctypes.data, 64)

    def view(self, dtype, *shape):
        start = self.address - self.raw.ctypes.data
        return (
            self.raw[start : start + np.dtype(dtype).itemsize * math.prod(shape)]
            .view(dtype)
            .reshape(shape)
        )
