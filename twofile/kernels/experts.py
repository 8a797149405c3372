"""Mixtures of experts: who is asked, what they say, by what weight."""

import numpy as np

from ..compiler.kernel import Kernel, inline, kernel
from ..format.types import padded
from ..program.operands import CHUNK, N_PAIRS, N_TOKENS, Flat, Number, Real, Rows, operands
from ..words.memory import load, peek, peek_f32, peek_i32, poke, poke_f32, poke_i32, store
from ..words.numbers import add, div, exp, fma, mul, opaque, splat, sub, zeros1, zeros4
from .pick import exp64
from .play import after, piece, share, taken
from .rows import put_rows
from .tiles import QUANTISED
from .weights import FLOATS, WEIGHTS, sums_float

ROUTE = operands(
    "The router's logits x [tokens, experts] -> chosen experts for each token.",
    x=Rows(lambda r: 4 * r.experts, writes=True),
    tables=Flat(lambda r: 8 * (3 * max(r.room, CHUNK * r.chosen) + 4 * r.experts + 1), writes=True),
    experts=Number("experts of the layer"),
    chosen=Number("experts of a token"),
    room=Number("pairs of token and expert that a table has room for"),
    normed=Number("1 = the weights of a token sum to 1"),
)
GATHER = operands(
    "out [pairs] = the rows x of their tokens.",
    x=Rows(lambda r: r.nbytes),
    tokens=Flat(lambda r: 8 * r.pairs),  # int64, a token a pair: route's first table
    out=Rows(lambda r: r.nbytes, writes=True, many=lambda r: r.pairs),
    nbytes=Number("bytes of a row, a multiple of 4"),
)
COMBINE = operands(
    "out [tokens, width] += gain * the sum over each token's pairs of weight * x [pairs, width].",
    out=Rows(lambda r: 4 * padded(r.width, 16), writes=True),
    x=Rows(lambda r: 4 * padded(r.width, 16), many=lambda r: r.pairs),
    tables=Flat(lambda r: 24 * r.room),  # route's
    width=Number("columns"),
    chosen=Number("pairs of a token"),
    room=Number("pairs that a table has room for"),
    gain=Real("factor"),
)
GATED_ADD = operands(
    "out [tokens, width] += gain * sigmoid(gate [tokens, 1]) * x [tokens, width].",
    out=Rows(lambda r: 4 * padded(r.width, 16), writes=True),
    x=Rows(lambda r: 4 * padded(r.width, 16)),
    gate=Rows(lambda r: 4),
    width=Number("columns"),
    gain=Real("factor"),
)


def asked(group):
    """The operands of a matmul for pairs of token and expert that lie by expert."""
    return operands(
        group.about,
        group,
        # route's: how many, and for each its expert, its first pair, how many pairs
        runs=Flat(lambda r: 8 + 24 * r.experts),
        biases=Flat(lambda r: 4 * r.n_rows * r.experts, optional=True),  # all experts'
        experts=Number("matrices of n_rows, one below the other"),
    )


EXPERTS_FLOATS, EXPERTS_QUANTISED = asked(FLOATS), asked(QUANTISED)


@kernel(ROUTE)
def route(record, pas, t, threads):
    """At tables, of room pairs each, by expert: the token of each pair; for token i, choice j, at
    i * chosen + j: the pair, and (float32) its weight; then a count for each expert, and the runs:
    how many, and for each the expert, its first pair, how many pairs."""
    experts, k = peek(record + ROUTE.experts), peek(record + ROUTE.chosen)
    n, room = peek(pas + N_TOKENS), 8 * peek(record + ROUTE.room)
    tokens = peek(record + ROUTE.tables)
    pairs, weights, counts = tokens + room, tokens + 2 * room, tokens + 3 * room
    runs = counts + 8 * experts
    if t != 0:
        return 0
    for e in range(experts):
        poke(counts + 8 * e, 0)
    for i in range(n):
        x = peek(record + ROUTE.x) + i * peek(record + ROUTE.x_step)
        top, total, sum_ = np.float64(peek_f32(x)), 0.0, 0.0
        for e in range(experts):
            top = max(top, np.float64(peek_f32(x + 4 * e)))
        for e in range(experts):
            total += exp64(np.float64(peek_f32(x + 4 * e)) - top)
        for j in range(i * k, i * k + k):
            best = 0
            for e in range(1, experts):
                if peek_f32(x + 4 * e) > peek_f32(x + 4 * best):
                    best = e
            weight = exp64(np.float64(peek_f32(x + 4 * best)) - top) / total
            sum_ += weight
            poke_f32(x + 4 * best, np.float32(-np.inf))
            poke(pairs + 8 * j, best)
            poke_f32(weights + 8 * j, np.float32(weight))
            poke(counts + 8 * best, peek(counts + 8 * best) + 1)
        if peek(record + ROUTE.normed) != 0:
            for j in range(i * k, i * k + k):
                poke_f32(weights + 8 * j, np.float32(np.float64(peek_f32(weights + 8 * j)) / sum_))
    at, found = 0, 0
    for e in range(experts):
        count = peek(counts + 8 * e)
        poke(counts + 8 * e, at)
        if count > 0:
            poke(runs + 8 + 24 * found, e)
            poke(runs + 16 + 24 * found, at)
            poke(runs + 24 + 24 * found, count)
            found += 1
        at += count
    poke(runs, found)
    for j in range(n * k):
        e = peek(pairs + 8 * j)
        pair = peek(counts + 8 * e)
        poke(counts + 8 * e, pair + 1)
        poke(pairs + 8 * j, pair)
        poke(tokens + 8 * pair, j // k)
    return 0


@kernel(GATHER)
def gather(record, pas, t, threads):
    first, last = share(peek(pas + N_PAIRS), t, threads)
    for pair in range(first, last):
        x = peek(record + GATHER.x) + peek(peek(record + GATHER.tokens) + 8 * pair) * peek(
            record + GATHER.x_step
        )
        out = peek(record + GATHER.out) + pair * peek(record + GATHER.out_step)
        for at in range(0, peek(record + GATHER.nbytes), 4):
            poke_i32(out + at, peek_i32(x + at))
    return 0


def matmul_experts(of, one, four, columns=0):
    """As a matmul, for pairs of token and expert that lie by expert. of: its operands. one and
    four: the sums of a block of rows for one token and for four; columns: pairs of steps that share
    a scale."""

    def matmul(record, pas, t, threads):
        runs, blocks = peek(record + of.runs), peek(record + of.n_rows) // 16
        pairs, bias, n = opaque(columns), peek(record + of.biases), peek(runs) * blocks
        many = piece(n, threads)
        item, end = taken(record, many, n)
        while item < end:
            run, block = runs + 24 * (item // blocks), item % blocks
            i, left = peek(run + 16), peek(run + 24)
            w, begin = peek(run + 8) * blocks + block, zeros1()
            if bias != 0:
                begin = load(bias + 64 * w)
            for at in range(i, i + left - 3, 4):
                put_rows(record, at, block, add(four(record, at, w, pairs), begin))
            for at in range(i + left - left % 4, i + left):
                put_rows(record, at, block, add(one(record, at, w), begin))
            item, end = after(record, item, end, many, n)
        return 0

    return matmul


@kernel(COMBINE)
def combine(record, pas, t, threads):
    groups, k = (peek(record + COMBINE.width) + 15) // 16, peek(record + COMBINE.chosen)
    pairs = peek(record + COMBINE.tables) + 8 * peek(record + COMBINE.room)
    weights = peek(record + COMBINE.tables) + 16 * peek(record + COMBINE.room)
    first, last = share(peek(pas + N_TOKENS) * groups, t, threads)
    for item in range(first, last):
        i, at, acc = item // groups, item % groups * 64, zeros1()
        for j in range(i * k, i * k + k):
            x = peek(record + COMBINE.x) + peek(pairs + 8 * j) * peek(record + COMBINE.x_step) + at
            acc = fma(load(x), splat(peek_f32(weights + 8 * j)), acc)
        out = peek(record + COMBINE.out) + i * peek(record + COMBINE.out_step) + at
        store(out, fma(acc, splat(peek_f32(record + COMBINE.gain)), load(out)))
    return 0


@kernel(GATED_ADD)
def gated_add(record, pas, t, threads):
    groups = (peek(record + GATED_ADD.width) + 15) // 16
    first, last = share(peek(pas + N_TOKENS) * groups, t, threads)
    for item in range(first, last):
        i, at, one = item // groups, item % groups * 64, splat(np.float32(1))
        gate = splat(
            peek_f32(peek(record + GATED_ADD.gate) + i * peek(record + GATED_ADD.gate_step))
        )
        gate = mul(
            div(one, add(one, exp(sub(zeros1(), gate)))), splat(peek_f32(record + GATED_ADD.gain))
        )
        out = peek(record + GATED_ADD.out) + i * peek(record + GATED_ADD.out_step) + at
        store(
            out,
            fma(
                load(peek(record + GATED_ADD.x) + i * peek(record + GATED_ADD.x_step) + at),
                gate,
                load(out),
            ),
        )
    return 0


def experts_of(weights):
    """The matmul of experts of a type of weights."""
    kind, name = weights.type, f"experts_{weights.type.name}"
    if not kind.quantised:
        make = lambda machine: matmul_experts(
            EXPERTS_FLOATS, *sums_float(weights.loads, weights.size)
        )
        return Kernel(name, make, EXPERTS_FLOATS, kind)

    columns = kind.share // 8

    def make(machine):
        tile, width = weights.tile(machine), weights.width

        def one(record, i, block):
            w = peek(record + QUANTISED.w) + block * (peek(record + QUANTISED.cols) // 32) * width
            return tile(zeros1(), record, i, w, block, columns)

        def four(record, i, block, pairs):
            w = peek(record + QUANTISED.w) + block * (peek(record + QUANTISED.cols) // 32) * width
            return tile(zeros4(), record, i, w, block, pairs)

        return matmul_experts(EXPERTS_QUANTISED, inline(one), inline(four), columns)

    return Kernel(name, make, EXPERTS_QUANTISED, kind)


EXPERT_MATMULS = {weights.type: experts_of(weights) for weights in WEIGHTS}
