"""Every type back within its error."""

import numpy as np
import pytest

from helpers.checkpoints import convert, llama2c_file, tensors, weights
from helpers.models import TYPES, make_model
from twins.weights import unpack_matrix
from twofile.export.pack import PACKERS
from twofile.export.quantise import quantise4
from twofile.format.types import MATRIX_TYPES, padded
from twofile.modelfile import open_model, verify


@pytest.mark.parametrize("dtype", TYPES)
def test_types_come_back_within_their_error(tmp_path, want, dtype):
    """And the padding of rows and columns is zero."""
    assert convert(llama2c_file(tmp_path / "s.bin", weights()), tmp_path / "m.bin", "--type", dtype) == 0
    got, model = tensors(tmp_path / "m.bin"), open_model(tmp_path / "m.bin")
    bound = {"f32": 0, "f16": 3e-4, "bf16": 2e-3, "q8_0": 6e-3, "q6_k": 0.02, "q5": 0.05, "q4": 0.1, "iq4": 0.1, "q3_k": 0.2}
    bound = {**bound, "q2_k": 0.4}[dtype if dtype in bound or dtype == "q2_k" else dtype.split("_")[0]]
    for name, x in want.items():
        error = np.sqrt(((got[name] - x) ** 2).mean() / max((x**2).mean(), 1e-30))
        assert error <= (bound if x.ndim == 2 else 0), (name, error)
        t = model.tensors[name]
        if t.type.zero and not t.type.above:
            tall, wide = (padded(n, m) for n, m in zip(t.shape, (16, 32)))
            whole = unpack_matrix(
                t.dtype, (tall, wide), t.data.tobytes(), np.ones((tall // 16, wide // 32, 16), "<f2").tobytes()
            )
            assert not whole[t.shape[0] :].any() and not whole[:, t.shape[1] :].any()
        for end, _, shape in t.type.beside(t.shape):  # of rows that fill the last block up
            beside = model.tensors[name + end]
            last = beside.data.view(beside.type.numpy).reshape(shape)[-1]
            assert not last[..., t.shape[0] % 16 or 16 :].any()
    verify(model)


def test_q4_scale_search_beats_the_plain_rule():
    """The plain rule: the value of largest size becomes -8."""
    x = np.random.default_rng(0).standard_normal((64, 20, 32)).astype(np.float32)
    stored, scales = quantise4(x)
    assert stored.min() >= 0 and stored.max() <= 15
    values = stored.astype(np.float32) - 8
    largest = np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)
    plain = (largest / -8).astype(np.float16).astype(np.float32)
    naive_q = np.clip(np.rint(x / plain), -8, 7) * plain
    ours = np.square(values * scales.astype(np.float32)[..., None] - x).mean()
    print(f"relative rms error {np.sqrt(ours):.4f}, plain rule {np.sqrt(np.square(naive_q - x).mean()):.4f}")
    assert ours < 0.95 * np.square(naive_q - x).mean()


@pytest.mark.parametrize("x", [0.0, 1e-8, 1e-30, 6e4])
def test_extreme_groups(x):
    """Zeros, values whose scale vanishes in float16, and the largest: finite, and never worse than zero."""
    rows = np.full((16, 32), x, np.float32)
    for kind in (kind for kind in MATRIX_TYPES if kind.quantised):
        _, beside, back = PACKERS[kind].pack(rows)
        assert all(np.isfinite(part).all() for part in beside.values())
        assert (np.abs(back - rows) <= np.abs(rows) + 1e-30).all(), kind.name
        if x == 6e4:
            assert np.abs(back / rows - 1).max() < 1e-3


def test_x8_odd_widths_keep_their_type(tmp_path):
    """172 columns are no whole groups of 32: they are filled up with zeros, so no matrix needs another type."""
    path = make_model(tmp_path / "m.bin", "q8_0", ffn_dim=172)
    t = open_model(path).tensors["l0.down"]
    assert (t.dtype, t.shape, t.nbytes) == ("q8_0", (48, 172), 48 * 192)
