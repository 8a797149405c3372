"""How the elements of a tensor stand in the file: bits, and what scales them."""

import math
from typing import NamedTuple

GROUP = 32  # columns that share a scale
BLOCK = 16  # rows of a block: a matrix lies in these, a lane a row


def padded(n, multiple):
    """n filled up to a multiple."""
    return -(-n // multiple) * multiple


class Type(NamedTuple):
    """A type of elements: how many bits, and what the bits mean.

    number: in the tensor table. numpy: what the stored elements are to numpy (whole bytes).
    scale: the Type of a scale that GROUP columns of a row share, in the tensor NAME.s; None =
    the elements are the numbers themselves. zero: what is taken off an element before it is
    scaled. matrix: whether a matrix may be of this type.
    """

    name: str
    number: int
    bits: int
    numpy: str
    matrix: bool = True
    scale: "Type | None" = None
    zero: int = 0

    @property
    def quantised(self):
        return self.scale is not None

    @property
    def group(self):
        """Columns that share a scale, as the table says it: 0 = there is none."""
        return GROUP if self.quantised else 0

    def columns(self, n):
        """Columns that a row of n takes, with what fills its last group up."""
        return padded(n, GROUP) if self.quantised else n

    def nbytes(self, shape, blocked):
        """Bytes of a tensor in the file, an exact int; blocked: with its blocks filled up."""
        if blocked:
            shape = (padded(shape[0], BLOCK), self.columns(shape[1]))
        return math.prod(shape) * self.bits // 8

    def scales(self, shape):
        """Shape of NAME.s for a matrix of this shape: [blocks, groups, rows of a block]."""
        return (padded(shape[0], BLOCK) // BLOCK, padded(shape[1], GROUP) // GROUP, BLOCK)


F32 = Type("f32", 1, 32, "<f4")
F16 = Type("f16", 2, 16, "<f2")
BF16 = Type("bf16", 3, 16, "<u2")
Q8_0 = Type("q8_0", 4, 8, "u1", scale=F16, zero=128)
Q4_0 = Type("q4_0", 5, 4, "u1", scale=F16, zero=8)
I32 = Type("i32", 6, 32, "<i4", matrix=False)
U8 = Type("u8", 7, 8, "u1", matrix=False)

TYPES = (F32, F16, BF16, Q8_0, Q4_0, I32, U8)  # in the order of their numbers
MATRIX_TYPES = tuple(t for t in TYPES if t.matrix)


def type_of(name):
    """The Type of that name; KeyError for others."""
    return {t.name: t for t in TYPES}[name]
