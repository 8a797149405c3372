"""The curves of the feed-forward part."""

import numpy as np
import pytest

from helpers.kernels import play
from twins.activation import CURVES
from twofile.format.config import ACTIVATIONS
from twofile.program.passes import COLS, OUT, OUT_STEP, X_STEP, A, X


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("name", ACTIVATIONS[:-1])
def test_activations(name, gated):
    rng = np.random.default_rng(0)
    x = np.zeros((3, 192), np.float32)
    x[:, :140] = rng.standard_normal((3, 140)) * 8  # gate 70, up 70
    out = np.ones((3, 96), np.float32)
    fields = {X: x.ctypes.data, X_STEP: 768, A: 70, COLS: 96, OUT: out.ctypes.data, OUT_STEP: 384}
    play(f"{name}_{'gated' if gated else 'plain'}", fields, 3, threads=2)
    gate, up = x[:, :70].astype(float), x[:, 70:140].astype(float) if gated else 1.0
    want = CURVES[name](gate) * up
    assert (np.abs(out[:, :70] - want) <= 2e-6 * np.abs(want) + 1e-7 * np.abs(gate * up)).all()
    assert not out[:, 70:].any()
