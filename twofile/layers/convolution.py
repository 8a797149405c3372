"""Short convolutions: of b, c, x it makes c times the convolution of b x."""

import numpy as np

from ..format.fields import CONVOLUTION
from ..format.types import GROUP, padded
from ..kernels.convolution import convolution_gated
from .kind import Kept, Kind, Slot, matrix_slots


class ShortConvolution(Kind):
    """Layers of kind CONVOLUTION."""

    number = CONVOLUTION
    names = ("qkv", "conv", "o")
    convolves = True

    def rows(self, c, i):
        return 3 * c.dim

    def wide(self, c, i):
        return c.dim

    def tensors(self, c, i):
        return [
            *matrix_slots(f"l{i}.qkv", (3 * c.dim, c.dim), c.heads.bias),
            taps_slot(c, i, c.dim),
            *matrix_slots(f"l{i}.o", (c.dim, c.dim), c.heads.out_bias),
        ]

    def keeps(self, c, i):
        return [kept_inputs(c, c.dim)]

    def record(self, p, layer, row):
        width = p.config.dim
        return lambda: convolve_row(p, layer, row, width, convolution_gated, p.input(layer.o))


def taps_slot(c, i, columns):
    """The slot of a convolution: tap after tap, the last for the token itself."""
    return Slot(f"l{i}.conv", (c.conv.taps * columns,), "f32")


def kept_inputs(c, columns):
    """What a convolution keeps of a sequence: its last inputs."""
    return Kept("inputs", 1, max(c.conv.taps - 1, 1) * padded(columns, GROUP), cut=False)


def convolve_row(p, layer, row, columns, kernel, to):
    """A convolution of so many columns of row; to: where its results go, if not in place."""
    n, wide = p.config.conv.taps, padded(columns, GROUP)
    weights = np.zeros((n, wide), np.float32)
    weights[:, :columns] = layer.conv.floats().reshape(n, columns)
    weight = p.constant(layer.conv.name, weights.ravel())
    slot = 4 * kept_inputs(p.config, columns).numbers
    more = {"weight": weight, "inputs": p.cache.place(layer.index, "inputs"), "slot": slot}
    p.add(kernel, x=row, width=columns, taps=n, **more, **{"cols": wide, **to})
