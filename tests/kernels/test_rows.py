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
    qm, qh = np.zeros((5, 3), np.float32), np.zeros((5, 6), np.int32)
    fields = {"x": x.ctypes.data, "x_step": 384, "cols": 96, "q_step": 96, "qs_step": 12, "qh_step": 24}
    places = {"q": q, "qs": qs, "qc": qc, "qm": qm, "qh": qh}
    play(convert, {**fields, **{name: array.ctypes.data for name, array in places.items()}}, 5, threads=2)
    values, scales = int8_activations(x)
    assert np.array_equal(q.reshape(5, 3, 32), values) and np.array_equal(qs, scales) and np.array_equal(qc, values.sum(-1))
    assert np.array_equal(qm, scales * values.sum(-1).astype(np.float32))
    assert np.array_equal(qh.reshape(5, 3, 2), values.reshape(5, 3, 2, 16).sum(-1)) and np.abs(values).max() == 127
