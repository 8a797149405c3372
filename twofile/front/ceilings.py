"""What the machine could do: bytes read and operations, a second."""

import math
import time

import numpy as np

from ..compiler.code import Code
from ..program.buffers import Buffer
from ..program.passes import CHUNK, COLS, FN, N_TOKENS, OUT, RECORD_BYTES, ROWS, WAIT, X


def ceilings(forward, notice):
    """-> (bytes a second that a plain reading loop gets from memory, operations a second of the
    matmul in cache)."""
    block = Buffer(1 << 28)
    block.raw[::4096] = 1  # pages that were never written are all the same one
    record = np.zeros(RECORD_BYTES // 8, np.int64)
    fields = [f // 8 for f in (FN, WAIT, X, ROWS, OUT)]
    code = Code(["sweep"], notice)
    record[fields] = code.address["sweep"], 1, block.address, block.nbytes, forward.logits.address
    small = next(
        row for (name, _), row in zip(forward.records, forward.program) if name.startswith("matmul")
    ).copy()
    small[ROWS // 8] = min(small[ROWS // 8], 64 * forward.threads)
    forward.pass_words[N_TOKENS // 8] = CHUNK
    times = []
    for program, work in (
        (np.stack([record]), block.nbytes),
        (np.stack([small] * 64), 128 * CHUNK * int(small[ROWS // 8] * small[COLS // 8])),
    ):
        best, spent = math.inf, 0.0
        while spent < 0.3:
            start = time.perf_counter()
            forward.run(program, program.ctypes.data)
            seconds = time.perf_counter() - start
            best, spent = min(best, seconds), spent + seconds
        times.append(work / best)
    return times
