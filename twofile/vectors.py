"""Texts as vectors: what the last layer makes of their tokens."""

import numpy as np

from .errors import WrongType, WrongValue, shown
from .options import yes_or_no

POOLINGS = "mean", "last"  # how the tokens' vectors become the text's


class Summed:
    """The vector of a text of n tokens, as a take() of read(): the normed stream behind the last
    layer, of all tokens or of the last. Raises ModelError for another pooling."""

    def __init__(self, engine, n, pooling, normalise):
        if not isinstance(pooling, str) or pooling not in POOLINGS:
            found = f"pooling is {shown(pooling)}"
            wrong = WrongValue if isinstance(pooling, str) else WrongType
            raise wrong(f"{found}, expected {' or '.join(map(repr, POOLINGS))}; choose one")
        self.engine, self.normalise = engine, yes_or_no("normalise", normalise, True)
        self.first = 0 if pooling == "mean" else n - 1
        self.count, self.total = n - self.first, np.zeros(engine.file.config.dim)
        self.weight, self.bias = (engine.vector(f"out_norm.{end}") for end in "wb")

    def __call__(self, at, rows):
        if not np.isfinite(rows).all():
            raise self.engine.not_finite(at + int(np.isfinite(rows).all(1).argmin()))
        norms = self.engine.file.config.norms
        for row in rows.astype(np.float64):  # one by one: the sum has one order in any chunks
            row -= row.mean() if norms.centred else 0
            self.total += row / np.sqrt((row**2).mean() + norms.eps) * self.weight + self.bias

    def vector(self):
        """float32 [dim]; of length 1 if normalise."""
        mean = self.total / self.count
        length = np.sqrt((mean**2).sum())
        return (mean / length if self.normalise and length else mean).astype(np.float32)
