"""float32 rows rounded to a Type, by the compiled kernels."""

import threading
from functools import cache

import numpy as np

from ...compiler.code import Code
from ...format.types import BLOCK, GROUP, padded
from ..say import say
from .blocks import (
    ABOVE,
    COLS,
    COST,
    DATA,
    EVEN,
    SCALES,
    SIZE,
    WORKING,
    X,
    rounding_of,
)

ONE_AT_A_TIME = threading.Lock()
PLAIN = 1.0, 0.0  # EVEN and SIZE, where columns are not told apart
TOLD = 1.0, 0.0  # and where they are


@cache
def compiled(kind):
    """The kernel that rounds to a Type, as a function."""
    kernel = rounding_of(kind)
    return Code([kernel], say).function(kernel.name)


def rounded(kind, rows, costs=None):
    """float32 [n, cols] -> the bytes of blocks of 16 rows, what is beside them by endings of names,
    and the float32 rows that a reader gets back. costs: float32 [parts, cols], of as many rows
    each, whole blocks of them: what a square of an error costs in a column; None: all the same."""
    n, cols = rows.shape
    tall, wide = padded(n, BLOCK), padded(cols, GROUP)
    x = np.zeros((tall // BLOCK, wide, BLOCK), np.float32)
    full = n // BLOCK
    x[:full, :cols] = rows[: full * BLOCK].reshape(full, BLOCK, cols).transpose(0, 2, 1)
    if full * BLOCK < n:
        x[full, :cols, : n % BLOCK] = rows[full * BLOCK :].T
    filled = np.zeros((1 if costs is None else len(costs), wide), np.float32)
    filled[:, :cols] = 1 if costs is None else costs
    data = np.empty(tall * wide * kind.bits // 8, np.uint8)
    beside = {end: np.empty(shape, part.numpy) for end, part, shape in kind.beside((n, cols))}
    record, room = np.zeros(8, np.int64), np.zeros(WORKING, np.uint8)
    arrays = {X: x, DATA: data, SCALES: beside[".s"], ABOVE: beside.get(".d")}
    for place, array in arrays.items():
        record[place // 8] = 0 if array is None else array.ctypes.data
    record[COLS // 8] = cols
    record.view(np.float32)[[EVEN // 4, SIZE // 4]] = PLAIN if costs is None else TOLD
    with ONE_AT_A_TIME:
        function = compiled(kind)
    each = len(x) // len(filled)
    for part, cost in enumerate(filled):
        record[COST // 8] = cost.ctypes.data
        last = len(x) if part == len(filled) - 1 else (part + 1) * each
        function(record.ctypes.data, room.ctypes.data, part * each, last)
    return data, beside, x.transpose(0, 2, 1).reshape(tall, wide)[:n, :cols]
