"""Rows of results: as float32, or quantised for a matmul."""

import numpy as np

from ..compiler.kernel import inline, kernel
from ..program.operands import COUNT, Flat, Number, Real, Rows, operands
from ..words.memory import load, loads_f32, peek, peek_f32, poke_f32, poke_i32, store, stores
from ..words.numbers import add, fma, larger, largest, magnitude, mul, quantise, splat
from .play import share

INPUT = operands(
    "Where a matmul takes its input: out in float32, or q in int8 and of each group the scale qs, "
    "the sum qc, that times the scale qm, and the sums qh of its halves.",
    out=Rows(lambda r: 4 * r.cols, writes=True, optional=True),
    q=Rows(lambda r: r.cols, writes=True, optional=True),
    qs=Rows(lambda r: r.cols // 8, writes=True, optional=True),
    qc=Rows(lambda r: r.cols // 8, writes=True, optional=True, like="qs"),
    qm=Rows(lambda r: r.cols // 8, writes=True, optional=True, like="qs"),
    qh=Rows(lambda r: r.cols // 4, writes=True, optional=True),
    cols=Number("columns, filled up to whole groups of 32"),
)
RESULT = operands(
    "What a matmul makes: out = gain * sums + bias, added to what stands there if add.",
    out=Rows(lambda r: 4 * r.n_rows, writes=True),
    bias=Flat(lambda r: 4 * r.n_rows, optional=True),
    gain=Real("factor"),
    add=Number("1 = added to out", 0),
    n_rows=Number("rows of the matrix, filled up to whole blocks of 16"),
)
CONVERT = operands("out or q = x.", INPUT, x=Rows(lambda r: 4 * r.cols))


@inline
def put_group(record, i, g, v0, v1):
    """32 values of token i, group g of its columns: as float32 to out, or quantised to q, whichever
    is there. Those beyond a row's width must be 0: they share a scale with the others."""
    out = peek(record + INPUT.out)
    if out != 0:
        out += i * peek(record + INPUT.out_step) + 128 * g
        store(out, v0)
        store(out + 64, v1)
    q = peek(record + INPUT.q)
    if q != 0:
        q += i * peek(record + INPUT.q_step) + 32 * g
        at = i * peek(record + INPUT.qs_step) + 4 * g
        size = largest(larger(magnitude(v0), magnitude(v1)))
        inverse = np.float32(127) / size if size != np.float32(0) else np.float32(0)
        first, second = quantise(q, v0, inverse), quantise(q + 16, v1, inverse)
        scale = size / np.float32(127)
        poke_f32(peek(record + INPUT.qs) + at, scale)
        poke_i32(peek(record + INPUT.qc) + at, first + second)
        poke_f32(peek(record + INPUT.qm) + at, scale * np.float32(first + second))
        halves = peek(record + INPUT.qh) + i * peek(record + INPUT.qh_step) + 8 * g
        poke_i32(halves, first)
        poke_i32(halves + 4, second)


@kernel(CONVERT)
def convert(record, pas, t, threads):
    groups = peek(record + CONVERT.cols) // 32
    first, last = share(peek(peek(record + COUNT)) * groups, t, threads)
    for item in range(first, last):
        i, g = item // groups, item % groups
        x = peek(record + CONVERT.x) + i * peek(record + CONVERT.x_step) + 128 * g
        put_group(record, i, g, load(x), load(x + 64))
    return 0


@inline
def put_rows(record, i, block, acc):
    """A tile of results: 16 rows of tokens i, i + 1, ...; times gain, plus bias, plus what stands
    there if add."""
    step = peek(record + RESULT.out_step)
    out = peek(record + RESULT.out) + i * step + 64 * block
    if peek(record + RESULT.bias) != 0:
        acc = add(acc, load(peek(record + RESULT.bias) + 64 * block))
    gain = splat(peek_f32(record + RESULT.gain))
    if peek(record + RESULT.add) != 0:
        acc = fma(acc, gain, loads_f32(acc, out, step))
    else:
        acc = mul(acc, gain)
    stores(out, step, acc)


@inline
def put_blocks(record, i, block, acc):
    """As put_rows, for a tile of four blocks of rows of one token."""
    out = peek(record + RESULT.out) + i * peek(record + RESULT.out_step) + 64 * block
    if peek(record + RESULT.bias) != 0:
        acc = add(acc, loads_f32(acc, peek(record + RESULT.bias) + 64 * block, 64))
    gain = splat(peek_f32(record + RESULT.gain))
    if peek(record + RESULT.add) != 0:
        acc = fma(acc, gain, loads_f32(acc, out, 64))
    else:
        acc = mul(acc, gain)
    stores(out, 64, acc)
