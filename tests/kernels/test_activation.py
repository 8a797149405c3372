"""The curves of the feed-forward part."""

import numpy as np
import pytest

from helpers.kernels import play
from twins.activation import CURVES
from twofile.format.fields import ACTIVATIONS, CLAMPED
from twofile.kernels.activation import FUNCTIONS


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != ACTIVATIONS[CLAMPED]])
def test_activations(name, gated):
    rng = np.random.default_rng(0)
    x = np.zeros((3, 192), np.float32)
    x[:, :140] = rng.standard_normal((3, 140)) * 8  # gate 70, up 70
    out = np.ones((3, 96), np.float32)
    operands = {"x": x.ctypes.data, "x_step": 768, "width": 70, "cols": 96, "out": out.ctypes.data, "out_step": 384}
    play(FUNCTIONS[name][gated], operands, 3, threads=2)
    gate, up = x[:, :70].astype(float), x[:, 70:140].astype(float) if gated else 1.0
    want = CURVES[name](gate) * up
    assert (np.abs(out[:, :70] - want) <= 2e-6 * np.abs(want) + 1e-7 * np.abs(gate * up)).all()
    assert not out[:, 70:].any()


def test_the_clamped_gate():
    """gpt-oss's: gate * sigmoid(alpha * gate) * (up + 1), the gate at most limit, up within it."""
    rng, alpha, limit = np.random.default_rng(1), 1.7, 2.5
    x = np.zeros((3, 192), np.float32)
    x[:, :140] = rng.standard_normal((3, 140)) * 4
    out = np.ones((3, 96), np.float32)
    operands = {"x": x.ctypes.data, "x_step": 768, "width": 70, "cols": 96, "out": out.ctypes.data, "out_step": 384}
    play(FUNCTIONS["clamped"][True], {**operands, "alpha": alpha, "limit": limit}, 3, threads=2)
    gate, up = np.minimum(x[:, :70].astype(float), limit), np.clip(x[:, 70:140].astype(float), -limit, limit)
    want = gate / (1 + np.exp(-np.float32(alpha).astype(float) * gate)) * (up + 1)
    assert (np.abs(out[:, :70] - want) <= 2e-6 * np.abs(want) + 1e-7 * np.abs(gate * (up + 1))).all()
    assert not out[:, 70:].any() and FUNCTIONS["clamped"][False] is None
