"""A block of 64 keys: their scores, softmax, the values by their weights."""

import numpy as np

from ..compiler.kernel import inline
from ..format.types import padded
from ..program.operands import KEYS
from ..words.memory import load, loads_f32, peek, peek_f32, poke_f32, spreads, store, stores
from ..words.numbers import (
    add,
    exp,
    fma,
    greater,
    greatest,
    keep,
    mul,
    opaque,
    splat,
    store_first,
    sub,
    zeros1,
    zeros4,
)
from .activation import capped

# A query's state in scratch: largest score so far and fade (float32: what becomes of what was
# summed before), its keys [begin, end) (int64), 16 partial sums of weights, the weighted values.
# Before the states: 4 queries, 4 * 64 scores, for each of 4 the weights of a block in pieces.
FADE, BEGIN, END, SUMS, VALUES = 4, 8, 16, 64, 128
PIECES = 256  # bytes of a query's, as its scores


def queries_bytes(r):
    """Scratch of four queries: see above."""
    wide = padded(r.size, 16)
    return 16 * wide + 16 * KEYS + 4 * PIECES + 4 * (4 * wide + VALUES)


def put(poke_one, store_16, size):
    """-> what writes a head's key at k and value at v as the i-th of a block: keys of 64 positions
    are [dim, 64], values [64, wide]."""

    def put(k, v, keys, values, i, dim, spare):
        keys += i * size
        values += i * ((dim + 15) // 16 * 16) * size
        for j in range(dim):
            poke_one(keys + j * 64 * size, peek_f32(k + 4 * j))
        for j in range(0, dim, 16):
            store_16(values + j * size, keep(load(v + 4 * j), 0, dim - j, np.float32(0)))

    return inline(put)


@inline
def ask(x, q, dim):
    """Make a query at x ready at q: as it is."""
    for j in range(0, dim, 16):
        store(q + 4 * j, load(x + 4 * j))


def score(loads, size):
    """-> two ways to the scores of a block of 64 keys k [dim, 64]: for a query, and for four that
    are 4 * wide apart."""

    def one(k, q, scores, dim):
        acc = zeros4()
        for j in range(dim):
            acc = fma(loads(acc, k + j * 64 * size, 16 * size), splat(peek_f32(q + 4 * j)), acc)
        stores(scores, 64, acc)

    def four(k, q, scores, dim, wide):
        for c in range(0, 64, 16):
            acc = zeros4()
            for j in range(dim):
                acc = fma(
                    loads(zeros1(), k + (j * 64 + c) * size, 0),
                    spreads(acc, q + 4 * j, 4 * wide),
                    acc,
                )
            stores(scores + 4 * c, 256, acc)

    return inline(one), inline(four)


@inline
def soften(scores, state, base, cap):
    """The scores of the block of keys at base become weights; those of keys that the query does not
    see, 0."""
    first, last, low = peek(state + BEGIN) - base, peek(state + END) - base, np.float32(-np.inf)
    poke_f32(state + FADE, np.float32(1))
    if first < 64 and last > 0:
        if cap != np.float32(0):
            for c in range(0, 256, 64):
                store(scores + c, capped(load(scores + c), cap))
        if first > 0 or last < 64:
            for c in range(0, 64, 16):
                store(scores + 4 * c, keep(load(scores + 4 * c), first - c, last - c, low))
        s0, s1, s2, s3 = load(scores), load(scores + 64), load(scores + 128), load(scores + 192)
        old = splat(peek_f32(state))
        # a score that is no number does not show here; its weight, and so their sum, is none
        new = splat(greatest(greater(greater(greater(s0, s1), greater(s2, s3)), old)))
        s0, s1, s2, s3 = exp(sub(s0, new)), exp(sub(s1, new)), exp(sub(s2, new)), exp(sub(s3, new))
        fade = exp(sub(old, new))
        store_first(state, new, 1)
        store_first(state + FADE, fade, 1)
        store(state + SUMS, fma(load(state + SUMS), fade, add(add(s0, s1), add(s2, s3))))
        store(scores, s0)
        store(scores + 64, s1)
        store(scores + 128, s2)
        store(scores + 192, s3)


def blend(loads, size):
    """-> two ways to add a block's values v [64, wide], by their weights: for one query, keys
    [first, last); for four."""

    def one(v, scores, state, wide, first, last):
        fade = splat(peek_f32(state + FADE))
        poke_f32(state + FADE, np.float32(1))
        state += VALUES
        for c in range(0, wide - 63, 64):
            acc = mul(loads_f32(zeros4(), state + 4 * c, 64), fade)
            for j in range(first, last):
                acc = fma(
                    loads(acc, v + (j * wide + c) * size, 16 * size),
                    splat(peek_f32(scores + 4 * j)),
                    acc,
                )
            stores(state + 4 * c, 64, acc)
        for c in range(wide // 64 * 64, wide, 16):
            acc = mul(load(state + 4 * c), fade)
            for j in range(first, last):
                acc = fma(
                    loads(acc, v + (j * wide + c) * size, 0), splat(peek_f32(scores + 4 * j)), acc
                )
            store(state + 4 * c, acc)

    one = inline(one)

    def four(v, scores, states, wide, base):
        step, first, last = 4 * wide + VALUES, 0, 64  # [first, last): the keys that all four see
        for h in range(opaque(4)):  # unrolled, it would only take longer to compile
            first = max(first, min(64, peek(states + step * h + BEGIN) - base))
            last = min(last, peek(states + step * h + END) - base)
        last = max(first, last)
        for h in range(opaque(4)):
            begin = peek(states + step * h + BEGIN) - base
            end = peek(states + step * h + END) - base
            if begin < first and end > 0:
                one(v, scores + 256 * h, states + step * h, wide, max(0, begin), min(first, end))
        for c in range(0, wide, 16):
            acc = mul(
                loads_f32(zeros4(), states + VALUES + 4 * c, step),
                spreads(zeros4(), states + FADE, step),
            )
            for j in range(first, last):
                acc = fma(
                    loads(zeros1(), v + (j * wide + c) * size, 0),
                    spreads(acc, scores + 4 * j, 256),
                    acc,
                )
            stores(states + VALUES + 4 * c, step, acc)
        for h in range(opaque(4)):
            poke_f32(states + step * h + FADE, np.float32(1))
            end = min(64, peek(states + step * h + END) - base)
            if end > last:
                one(v, scores + 256 * h, states + step * h, wide, last, end)

    return one, inline(four)
