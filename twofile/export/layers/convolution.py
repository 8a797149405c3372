"""Layers that convolve: their taps, and those between two gates."""

import numpy as np

from ...layers.stack import kind_of
from ..arrays import Rows


def taps(w, c, i, columns):
    """float32 [taps * columns]: all columns' first tap, then their second ones."""
    shape = (columns, c.conv.taps) if w.form.flat else (columns, 1, c.conv.taps)
    found = w.floats(w.names.conv, shape, i).reshape(columns, -1)
    return np.ascontiguousarray(found.T).reshape(-1)


def short_convolution(w, c, i):
    """{our name: Rows or vector} of layer i."""
    kind = kind_of(c, i)
    return {
        "conv": taps(w, c, i, c.dim),
        "o": Rows(w.take(w.names.out, (c.dim, kind.wide(c, i)), i)),
        "qkv": Rows(w.take(w.names.mix, (kind.rows(c, i), c.dim), i)),
    }
