"""The largest logits, in order."""

import numpy as np

from twofile.compiler.code import Code
from twofile.kernels.pick import PICK, pick
from twofile.sampler import Sampler, Sampling


def test_pick_keeps_the_largest_in_order():
    x = np.random.default_rng(0).integers(0, 50, 1000).astype(np.float32)  # many equals: the lower index first
    for k in (1, 2, 40, 1000):
        sampler = Sampler(Sampling(1.0, k), 1000, Code([pick], lambda text: None))
        sampler(x, [], 0.5)
        found = sampler.block.view(np.float32, PICK.best // 4 + 2 * k)[PICK.best // 4 :]
        want = np.argsort(-x, kind="stable")[:k]
        assert np.array_equal(found[k:].view(np.int32), want) and np.array_equal(found[:k], x[want])
