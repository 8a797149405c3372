"""One kernel at a time."""

import numpy as np

from twins.matmul import int8_activations
from twofile.compiler.code import Code
from twofile.program.passes import COUNT, G_STEP, N_TOKENS, Q_STEP, QC, QS, Q


def play(kernel, fields, n, threads=1):
    """Run one recorded kernel over n tokens on this thread as each of the threads in turn."""
    code = Code([kernel], lambda text: None)
    pas = np.zeros(64, np.int64)
    pas[N_TOKENS // 8] = n
    record = np.zeros(24, np.int64)
    record[COUNT // 8] = pas.ctypes.data
    for offset, value in fields.items():
        record[offset // 8] = value
    call = code.function(kernel)
    for t in range(threads):
        call(record.ctypes.data, pas.ctypes.data, t, threads)


def gain(value):
    return int(np.float32(value).view(np.int32))


def quantised_input(x):
    """Rows of x as the kernels take them: int8, scales, sums, each a padded copy; -> fields and the arrays to keep alive."""
    values, scales = int8_activations(x)
    n = len(x)
    q = np.ascontiguousarray(values.reshape(n, -1).astype(np.int8))
    sums = values.sum(-1).astype(np.int32)
    scales = np.ascontiguousarray(scales)
    fields = {Q: q.ctypes.data, QS: scales.ctypes.data, QC: sums.ctypes.data}
    return {**fields, Q_STEP: q.shape[1], G_STEP: 4 * scales.shape[1]}, (q, scales, sums), values, scales
