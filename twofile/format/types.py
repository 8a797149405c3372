"""How the elements of a tensor stand in the file."""

import math

from ..files import padded

GROUP = 32  # columns that share a scale in q8_0 and q4_0
BLOCK = 16  # rows of a block; see pack_matrix in export.py
DTYPES = {"f32": 1, "f16": 2, "bf16": 3, "q8_0": 4, "q4_0": 5, "i32": 6, "u8": 7}
BITS = {"f32": 32, "f16": 16, "bf16": 16, "q8_0": 8, "q4_0": 4, "i32": 32, "u8": 8}
MATRIX_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")


def tensor_bytes(dtype, shape, layout):
    """Bytes a tensor takes in the file, as an exact Python int; layout 1 counts the padding of its blocks."""
    if layout:
        shape = (
            padded(shape[0], BLOCK),
            padded(shape[1], GROUP) if dtype in ("q8_0", "q4_0") else shape[1],
        )
    return math.prod(shape) * BITS[dtype] // 8


def scale_shape(shape):
    """Shape of W.s for a quantised matrix of this shape: [blocks, groups, rows of a block]."""
    return (padded(shape[0], BLOCK) // BLOCK, padded(shape[1], GROUP) // GROUP, BLOCK)
