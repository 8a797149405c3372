"""How close two rows of logits are, and logits in passes of any size."""

import numpy as np

from helpers.models import AWKWARD
from twofile.program.operands import WANTED_MAX

SILENT = lambda text: None


def closeness(got, want):
    """(rms, largest) difference, in standard deviations of want."""
    d = np.asarray(got, float) - want
    return np.sqrt((d**2).mean()) / want.std(), np.abs(d).max() / want.std()


def some_ids(n, vocab=AWKWARD["vocab_size"]):
    return np.random.default_rng(n).integers(0, vocab, n).tolist()


def passes(forward, ids, chunk, slot=0):
    """Logits of every position, in passes of chunk tokens."""
    rows = []
    for at in range(0, len(ids), chunk):
        part = ids[at : at + chunk]
        before = [x.copy() for x in forward.state(slot)]
        for first in range(0, len(part), WANTED_MAX):  # playing a pass again changes nothing, from the same states
            for x, old in zip(forward.state(slot), before):
                x[:] = old
            wanted = range(first, min(first + WANTED_MAX, len(part)))
            rows.append(forward(part, range(at, at + len(part)), [slot] * len(part), wanted).copy())
    return np.concatenate(rows)
