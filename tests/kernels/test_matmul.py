"""Matmuls: exact against numpy emulations where they are exact."""

import numpy as np
import pytest

from helpers.kernels import play, quantised_input
from twins.matmul import fma32
from twins.weights import LEVELS, ZEROS, bits_at, scales_at
from twofile.export.pack import PACKERS
from twofile.format.types import MATRIX_TYPES, padded, type_of
from twofile.kernels.matmul import MATMULS

SIZES = [(16, 32), (5, 8), (33, 100), (64, 64), (70, 33), (160, 1)]  # rows, columns
QUANTISED = [kind for kind in MATRIX_TYPES if kind.quantised]


def weights_of(kind, w):
    """Rows of w packed: operands, the arrays to keep alive, and as a reader by the document alone has them, filled up to
    whole blocks and groups: whole numbers less their zero, scales and leasts, float32."""
    data, beside, _ = PACKERS[kind].pack(w)
    shape = padded(w.shape[0], 16), padded(w.shape[1], 32)
    found = [np.ascontiguousarray(beside.get(end, np.zeros(0, "<f2"))) for end in (".s", ".d")]
    raw, (row, k) = [part.tobytes() for part in found], np.indices(shape)
    where = row // 16, row % 16, k
    number = bits_at(data.astype(int), kind.name, *where, shape[1] // 32)
    whole = LEVELS[number] if kind.book else number - ZEROS.get(kind.name, 0)
    scale, least = scales_at(kind.name, *raw, *where, shape[1] // 32)
    operands = {"w": data.ctypes.data, "scales": found[0].ctypes.data, "above": found[1].ctypes.data}
    operands |= {"n_rows": shape[0], "cols": shape[1]}
    return (
        operands,
        (data, found),
        whole.astype(np.int64),
        scale.astype(np.float32),
        np.float32(least) + np.zeros(shape, np.float32),
    )


@pytest.mark.parametrize("kind", QUANTISED, ids=lambda kind: kind.name)
@pytest.mark.parametrize("rows, cols", [*SIZES, (48, 300), (16, 544)])
def test_quantised_matmul_is_exact(kind, rows, cols):
    """Bit for bit: integer sums of the columns that share a scale, then fused multiply-adds in their order, of the sum and
    then of the least; for one token, for tiles of four and sixteen, and what is left of them."""
    for n in (1, 3, 4, 9, 21, 40):
        rng = np.random.default_rng(rows * cols + n)
        w, x = rng.standard_normal((rows, cols)).astype(np.float32), rng.standard_normal((n, cols)).astype(np.float32)
        fields, keep, values, xs = quantised_input(x)
        own, more, whole, scale, least = weights_of(kind, w)
        out = np.zeros((n, own["n_rows"]), np.float32)
        play(MATMULS[kind], {**fields, **own, "out": out.ctypes.data, "out_step": out.strides[0], "gain": 1}, n, threads=2)
        values, want = values.reshape(n, -1), np.zeros(out.shape, np.float32)
        for first in range(0, whole.shape[1], kind.share):
            part, group = slice(first, first + kind.share), first // 32
            sums = values[:, part] @ whole[:, part].T
            want = fma32(sums.astype(np.float32), xs[:, group, None] * scale[None, :, first], want)
            if kind.least:
                total = values[:, part].sum(-1).astype(np.float32) * xs[:, group]
                want = fma32(*np.broadcast_arrays(least[None, :, first], total[:, None]), want)
        assert np.array_equal(out.view(np.int32), want.view(np.int32)), n
        assert keep and more and np.abs(w).max() > 0 and np.abs(out[:, :rows]).max() > 0


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
