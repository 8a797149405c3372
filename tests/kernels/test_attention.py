"""What goes into the cache, and attention over it, of every type of cache, at odd sizes."""

import numpy as np
import pytest

from helpers.kernels import play
from twins.attention import attend
from twofile.format.types import padded
from twofile.kernels.attention import ATTENTIONS
from twofile.kernels.cache import CACHE_NAMES, cache_type
from twofile.kernels.rotation import ROPES
from twofile.program.operands import KEYS

HEADS, ROOM = 2, 192


class Cache:
    """Keys and values of one layer: HEADS heads of a size, two slots of ROOM positions, whose pages lie in no order, written
    and read by the kernels."""

    def __init__(self, kv, size, noise=None):
        self.kind, self.size, blocks = cache_type(kv), size, ROOM // KEYS
        keys, values = (HEADS * KEYS * self.kind.width(n) for n in (size, padded(size, 16)))
        step = keys + values + 64  # of a page, with something else behind
        self.room, self.table = np.zeros(2 * blocks * step + 256, np.uint8), np.array([4, 0, 3, 1, 5, 2])
        if noise:
            self.room[:] = noise.integers(0, 256, len(self.room))
        at = self.room.ctypes.data
        places = {"keys": at, "keys_step": step, "values": at + keys, "table": self.table.ctypes.data}
        self.given = {"heads": HEADS, "size": size, "blocks": blocks, **places}

    def write(self, k, v, positions, slots, threads=1):
        """k, v: float32 [n, HEADS, size]; the row has a query of each head before them, which is doubled."""
        x = np.ascontiguousarray(np.concatenate([np.ones_like(k), k, v], 1)).reshape(len(k), -1)
        wide = np.zeros((len(x), x.shape[1] + 64), np.float32)
        wide[:, : x.shape[1]] = x
        more = {"x": wide.ctypes.data, "x_step": 4 * wide.shape[1], "group": 1, "gain": 2.0}
        play(ROPES[self.kind], {**self.given, **more}, len(x), threads, positions, slots)
        assert (wide[:, : HEADS * self.size] == 2).all()

    def read(self, q, positions, slots, threads=1, **more):
        """q: float32 [n, HEADS * group, size] -> as q."""
        x = np.zeros((len(q), q[0].size + 64), np.float32)
        x[:, : q[0].size] = q.reshape(len(q), -1)
        out, group = np.full_like(x, 7), q.shape[1] // HEADS
        places = {"x": x.ctypes.data, "x_step": x.strides[0], "out": out.ctypes.data, "out_step": out.strides[0]}
        given = {**self.given, **places, "group": group, **more}
        play(ATTENTIONS[self.kind], given, len(q), threads, positions, slots)
        assert (out[:, q[0].size :] == 7).all()
        return out[:, : q[0].size].reshape(q.shape)


def vectors(seed, n, heads, size):
    """Of which some columns are a hundred times as large as others, and some vectors nothing."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, heads, size)) * np.exp(rng.normal(0, 1, (n, heads, 1)))
    x[:, :, :: max(2, size // 3)] *= 8
    x[1 : n // 2 : 20] = 0
    return x.astype(np.float32)


@pytest.mark.parametrize("kv", CACHE_NAMES)
@pytest.mark.parametrize("size", [2, 12, 18, 48, 64, 80, 128])
@pytest.mark.parametrize("n, group, window", [(1, 1, 0), (192, 1, 70), (150, 3, 0), (190, 4, 64), (129, 8, 1)])
def test_equals_the_float64_twin(kv, size, n, group, window):
    """One token, a full context; on two threads; queries alone and four together, with and without a window, a cap."""
    k, v, q = vectors(1, n, HEADS, size), vectors(2, n, HEADS, size), vectors(3, n, HEADS * group, size)
    q /= np.float32(4 * size**0.5)
    cache, cap = Cache(kv, size), 5.0 if size == 48 else 0.0
    cache.write(k, v, range(n), [1] * n, threads=2)
    got = cache.read(q, range(n), [1] * n, threads=2, window=window, cap=cap)
    near = np.tri(n, dtype=bool) & ~np.tri(n, k=-(window or n), dtype=bool)
    for head in range(HEADS * group):
        own = head // group
        want = attend(q[:, head], k[:, own].astype(float), v[:, own].astype(float), near, cap, kv=kv)
        size_of = np.abs(v[:, own]).max()
        assert np.abs(got[:, head] - want).max() < 2e-5 * size_of, head


@pytest.mark.parametrize("size", [12, 48, 64])
@pytest.mark.parametrize("window", [0, 5, 66])
def test_same_bits_in_any_pieces_whatever_was_there(size, window):
    """q8_0: written in any pieces and read by one query or by four that share their keys, over what others left behind, NaN
    among it; queries of two texts in one pass."""
    n, group = 150, 4
    k, v, q = vectors(1, n, HEADS, size), vectors(2, n, HEADS, size), vectors(3, n, HEADS * group, size)
    found = set()
    for step, noise in ((n, None), (1, 5), (7, 6), (64, 7)):
        cache = Cache("q8_0", size, noise and np.random.default_rng(noise))
        out = []
        for at in range(0, n, step):
            part, end = slice(at, at + step), min(at + step, n)
            ids = range(at, end), [0] * (end - at)
            cache.write(k[part], v[part], *ids)
            out.append(cache.read(q[part], *ids, window=window))
        found.add(np.concatenate(out).tobytes())
    assert len(found) == 1
    whole = np.frombuffer(*found, np.float32).reshape(q.shape)
    cache.write(k[::-1], v[::-1], range(n), [1] * n)
    for last in (20, 100, n):  # one head of keys has one query of each token: four tokens share their keys, or do not
        at = list(range(last - 8, last))
        alone = q[at].reshape(8, HEADS, group, size)[:, :, 0]
        mixed = cache.read(np.repeat(alone, 2, 0), np.repeat(at, 2), [0, 1] * 8, window=window)[::2]
        four = cache.read(alone, at, [0] * 8, window=window)
        assert mixed.tobytes() == four.tobytes()
        assert np.array_equal(four, whole.reshape(n, HEADS, group, size)[at][:, :, 0])


def test_what_is_no_number_is_not_hidden():
    """Infinite or NaN in a key or a value: no finite result of those who see it, no trace for others."""
    n, size = 70, 48
    k, v, q = vectors(1, n, HEADS, size), vectors(2, n, HEADS, size), vectors(3, n, HEADS, size)
    want = Cache("q8_0", size)
    want.write(k, v, range(n), [0] * n)
    want = want.read(q, range(n), [0] * n)
    found = [(x, bad) for x in (k, v) for bad in (np.nan, -np.nan, 1e9)] + [(v, np.inf), (v, -np.inf)]
    for which, bad in found:  # an infinite key may have a score of -inf: nobody sees it
        x = which.copy()
        x[66, 1, 40] = bad
        cache = Cache("q8_0", size)
        cache.write(x if which is k else k, x if which is v else v, range(n), [0] * n)
        got = cache.read(q, range(n), [0] * n)
        assert np.array_equal(got[:66], want[:66]) and np.array_equal(got[:, 0], want[:, 0])
        assert not np.isfinite(got[66:, 1]).all(1).any()


def test_a_few_large_columns_cost_the_others_little():
    """Of keys whose columns 3 and 40 are fifty times the others, as those of models with biases are."""
    n, size = 120, 64
    k, v, q = (np.random.default_rng(i).standard_normal((n, HEADS, size)).astype(np.float32) for i in range(3))
    k[:, :, [3, 40]] = k[:, :, [3, 40]] + np.float32(50)
    q /= np.float32(size**0.5)
    results = []
    for kv in ("f32", "q8_0"):
        cache = Cache(kv, size)
        cache.write(k, v, range(n), [0] * n)
        results.append(cache.read(q, range(n), [0] * n))
    off = np.sqrt(np.mean((results[1] - results[0]) ** 2))
    assert off < 0.01  # 0.025 without turning them


def test_half_the_memory():
    """Of f16's, and a little for the scales; odd sizes are filled up to fours."""
    width = cache_type("q8_0").width
    assert [width(n) for n in (2, 12, 18, 48, 64, 80, 128)] == [6, 14, 22, 52, 68, 86, 136]
