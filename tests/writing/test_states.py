"""Layers that keep states (short convolutions, the gated delta rule): whatever is done with the cache, the bits are those of
reading the text from its beginning."""

import random

import numpy as np
import pytest

from helpers.logits import SILENT, passes, some_ids
from helpers.models import break_token, make_model
from helpers.process import call
from helpers.switches import HYBRIDS
from helpers.vocabularies import byte_bpe
from twofile.errors import ModelError
from twofile.forward import Forward
from twofile.kernels.cache import CACHE_NAMES
from twofile.model import Model
from twofile.modelfile import open_model
from twofile.writer import Writer


@pytest.fixture(scope="module", params=HYBRIDS)
def path(request, tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("states") / "m.bin", "q8_0", **HYBRIDS[request.param])


def fresh(path, ids):
    return Model(path, verbose=False).logits(ids)


@pytest.mark.parametrize("kv", CACHE_NAMES)
def test_same_bits_for_any_chunk_and_thread_count(path, kv):
    ids, found = some_ids(150), set()
    for threads, chunks in ((1, (1, 2, 7, 64)), (2, (1, 7, 64)), (3, (64,))):
        forward = Forward(open_model(path), 200, 1, kv, threads, SILENT)
        found |= {passes(forward, ids, chunk).tobytes() for chunk in chunks}
        forward.close()
    assert len(found) == 1


def test_sequences_share_a_pass_without_a_trace(path):
    """Tokens of three sequences in one pass, each in its order, give the bits that each gives alone; also in the next pass."""
    forward = Forward(open_model(path), 64, 3, "f16", 2, SILENT)
    texts = [some_ids(n) for n in (15, 29, 17)]
    alone = [passes(forward, ids, 64) for ids in texts]
    rng, at, left = random.Random(0), [0, 0, 0], [0] * 15 + [1] * 29 + [2] * 17
    rng.shuffle(left)
    while left:
        slots, left = left[:16], left[16:]
        positions = [at[s] + slots[:i].count(s) for i, s in enumerate(slots)]
        rows = forward([texts[s][p] for s, p in zip(slots, positions)], positions, slots, range(len(slots)))
        assert all(np.array_equal(row, alone[s][p]) for row, s, p in zip(rows, slots, positions))
        at = [n + slots.count(s) for s, n in enumerate(at)]
    forward.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_ctrl_c_in_a_pass_leaves_no_state_behind(path, when):
    """Cut short before or after its part of a pass was played: what is read next is read as if nothing had been."""
    m, ids, calls = Model(path, n_threads=2, verbose=False), some_ids(30), []
    want = m.generate(ids, 3, temperature=0, ignore_eos=True), m.fed[:]
    real = m.forward.player.play

    def play(*args):
        calls.append(1)
        if when == "after" or len(calls) < 3:
            real(*args)
        if len(calls) == 3:
            raise KeyboardInterrupt

    m.forward.player.play = play
    with pytest.raises(KeyboardInterrupt):
        m.generate(ids, 9, temperature=0, ignore_eos=True)
    m.forward.player.play = real
    longer = want[1] + some_ids(10)  # goes on where the cache ends, if it does
    assert [c.token for c in m.stream(longer, 9, temperature=0)] == [
        c.token for c in Model(path, verbose=False).stream(longer, 9, temperature=0)
    ]
    assert np.array_equal(m.logits(longer), fresh(path, longer))


def test_a_cache_that_is_taken_back_goes_on_or_begins_again(path):
    """One model reads texts that begin alike, go on, stop short, are scored and written: as a new model would."""
    m, rng, ids = Model(path, n_ctx=160, verbose=False), random.Random(1), some_ids(100)
    for n in range(12):
        cut = rng.choice([0, 1, 30, 63, 64, 65, len(ids) - 1, len(ids)])
        ids = (ids[:cut] + [rng.randrange(93) for _ in range(rng.choice([1, 2, 17, 70]))])[:150]
        how = dict(temperature=0.8, seed=n, ignore_eos=True)
        want = [c.token for c in Model(path, n_ctx=160, verbose=False).stream(ids, 8, **how)]
        assert [c.token for c in m.stream(ids, 8, **how)] == want
        assert [c.token for c in m.stream(ids, 8, **how)] == want  # the same again
        if n % 3 == 0:
            assert np.array_equal(m.logits(ids), fresh(path, ids))
        elif n % 3 == 1:
            one, two = m.score(ids, len(ids) // 2), Model(path, verbose=False).score(ids, len(ids) // 2)
            assert np.array_equal(one[0], two[0])
        else:
            ids = ids + want[:5]


def test_texts_in_turns_on_one_model(path):
    """Two streams from one model, each pulled in turn, do not spoil each other."""
    how = dict(temperature=0.8, seed=2, ignore_eos=True)
    prompts = [some_ids(20), some_ids(20)[:15] + [7]]
    want = [[c.token for c in Model(path, verbose=False).stream(p, 9, **how)] for p in prompts]
    m = Model(path, verbose=False)
    assert [list(pair) for pair in zip(*zip(*((c.token for c in m.stream(p, 9, **how)) for p in prompts)))] == want


@pytest.mark.parametrize("when", ["before", "behind"])
def test_ctrl_c_at_any_time_leaves_nothing_half_done(path, when, monkeypatch):
    """An interruption before or behind a pass: what is written afterwards is what a new model writes."""
    m, play, ids = Model(path, verbose=False), Forward.__call__, some_ids(30)
    how = dict(temperature=0.8, seed=3, ignore_eos=True)
    for passes_before in range(5):
        left = [passes_before]

        def interrupted(self, *args, left=left):
            left[0] -= 1
            if left[0] < 0 and when == "before":
                raise KeyboardInterrupt
            rows = play(self, *args)
            if left[0] < 0:
                raise KeyboardInterrupt
            return rows

        monkeypatch.setattr(Forward, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(m.stream(ids, 9, **how))
        monkeypatch.setattr(Forward, "__call__", play)
        for prompt in (ids, ids + [7, 8], ids[:20]):
            want = [c.token for c in Model(path, verbose=False).stream(prompt, 9, **how)]
            assert [c.token for c in m.stream(prompt, 9, **how)] == want


def test_the_prompt_is_not_read_twice(path, monkeypatch):
    """A prompt again, or one that goes on from it, costs what is new: the state after all but its last token is kept."""
    m, seen, ids = Model(path, verbose=False), [], some_ids(40)
    play = Forward.__call__
    monkeypatch.setattr(Forward, "__call__", lambda self, ids, *a: seen.append(len(ids)) or play(self, ids, *a))
    texts = []
    for prompt in (ids, ids, ids + [5, 6], ids[:10]):
        seen.clear()
        texts.append([c.token for c in m.stream(prompt, 4, temperature=0, ignore_eos=True)])
        assert sum(seen) == ([43, 4, 6, 13] if m.engine.recurrent else [43, 4, 5, 4])[len(texts) - 1]
    assert texts[0] == texts[1]


def test_after_a_nan_a_model_begins_again(path, tmp_path):
    """A token whose row of embed is no number spoils the texts that it is in, and no others."""
    kinds = open_model(path).config.kinds
    break_token(make_model(tmp_path / "n.bin", "f32", **next(sizes for sizes in HYBRIDS.values() if sizes["kinds"] == kinds)))
    m, how = Model(tmp_path / "n.bin", verbose=False), dict(seed=1, ignore_eos=True, logprobs=5)
    ids = [i % 92 for i in some_ids(30)]
    want = [(c.token, c.top) for c in m.stream(ids, 1, **how)]
    with pytest.raises(ModelError, match="position 31"):
        list(m.stream(ids + [92], 6, **how))
    assert [(c.token, c.top) for c in m.stream(ids, 1, **how)] == want
    assert [(c.token, c.top) for c in Model(tmp_path / "n.bin", verbose=False).stream(ids, 1, **how)] == want


def test_guesses_are_not_made_where_they_could_not_be_taken_back(path):
    ids = [5, 6, 7, 8, 9] * 8 + [5, 6]
    tokens = [
        [c.token for c in Model(path, verbose=False).stream(ids, None, ignore_eos=True, lookup=lookup, temperature=0)]
        for lookup in (False, True)
    ]
    assert tokens[0] == tokens[1] and len(tokens[0]) == 200 - len(ids) + 1


@pytest.mark.parametrize("places", [1, 2, 3, 8])
def test_together_is_one_by_one(path, places):
    m, how = Model(path, verbose=False), dict(temperature=1.2, ignore_eos=True)
    common = some_ids(90)
    prompts = [common + [n] for n in range(4)] + [common, common, common[:70], common + [1, 2, 3], [1], common + [0, 9]]
    got = [w.ids for w in written(m, [Writer(m, p, 12, seed=n, **how) for n, p in enumerate(prompts)], places)]
    want = []
    for n, p in enumerate(prompts):
        alone = Writer(m, p, 12, seed=n, **how)
        list(m.write(alone))
        want.append(alone.ids)
    assert got == want


def test_a_common_prompt_is_read_once(path):
    """best_of: the others copy what the first has read."""
    m, seen, real = Model(path, verbose=False), [], Forward.__call__
    Forward.__call__ = lambda self, tokens, *rest: seen.append(len(tokens)) or real(self, tokens, *rest)
    try:
        best = m.best_of(some_ids(150), 6, seed=1, max_tokens=4, ignore_eos=True)
    finally:
        Forward.__call__ = real
    assert sum(seen) < 2 * 150
    alone = [c.token for c in Model(path, verbose=False).stream(some_ids(150), 4, seed=1, ignore_eos=True)]
    assert alone[:-1] in [[c.token for c in w.chunks][:4] for w in best]


def written(m, writers, places):
    for _ in m.together(iter(writers), places):
        pass
    return writers


def test_prompt_cache(path, tmp_path):
    """Kept and taken up again by another model: of the same prompt, of one that goes on, of another."""
    ids, kept = some_ids(70), tmp_path / "kept"
    m = Model(path, verbose=False)
    how = dict(temperature=0.8, seed=1, ignore_eos=True)
    list(m.stream(ids, 10, **how))
    m.save_cache(kept, len(ids))
    for prompt, most in ((ids, 69), (ids + [4, 5], 69), (ids[:69] + [3, 1], 69), (ids[:30] + [1], 0), ([1, 2], 0)):
        other = Model(path, verbose=False)
        found = other.load_cache(kept, prompt)
        assert found == most if other.engine.recurrent else found >= most
        want = [c.token for c in Model(path, verbose=False).stream(prompt, 10, **how)]
        assert [c.token for c in other.stream(prompt, 10, **how)] == want
        assert [c.token for c in other.stream(prompt, 10, **how)] == want
    raw = bytearray(kept.read_bytes())
    raw[-1] ^= 1
    kept.write_bytes(raw)
    assert Model(path, verbose=False).load_cache(kept, ids) == 0


def test_on_the_command_line(tmp_path):
    """--prompt-cache, twice; and what --info counts."""

    path = make_model(tmp_path / "m.bin", "q8_0", vocab_size=263, tokenizer=byte_bpe(), embed=True, **HYBRIDS["delta rule"])
    args = (path, "-p", "the fox and the hen", "-n", "12", "-s", "1", "--ignore-eos")
    want = call(*args, "-q").stdout
    for n in range(2):
        done = call(*args, "--prompt-cache", tmp_path / "c")
        assert done.stdout == want and (b"cached" in done.stderr) == (n == 1)
    states = 2 * 4 * (3 * 96 + 3 * 12 * 32)  # two layers: 84 columns of 3 inputs, padded; 3 heads of 12 by 20, padded
    assert Model(path, verbose=False).info["kv_bytes_at_ctx"] == states + 2 * 256 * (12 + 16) * 2
