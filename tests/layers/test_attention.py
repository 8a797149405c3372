"""Attention: shared keys, windows, rotation by the context's length."""

import numpy as np
import pytest

from helpers.logits import SILENT, closeness, passes, some_ids
from helpers.models import make_model, rewrite_tensor
from twins.forward import slow_logits
from twins.weights import read_tensors
from twofile.export.rope import rope_table
from twofile.forward import Forward
from twofile.model import Model
from twofile.modelfile import open_model


def test_long_rope_tables_are_chosen_by_the_context(tmp_path):
    """Two tables of which the second is for contexts beyond rope_long: as two models that have one table each."""
    short, long = rope_table(12, 10000.0), rope_table(12, 1e6)
    logits = {}
    for name, tables, rope_long in (("both", [short, long], 256), ("short", [short] * 2, 0), ("long", [long] * 2, 0)):
        path = make_model(tmp_path / f"{name}.bin", "f32", max_ctx=1024, n_rope=2, rope_long=rope_long)
        rewrite_tensor(path, "rope", np.concatenate(tables))
        for n_ctx in (256, 512):
            forward = Forward(open_model(path), n_ctx, 1, "f32", 1, SILENT)
            logits[name, n_ctx] = passes(forward, some_ids(20), 20).tobytes()
            forward.close()
    assert logits["both", 256] == logits["short", 256] != logits["long", 256]
    assert logits["both", 512] == logits["long", 512] != logits["short", 512]


@pytest.mark.parametrize("group", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("window", [0, 1, 3, 64, 66])
def test_queries_that_share_their_keys(tmp_path, group, window):
    """Four queries at a time read the same keys; they may be of tokens that do not see the same ones, or of other sequences."""
    path = make_model(tmp_path / "g.bin", "f32", n_kv_heads=2, n_heads=2 * group, head_dim=20, window=[window, 0])
    forward = Forward(open_model(path), 150, 2, "f32", 2, SILENT)
    ids = some_ids(140)
    alone = passes(forward, ids, 1)  # with one token, groups of 1, 2, 3 and the rest of 6 are taken one by one
    want = slow_logits(forward.config, read_tensors(path), np.array(ids))
    rms, largest = closeness(alone, want)
    assert rms <= 1e-5 and largest <= 1e-4
    for chunk in (4, 5, 64):
        assert np.array_equal(passes(forward, ids, chunk), alone)
    for n in range(0, 140, 7):  # two copies of the text in two slots, their tokens in turns
        at = [i for i in range(n, n + 7) for _ in range(2)]
        rows = forward([ids[i] for i in at], at, [0, 1] * 7, range(14))
        assert np.array_equal(rows, alone[at])
    forward.close()


@pytest.mark.parametrize("window", [1, 63, 64, 65, 130])
def test_sliding_windows(tmp_path, window):
    """A layer that sees only its window, next to one that sees everything; and not a bit of change by chunk."""
    path = make_model(tmp_path / "w.bin", "f32", window=[window, 0])
    m = Model(path, verbose=False)
    ids = some_ids(150)
    want = slow_logits(m.config, read_tensors(path), np.array(ids))
    rms, largest = closeness(m.logits(ids), want)
    assert rms <= 1e-5 and largest <= 1e-4
    assert np.array_equal(passes(m.forward, ids, 7), m.logits(ids))
