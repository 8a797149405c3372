"""What is best on this machine and changes no bit: measured, and kept."""

import time
from typing import NamedTuple

import numpy as np

from .compiler.kept import read_cached, write_cached
from .format.types import BLOCK
from .kernels.matmul import MATMULS
from .machine import total_memory
from .program.buffers import Buffer
from .program.operands import AHEAD, COUNT, N_TOKENS, PASS_OWN, RECORD_BYTES, TAKEN

AHEADS = (1024, 2048, 4096, 8192)
ENOUGH = 1 << 27  # bytes of weights, more than most caches hold; of small machines a 16th of memory
SAMPLE = 2048  # columns
SPIN = 50e-6  # seconds that a thread looks for the others before it sleeps: about what that costs
KEPT_AS = "tuned"  # beside the kernels


class Tuned(NamedTuple):
    """ahead: bytes before its use that a weight is asked for. spins: pauses of the processor before
    a waiting thread sleeps."""

    ahead: int = 4096
    spins: int = 1024

    def usable(self):
        return self.ahead in AHEADS and 16 <= self.spins <= 1 << 16


def tuned(code, kernels, notice):
    """The Tuned of this machine, from beside the kernels of a Code, or measured in less than a
    second. kernels: those of a model; of none with quantised weights nothing is measured."""
    kept = read_cached(code.folder, KEPT_AS, notice)
    if kept:
        words = kept[0].split()
        found = Tuned(*(int(word) if word.isdecimal() else 0 for word in words[:2]))
        if len(words) == 2 and found.usable():
            return found
    kernel = next((k for k in kernels if k in MATMULS.values() and k.type.quantised), None)
    if kernel is None:
        return Tuned()
    found = Tuned(best_ahead(code, kernel), best_spins(code))
    write_cached(code.folder, KEPT_AS, (f"{found.ahead} {found.spins}", b""), notice)
    return found


def best_ahead(code, kernel):
    """Of AHEADS the least that is as fast as any, or nearly, in weights times one token."""
    kind, call = kernel.type, code.function(kernel.name)
    each = [kind.nbytes((BLOCK, SAMPLE), True)]
    each += [k.nbytes(shape, False) for _, k, shape in kind.beside((BLOCK, SAMPLE))]
    blocks = max(1, min(ENOUGH, total_memory() // 16) // sum(each))
    weights, rest = Buffer(blocks * sum(each)), Buffer(64 * BLOCK * blocks + 64 * SAMPLE)
    weights.raw[::4096] = 1  # pages that were never written are all the same one
    own, record = kernel.operands, Buffer(RECORD_BYTES)
    words, pas = record.view(np.int64, RECORD_BYTES // 8), Buffer(PASS_OWN)
    pas.view(np.int64, PASS_OWN // 8)[N_TOKENS // 8] = 1
    words[COUNT // 8] = pas.address + N_TOKENS
    for name in ("q", "qs", "qc", "qm", "qh", "out"):
        words[getattr(own, name) // 8] = rest.address
    at = weights.address
    for name, n in zip(("w", "scales", "above"), each):
        words[getattr(own, name) // 8], at = at, at + blocks * n
    words[own.n_rows // 8], words[own.cols // 8] = blocks * BLOCK, SAMPLE
    best = dict.fromkeys(AHEADS, float("inf"))
    for _ in range(4):
        for ahead in AHEADS:
            words[AHEAD // 8], words[TAKEN // 8] = ahead, 0
            best[ahead] = min(best[ahead], seconds(call, record.address, pas.address))
    return next(ahead for ahead in AHEADS if best[ahead] <= 1.02 * min(best.values()))


def best_spins(code):
    """As many pauses as take SPIN."""
    pauses = 1000
    each = min(seconds(code.function("rest"), pauses, 0) for _ in range(5)) / pauses
    return max(16, min(1 << 16, round(SPIN / each)))


def seconds(call, *operands):
    start = time.perf_counter()
    call(*operands, 0, 1)
    return time.perf_counter() - start
