"""What a program imports: texts, contexts, memory, interruptions, copies."""

import logging
import pickle
import threading

import numpy as np
import pytest

from helpers.logits import some_ids
from helpers.models import make_model
from helpers.process import call
from helpers.rooms import patch
from helpers.vocabularies import spm
from twofile.errors import ModelError
from twofile.forward import Forward
from twofile.layers.stack import expected_tensors
from twofile.model import Model
from twofile.options import line_seed
from twofile.tokenizer.stream import TextStream


def test_library(tiny):
    """As the README shows it; and a model travels as its path and settings."""
    import pickle

    m = Model(tiny, n_threads=1, verbose=False)
    ids = m.tokenize("the fox")
    assert m.detokenize(ids) == "the fox" and m.logits(ids).shape == (len(ids), 263)
    chunks = list(m.stream("the fox", max_tokens=5, temperature=0))
    assert "".join(c.text for c in chunks) == m.generate("the fox", max_tokens=5, temperature=0)
    assert chunks[-1].finish_reason in ("length", "eos") and m.info["vocab_size"] == 263
    twin = pickle.loads(pickle.dumps(m))
    assert (twin.logits(ids) == m.logits(ids)).all() and twin.n_threads == 1
    with pytest.raises(ModelError, match="temperature is -1"):
        m.generate("x", temperature=-1)


def test_first_token_of_a_text_loses_its_space(tmp_path):
    """SentencePiece puts a space first; the text of an empty prompt begins without it, a continuation keeps it."""
    path = make_model(tmp_path / "m.bin", "f32", vocab_size=268, tokenizer=spm(), embed=True)
    m = Model(path, verbose=False)
    for prompt, first in (("", True), ("ab", False)):
        tokens = [
            c.token for c in m.stream(prompt, 40, seed=2, temperature=3.0, top_k=0, ignore_eos=True) if c.token is not None
        ]
        stream = TextStream(m.tokenizer, start=first)
        want = "".join(map(stream.push, tokens)) + stream.flush()
        assert m.generate(prompt, max_tokens=40, seed=2, temperature=3.0, top_k=0, ignore_eos=True) == want


@pytest.mark.parametrize("level", [logging.NOTSET, logging.DEBUG])
def test_numba_is_hushed_while_kernels_are_compiled(level, models, monkeypatch, caplog):
    """It tells 100,000 lines to a root logger of DEBUG; unless somebody has set a level of its own."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(level, "numba")
    numbas = logging.getLogger("numba.core.byteflow")

    def make(*_):
        numbas.debug("a line of many")
        numbas.warning("a warning")

    patch(monkeypatch, "Forward", make)
    Model(models["f32"], verbose=False).engine.build()
    told = [record[2] for record in caplog.record_tuples if record[0] == numbas.name]
    assert told == ["a line of many"] * (level == logging.DEBUG) + ["a warning"]
    assert logging.getLogger("numba").level == level


def test_m24_larger_than_memory_is_said(models, monkeypatch, caplog):
    caplog.set_level("INFO", "twofile")
    patch(monkeypatch, "total_memory", lambda: 1000)
    Model(models["f32"])
    assert caplog.text.count("larger than memory") == 1


def test_info_counts_what_was_learned(models):
    """Matrices, norms and biases, of the shapes that the model has, not the padded ones; no tables."""
    m = Model(models["q8_0"], verbose=False)
    learned = [t.shape for t in expected_tensors(m.config) if t.role in ("matrix", "f32") and t.name != "rope"]
    assert m.info["parameters"] == sum(int(np.prod(shape)) for shape in learned)


def test_two_streams_of_one_model_do_not_meet(tiny):
    """Interleaved in one thread, and from many threads at once: each text is its own."""
    from concurrent.futures import ThreadPoolExecutor

    m = Model(tiny, verbose=False)
    how = dict(max_tokens=40, ignore_eos=True)
    prompts = ["the fox", "a", "the the hen and the fox", "zzz"]
    want = [m.generate(p, seed=i, **how) for i, p in enumerate(prompts)]
    streams = [m.stream(p, seed=i, **how) for i, p in enumerate(prompts)]
    texts = [""] * 4
    for chunks in zip(*streams):
        texts = [text + chunk.text for text, chunk in zip(texts, chunks)]
    assert texts == want
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(m.generate, p, seed=i, **how) for _ in range(3) for i, p in enumerate(prompts)]
        together = pool.submit(m.batch, prompts, 40, 2, 1, ignore_eos=True)
        assert [job.result() for job in jobs] == want * 3
        assert together.result() == [m.generate(p, seed=line_seed(1, i), **how) for i, p in enumerate(prompts)]


def test_cached_decode_equals_starting_over(models):
    m, seq = Model(models["q8_0"], verbose=False), [1, 7, 9]
    fast = [c.token for c in m.stream([1, 7, 9], max_tokens=60, temperature=0, ignore_eos=True) if c.token is not None]
    assert len(fast) == 60
    for token in fast:
        fresh = Model(models["q8_0"], verbose=False) if len(seq) % 20 == 0 else m
        assert int(fresh.logits(seq)[-1].argmax()) == token
        seq.append(token)


def test_the_context_fills_exactly(models):
    """Up to the last position, and one more is an error with both numbers."""
    m = Model(models["f32"], n_ctx=40, verbose=False)
    chunks = list(m.stream(some_ids(30), temperature=0, ignore_eos=True))
    assert sum(c.token is not None for c in chunks) == 10 and chunks[-1].finish_reason == "context"
    assert next(iter(m.stream(some_ids(39), temperature=0, ignore_eos=True))).token is not None
    with pytest.raises(ModelError, match="40 tokens .* context of 40"):
        m.generate(some_ids(40))
    with pytest.raises(ModelError, match="41 tokens, expected 1 to 40"):
        m.generate(some_ids(41))
    with pytest.raises(ModelError, match="id 93"):
        m.logits([93])
    with pytest.raises(ModelError, match="0 tokens"):
        m.logits([])


def test_nothing_is_computed_twice_when_a_prompt_grows(models, monkeypatch):
    m, passes_seen = Model(models["f32"], verbose=False), []
    m.generate([1, 2, 3, 4], max_tokens=1, temperature=0)
    play = Forward.__call__
    monkeypatch.setattr(Forward, "__call__", lambda self, ids, *a: passes_seen.append(len(ids)) or play(self, ids, *a))
    m.generate([1, 2, 3, 4, 5, 6], max_tokens=1, temperature=0)
    assert passes_seen == [2]


def test_threads_do_not_pile_up(models):
    import threading

    before = threading.active_count()
    for _ in range(5):
        m = Model(models["f32"], n_threads=4, verbose=False)
        m.logits([1])
        del m
    assert threading.active_count() <= before + 3


def test_c2_contexts_that_cannot_be(models, monkeypatch):
    done = call(models["f32"], "-p", "x", "-c", "201")
    assert done.returncode == 1 and b"context of 201 tokens, expected 1 to the 200" in done.stderr
    patch(monkeypatch, "total_memory", lambda: 100_000)
    with pytest.raises(ModelError, match=r"takes [\d,]+ bytes, this machine has 100,000; choose a smaller n_ctx"):
        Model(models["f32"], verbose=False).logits([1])


def test_ctrl_c_between_the_two_steps_of_a_pass(tiny):
    """The other threads have been told to begin and this one has not begun: the next pass, and the end, wait for nobody."""
    for interrupted in (0, 1):
        m = Model(tiny, n_threads=2, verbose=False)
        want = m.logits([5, 6, 7])
        player, real = m.forward.player, m.forward.player.play

        def play(*args):
            raise KeyboardInterrupt

        player.play = play
        with pytest.raises(KeyboardInterrupt):
            m.logits([9, 8, 7])
        player.play = real
        if interrupted:
            m.forward.close()  # would wait for ever
        else:
            assert (m.logits([5, 6, 7]) == want).all()


def test_a_pickled_model_maps_the_same_file(tiny):
    m = Model(tiny, n_ctx=64, n_threads=1, verbose=False)
    raw = pickle.dumps(m)
    again = pickle.loads(raw)
    assert len(raw) < 1000 and again.n_ctx == 64 and again.n_threads == 1
    assert again.generate("the", max_tokens=20, seed=4) == m.generate("the", max_tokens=20, seed=4)


def test_threads_share_a_model(tiny):
    """Streams in several threads, and a batch meanwhile: each as if it were alone."""
    m = Model(tiny, verbose=False)
    prompts = ["the", "a fox", "hen", "the fox and"]
    alone = {p: m.generate(p, max_tokens=40, seed=3, ignore_eos=True) for p in prompts}
    scored = m.score(m.tokenize("the fox and the hen"))[0]
    wrong = []

    def work(p):
        for _ in range(3):
            if m.generate(p, max_tokens=40, seed=3, ignore_eos=True) != alone[p]:
                wrong.append(p)
            if not np.array_equal(m.score(m.tokenize("the fox and the hen"))[0], scored):
                wrong.append("score")

    def many():
        found = [w.written for w in m.best_of("the", 3, seed=3, max_tokens=40, ignore_eos=True)]
        if alone["the"] not in found:
            wrong.append("batch")

    threads = [threading.Thread(target=work, args=(p,)) for p in prompts] + [threading.Thread(target=many)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
