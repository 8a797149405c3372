"""Rounding to few bits: nearly the best there is, at any size, of any numbers, the same bits everywhere."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from helpers.models import make_model
from helpers.places import ROOT
from helpers.rounding import some_input, some_rows, sums_of
from machines.test_same_bits import machines
from twins.rounding import best_both, best_scale, feeds, levels_of
from twins.weights import unpack_matrix
from twofile.export import matrices
from twofile.export.calibration.costs import EVEN, costs_of_sums
from twofile.export.pack import PACKERS
from twofile.export.rounding.rounded import Costs, rounded
from twofile.format.types import MATRIX_TYPES, Q4_0, type_of

SEARCHED = [kind.name for kind in MATRIX_TYPES if kind.quantised and kind.name != "q8_0"]


def back_of(kind, shape, data, beside):
    """What the twin reads."""
    return unpack_matrix(kind.name, shape, *(part.tobytes() for part in (data, *beside.values())))


def group_losses(x, back, cost, share):
    lost = (cost * (x - back.astype(float)) ** 2).reshape(len(x), -1, share)
    return lost.sum(-1)


@pytest.mark.parametrize("name", ["q4_0", "q5_0", "iq4_nl", "q4_1", "q5_1"])
def test_groups_lose_hardly_more_than_the_least(name):
    """Beside a search of thousands of scales, in float64, of groups whose columns cost different things."""
    kind, x, rng = type_of(name), some_rows(16, 96), np.random.default_rng(1)
    cost = np.exp(rng.normal(0, 1, 96)).astype(np.float32)
    _, _, back = rounded(kind, x, Costs(cost))
    ours = group_losses(x, back, cost, 32)
    search = best_both if kind.least else best_scale
    best = np.array(
        [[search(r[g : g + 32].astype(float), cost[g : g + 32].astype(float), levels_of(name)) for g in (0, 32, 64)] for r in x]
    )
    print(name, "lost, of the least:", (ours / best).mean(), (ours / best).max())
    assert (ours / best).mean() < 1.05 and (ours / best).max() < 1.4


@pytest.mark.parametrize("name", ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"])
def test_whole_scales_lose_little(name):
    """Scales that are whole numbers times a float16 of 256 columns, beside scales that may be any number."""
    kind, x = type_of(name), some_rows(16, 320)
    _, _, back = rounded(kind, x)
    n, one = kind.share, np.ones(kind.share)
    ours = group_losses(x, back, np.ones(320), n)
    search = best_both if kind.least else best_scale
    picked = [(r, g) for r in range(0, 16, 3) for g in range(320 // n)]
    best = sum(search(x[r, n * g : n * g + n].astype(float), one, levels_of(name)) for r, g in picked)
    ratio = sum(ours[r, g] for r, g in picked) / best
    print(name, "lost, of the least with free scales:", ratio)
    assert ratio < {"q2_k": 1.25, "q3_k": 1.05}.get(name, 1.06)


@pytest.mark.parametrize("name", SEARCHED)
@pytest.mark.parametrize("shape", [(1, 20), (16, 32), (5, 100), (33, 256), (17, 300)])
def test_what_is_packed_is_what_comes_back(name, shape):
    """Rows not of 16, columns not of 32 or 256: a reader gets what rounding said; filling changes nothing."""
    kind, x = type_of(name), some_rows(*shape)
    data, beside, back = rounded(kind, x)
    read = back_of(kind, shape, data, beside)
    assert np.abs(read - back).max() <= 1e-6 * np.abs(read).max()
    error = np.sqrt(((read - x) ** 2).mean() / (x**2).mean())
    assert error < {"q2_k": 0.4, "q3_k": 0.2}.get(name, 0.12)
    again = rounded(kind, np.concatenate((x, x)))  # each row by itself, wherever it stands
    assert np.array_equal(again[2], np.concatenate((back, back)))


NUMBERS = {
    "zeros": np.zeros((16, 64)),
    "constant": np.full((16, 64), 0.3),
    "negative": -np.abs(some_rows(16, 64)) - 0.1,
    "positive": np.abs(some_rows(16, 64)) + 0.1,
    "one large": np.where(np.arange(64) == 5, 1000.0, 0.01) * np.ones((16, 1)),
    "huge": some_rows(16, 64) * 5e3,
    "tiny": some_rows(16, 64) * 1e-5,
    "vanishing": some_rows(16, 64) * 1e-12,
    "smallest": np.full((16, 64), 1e-42),
    "alternating": np.resize([1.0, -1.0], (16, 64)),
}


@pytest.mark.parametrize("name", SEARCHED)
@pytest.mark.parametrize("what", NUMBERS)
def test_odd_numbers(name, what):
    """Finite, and nowhere worse than zeros; positive ones by a least above 0."""
    kind, x = type_of(name), NUMBERS[what].astype(np.float32)
    data, beside, back = rounded(kind, x)
    assert all(np.isfinite(part).all() for part in beside.values()) and np.isfinite(back).all()
    read = back_of(kind, x.shape, data, beside)
    lost, all_ = ((read - x) ** 2).sum(1, dtype=float), (x.astype(float) ** 2).sum(1)
    assert (lost <= all_ * 1.0001 + 1e-30).all()
    if what == "zeros":
        assert not read.any()
    if what in ("constant", "positive", "negative") and kind.least:
        span = float(np.ptp(x, 1).max()) / (2**kind.bits - 1)
        assert np.abs(read - x).max() <= 1.3 * span + 2e-3


@pytest.mark.parametrize("name", SEARCHED)
def test_costs_are_heeded(name):
    """What is lost, as it is counted, is less than without them."""
    x, cost = some_rows(64, 288), np.exp(np.random.default_rng(1).normal(0, 2, 288)).astype(np.float32)
    plain, told = ((cost * (x - rounded(type_of(name), x, c)[2]) ** 2).sum() for c in (None, Costs(cost)))
    print(name, told / plain)
    assert told < 0.9 * plain


def test_plain_q4_0_is_what_it_was():
    """Bit for bit, unless it is told what columns cost; and q8_0, whatever it is told."""
    x, costs = some_rows(40, 70), Costs(np.linspace(1, 9, 70).astype(np.float32))
    for kind, told, digest in (
        (Q4_0, None, "3d72fd7b"),
        (type_of("q8_0"), None, "4d0012b6"),
        (type_of("q8_0"), costs, "4d0012b6"),
    ):
        data, beside, _ = PACKERS[kind].pack(x, told)
        assert hashlib.sha256(data.tobytes() + beside[".s"].tobytes()).hexdigest()[:8] == digest
    assert PACKERS[Q4_0].pack(x, costs)[0].tobytes() != PACKERS[Q4_0].pack(x)[0].tobytes()


def test_products_of_columns():
    x = some_input(100, 300)
    sums = sums_of(x)
    want = x.T.astype(float) @ x
    assert np.allclose(sums.products[0], want[:256, :256], rtol=1e-4, atol=1e-2)
    assert np.allclose(sums.products[1, :44, :44], want[256:, 256:], rtol=1e-4, atol=1e-2) and not sums.products[1, 60:].any()
    assert np.allclose(sums.means()[0], np.diag(want) / 100)


def test_what_columns_make_good():
    """The kernel's elimination beside a solution for each column, in float64."""
    x = some_input(400, 300)
    (costs,) = costs_of_sums(sums_of(x), False)
    both = x.T.astype(float) @ x / 400
    for s, part in enumerate((slice(0, 256), slice(256, 300))):
        products = both[part, part] + np.eye(len(both[part])) * EVEN * np.diag(both[part, part]).mean()
        want, left = feeds(products)
        n = len(want)
        assert np.allclose(np.triu(costs.feeds[s, :n, :n], 1), want, atol=2e-3)
        got = costs.squares[part]
        assert np.allclose(got / got.mean(), left / left.mean(), rtol=2e-2)


@pytest.mark.parametrize("name", ["q4_k", "q6_k", "q5_0", "q3_k", "iq4_nl", "q2_k"])
def test_outputs_are_nearer(name):
    """What matters of a matrix: its products with inputs like those it was told of."""
    kind, w = type_of(name), some_rows(32, 300)
    seen, x = np.split(some_input(1400, 300), [1000])
    (costs,) = costs_of_sums(sums_of(seen), False)
    lost = {}
    for how, told in (("plain", None), ("squares", Costs(costs.squares)), ("fed", costs)):
        lost[how] = float((((rounded(kind, w, told)[2] - w) @ x.T) ** 2).mean())
    print(name, lost)
    assert lost["fed"] < 0.6 * lost["plain"]


def test_threads_change_nothing(tmp_path, monkeypatch):
    """Nor does the number of rows that are packed at a time."""
    found = set()
    for cores, rows in ((1, 1 << 22), (3, 1 << 22), (2, 2000)):
        monkeypatch.setattr(matrices, "available_cores", cores.__int__)
        monkeypatch.setattr(matrices, "AT_A_TIME", rows)
        found.add(make_model(tmp_path / "m.bin", "q4_k").read_bytes())
    assert len(found) == 1


SAME = """
import sys, zlib
sys.path[:0] = [{root!r}, {tests!r}]
from helpers.rounding import rounded_bytes
from twofile.machines.host import host
print(zlib.crc32(rounded_bytes()), host().machine.name)
"""


def test_every_instruction_set_rounds_the_same():
    """Down to plain SSE2 without half floats or fused multiply-add in hardware."""
    found = {}
    for isa, variables in machines().items():
        script = SAME.format(root=str(ROOT), tests=str(ROOT / "tests"))
        done = subprocess.run([sys.executable, "-c", script], env={**os.environ, **variables}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found[isa], name = done.stdout.split()[-2:]
        assert name == isa
    assert len(set(found.values())) == 1, found
