"""Guessing from the text: the same text, sooner."""

import random
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.models import TYPES, make_model
from twofile.guess import Lookup
from twofile.jobs import Writing
from twofile.model import Model
from twofile.program.operands import WANTED_MAX


class Fake:
    """A model whose next token is a function of the last four; counts its steps."""

    def __init__(self, vocab=50, seed=0):
        self.vocab, self.seed, self.ids, self.steps = vocab, seed, [], 0

    def next(self, ids):
        return random.Random(f"{ids[-4:]} {self.seed}").randrange(self.vocab)

    def step(self, ids, position, n):
        assert len(ids) <= WANTED_MAX or position == 0
        self.ids[position:] = ids
        self.steps += 1
        rows = np.zeros((n, self.vocab), np.float32)
        for i in range(n):
            rows[i, self.next(self.ids[: len(self.ids) - n + 1 + i])] = 1
        return rows


class FakeWriter:
    """What a Writing asks of a Writer; it takes the likeliest."""

    due = reason = None
    forced, begun = (), False

    def __init__(self, prompt, limit, stop):
        self.ids, self.n_prompt, self.count, self.limit, self.stop = list(prompt), len(prompt), 0, limit, stop

    def choose(self, logits):
        return int(logits.argmax())

    def take(self, logits):
        token = self.choose(logits) if self.limit else None
        if token is None or token in self.stop:
            self.reason = "end"
        else:
            self.ids.append(token)
            self.count += 1
            self.reason = "end" if self.limit == self.count else None


def texts(guess, prompt, limit, stop=(), **fake):
    model, job = Fake(**fake), Writing(FakeWriter(prompt, limit, stop))
    job.guess, job.text = guess, SimpleNamespace(n=0)
    while not job.over:
        part, wanted = job.part(128, WANTED_MAX, None)
        job.text.n += job.took(part, model.step(part, job.text.n, wanted))
    return job.ids[len(prompt) :], model.steps


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 40])
def test_guesses_change_nothing(limit):
    prompt = [3, 1, 4, 1, 5]
    want, steps = texts(lambda ids: [], prompt, limit)
    assert len(want) == limit and steps == max(1, limit)
    rng = random.Random(1)
    for guess in (
        lambda ids: [rng.randrange(50) for _ in range(rng.randrange(40))],
        lambda ids: (prompt + want)[len(ids) :] + [0] * 9,
        lambda ids: (prompt + want)[len(ids) :][:2] + [0],
        Lookup(),
    ):
        assert texts(guess, prompt, limit)[0] == want
    stop = set(want[5:6])
    assert texts(Lookup(), prompt, limit, stop)[0] == texts(lambda ids: [], prompt, limit, stop)[0]


def test_right_guesses_save_steps():
    want, _ = texts(lambda ids: [], [1, 2], 64)
    found, steps = texts(lambda ids: ([1, 2] + want)[len(ids) :], [1, 2], 64)
    assert found == want and steps == 1 + 4  # the prompt, then 16 at a time
    # with two tokens any text soon repeats itself
    want, slow = texts(lambda ids: [], [1, 0, 1], 200, vocab=2)
    found, steps = texts(Lookup(), [1, 0, 1], 200, vocab=2)
    assert found == want and steps < slow / 4


def test_wrong_guesses_become_rare():
    guesser, ids = Lookup(), [1, 2, 3, 4]
    tried = 0
    for n in range(1000):
        ids += [5 + n, 1, 2, 3]  # 1 2 3 is followed by something new each time
        tried += bool(guesser(ids))
    assert 3 <= tried < 40


@pytest.mark.parametrize("dtype", TYPES)
def test_the_text_is_the_same_bits(tmp_path, dtype):
    """On a real forward, greedy and sampled, also at the very end of the context."""
    path = make_model(tmp_path / "m.bin", dtype)
    ids = [5, 6, 7, 8, 9] * 8 + [5, 6]
    for how in ({"temperature": 0}, {"temperature": 0.9, "seed": 3, "repeat_penalty": 1.2}):
        tokens = []
        for lookup in (False, True):
            m = Model(path, verbose=False)
            chunks = list(m.stream(ids, None, ignore_eos=True, lookup=lookup, **how))
            assert chunks[-1].finish_reason == "context"
            tokens.append([c.token for c in chunks])
            again = [c.token for c in m.stream(ids, 20, ignore_eos=True, lookup=lookup, **how)]
            assert again[:-1] == tokens[0][:20]
        assert tokens[0] == tokens[1] and len(tokens[0]) == 200 - len(ids) + 1


def test_what_is_read_when():
    """The prompt, then each id as it is chosen; not the last one, whose logits nobody would look at."""

    def read(prompt, limit, stop, choices):
        w = FakeWriter(prompt, limit, stop)
        job, fed = Writing(w, lookup=False), []
        w.choose, job.text = lambda logits: next(choices), SimpleNamespace(n=0)
        while not job.over:
            part, wanted = job.part(4, WANTED_MAX, None)
            fed.append((tuple(part), job.text.n, wanted))
            job.text.n += job.took(part, [None] * wanted)
        return w.ids[len(prompt) :], fed

    assert read([5, 6, 7], 10, {6}, iter([3, 4, 5, 6])) == (
        [3, 4, 5],
        [((5, 6, 7), 0, 1), ((3,), 3, 1), ((4,), 4, 1), ((5,), 5, 1)],
    )
    assert read([1], 2, (), iter([9, 9])) == ([9, 9], [((1,), 0, 1), ((9,), 1, 1)])
    assert read([1, 2, 3, 4, 5], 0, (), iter([])) == ([], [((1, 2, 3, 4), 0, 0), ((5,), 4, 1)])
