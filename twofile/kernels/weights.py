"""What each type of weights brings to matmuls, experts and embeddings."""

from typing import NamedTuple

import numpy as np

from ..compiler.kernel import inline
from ..format.types import BF16, BLOCK, F16, F32, MATRIX_TYPES, Type, padded
from ..program.operands import Flat, Number, Rows, operands
from ..words.memory import (
    loads_bf16,
    loads_f16,
    loads_f32,
    peek,
    peek_bf16,
    peek_f16,
    peek_f32,
    spreads,
)
from ..words.numbers import fma, zeros1, zeros4
from .bits import BYTES, bits_of
from .rows import RESULT
from .scales import Scales, scales_of
from .tiles import added, beside_bytes, matrices, tile_of, unpacked

FLOATS = operands(
    "sums = x @ w.T, of weights that are numbers.",
    RESULT,
    x=Rows(lambda r: 4 * r.cols),
    w=Flat(lambda r: matrices(r) * r.cols * r.type.bits // 8),
    cols=Number("columns"),
)
ELEMENTS = operands(
    "Weights, taken one by one.",
    w=Flat(lambda r: padded(r.limits[r.ids], BLOCK) * r.cols * r.type.bits // 8),
    scales=Flat(lambda r: beside_bytes(r, ".s", r.limits[r.ids]), optional=True),
    above=Flat(lambda r: beside_bytes(r, ".d", r.limits[r.ids]), optional=True),
    cols=Number("columns, filled up to whole groups where there are scales"),
    ids=Number("the rows that are taken: TOKENS or POSITIONS of the pass"),
)


def weight_of(kind, bits, scales):
    """-> element [row, k] of w."""
    number, scale, least = bits.one, scales.one, scales.one_least
    zero, share_, width = kind.zero or (128 if kind.book else 0), kind.share, 64 * kind.bits
    per_part, per_super = scales.bytes, scales.above

    def begin(record, row):
        cols, block = peek(record + ELEMENTS.cols), row // 16
        s = peek(record + ELEMENTS.scales) + block * (cols // share_) * per_part
        d = peek(record + ELEMENTS.above) + block * ((cols + 255) // 256) * per_super
        return peek(record + ELEMENTS.w) + block * (cols // 32) * width, s, d

    begin = inline(begin)

    def weight(record, row, k):
        w, s, d = begin(record, row)
        whole = np.float32(number(w + k // 32 * width, row % 16, k % 32) - zero)
        return scale(s, d, k // share_, row % 16) * whole

    def more(record, row, k):
        w, s, d = begin(record, row)
        whole = np.float32(number(w + k // 32 * width, row % 16, k % 32))
        scaled_ = scale(s, d, k // share_, row % 16) * whole
        return scaled_ + least(s, d, k // share_, row % 16)

    return inline(weight if least is None else more)


def sums_float(loads, size):
    """-> the sums of a block of rows, whose weights of size bytes are read by loads, for one token
    and for four from i on. Rows are summed column by column."""

    def one(record, i, block):
        cols = peek(record + FLOATS.cols)
        x, acc = peek(record + FLOATS.x) + i * peek(record + FLOATS.x_step), zeros1()
        w = peek(record + FLOATS.w) + block * cols * 16 * size
        for k in range(cols):
            acc = fma(loads(acc, w + k * 16 * size, 0), spreads(acc, x + 4 * k, 0), acc)
        return acc

    def four(record, i, block, steps):
        cols, x_step, acc = peek(record + FLOATS.cols), peek(record + FLOATS.x_step), zeros4()
        w = peek(record + FLOATS.w) + block * cols * 16 * size
        x = peek(record + FLOATS.x) + i * x_step
        for k in range(cols):
            acc = fma(loads(zeros1(), w + k * 16 * size, 0), spreads(acc, x + 4 * k, x_step), acc)
        return acc

    return inline(one), inline(four)


def weight_float(peek_weight, size):
    def weight(record, row, k):
        return peek_weight(
            peek(record + ELEMENTS.w)
            + ((row // 16 * peek(record + ELEMENTS.cols) + k) * 16 + row % 16) * size
        )

    return inline(weight)


class Weights(NamedTuple):
    """A type of weights as kernels see it. element(record, row, k) -> float32.

    quantised: bits and scales; added: see tiles.added, what the least of the weights
    makes of a tile. Else: loads, which reads 16 weights of size bytes.
    """

    type: Type
    element: object
    bits: object = None
    scales: Scales = None
    added: object = None
    loads: object = None
    size: int = 0

    @property
    def zero(self):
        """What bytes of bits are larger by than the weights that are scaled."""
        return 128 if self.type.book else self.type.zero

    @property
    def width(self):
        """Bytes of a group of a block."""
        return 64 * self.type.bits

    def tile(self, machine):
        """See tile_of: of the bits as they lie in the file."""
        return tile_of(self, self.bits, self.width, self.zero, machine)

    def tile_bytes(self, machine):
        """Of the bytes that unpack makes where there is no matrix unit."""
        bits = BYTES._replace(fits=self.bits.fits)
        return tile_of(self, bits, 512, self.zero, machine)

    def unpack(self, signed):
        """unpack(w, groups, ahead, out): a block of rows as bytes; signed: less the zero."""
        return unpacked(self.bits, self.width, self.zero if signed else 0)


def weights_of(kind):
    """The Weights of a quantised Type."""
    bits, scales = bits_of(kind), scales_of(kind)
    more = bits, scales, added(kind, scales)
    return Weights(kind, weight_of(kind, bits, scales), *more)


WEIGHTS = (
    Weights(F32, weight_float(peek_f32, 4), loads=loads_f32, size=4),
    Weights(F16, weight_float(peek_f16, 2), loads=loads_f16, size=2),
    Weights(BF16, weight_float(peek_bf16, 2), loads=loads_bf16, size=2),
    *(weights_of(kind) for kind in MATRIX_TYPES if kind.quantised),
)
