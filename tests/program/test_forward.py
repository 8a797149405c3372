"""The forward against its float64 twin, and against itself cut up in every way."""

import random
import zlib

import numpy as np
import pytest

from helpers.logits import SILENT, closeness, passes, some_ids
from helpers.models import TYPES
from twins.forward import slow_logits
from twins.weights import read_tensors
from twofile.errors import ModelError
from twofile.forward import Forward
from twofile.kernels.cache import CACHE_NAMES
from twofile.model import Model
from twofile.modelfile import open_model
from twofile.program.operands import WANTED_MAX


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("n", [1, 90, 200])
def test_equals_the_float64_twin(models, dtype, n):
    m = Model(models[dtype], kv="f32", verbose=False)
    rms, largest = closeness(m.logits(some_ids(n)), slow_logits(m.config, read_tensors(models[dtype]), np.array(some_ids(n))))
    assert rms <= 1e-5 and largest <= 1e-4


@pytest.mark.parametrize("dtype", ["q8_0", "q4_0"])
def test_quantised_equals_the_twin_with_the_same_int8_inputs(models, dtype):
    """And with the file's dequantised weights: what is left is float32 against float64."""
    m = Model(models[dtype], kv="f32", verbose=False)
    want = slow_logits(m.config, read_tensors(models[dtype]), np.array(some_ids(90)), int8=True)
    rms, largest = closeness(m.logits(some_ids(90)), want)
    print(f"{dtype}: rms/std {rms:.2e}, max/std {largest:.2e}")
    assert rms <= 1e-5 and largest <= 1e-4


@pytest.mark.parametrize("kv", CACHE_NAMES)
@pytest.mark.parametrize("dtype", TYPES)
def test_same_bits_for_any_chunk_and_thread_count(models, dtype, kv):
    """Prefill in any pieces, one token at a time, one thread or more: not one bit differs."""
    ids, found = some_ids(150), set()
    for threads in (1, 2, 3):
        forward = Forward(open_model(models[dtype]), 200, 1, kv, threads, SILENT)
        for chunk in (1, 2, 7, 64) if threads < 3 else (64,):
            found.add(zlib.crc32(passes(forward, ids, chunk).tobytes()))
        forward.close()
    assert len(found) == 1


@pytest.mark.parametrize("kv", ["f16", "q8_0"])
@pytest.mark.parametrize("dtype", TYPES)
def test_sequences_share_a_pass_without_a_trace(models, dtype, kv):
    """Tokens of three sequences in one pass give the bits that each gives alone."""
    forward = Forward(open_model(models[dtype]), 64, 3, kv, 2, SILENT)
    texts = [some_ids(n) for n in (5, 9, 7)]
    alone = [passes(forward, ids, 64) for ids in texts]
    tokens, positions, slots = zip(*((t, p, s) for s, ids in enumerate(texts) for p, t in enumerate(ids)))
    order = random.Random(0).sample(range(len(tokens)), len(tokens))
    mixed = {}
    for first in range(0, len(order), WANTED_MAX):
        wanted = range(first, min(first + WANTED_MAX, len(order)))
        rows = forward([tokens[i] for i in order], [positions[i] for i in order], [slots[i] for i in order], wanted)
        mixed |= {order[i]: row.copy() for i, row in zip(wanted, rows)}
    assert np.array_equal(np.stack([mixed[i] for i in range(len(order))]), np.concatenate(alone))
    forward.close()


def test_nan_in_the_weights_is_reported(tmp_path, models):
    """M22: with the position."""
    raw = bytearray(models["f32"].read_bytes())
    t = open_model(models["f32"]).tensors["l1.down"]
    raw[t.off : t.off + 4] = np.array(np.nan, "<f4").tobytes()
    (tmp_path / "n.bin").write_bytes(raw)
    with pytest.raises(ModelError, match="position 3"):
        Model(tmp_path / "n.bin", verbose=False).generate([1, 2, 3], max_tokens=1, temperature=0)


def test_all_zero_weights_run(tmp_path, models):
    """M23: no division by zero."""
    raw = bytearray(models["q8_0"].read_bytes())
    for t in open_model(models["q8_0"]).tensors.values():
        if t.dtype == "q8_0":
            raw[t.off : t.off + t.nbytes] = b"\x80" * t.nbytes
    (tmp_path / "z.bin").write_bytes(raw)
    logits = Model(tmp_path / "z.bin", verbose=False).logits([1, 2])
    assert np.isfinite(logits).all() and not logits.any()
