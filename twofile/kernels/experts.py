"""Mixtures of experts: who is asked, what they say, by what weight."""

import numpy as np

from ..compiler.kernel import inline, kernel
from ..program.passes import (
    COLS,
    GAIN,
    N_PAIRS,
    N_TOKENS,
    OUT,
    OUT_STEP,
    ROWS,
    X_STEP,
    A,
    B,
    C,
    D,
    E,
    S,
    W,
    X,
)
from ..words.memory import load, peek, peek_f32, peek_i32, poke, poke_f32, poke_i32, store
from ..words.numbers import add, div, exp, fma, mul, opaque, splat, sub, zeros1, zeros4
from .exact import exp64
from .play import share
from .rows import put_rows


@kernel
def route(record, pas, t, threads):
    """The router's logits X [tokens, A experts] -> B experts for each token. At OUT, tables of C pairs of token and expert, by
    expert: the token of each pair; for token i, choice j, at i * B + j: the pair, and (float32) its weight; then a count for
    each expert, and the runs: how many, and for each the expert, its first pair, how many pairs. D: the weights sum to 1."""
    experts, k, n, room = (
        peek(record + A),
        peek(record + B),
        peek(pas + N_TOKENS),
        8 * peek(record + C),
    )
    tokens = peek(record + OUT)
    pairs, weights, counts = tokens + room, tokens + 2 * room, tokens + 3 * room
    runs = counts + 8 * experts
    if t != 0:
        return 0
    for e in range(experts):
        poke(counts + 8 * e, 0)
    for i in range(n):
        x = peek(record + X) + i * peek(record + X_STEP)
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
        if peek(record + D) != 0:
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


@kernel
def gather(record, pas, t, threads):
    """OUT [pairs] = the rows X of their tokens, at C; COLS bytes each."""
    first, last = share(peek(pas + N_PAIRS), t, threads)
    for pair in range(first, last):
        x = peek(record + X) + peek(peek(record + C) + 8 * pair) * peek(record + X_STEP)
        out = peek(record + OUT) + pair * peek(record + OUT_STEP)
        for at in range(0, peek(record + COLS), 4):
            poke_i32(out + at, peek_i32(x + at))
    return 0


def matmul_experts(one, four):
    """As a matmul, for pairs of token and expert that lie by expert: runs at C, ROWS of one expert, E = all experts' biases or
    0. one and four: the sums of a block of rows for one token and for four."""

    def matmul(record, pas, t, threads):
        runs, blocks = peek(record + C), peek(record + ROWS) // 16
        first, last = share(blocks, t, threads)
        steps, bias = opaque(8), peek(record + E)
        for r in range(peek(runs)):
            expert, i, left = (
                peek(runs + 8 + 24 * r),
                peek(runs + 16 + 24 * r),
                peek(runs + 24 + 24 * r),
            )
            for block in range(first, last):
                w = expert * blocks + block
                begin = zeros1()
                if bias != 0:
                    begin = load(bias + 64 * w)
                for at in range(i, i + left - 3, 4):
                    put_rows(record, at, block, add(four(record, at, w, steps), begin))
                for at in range(i + left - left % 4, i + left):
                    put_rows(record, at, block, add(one(record, at, w), begin))
        return 0

    return matmul


def experts_quantised(tile):
    def one(record, i, block):
        return tile(zeros1(), record, i, block, 8)

    def four(record, i, block, steps):
        return tile(zeros4(), record, i, block, steps)

    return matmul_experts(inline(one), inline(four))


@kernel
def combine(record, pas, t, threads):
    """OUT [tokens, A] += GAIN * the sum over each token's B pairs of weight * X [pairs, A]; at W tables of C pairs, route's."""
    groups, k = (peek(record + A) + 15) // 16, peek(record + B)
    pairs, weights = (
        peek(record + W) + 8 * peek(record + C),
        peek(record + W) + 16 * peek(record + C),
    )
    first, last = share(peek(pas + N_TOKENS) * groups, t, threads)
    for item in range(first, last):
        i, at, acc = item // groups, item % groups * 64, zeros1()
        for j in range(i * k, i * k + k):
            x = peek(record + X) + peek(pairs + 8 * j) * peek(record + X_STEP) + at
            acc = fma(load(x), splat(peek_f32(weights + 8 * j)), acc)
        out = peek(record + OUT) + i * peek(record + OUT_STEP) + at
        store(out, fma(acc, splat(peek_f32(record + GAIN)), load(out)))
    return 0


@kernel
def gated_add(record, pas, t, threads):
    """OUT [tokens, A] += GAIN * sigmoid(W [tokens, 1]) * X [tokens, A]; S is the step of W."""
    groups = (peek(record + A) + 15) // 16
    first, last = share(peek(pas + N_TOKENS) * groups, t, threads)
    for item in range(first, last):
        i, at, one = item // groups, item % groups * 64, splat(np.float32(1))
        gate = splat(peek_f32(peek(record + W) + i * peek(record + S)))
        gate = mul(div(one, add(one, exp(sub(zeros1(), gate)))), splat(peek_f32(record + GAIN)))
        out = peek(record + OUT) + i * peek(record + OUT_STEP) + at
        store(out, fma(load(peek(record + X) + i * peek(record + X_STEP) + at), gate, load(out)))
    return 0
