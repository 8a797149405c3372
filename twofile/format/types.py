"""How the elements of a tensor stand in the file: bits, and what scales them."""

import math
from typing import NamedTuple

GROUP = 32  # columns that share a scale of activations, and mostly one of weights
SUPER = 256  # columns whose scales share a scale of their own
BLOCK = 16  # rows of a block: a matrix lies in these, a lane a row
CODEBOOK = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)  # of iq4


def padded(n, multiple):
    """n filled up to a multiple."""
    return -(-n // multiple) * multiple


class Type(NamedTuple):
    """A type of elements: how many bits, and what the bits mean.

    number: in the tensor table. numpy: what the stored elements are to numpy (whole bytes).
    matrix: whether a matrix may be of this type. scale: the Type of the scales that so many columns
    (share) of a row have in common, in the tensor NAME.s; None = the elements are the numbers
    themselves. zero: what is taken off an element before it is scaled. least: whether a number is
    added to it then, one for each scale, behind it in NAME.s; halves: in the upper half of the same
    byte. above: whether scales are whole numbers, times a float16 for each SUPER columns of a row
    in NAME.d (behind it that of the least). book: what the bits stand for, if not for themselves.
    """

    name: str
    number: int
    bits: int
    numpy: str
    matrix: bool = True
    scale: "Type | None" = None
    zero: int = 0
    share: int = GROUP
    least: bool = False
    halves: bool = False
    above: bool = False
    book: tuple = ()

    @property
    def quantised(self):
        return self.scale is not None

    @property
    def group(self):
        """Columns that share a scale, as the table says it: 0 = there is none."""
        return self.share if self.quantised else 0

    def columns(self, n):
        """Columns that a row of n takes, with what fills its last group up."""
        return padded(n, GROUP) if self.quantised else n

    def nbytes(self, shape, blocked):
        """Bytes of a tensor in the file, an exact int; blocked: with its blocks filled up."""
        if blocked:
            shape = (padded(shape[0], BLOCK), self.columns(shape[1]))
        return math.prod(shape) * self.bits // 8

    def beside(self, shape):
        """[(what its name ends with, Type, shape)] of the tensors that follow a matrix of this
        shape: [blocks, scales of a row, perhaps scale and least, rows of a block]."""
        if not self.quantised:
            return []
        blocks, columns = padded(shape[0], BLOCK) // BLOCK, padded(shape[1], GROUP)
        two = (2,) * self.least
        inner = two[: not self.halves]
        found = [(".s", self.scale, (blocks, columns // self.share, *inner, BLOCK))]
        if self.above:
            found.append((".d", F16, (blocks, padded(columns, SUPER) // SUPER, *two, BLOCK)))
        return found


F32 = Type("f32", 1, 32, "<f4")
F16 = Type("f16", 2, 16, "<f2")
BF16 = Type("bf16", 3, 16, "<u2")
I32 = Type("i32", 6, 32, "<i4", matrix=False)
U8 = Type("u8", 7, 8, "u1", matrix=False)
I8 = Type("i8", 8, 8, "i1", matrix=False)
Q8_0 = Type("q8_0", 4, 8, "u1", scale=F16, zero=128)
Q4_0 = Type("q4_0", 5, 4, "u1", scale=F16, zero=8)
Q4_1 = Type("q4_1", 9, 4, "u1", scale=F16, least=True)
Q5_0 = Type("q5_0", 10, 5, "u1", scale=F16, zero=16)
Q5_1 = Type("q5_1", 11, 5, "u1", scale=F16, least=True)
Q2_K = Type("q2_k", 12, 2, "u1", scale=U8, share=16, least=True, halves=True, above=True)
Q3_K = Type("q3_k", 13, 3, "u1", scale=I8, zero=4, share=16, above=True)
Q4_K = Type("q4_k", 14, 4, "u1", scale=U8, least=True, above=True)
Q5_K = Type("q5_k", 15, 5, "u1", scale=U8, least=True, above=True)
Q6_K = Type("q6_k", 16, 6, "u1", scale=I8, zero=32, share=16, above=True)
IQ4_NL = Type("iq4_nl", 17, 4, "u1", scale=F16, book=CODEBOOK)
IQ4_XS = Type("iq4_xs", 18, 4, "u1", scale=I8, above=True, book=CODEBOOK)

TYPES = (  # in the order of their numbers
    *(F32, F16, BF16, Q8_0, Q4_0, I32, U8, I8, Q4_1, Q5_0, Q5_1),
    *(Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS),
)
MATRIX_TYPES = tuple(t for t in TYPES if t.matrix)


def type_of(name):
    """The Type of that name; KeyError for others."""
    return {t.name: t for t in TYPES}[name]
