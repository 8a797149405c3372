"""Rows quantised for a matmul."""

import numpy as np

from helpers.kernels import play
from twins.matmul import int8_activations
from twofile.kernels.rows import convert


def test_activations_are_quantised_as_in_numpy():
    """Exactly, zeros and a single large value included."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((5, 96)) * 10.0 ** rng.integers(-3, 4, (5, 1))).astype(np.float32)
    x[1, :32], x[2, 40] = 0, 1e30
    q, qs, qc = np.zeros((5, 96), np.int8), np.zeros((5, 3), np.float32), np.zeros((5, 3), np.int32)
    fields = {"x": x.ctypes.data, "x_step": 384, "cols": 96, "q_step": 96, "qs_step": 12}
    play(convert, {**fields, "q": q.ctypes.data, "qs": qs.ctypes.data, "qc": qc.ctypes.data}, 5, threads=2)
    values, scales = int8_activations(x)
    assert np.array_equal(q.reshape(5, 3, 32), values) and np.array_equal(qs, scales) and np.array_equal(qc, values.sum(-1))
    assert np.abs(values).max() == 127
