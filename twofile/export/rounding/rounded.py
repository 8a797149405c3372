"""float32 rows rounded to a Type, by the compiled kernels."""

from typing import NamedTuple

import numpy as np

from ...format.types import BLOCK, GROUP, padded
from ..compiled import compiled, once
from ..say import say
from .blocks import (
    ABOVE,
    COLS,
    COST,
    DATA,
    FEEDS,
    SCALES,
    WORKING,
    X,
    rounding_of,
)


class Costs(NamedTuple):
    """What errors of a matrix's elements cost. squares: float32 [columns], of a square; feeds:
    float32 [supers, 256, 256], how much of a column's error those behind it make good, or None."""

    squares: np.ndarray
    feeds: np.ndarray | None = None


@once
def function_of(kind):
    """What rounds to a Type."""
    return compiled(rounding_of(kind), say)


def rounded(kind, rows, costs=None):
    """float32 [n, cols] -> the bytes of blocks of 16 rows, what is beside them by endings of names,
    and the float32 rows that a reader gets back. costs: Costs; None: all columns' the same."""
    n, cols = rows.shape
    tall, wide = padded(n, BLOCK), padded(cols, GROUP)
    x = np.zeros((tall // BLOCK, wide, BLOCK), np.float32)
    full = n // BLOCK
    x[:full, :cols] = rows[: full * BLOCK].reshape(full, BLOCK, cols).transpose(0, 2, 1)
    if full * BLOCK < n:
        x[full, :cols, : n % BLOCK] = rows[full * BLOCK :].T
    cost = np.zeros(wide, np.float32)
    cost[:cols] = 1 if costs is None else costs.squares
    data = np.empty(tall * wide * kind.bits // 8, np.uint8)
    beside = {end: np.empty(shape, part.numpy) for end, part, shape in kind.beside((n, cols))}
    record, room = np.zeros(7, np.int64), np.zeros(WORKING, np.uint8)
    arrays = {X: x, COST: cost, FEEDS: costs and costs.feeds, DATA: data}
    arrays |= {SCALES: beside[".s"], ABOVE: beside.get(".d")}
    for place, array in arrays.items():
        record[place // 8] = 0 if array is None else array.ctypes.data
    record[COLS // 8] = cols
    function_of(kind)(record.ctypes.data, room.ctypes.data, 0, len(x))
    return data, beside, x.transpose(0, 2, 1).reshape(tall, wide)[:n, :cols]
