"""Top-n-sigma, typical, XTC and Mirostat against naive twins in float64, written from the papers, one token at a time."""

import math

import numpy as np
import pytest

from twofile.compiler.code import Code
from twofile.kernels.pick import pick
from twofile.narrowing import OFF, exp_alike
from twofile.sampler import RULES, Sampler, Sampling

CODE = Code([pick], lambda text: None)
COINS = [(i + 0.5) / 100 for i in range(100)]
ALL = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.0}


def chances(rows):
    """[(id, logit)] -> chances"""
    top = max(x for _, x in rows)
    weights = [math.exp(x - top) for _, x in rows]
    whole = sum(weights)
    return [w / whole for w in weights]


def likeliest(rows, n):
    return sorted(rows, key=lambda row: (-row[1], row[0]))[:n]


def until(rows, share):
    """The first of them with a share of the chances of all."""
    found, sum_ = [], 0.0
    for row, p in zip(rows, chances(rows)):
        found.append(row)
        sum_ += p
        if sum_ >= share:
            break
    return found


def sigma(rows, how):
    xs = [x for _, x in rows]
    mean = sum(xs) / len(xs)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in xs) / len(xs))
    return [row for row in rows if row[1] >= max(xs) - how.top_n_sigma * deviation] if how.top_n_sigma > 0 else rows


def typical(rows, how):
    """Meister et al. 2022: nearest to the entropy first."""
    ps = chances(rows)
    surprises = [-math.log(p) for p in ps]
    entropy = sum(p * s for p, s in zip(ps, surprises))
    order = sorted(range(len(rows)), key=lambda i: abs(surprises[i] - entropy))
    kept, sum_ = [], 0.0
    for i in order:
        kept.append(i)
        sum_ += ps[i]
        if sum_ > how.typical_p:
            break
    return [rows[i] for i in sorted(kept)] if how.typical_p < 1 else rows


def excluded(rows, how, coin):
    """-> (rows, the coin that is left)"""
    if coin >= how.xtc_probability:
        return rows, (coin - how.xtc_probability) / (1 - how.xtc_probability)
    likely = [i for i, p in enumerate(chances(rows)) if p >= how.xtc_threshold]
    return rows[likely[-1] if likely else 0 :], coin / how.xtc_probability


def drawn(rows, how, coin):
    """-> place"""
    sum_ = 0.0
    for place, p in enumerate(chances([(i, x / how.temperature) for i, x in rows])):
        sum_ += p
        if sum_ > coin:
            return place
    return len(rows) - 1


def twin(logits, how, coin):
    rows = likeliest(sigma(list(enumerate(logits.astype(float).tolist())), how), how.top_k or len(logits))
    rows = until(typical(rows, how), how.top_p)
    ps = chances(rows)
    rows = [row for row, p in zip(rows, ps) if p >= how.min_p * ps[0]]
    if how.xtc_probability:
        rows, coin = excluded(rows, how, coin)
    return rows[drawn(rows, how, coin)][0]


class Mirostat:
    """Basu et al. 2020, as llama.cpp has it: 1 estimates how chances fall from 100 of them, 2 looks at each."""

    def __init__(self, how):
        self.how, self.mu = how, 2 * how.mirostat_tau

    def __call__(self, logits, coin):
        how, n = self.how, len(logits)
        rows = likeliest(list(enumerate(logits.astype(float).tolist())), n)
        ps = chances([(i, x / how.temperature) for i, x in rows])
        if how.mirostat == 1:
            ts = [math.log((i + 2) / (i + 1)) for i in range(min(100, n) - 1)]
            bs = [math.log(ps[i] / ps[i + 1]) for i in range(min(100, n) - 1)]
            s = sum(t * b for t, b in zip(ts, bs)) / sum(t * t for t in ts)
            k = ((s - 1) * 2**self.mu / (1 - n ** -(s - 1))) ** (1 / s)
            rows = rows[: max(1, min(n, int(k)))]
        else:
            rows = [row for row, p in zip(rows, ps) if -math.log2(p) <= self.mu] or rows[:1]
        at = drawn(rows, how, coin)
        surprise = -math.log2(chances([(i, x / how.temperature) for i, x in rows])[at])
        self.mu -= how.mirostat_eta * (surprise - how.mirostat_tau)
        return rows[at][0]


def logits_of(n, seed=0, scale=3.0):
    return (np.random.default_rng(seed).standard_normal(n) * scale).astype(np.float32)


@pytest.mark.parametrize(
    "given",
    [
        {"top_n_sigma": 1.0},
        {"top_n_sigma": 0.3, "temperature": 2.0},
        {"typical_p": 0.5},
        {"typical_p": 0.9, "top_k": 20, "top_p": 0.8},
        {"xtc_probability": 1.0},
        {"xtc_probability": 0.5, "xtc_threshold": 0.05},
        {"xtc_probability": 0.3, "xtc_threshold": 0.02, "top_p": 0.9, "min_p": 0.05, "temperature": 1.7},
        {"top_n_sigma": 2.0, "typical_p": 0.95, "xtc_probability": 0.5, "top_k": 30, "top_p": 0.9, "min_p": 0.01},
    ],
    ids=lambda given: " ".join(given),
)
def test_as_the_twin_chooses(given):
    """At 100 coins on vocabularies of 1 to 300, and other tokens than without the rule."""
    how, other = Sampling(**{**ALL, **given}), []
    for n, seed in ((300, 0), (300, 1), (40, 2), (2, 3), (1, 4)):
        logits = logits_of(n, seed)
        sampler, plain = Sampler(how, n, CODE), Sampler(Sampling(**ALL), n, CODE)
        got = [sampler(logits, [], coin) for coin in COINS]
        assert got == [twin(logits, how, coin) for coin in COINS]
        other.append(got != [plain(logits, [], coin) for coin in COINS])
    assert any(other)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_mirostat_as_the_twin(version, temperature):
    """A text of 200 tokens, whose surprise comes near to what is wanted; top-k to min-p do nothing there."""
    how = Sampling(mirostat=version, mirostat_tau=3.0, temperature=temperature, top_k=1, top_p=0.1, min_p=0.9)
    sampler, other, rng, told = Sampler(how, 500, CODE), Mirostat(how), np.random.default_rng(1), []
    for step in range(200):
        logits, coin = logits_of(500, step, 2.0), rng.random()
        assert sampler(logits, [], coin) == other(logits, coin)
        assert sampler.narrowing.wanted == pytest.approx(other.mu)
        told.append(other.mu)
    assert 0 < np.std(told[100:]) < 2


def test_mirostat_of_chances_that_are_alike():
    for version in (1, 2):
        sampler = Sampler(Sampling(mirostat=version, mirostat_tau=0.0), 9, CODE)
        assert all(0 <= sampler(np.zeros(9, np.float32), [], coin) < 9 for coin in COINS)
        assert Sampler(Sampling(mirostat=version), 1, CODE)(np.zeros(1, np.float32), [], 0.5) == 0


def test_off_is_off():
    """At their defaults, and whatever they are at temperature 0, the kernel alone chooses: the bits stay."""
    assert OFF == {rule.name: rule.default for rule in RULES if rule.name in OFF}
    assert Sampler(Sampling(), 9, CODE).narrowing is None
    for name in OFF:
        assert Sampler(Sampling(**{name: 1}), 9, CODE).narrowing or name == "typical_p"
        assert Sampler(Sampling(temperature=0.0, xtc_probability=1.0, mirostat=1), 9, CODE).narrowing is None


def test_what_is_not_finite_is_told():
    for given in ({"typical_p": 0.5}, {"mirostat": 2}, {"xtc_probability": 1.0}):
        for bad in (np.nan, np.inf, -np.inf):
            assert Sampler(Sampling(**given), 9, CODE)(np.array([1, 2, bad] * 3, np.float32), [], 0.5) == -1


def test_e_to_the_x():
    """Within two ulps of the truth; what is far below is as good as nothing."""
    x = -np.abs(logits_of(1000, 5, 100.0)).astype(float)
    np.testing.assert_allclose(exp_alike(x), np.exp(np.maximum(x, -700)), rtol=4e-16)
