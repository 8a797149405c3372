"""Matmuls: exact against numpy emulations where they are exact."""

import numpy as np
import pytest

from helpers.kernels import play, quantised_input
from twins.matmul import fma32
from twins.weights import unpack_matrix
from twofile.export.pack import PACKERS
from twofile.format.types import padded, type_of
from twofile.kernels.matmul import MATMULS

SIZES = [(16, 32), (5, 8), (33, 100), (64, 64), (70, 33), (160, 1)]  # rows, columns


@pytest.mark.parametrize("dtype", ["q8_0", "q4_0"])
@pytest.mark.parametrize("rows, cols", SIZES)
@pytest.mark.parametrize("n", [1, 3, 4, 9])
def test_quantised_matmul_is_exact(dtype, rows, cols, n):
    """Bit for bit: integer sums within a group, then fused multiply-adds over the groups in order."""
    rng = np.random.default_rng(rows * cols + n)
    w, x = rng.standard_normal((rows, cols)).astype(np.float32), rng.standard_normal((n, cols)).astype(np.float32)
    data, scales, _ = PACKERS[type_of(dtype)].pack(w)
    tall = padded(rows, 16)
    out = np.zeros((n, tall), np.float32)
    fields, keep, values, xs = quantised_input(x)
    wide = padded(cols, 32)
    fields |= {"w": data.ctypes.data, "scales": scales.ctypes.data, "n_rows": tall, "cols": wide}
    fields |= {"out": out.ctypes.data, "out_step": 4 * tall, "gain": 1}
    play(MATMULS[type_of(dtype)], fields, n, threads=2)

    back = unpack_matrix(dtype, (tall, wide), data.tobytes(), scales.tobytes())
    group_scale = scales.transpose(0, 2, 1).reshape(tall, -1).astype(np.float32)
    whole = np.rint(
        np.divide(
            back.reshape(tall, -1, 32),
            group_scale[..., None],
            where=group_scale[..., None] != 0,
            out=np.zeros((tall, wide // 32, 32)),
        )
    )
    want = np.zeros((n, tall), np.float32)
    for g in range(wide // 32):
        sums = values[:, g] @ whole[:, g].T.astype(np.int64)
        want = fma32(sums.astype(np.float32), xs[:, g, None] * group_scale[None, :, g], want)
    assert np.array_equal(out.view(np.int32), want.view(np.int32))
    assert np.abs(w).max() > 0 and np.abs(out[:, :rows]).max() > 0


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("rows, cols", SIZES)
@pytest.mark.parametrize("n", [1, 3, 4, 9])
def test_float_matmul(dtype, rows, cols, n):
    """Within 1e-6 |w| |x| of float64 on the stored weights; with bias, gain and addition to what is there."""
    rng = np.random.default_rng(rows * cols + n)
    w, x = rng.standard_normal((rows, cols)).astype(np.float32), rng.standard_normal((n, cols)).astype(np.float32)
    data, _, back = PACKERS[type_of(dtype)].pack(w)
    tall = padded(rows, 16)
    out = rng.standard_normal((n, tall)).astype(np.float32)
    bias = rng.standard_normal(tall).astype(np.float32)
    before = out.astype(float)
    fields = {"w": data.ctypes.data, "n_rows": tall, "cols": cols, "x": x.ctypes.data, "x_step": 4 * cols}
    fields |= {"out": out.ctypes.data, "out_step": 4 * tall, "gain": 0.5, "add": 1, "bias": bias.ctypes.data}
    play(MATMULS[type_of(dtype)], fields, n, threads=3)
    exact = x.astype(float) @ back.T.astype(float)
    want = before[:, :rows] + 0.5 * (exact + bias[:rows])
    bound = 1e-6 * (np.linalg.norm(back, axis=1) * np.linalg.norm(x, axis=1)[:, None] + np.abs(want) + np.abs(bias[:rows]))
    assert (np.abs(out[:, :rows] - want) <= bound).all()
