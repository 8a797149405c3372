"""What this machine could do: bytes read and operations, a second."""

import math
import time

import numpy as np

from ..compiler.code import Code
from ..kernels.experts import EXPERT_MATMULS
from ..kernels.matmul import MATMULS
from ..kernels.play import sweep
from ..program.buffers import Buffer, Place
from ..program.operands import CHUNK, FN, N_TOKENS, WAIT
from ..program.program import Record


def ceilings(forward, notice):
    """-> (bytes a second that a plain reading loop gets from memory, operations a second of the
    matmul in cache)."""
    player, records = forward.player, forward.program.records
    block, sums = Buffer(1 << 28), Buffer(256 * forward.threads)
    block.raw[::4096] = 1  # pages that were never written are all the same one
    given = {"x": Place(block), "out": Place(sums), "nbytes": block.nbytes}
    read = Record("bench", sweep, given, N_TOKENS, True).words()
    code = Code([sweep], notice)
    read[FN // 8] = code.address[sweep.name]
    first = next(i for i, r in enumerate(records) if r.kernel in MATMULS.values())
    operands, small = records[first].kernel.operands, player.program[first].copy()
    rows = min(int(small[operands.n_rows // 8]), 64 * forward.threads)
    small[operands.n_rows // 8], small[WAIT // 8] = rows, 1
    player.words[N_TOKENS // 8] = CHUNK
    work = 128 * CHUNK * rows * int(small[operands.cols // 8])
    read, small = np.stack([read]), np.stack([small] * 64)
    return best_rate(player, read, block.nbytes), best_rate(player, small, work)


def best_rate(player, program, work):
    """The best of several runs of a program that does so much work, in work a second."""
    best, spent = math.inf, 0.0
    while spent < 0.3:
        start = time.perf_counter()
        player.run(program)
        seconds = time.perf_counter() - start
        best, spent = min(best, seconds), spent + seconds
    return work / best


def token_work(forward):
    """What one token takes of the weights, logits and all -> ({type: bytes read}, operations)."""
    nbytes, operations = {}, 0
    for record in forward.program.records:
        given, kernel = record.given, record.kernel
        if kernel not in MATMULS.values() and kernel not in EXPERT_MATMULS.values():
            continue
        experts = forward.config.experts
        share = experts.chosen / experts.n if "experts" in given else 1
        tensors = [given[name].room.tensor for name in ("w", "scales", "above") if given.get(name)]
        name = kernel.type.name
        nbytes[name] = nbytes.get(name, 0) + share * sum(tensor.nbytes for tensor in tensors)
        operations += share * 2 * math.prod(tensors[0].shape)
    return nbytes, operations
