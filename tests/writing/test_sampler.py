"""The sampler against its twin, against the softmax, and what it refuses."""

import numpy as np
import pytest

from twofile.compiler.code import Code
from twofile.errors import ModelError
from twofile.kernels.pick import pick
from twofile.sampler import Sampler, Sampling

CODE = Code([pick], lambda text: None)


def sample(logits, how, recent, coin, bias=None):
    return Sampler(how, len(logits), CODE, bias)(logits, recent, coin)


def penalised(logits, how, recent, bias):
    """What biases and penalties make of logits, id by id, in float32."""
    logits, times = logits.copy(), np.float32(how.repeat_penalty)
    near = len(recent) if how.repeat_last_n < 0 else how.repeat_last_n
    for i, by in bias.items():
        logits[i] += np.float32(by)
    last = [token for age, token in enumerate(reversed(recent)) if age < near]
    for i in set(last):
        logits[i] = logits[i] / times if logits[i] > 0 else logits[i] * times
        logits[i] -= np.float32(last.count(i)) * np.float32(how.frequency_penalty) + np.float32(how.presence_penalty)
    return logits


def twin(logits, how, coin, recent=(), bias=None):
    """The same choice, by sorting everything, in float64."""
    logits = penalised(logits, how, recent, bias or {})
    order = np.argsort(-logits, kind="stable")
    order = order[np.isfinite(logits[order])][: how.top_k or len(logits)]
    weights = np.exp(logits[order].astype(float) - logits.max())
    count = len(order)
    if how.top_p < 1:
        count = int(np.searchsorted(np.cumsum(weights), how.top_p * weights.sum())) + 1
    count = np.count_nonzero(weights[:count] >= how.min_p)
    chances = np.cumsum(np.exp((logits[order[:count]].astype(float) - logits.max()) / how.temperature))
    return order[min(np.searchsorted(chances, coin * chances[-1], side="right"), count - 1)]


def spread(logits, how, n=20000):
    """Frequencies of each id over n evenly spaced coins."""
    sampler = Sampler(how, len(logits), CODE)
    return np.bincount([sampler(logits, [], (i + 0.5) / n) for i in range(n)], minlength=len(logits)) / n


LOGITS = np.array([1.0, 3.0, -2.0, 2.5, 0.0, 2.9], np.float32)
FREE = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_coins_reproduce_the_softmax(temperature):
    want = np.exp(LOGITS.astype(float) / temperature)
    np.testing.assert_allclose(spread(LOGITS, Sampling(temperature, **FREE)), want / want.sum(), atol=1e-3)


def test_filters_in_order():
    """Top-k, then top-p of what is left, then min-p; the temperature last."""
    chances = np.exp(LOGITS.astype(float)) / np.exp(LOGITS.astype(float)).sum()
    assert set(np.flatnonzero(spread(LOGITS, Sampling(1.0, 2, 1.0, 0.0), 500))) == {1, 5}
    order = np.argsort(-chances)
    enough = order[: np.searchsorted(np.cumsum(chances[order]), 0.8) + 1]
    assert set(np.flatnonzero(spread(LOGITS, Sampling(9.0, 0, 0.8, 0.0), 2000))) == set(enough)
    likely = set(np.flatnonzero(chances >= 0.5 * chances.max()))
    assert set(np.flatnonzero(spread(LOGITS, Sampling(9.0, 0, 1.0, 0.5), 2000))) == likely


def test_edges():
    assert sample(LOGITS, Sampling(0.0), [], 0.99) == 1
    assert sample(LOGITS, Sampling(1.0, 0, 1e-9, 0.0), [], 0.99) == 1
    assert sample(LOGITS, Sampling(1.0, **FREE), [], np.nextafter(1.0, 0)) == 2
    assert sample(np.array([1e30, -1e30], np.float32), Sampling(1.0, **FREE), [], 0.5) == 0
    assert sample(np.full(15, 3e38, np.float32), Sampling(0.0), [], 0.5) == 0
    assert sample(np.zeros(5, np.float32), Sampling(0.0), [], 0.5) == 0
    assert sample(np.zeros(1, np.float32), Sampling(1.0), [], 0.5) == 0


def test_repeat_penalty():
    """Positive logits are divided, negative multiplied, of the last n ids only; the caller's logits are left alone."""
    logits = LOGITS.copy()
    assert sample(logits, Sampling(0.0, repeat_penalty=2.0), [1, 5, 2], 0.5) == 3
    assert sample(logits, Sampling(0.0, repeat_penalty=2.0, repeat_last_n=1), [1, 5, 2], 0.5) == 1
    assert sample(logits, Sampling(0.0, repeat_penalty=2.0, repeat_last_n=-1), [1] + [2] * 100, 0.5) == 5
    assert np.array_equal(logits, LOGITS)


PENALTIES = (
    {},
    {"repeat_penalty": 1.4, "repeat_last_n": 5},
    {"repeat_penalty": 0.8, "repeat_last_n": -1},
    {"presence_penalty": 0.7, "frequency_penalty": -0.3, "repeat_last_n": 30},
    {"presence_penalty": -2.0, "frequency_penalty": 0.1, "repeat_penalty": 1.2},
)


@pytest.mark.parametrize("n", [1, 15, 64, 65, 2048, 32003])
def test_the_twin_chooses_the_same(n):
    """Any size, also where everything is sorted; ties go to the lower id; with a penalty and without."""
    rng = np.random.default_rng(n)
    recent = rng.integers(0, n, 40).tolist()
    for rules in ((), (1.5, 0, 0.9, 0.0), (0.7, 7, 1.0, 0.2), (1.0, 1500, 1.0, 0.0)):
        for penalties in PENALTIES:
            how = Sampling(*rules, **penalties)
            for sharp in (0.5, 3.0):
                logits = (rng.standard_normal(n) * sharp).astype(np.float32)
                logits[rng.integers(0, n, n // 4)] = np.float32(sharp)
                some = rng.integers(0, n, n // 3).tolist()
                bias = dict(zip(some, np.where(rng.random(len(some)) < 0.5, -np.inf, rng.normal(0, 3, len(some))).tolist()))
                for coin in rng.random(8):
                    assert sample(logits, how, recent, coin) == twin(logits, how, coin, recent)
                    assert sample(logits, how, recent, coin, bias) == twin(logits, how, coin, recent, bias)


def test_presence_and_frequency():
    """Once for a token that was there, and again for each time; of the last n ids only."""
    assert sample(LOGITS, Sampling(0.0, presence_penalty=0.2), [1], 0.5) == 5
    assert sample(LOGITS, Sampling(0.0, presence_penalty=0.2), [1, 5, 5], 0.5) == 1
    assert sample(LOGITS, Sampling(0.0, frequency_penalty=0.2), [1, 1, 5, 3], 0.5) == 5
    assert sample(LOGITS, Sampling(0.0, frequency_penalty=0.2, repeat_last_n=1), [1, 1, 1, 3], 0.5) == 1
    assert sample(LOGITS, Sampling(0.0, presence_penalty=-9.0), [2], 0.5) == 2
    assert sample(LOGITS, Sampling(0.0, frequency_penalty=5.0, repeat_last_n=0), [1, 1, 1], 0.5) == 1


def test_what_is_never_chosen():
    """A ban holds where everything else is hopeless, at any temperature; a bias is added, to any that is left."""
    hopeless = np.array([80.0, -1e30, -1e30], np.float32)
    for how in (Sampling(0.0), Sampling(100.0, **FREE), Sampling(1.0, 1)):
        assert {sample(hopeless, how, [], coin, {0: -np.inf}) for coin in np.linspace(0, 0.999, 50)} <= {1, 2}
        assert {sample(hopeless, how, [], coin, {0: -np.inf, 2: -np.inf}) for coin in np.linspace(0, 0.999, 50)} == {1}
    assert sample(LOGITS, Sampling(0.0), [], 0.5, {2: 5.5, 1: -1.0}) == 2
    assert sample(np.zeros(3000, np.float32), Sampling(1.0, 0), [], 0.999, {2999: -np.inf}) < 2999


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 17, 64, 99])
def test_what_is_not_finite_is_seen(bad, at):
    logits = np.zeros(100, np.float32)
    logits[at] = bad
    for how in (Sampling(), Sampling(0.0), Sampling(1.0, 0)):
        assert sample(logits, how, [], 0.5) == -1
    assert sample(np.zeros(2000, np.float32) + np.float32(bad), Sampling(1.0, 0), [], 0.5) == -1


def test_settings_out_of_range():
    for field, value in (("temperature", -1), ("top_p", -0.1), ("min_p", 2), ("top_k", -1), ("repeat_penalty", 0)):
        with pytest.raises(ModelError, match=field):
            Sampling(**{field: value})
