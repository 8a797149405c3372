"""Numbers to be rounded, and what they are multiplied with."""

import numpy as np

from twofile.export.calibration.costs import costs_of_sums
from twofile.export.calibration.inputs import Sums
from twofile.export.compiled import compiled
from twofile.export.rounding.moments import MOMENTS
from twofile.export.rounding.rounded import rounded
from twofile.format.types import type_of


def some_rows(n, cols, seed=0):
    """As weights are: normal, some heavy, of different sizes."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, cols)) * np.exp(rng.normal(0, 1, (n, 1))) / 8
    x[:, ::7] *= 3
    return x.astype(np.float32)


def some_input(n, cols, seed=0):
    """Rows whose columns go together."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((n, 12)) @ rng.standard_normal((12, cols)) + 0.5 * rng.standard_normal((n, cols))
    return (mixed + rng.standard_normal(cols)).astype(np.float32)


def sums_of(x):
    """The Sums of an input."""
    wide = np.zeros((len(x), -(-x.shape[1] // 32) * 32), np.float32)
    wide[:, : x.shape[1]] = x
    sums, moments = Sums(1, x.shape[1]), compiled(MOMENTS)
    for part in np.array_split(wide, 3):
        sums.add(0, part)
        sums.add_products(part, moments)
    return sums


def rounded_bytes():
    """Of some types, plain and told of an input."""
    integers = np.random.default_rng(2).integers(-9, 9, (200, 70)).astype(np.float32)  # made without BLAS
    (costs,) = costs_of_sums(sums_of(integers), False)
    told = [rounded(type_of(name), some_rows(20, 70), c) for name in ("q4_k", "iq4_nl") for c in (None, costs)]
    return b"".join(data.tobytes() + b"".join(x.tobytes() for x in beside.values()) for data, beside, _ in told)
