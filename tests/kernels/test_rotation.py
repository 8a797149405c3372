"""Positions as angles."""

import numpy as np

from twofile.compiler.code import Code
from twofile.export.rope import rope_table
from twofile.kernels.rotation import ANGLES, angles
from twofile.program.operands import N_TOKENS, POSITIONS


def test_angles():
    """cos and sin of the float32 product position * frequency, to float32 precision, at any position."""
    half, positions = 20, np.array([0, 1, 7, 511, 8191, 131071, 16777215], np.int64)
    table = np.concatenate([rope_table(2 * half, 10000.0)[0, 0], np.full(half, 1.5)]).astype(np.float32)
    out = np.zeros((len(positions), 2, half), np.float32)
    code, pas, record = Code([angles], lambda text: None), np.zeros(64, np.int64), np.zeros(24, np.int64)
    pas[N_TOKENS // 8], pas[POSITIONS // 8] = len(positions), positions.ctypes.data
    for field, value in (
        (ANGLES.out, out.ctypes.data),
        (ANGLES.out_step, 8 * half),
        (ANGLES.frequencies, table.ctypes.data),
        (ANGLES.half, half),
        (ANGLES.tables, 1),
    ):
        record[field // 8] = value
    code.function("angles")(record.ctypes.data, pas.ctypes.data, 0, 1)
    angle = (positions.astype(np.float32)[:, None] * table[:half]).astype(float)
    np.testing.assert_allclose(out[:, 0], 1.5 * np.cos(angle), rtol=0, atol=1.2e-7)
    np.testing.assert_allclose(out[:, 1], 1.5 * np.sin(angle), rtol=0, atol=1.2e-7)
