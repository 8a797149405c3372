"""Attention over the cache."""

import numpy as np

from ..compiler.kernel import Kernel, inline
from ..files import padded
from ..program.operands import Flat, Number, Real, Rows, Scratch, operands
from ..program.passes import KEYS, N_TOKENS, POSITIONS, SCRATCH, SCRATCH_STEP, SLOTS
from ..words.memory import load, loads_f32, peek, peek_f32, poke, poke_f32, spreads, store, stores
from ..words.numbers import (
    add,
    div,
    exp,
    fma,
    keep,
    larger,
    largest,
    mul,
    opaque,
    splat,
    store_first,
    sub,
    total,
    zeros1,
    zeros4,
)
from .activation import capped
from .cache import CACHE_TYPES, key_bytes, value_bytes
from .play import share

# A query's state in scratch: largest score so far and fade (float32: what becomes of what was
# summed before), its keys [begin, end) (int64), 16 partial sums of weights, the weighted values.
# Before the states: 4 queries, 4 * 64 scores.
FADE, BEGIN, END, SUMS, VALUES = 4, 8, 16, 64, 128


def queries_bytes(r):
    """Scratch of four queries: see above."""
    wide = padded(r.size, 16)
    return 16 * wide + 16 * KEYS + 4 * (4 * wide + VALUES)


ATTEND = operands(
    "out = softmax(q k^T) v over the cache, for the queries in x that rope has prepared.",
    out=Rows(lambda r: 4 * r.size * r.heads * r.group, writes=True),
    x=Rows(lambda r: 4 * r.size * r.heads * r.group),
    keys=Flat(key_bytes),
    values=Flat(value_bytes),
    sinks=Flat(lambda r: 4 * r.heads * r.group, optional=True),
    heads=Number("heads of keys"),
    group=Number("queries of each"),
    size=Number("columns of a head"),
    room=Number("positions of a slot, filled up to 64s"),
    window=Number("keys that a query sees, 0 = all"),
    cap=Real("a score x becomes cap * tanh(x / cap); 0 = not"),
    queries=Scratch(queries_bytes),
)


def attention(loads, size):
    """ATTEND for a type of cache. sinks: a score of each head that takes weight and has no value
    (Xiao et al. 2024).

    Online softmax (Milakov and Gimelshein 2018) over fixed blocks of 64 keys. Four queries of one
    head of the cache, which are several heads' or several tokens', share the reading of their keys.
    """
    scores_one, scores_four = score(loads, size)
    values_one, values_four = blend(loads, size)

    def attention(record, pas, t, threads):
        heads, group, dim, room = (
            peek(record + ATTEND.heads),
            peek(record + ATTEND.group),
            peek(record + ATTEND.size),
            peek(record + ATTEND.room),
        )
        wide, q = (dim + 15) // 16 * 16, peek(pas + SCRATCH) + t * peek(pas + SCRATCH_STEP)
        scores, states, step = q + 16 * wide, q + 16 * wide + 1024, 4 * wide + VALUES
        n, slots, cap = (
            peek(pas + N_TOKENS) * group,
            peek(pas + SLOTS),
            peek_f32(record + ATTEND.cap),
        )
        tiles = (n + 3) // 4
        first, last = share(heads * tiles, t, threads)
        for item in range(first, last):
            head, at = item // tiles, item % tiles * 4
            count = min(4, n - at)
            begin, end = prepare(record, pas, head, at, q, states)
            together = count == 4
            for h in range(1, count):
                low, high = prepare(record, pas, head, at + h, q + 4 * wide * h, states + step * h)
                begin, end = min(begin, low), max(end, high)
                together = together and peek(slots + 8 * ((at + h) // group)) == peek(
                    slots + 8 * (at // group)
                )
            if together:
                lane = (peek(slots + 8 * (at // group)) * heads + head) * room
                for base in range(begin // 64 * 64, end, 64):
                    scores_four(
                        peek(record + ATTEND.keys) + (lane + base) * dim * size,
                        q,
                        scores,
                        dim,
                        wide,
                    )
                    for h in range(opaque(4)):
                        soften(scores + 256 * h, states + step * h, base, cap)
                    values_four(
                        peek(record + ATTEND.values) + (lane + base) * wide * size,
                        scores,
                        states,
                        wide,
                        base,
                    )
            else:
                for h in range(count):
                    lane, state = (
                        (peek(slots + 8 * ((at + h) // group)) * heads + head) * room,
                        states + step * h,
                    )
                    for base in range(peek(state + BEGIN) // 64 * 64, peek(state + END), 64):
                        scores_one(
                            peek(record + ATTEND.keys) + (lane + base) * dim * size,
                            q + 4 * wide * h,
                            scores,
                            dim,
                        )
                        soften(scores, state, base, cap)
                        v, begin = (
                            peek(record + ATTEND.values) + (lane + base) * wide * size,
                            max(0, peek(state + BEGIN) - base),
                        )
                        values_one(v, scores, state, wide, begin, min(64, peek(state + END) - base))
            for h in range(count):
                i, state = (at + h) // group, states + step * h
                out = (
                    peek(record + ATTEND.out)
                    + i * peek(record + ATTEND.out_step)
                    + 4 * dim * (head * group + (at + h) % group)
                )
                weight = splat(total(load(state + SUMS)))
                if peek(record + ATTEND.sinks) != 0:
                    sink = splat(
                        peek_f32(
                            peek(record + ATTEND.sinks) + 4 * (head * group + (at + h) % group)
                        )
                    )
                    weight = add(weight, exp(sub(sink, splat(peek_f32(state)))))
                for j in range(0, dim, 16):
                    store_first(out + 4 * j, div(load(state + VALUES + 4 * j), weight), dim - j)
        return 0

    return attention


@inline
def prepare(record, pas, head, at, q, state):
    """Copy query at (of the tokens' queries of this head of the cache) to q, begin its state.
    -> its keys [begin, end)."""
    group, dim = peek(record + ATTEND.group), peek(record + ATTEND.size)
    x = (
        peek(record + ATTEND.x)
        + at // group * peek(record + ATTEND.x_step)
        + 4 * dim * (head * group + at % group)
    )
    for j in range(0, dim, 16):
        store(q + 4 * j, load(x + 4 * j))
        store(state + VALUES + 4 * j, zeros1())
    end, begin = peek(peek(pas + POSITIONS) + 8 * (at // group)) + 1, 0
    if peek(record + ATTEND.window) > 0:
        begin = max(0, end - peek(record + ATTEND.window))
    poke_f32(state, np.float32(-np.inf))
    poke(state + BEGIN, begin)
    poke(state + END, end)
    store(state + SUMS, zeros1())
    return begin, end


def score(loads, size):
    """-> two ways to the scores of a block of 64 keys k [dim, 64]: for a query, and for four that are
    4 * wide apart."""

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
        new = splat(largest(larger(larger(larger(s0, s1), larger(s2, s3)), old)))
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
            begin, end = (
                peek(states + step * h + BEGIN) - base,
                peek(states + step * h + END) - base,
            )
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


def attention_of(kind):
    """The attention of a type of cache."""
    make = lambda machine: attention(kind.loads, kind.bytes)
    return Kernel(f"attention_{kind.name}", make, ATTEND, kind)


ATTENTIONS = {kind: attention_of(kind) for kind in CACHE_TYPES}
