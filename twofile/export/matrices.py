"""Rows of all matrices, packed some at a time, on all cores, in their order."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..errors import ModelError
from ..format.types import BLOCK
from ..machine import available_cores
from .arrays import AT_A_TIME
from .pack import PACKERS

ON_THE_WAY = 1 << 19  # elements of which copies are made at a time
MOST = 4  # threads: each holds some rows in memory, and the disk is not much quicker


def parts_of(row):
    """[(first, last)] of the rows of a matrix that are packed at a time; row: of write.layout."""
    n, cols = row.shape
    step, end = max(BLOCK, AT_A_TIME // cols // BLOCK * BLOCK), row.first + n
    return [(first, min(end, first + step)) for first in range(row.first, end, step)]


def all_packed(rows, values, costs):
    """Yield what packed_rows makes of all parts of the blocked rows, in order. values: name of a
    matrix -> it; costs: name -> [Costs], of those that have any."""
    cores = min(available_cores(), MOST)
    jobs = ((row, *part) for row in rows if row.blocked for part in parts_of(row))
    quiet = lambda: np.seterr(all="ignore")  # of a thread, not of the program
    with ThreadPoolExecutor(cores, initializer=quiet) as pool:
        ahead = deque()
        try:
            for row, first, last in jobs:
                of = values[row.whole], first, last, costs.get(row.whole)
                ahead.append(pool.submit(packed_rows, row, *of))
                if len(ahead) > cores:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for job in ahead:
                job.cancel()


def packed_rows(row, matrix, first, last, costs):
    """Some rows of a matrix as pack.laid gives them: moved as they are; or rounded, and behind that
    the sums of squares of what is lost, and of all."""
    kind, packer = row.type, PACKERS[row.type]
    if ready := matrix.packed(kind, first, last):
        for part in ready[1].values():
            refuse_infinite(row.name, part)
        return ready
    rows = matrix.read(first, last)
    refuse_infinite(row.name, rows)
    if packer.most and np.abs(rows).max() > packer.most:
        found = f"tensor {row.name} reaches {np.abs(rows).max():.3g}, beyond {packer.limit}"
        raise ModelError(f"{found}; use --type bf16")
    found, lost, all_ = [], 0.0, 0.0
    for a, b, own in slices(first, last, matrix.shape, costs or [None]):
        part = rows[a:b]
        data, beside, back = packer.pack(part, own)
        found.append((data, beside))
        lost += float(np.square(part - back, dtype=np.float64).sum())
        all_ += float(np.square(part, dtype=np.float64).sum())
    beside = {end: np.concatenate([more[end] for _, more in found]) for end in found[0][1]}
    return np.concatenate([data for data, _ in found]), beside, lost, all_


def slices(first, last, shape, costs):
    """[(from, to, Costs)] of rows first to last of a matrix, counted from the first: few enough for
    what is made of them on the way, and all of one part."""
    each, step = shape[0] // len(costs), max(BLOCK, ON_THE_WAY // shape[1] // BLOCK * BLOCK)
    for part, own in enumerate(costs):
        begin, end = max(part * each, first), min((part + 1) * each, last)
        for a in range(begin, end, step):
            yield a - first, min(a + step, end) - first, own


def refuse_infinite(name, numbers):
    if not np.isfinite(numbers).all():
        found = f"tensor {name} holds NaN or infinity"
        raise ModelError(f"{found}, expected finite weights; is the source damaged?")
