"""A cache of q8_0: whatever is done with it, texts are those of reading from the beginning, and hardly others than f16's."""

import os
import pickle
import random

import numpy as np
import pytest

from helpers.logits import SILENT, closeness, passes, some_ids
from helpers.models import make_model
from helpers.places import ROOT
from helpers.switches import SWITCHES
from twins.forward import slow_logits
from twins.weights import read_tensors
from twofile.errors import ModelError
from twofile.forward import Forward
from twofile.model import Model
from twofile.modelfile import open_model
from twofile.options import line_seed

HOW = dict(seed=3, temperature=0.8, ignore_eos=True)


def opened(path, **how):
    return Model(path, kv="q8_0", verbose=False, **how)


def tokens(model, ids, n=12, **how):
    return [c.token for c in model.stream(ids, n, **{**HOW, **how})]


@pytest.mark.parametrize(
    "sizes",
    [
        dict(),
        dict(head_dim=80, n_heads=4, n_kv_heads=1, window=[66, 0]),
        dict(head_dim=48, n_heads=2, n_kv_heads=2),
        *(
            SWITCHES[name]
            for name in ("two kinds of heads, shared keys", "experts with biases, sinks", "norms before and behind, caps")
        ),
        SWITCHES["one norm behind the rotation, shared keys"],
    ],
)
def test_equals_the_float64_twin(tmp_path, sizes):
    """With the same roundings. A number on an edge may be rounded otherwise by float32 than by float64: there are few."""
    path = make_model(tmp_path / "m.bin", "f32", **sizes)
    forward, ids = Forward(open_model(path), 200, 1, "q8_0", 2, SILENT), some_ids(150)
    got = passes(forward, ids, 64)
    want = slow_logits(forward.config, read_tensors(path), np.array(ids), kv="q8_0")
    other = slow_logits(forward.config, read_tensors(path), np.array(ids))
    assert closeness(got, want)[0] < closeness(got, other)[0] / 10
    forward.close()


def test_the_cache_is_cut_read_on_and_copied(tiny):
    m, rng, ids = opened(tiny, n_ctx=180), random.Random(1), some_ids(100)
    for _ in range(8):
        cut = rng.choice([0, 1, 30, 63, 64, 65, len(ids) - 1, len(ids)])
        ids = (ids[:cut] + [rng.randrange(93) for _ in range(rng.choice([1, 2, 17, 70]))])[:160]
        want = tokens(opened(tiny, n_ctx=180), ids)
        assert tokens(m, ids) == want and tokens(m, ids) == want
        assert np.array_equal(m.logits(ids), opened(tiny, n_ctx=180).logits(ids))
    prompts = [ids[:90] + [n] for n in range(4)] + [ids[:70], [5]]
    got = m.batch(prompts, 9, places=3, **HOW)
    assert got == [m.generate(p, 9, **{**HOW, "seed": line_seed(3, n)}) for n, p in enumerate(prompts)]


def test_guesses_change_nothing(tiny):
    ids = [5, 6, 7, 8, 9] * 8 + [5, 6]
    assert tokens(opened(tiny), ids, 100, lookup=True, temperature=0) == tokens(
        opened(tiny), ids, 100, lookup=False, temperature=0
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_child_goes_on(tiny):
    m, (ours, theirs) = opened(tiny), os.pipe()
    want = tokens(m, some_ids(70))
    if not (pid := os.fork()):
        os.write(theirs, pickle.dumps(tokens(m, some_ids(70))))
        os._exit(0)
    assert pickle.loads(os.read(ours, 1 << 16)) == want
    os.waitpid(pid, 0)


def test_prompt_caches_of_types_are_told_apart(tiny, tmp_path):
    """What another type of cache has kept is not taken, and is named; one's own is, at about half the size."""
    ids, kept = some_ids(150), {}
    for kv in ("f16", "f32", "q8_0"):
        m, kept[kv] = Model(tiny, kv=kv, verbose=False), tmp_path / kv
        m.logits(ids)
        m.save_cache(kept[kv])
    for kv, path in kept.items():
        for other in kept:
            m, said = Model(tiny, kv=other, verbose=False), []
            m.engine.notice = said.append
            assert m.load_cache(path, ids + [7]) == (150 if kv == other else 0)
            assert (kv == other) == (not said) and all("of another model or type of cache" in text for text in said)
            assert tokens(m, ids + [7]) == tokens(Model(tiny, kv=other, verbose=False), ids + [7])
    sizes = {kv: path.stat().st_size for kv, path in kept.items()}
    assert sizes["q8_0"] < 0.6 * sizes["f16"] < 0.31 * sizes["f32"]


def test_a_whole_context_of_another_type_is_no_file_too_large(tmp_path):
    path = make_model(tmp_path / "m.bin", "q8_0", n_layers=1)
    m = Model(path, kv="f32", verbose=False)
    m.logits(some_ids(200))
    m.save_cache(tmp_path / "kept")
    assert opened(path).load_cache(tmp_path / "kept", some_ids(200)) == 0


def test_a_prompt_cache_is_a_file(tiny, tmp_path):
    """No pipe, also not at the end; through a link, it is the file behind it."""
    m, (fifo, link) = Model(tiny, verbose=False), (tmp_path / "fifo", tmp_path / "link")
    m.logits(some_ids(70))
    os.mkfifo(fifo)
    link.symlink_to(tmp_path / "kept")
    for call in (lambda: m.load_cache(fifo, [1]), lambda: m.load_cache(os.devnull, [1]), lambda: m.save_cache(fifo)):
        with pytest.raises(ModelError, match="not a regular file"):
            call()
    m.save_cache(link)
    assert link.is_symlink() and fifo.is_fifo() and m.load_cache(tmp_path / "kept", some_ids(70)) == 70


def test_the_committed_model_hardly_notices():
    """A story of it: the divergence of what it expects next, with f16's cache and with this."""
    plain, narrow = Model(ROOT / "model.bin", verbose=False), opened(ROOT / "model.bin")
    assert narrow.cache_bytes(512) == plain.cache_bytes(512) * 68 // 128
    ids = plain.tokenize("Once upon a time")
    ids += tokens(plain, ids, 400)
    ids = [i for i in ids if i is not None]
    rows = [m.logits(ids).astype(float) for m in (plain, narrow)]
    p, q = (x - x.max(1, keepdims=True) for x in rows)
    p, q = (x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (p, q))
    divergence = (np.exp(p) * (p - q)).sum(1)
    print(f"KL {divergence.mean():.2e}, at most {divergence.max():.2e}, {(p.argmax(1) == q.argmax(1)).mean():.4f} alike")
    assert 0 < divergence.mean() <= 0.002
