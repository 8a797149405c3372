"""What each type of weights brings to matmuls, experts and embeddings."""

from typing import NamedTuple

import numpy as np

from ..compiler.kernel import Kernel, inline
from ..format.types import BF16, BLOCK, F16, F32, GROUP, Q4_0, Q8_0, Type, padded
from ..program.operands import AHEAD, N_TOKENS, Flat, Number, Real, Rows, operands
from ..words.memory import (
    load_bytes,
    load_f16,
    loads_bf16,
    loads_f16,
    loads_f32,
    peek,
    peek_bf16,
    peek_f16,
    peek_f32,
    peek_u8,
    poke_f32,
    prefetch,
    spreads,
    store_bytes,
)
from ..words.numbers import (
    dot,
    dot4,
    finish4,
    fma,
    high_nibbles,
    low_nibbles,
    lowered,
    scaled,
    start,
    start4,
    zeros1,
    zeros4,
)
from .play import share
from .rows import RESULT


def matrices(r):
    """Rows of weights of a record: of one matrix, or of all experts'."""
    return r.n_rows * getattr(r, "experts", 1)


FLOATS = operands(
    "sums = x @ w.T, of weights that are numbers.",
    RESULT,
    x=Rows(lambda r: 4 * r.cols),
    w=Flat(lambda r: matrices(r) * r.cols * r.type.bits // 8),
    cols=Number("columns"),
)
QUANTISED = operands(
    "sums = x @ w.T, of weights of scaled bits; x is q, with scales qs and sums qc of its groups.",
    RESULT,
    q=Rows(lambda r: r.cols),
    qs=Rows(lambda r: r.cols // 8),
    qc=Rows(lambda r: r.cols // 8, like="qs"),
    w=Flat(lambda r: matrices(r) * r.cols * r.type.bits // 8),
    scales=Flat(lambda r: matrices(r) * r.cols // GROUP * 2),
    cols=Number("columns, filled up to whole groups of 32"),
)
ELEMENTS = operands(
    "Weights, taken one by one.",
    w=Flat(lambda r: padded(r.limits[r.ids], BLOCK) * r.cols * r.type.bits // 8),
    scales=Flat(lambda r: padded(r.limits[r.ids], BLOCK) * r.cols // GROUP * 2, optional=True),
    cols=Number("columns, filled up to whole groups where there are scales"),
    ids=Number("the rows that are taken: TOKENS or POSITIONS of the pass"),
)


@inline
def tile_q8(acc, record, i, block, steps):
    """16 rows of weights times a tile of tokens from i on. steps: 8, of 4 columns of a group
    each."""
    groups, q_step = peek(record + QUANTISED.cols) // 32, peek(record + QUANTISED.q_step)
    g_step = peek(record + QUANTISED.qs_step)
    w = peek(record + QUANTISED.w) + block * groups * 512
    s = peek(record + QUANTISED.scales) + block * groups * 32
    q, at = peek(record + QUANTISED.q) + i * q_step, i * g_step
    qs, qc = peek(record + QUANTISED.qs) + at, peek(record + QUANTISED.qc) + at
    for _ in range(groups):
        sums = start(acc, qc, g_step)
        for k in range(steps):
            prefetch(w + 64 * k + AHEAD)
            sums = dot(sums, load_bytes(w + 64 * k), q + 4 * k, q_step)
        acc = scaled(acc, sums, load_f16(s), qs, g_step)
        w, s, q, qs, qc = w + 512, s + 32, q + 32, qs + 4, qc + 4
    return acc


@inline
def tile_q4(acc, record, i, block, steps):
    groups, q_step = peek(record + QUANTISED.cols) // 32, peek(record + QUANTISED.q_step)
    g_step = peek(record + QUANTISED.qs_step)
    w = peek(record + QUANTISED.w) + block * groups * 256
    s = peek(record + QUANTISED.scales) + block * groups * 32
    q, at = peek(record + QUANTISED.q) + i * q_step, i * g_step
    qs, qc = peek(record + QUANTISED.qs) + at, peek(record + QUANTISED.qc) + at
    for _ in range(groups):
        sums = start4(acc)
        for k in range(steps // 2):
            prefetch(w + 64 * k + AHEAD)
            pair = load_bytes(w + 64 * k)
            sums = dot4(sums, low_nibbles(pair), q + 8 * k, q_step)
            sums = dot4(sums, high_nibbles(pair), q + 8 * k + 4, q_step)
        acc = scaled(acc, finish4(sums, qc, g_step), load_f16(s), qs, g_step)
        w, s, q, qs, qc = w + 256, s + 32, q + 32, qs + 4, qc + 4
    return acc


@inline
def signed_q8(w, groups, out):
    """A block of rows as the matrix unit takes it: for each group of 32 columns, [8, 64] int8."""
    for k in range(0, groups * 512, 64):
        prefetch(w + k + AHEAD)
        store_bytes(out + k, lowered(load_bytes(w + k), 128))


@inline
def signed_q4(w, groups, out):
    for k in range(0, groups * 256, 64):
        prefetch(w + k + AHEAD)
        pair = load_bytes(w + k)
        store_bytes(out + 2 * k, lowered(low_nibbles(pair), 8))
        store_bytes(out + 2 * k + 64, lowered(high_nibbles(pair), 8))


@inline
def weight_q8(record, row, k):
    """Element [row, k] of w."""
    groups, lane = peek(record + ELEMENTS.cols) // 32, row % 16
    scale = peek_f16(
        peek(record + ELEMENTS.scales) + (row // 16 * groups + k // 32) * 32 + 2 * lane
    )
    w = peek(record + ELEMENTS.w) + row // 16 * groups * 512 + k // 4 * 64 + 4 * lane + k % 4
    return np.float32(peek_u8(w) - 128) * scale


@inline
def weight_q4(record, row, k):
    groups, lane = peek(record + ELEMENTS.cols) // 32, row % 16
    scale = peek_f16(
        peek(record + ELEMENTS.scales) + (row // 16 * groups + k // 32) * 32 + 2 * lane
    )
    w = peek(record + ELEMENTS.w) + row // 16 * groups * 256 + k // 8 * 64 + 4 * lane + k % 4
    return np.float32((peek_u8(w) >> (k % 8 // 4 * 4)) % 16 - 8) * scale


def sums_float(loads, size):
    """-> the sums of a block of rows, whose weights of size bytes are read by loads, for one token
    and for four from i on. Rows are summed column by column."""

    def one(record, i, block):
        cols = peek(record + FLOATS.cols)
        x, acc = peek(record + FLOATS.x) + i * peek(record + FLOATS.x_step), zeros1()
        w = peek(record + FLOATS.w) + block * cols * 16 * size
        for k in range(cols):
            acc = fma(loads(acc, w + k * 16 * size, 0), spreads(acc, x + 4 * k, 0), acc)
        return acc

    def four(record, i, block, steps):
        cols, x_step, acc = peek(record + FLOATS.cols), peek(record + FLOATS.x_step), zeros4()
        w = peek(record + FLOATS.w) + block * cols * 16 * size
        x = peek(record + FLOATS.x) + i * x_step
        for k in range(cols):
            acc = fma(loads(zeros1(), w + k * 16 * size, 0), spreads(acc, x + 4 * k, x_step), acc)
        return acc

    return inline(one), inline(four)


def weight_float(peek_weight, size):
    def weight(record, row, k):
        return peek_weight(
            peek(record + ELEMENTS.w)
            + ((row // 16 * peek(record + ELEMENTS.cols) + k) * 16 + row % 16) * size
        )

    return inline(weight)


class Weights(NamedTuple):
    """A type of weights as kernels see it. element(record, row, k) -> float32.

    quantised: tile(acc, record, i, block, steps), the sums of 16 rows and a tile of tokens;
    signed(w, groups, out), a block of width bytes a group as the matrix unit takes it. Else: loads,
    which reads 16 weights of size bytes.
    """

    type: Type
    element: object
    tile: object = None
    signed: object = None
    width: int = 0
    loads: object = None
    size: int = 0


WEIGHTS = (
    Weights(F32, weight_float(peek_f32, 4), loads=loads_f32, size=4),
    Weights(F16, weight_float(peek_f16, 2), loads=loads_f16, size=2),
    Weights(BF16, weight_float(peek_bf16, 2), loads=loads_bf16, size=2),
    Weights(Q8_0, weight_q8, tile_q8, signed_q8, 512),
    Weights(Q4_0, weight_q4, tile_q4, signed_q4, 256),
)


EMBED = operands(
    "out [tokens, width] = gain * the rows of w that ids name, added to what stands there if add.",
    ELEMENTS,
    out=Rows(lambda r: 4 * r.width, writes=True),
    width=Number("columns"),
    gain=Real("factor"),
    add=Number("1 = added to out", 0),
)


def embed(weight):
    """EMBED with weight(record, row, k)."""

    def embed(record, pas, t, threads):
        cols = peek(record + EMBED.width)
        gain = peek_f32(record + EMBED.gain)
        for i in range(peek(pas + N_TOKENS)):
            row = peek(peek(pas + peek(record + EMBED.ids)) + 8 * i)
            out = peek(record + EMBED.out) + i * peek(record + EMBED.out_step)
            first, last = share(cols, t, threads)
            for k in range(first, last):
                before = np.float32(0)
                if peek(record + EMBED.add) != 0:
                    before = peek_f32(out + 4 * k)
                poke_f32(out + 4 * k, before + weight(record, row, k) * gain)
        return 0

    return embed


def embed_of(weights):
    """The embed of a type of weights."""
    make = lambda machine: embed(weights.element)
    return Kernel(f"embed_{weights.type.name}", make, EMBED, weights.type)


EMBEDS = {weights.type: embed_of(weights) for weights in WEIGHTS}
