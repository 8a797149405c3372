"""Texts as vectors: the stream behind the last layer, as the twin has it."""

import numpy as np
import pytest

from helpers.logits import some_ids
from helpers.models import break_token, make_model
from helpers.switches import HYBRIDS, SWITCHES
from twins.forward import slow_stream
from twins.weights import read_tensors
from twofile.errors import ModelError
from twofile.model import Model

ALL = {"plain": {}, **SWITCHES, **HYBRIDS}


@pytest.mark.parametrize("name", ALL)
def test_the_twin_says_the_same(name, tmp_path):
    """Mean and last token, of one token, of more than one pass; of every kind of layer."""
    path = make_model(tmp_path / "m.bin", "f32", **ALL[name])
    m, tensors = Model(path, verbose=False), read_tensors(path)
    for n in (1, 2, 150):
        ids = some_ids(n)
        want = slow_stream(m.config, tensors, np.array(ids))
        for pooling, vector in (("mean", want.mean(0)), ("last", want[-1])):
            found = m.embed(ids, pooling, normalise=False)
            assert found.dtype == np.float32 and np.abs(found - vector).max() < 2e-4 * np.abs(vector).max()
            unit = m.embed(ids, pooling)
            assert abs((unit.astype(float) ** 2).sum() - 1) < 1e-6 and np.dot(unit, vector) > 0.999 * np.linalg.norm(vector)


@pytest.mark.parametrize("kind", [None, *HYBRIDS])
def test_the_bits_are_the_same_beside_others(kind, tmp_path):
    """Whatever was read before, whoever is written meanwhile, with one thread or two."""
    path, ids = make_model(tmp_path / "m.bin", "q8_0", **(HYBRIDS[kind] if kind else {})), some_ids(180)
    want = [Model(path, n_threads=1, verbose=False).embed(ids, pooling).tobytes() for pooling in ("mean", "last")]
    m = Model(path, n_threads=2, verbose=False)
    streams = [m.stream(some_ids(40 + n)[n:], 60, seed=n, ignore_eos=True) for n in range(3)]
    for _ in range(3):
        for stream in streams:
            next(stream)
        assert [m.embed(ids, pooling).tobytes() for pooling in ("mean", "last")] == want
    m.score(ids)
    assert [m.embed(ids, pooling).tobytes() for pooling in ("mean", "last")] == want


def test_what_cannot_be_one(tmp_path):
    m = Model(break_token(make_model(tmp_path / "m.bin", "f32")), verbose=False)
    for wrong, says in (([], "0 tokens"), ([1] * 300, "300 tokens"), ([5000], "id 5000"), ([1, 92, 3], "position 1")):
        with pytest.raises(ModelError, match=says):
            m.embed(wrong)
    with pytest.raises(ModelError, match="pooling is 'max', expected 'mean' or 'last'"):
        m.embed([1, 2], "max")
    assert np.isfinite(m.embed([1, 2])).all()
