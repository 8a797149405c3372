"""One kernel at a time."""

import numpy as np

from twins.matmul import int8_activations
from twofile.compiler.code import Code
from twofile.program.operands import COUNT, N_TOKENS, POSITIONS, RECORD_BYTES, SCRATCH, SCRATCH_STEP, SLOTS, Number, Real


def play(kernel, operands, n, threads=1, positions=(), slots=()):
    """Run one record of a Kernel over n tokens on this thread as each of the threads in turn. operands: by name, numbers,
    and the addresses and steps (x_step) of its memory as ints; those left out are 0. positions, slots: of
    the tokens, for kernels that look."""
    code = Code([kernel], lambda text: None)
    pas = np.zeros(64, np.int64)
    pas[N_TOKENS // 8] = n
    ids = [np.array(row, np.int64) for row in (positions, slots)]
    pas[POSITIONS // 8], pas[SLOTS // 8] = (row.ctypes.data for row in ids)
    scratch = np.zeros((threads, 1 << 17), np.uint8)
    pas[SCRATCH // 8], pas[SCRATCH_STEP // 8] = scratch.ctypes.data, scratch.strides[0]
    record = np.zeros(RECORD_BYTES // 8, np.int64)
    record[COUNT // 8] = pas.ctypes.data
    for name, value in operands.items():
        sort = kernel.operands.declared.get(name)
        record[getattr(kernel.operands, name) // 8] = sort.words(value)[0] if isinstance(sort, (Number, Real)) else value
    call = code.function(kernel.name)
    for t in range(threads):
        call(record.ctypes.data, pas.ctypes.data, t, threads)


def quantised_input(x):
    """Rows of x as the kernels take them: int8, scales, sums, each a padded copy; -> operands and the arrays to keep alive."""
    values, scales = int8_activations(x)
    n = len(x)
    q = np.ascontiguousarray(values.reshape(n, -1).astype(np.int8))
    sums = values.sum(-1).astype(np.int32)
    scales = np.ascontiguousarray(scales)
    products, halves = scales * sums.astype(np.float32), values.reshape(n, -1, 16).sum(-1).astype(np.int32)
    kept = {"q": q, "qs": scales, "qc": sums, "qm": products, "qh": halves}
    places = {name: array.ctypes.data for name, array in kept.items()}
    steps = {"q_step": q.shape[1], "qs_step": 4 * scales.shape[1], "qh_step": 8 * scales.shape[1]}
    return {**places, **steps}, kept, values, scales
