"""Rows of results: as float32, or quantised for a matmul."""

import numpy as np

from ..compiler.kernel import inline, kernel
from ..program.passes import (
    ADD,
    BIAS,
    COLS,
    COUNT,
    G_STEP,
    GAIN,
    OUT,
    OUT_STEP,
    Q_STEP,
    QC,
    QS,
    X_STEP,
    Q,
    X,
)
from ..words.memory import load, loads_f32, peek, peek_f32, poke_f32, poke_i32, store, stores
from ..words.numbers import add, fma, larger, largest, magnitude, mul, quantise, splat
from .play import share


@inline
def put_group(record, i, g, v0, v1):
    """32 values of token i, group g of its columns: as float32 to OUT, or quantised to Q, whichever is there."""
    out = peek(record + OUT)
    if out != 0:
        out += i * peek(record + OUT_STEP) + 128 * g
        store(out, v0)
        store(out + 64, v1)
    q = peek(record + Q)
    if q != 0:
        q += i * peek(record + Q_STEP) + 32 * g
        at = i * peek(record + G_STEP) + 4 * g
        size = largest(larger(magnitude(v0), magnitude(v1)))
        inverse = np.float32(127) / size if size != np.float32(0) else np.float32(0)
        sums = quantise(q, v0, inverse) + quantise(q + 16, v1, inverse)
        poke_f32(peek(record + QS) + at, size / np.float32(127))
        poke_i32(peek(record + QC) + at, sums)


@kernel
def convert(record, pas, t, threads):
    """OUT or Q = X."""
    groups = peek(record + COLS) // 32
    first, last = share(peek(peek(record + COUNT)) * groups, t, threads)
    for item in range(first, last):
        i, g = item // groups, item % groups
        x = peek(record + X) + i * peek(record + X_STEP) + 128 * g
        put_group(record, i, g, load(x), load(x + 64))
    return 0


@inline
def put_rows(record, i, block, acc):
    """A tile of results: 16 rows of tokens i, i + 1, ...; times GAIN, plus BIAS, plus what stands there if ADD."""
    step = peek(record + OUT_STEP)
    out = peek(record + OUT) + i * step + 64 * block
    if peek(record + BIAS) != 0:
        acc = add(acc, load(peek(record + BIAS) + 64 * block))
    gain = splat(peek_f32(record + GAIN))
    if peek(record + ADD) != 0:
        acc = fma(acc, gain, loads_f32(acc, out, step))
    else:
        acc = mul(acc, gain)
    stores(out, step, acc)


@inline
def put_blocks(record, i, block, acc):
    """As put_rows, for a tile of four blocks of rows of one token."""
    out = peek(record + OUT) + i * peek(record + OUT_STEP) + 64 * block
    if peek(record + BIAS) != 0:
        acc = add(acc, loads_f32(acc, peek(record + BIAS) + 64 * block, 64))
    gain = splat(peek_f32(record + GAIN))
    if peek(record + ADD) != 0:
        acc = fma(acc, gain, loads_f32(acc, out, 64))
    else:
        acc = mul(acc, gain)
    stores(out, 64, acc)
