"""What is known of a matrix's input becomes what errors of its elements cost."""

import numpy as np

from ...format.types import SUPER
from ..compiled import compiled
from ..rounding.moments import FEEDS, LEFT, OUT, SUMS
from ..rounding.rounded import Costs
from ..say import say

LEAST = 1e-4  # a column's cost, of the mean of all: none is free
EVEN = 0.05  # of the mean square of 256 columns, what is added to each: the text is only a sample
ROWS_TOO = 1.0  # and this to a head whose rows are embeddings too, whose errors count by themselves


def costs_of_squares(means):
    """Mean squares float64 [parts, columns] -> [Costs], of each part."""
    return [Costs(scaled(mean)) for mean in means]


def scaled(squares):
    """float32, of which the mean is 1; never 0."""
    squares = squares / max(squares.mean(), 1e-300)
    return np.maximum(squares, LEAST).astype(np.float32)


def costs_of_sums(sums, embeds):
    """Sums -> [Costs]. embeds: whether the matrix is the embedding too. Uses up the products."""
    if sums.products is None:
        return costs_of_squares(sums.means())
    cols, products, n = sums.squares.shape[1], sums.products, max(sums.together, 1)
    out = np.zeros_like(products)
    for s, part in enumerate(products):
        part /= n
        diagonal = part.reshape(-1)[:: SUPER + 1]
        real = min(cols - SUPER * s, SUPER)
        mean = diagonal[:real].mean(dtype=np.float64)
        diagonal[:real] += np.float32(mean * (EVEN + ROWS_TOO * embeds) + 1e-20)
        diagonal[real:] = 1
        out[s].reshape(-1)[:: SUPER + 1] = 1
    eliminate = compiled(FEEDS, say)
    left, record = np.zeros((len(products), SUPER), np.float32), np.zeros(7, np.int64)
    for place, array in {SUMS: products, OUT: out, LEFT: left}.items():
        record[place // 8] = array.ctypes.data
    eliminate(record.ctypes.data, 0, 0, len(products))
    sums.products = None
    return [Costs(scaled(left.reshape(-1)[:cols].astype(np.float64)), -out)]
