"""Attention over the cache."""

import numpy as np

from ..compiler.kernel import Kernel, inline
from ..program.operands import (
    N_TOKENS,
    POSITIONS,
    SCRATCH,
    SCRATCH_STEP,
    SLOTS,
    Flat,
    Number,
    Real,
    Rows,
    Scratch,
    operands,
)
from ..words.memory import load, peek, peek_f32, poke, poke_f32, store
from ..words.numbers import add, div, exp, opaque, splat, store_first, sub, total, zeros1
from .blocks import BEGIN, END, PIECES, SUMS, VALUES, queries_bytes, soften
from .cache import CACHE_TYPES, key_bytes, pages, table_bytes, value_bytes
from .play import share

ATTEND = operands(
    "out = softmax(q k^T) v over the cache, for the queries in x that rope has prepared.",
    out=Rows(lambda r: 4 * r.size * r.heads * r.group, writes=True),
    x=Rows(lambda r: 4 * r.size * r.heads * r.group),
    keys=Rows(key_bytes, many=pages),
    values=Rows(value_bytes, like="keys", many=pages),
    table=Flat(table_bytes),
    sinks=Flat(lambda r: 4 * r.heads * r.group, optional=True),
    heads=Number("heads of keys"),
    group=Number("queries of each"),
    size=Number("columns of a head"),
    blocks=Number("of 64 positions that a slot has"),
    window=Number("keys that a query sees, 0 = all"),
    cap=Real("a score x becomes cap * tanh(x / cap); 0 = not"),
    queries=Scratch(queries_bytes),
)


def attention(kind):
    """ATTEND for a type of cache. sinks: a score of each head that takes weight and has no value
    (Xiao et al. 2024).

    Online softmax (Milakov and Gimelshein 2018) over fixed blocks of 64 keys. Four queries of one
    head of the cache, which are several heads' or several tokens', share the reading of their keys.
    """
    together, apart, prepare = together_of(kind), apart_of(kind), prepare_of(kind.ask)

    def attention(record, pas, t, threads):
        heads, group = peek(record + ATTEND.heads), peek(record + ATTEND.group)
        wide = (peek(record + ATTEND.size) + 15) // 16 * 16
        q, step = peek(pas + SCRATCH) + t * peek(pas + SCRATCH_STEP), 4 * wide + VALUES
        scores, slots = q + 16 * wide, peek(pas + SLOTS)
        states = scores + 1024 + 4 * PIECES
        n = peek(pas + N_TOKENS) * group
        tiles = (n + 3) // 4
        first, last = share(heads * tiles, t, threads)
        for item in range(first, last):
            head, at = item // tiles, item % tiles * 4
            count, slot = min(4, n - at), peek(slots + 8 * (item % tiles * 4 // group))
            begin, end = prepare(record, pas, head, at, q, states)
            alike = count == 4
            for h in range(1, count):
                low, high = prepare(record, pas, head, at + h, q + 4 * wide * h, states + step * h)
                begin, end = min(begin, low), max(end, high)
                alike = alike and peek(slots + 8 * ((at + h) // group)) == slot
            if alike:
                together(record, slot, head, begin, end, q)
            else:
                for h in range(count):
                    slot = peek(slots + 8 * ((at + h) // group))
                    apart(record, slot, head, q + 4 * wide * h, scores, states + step * h)
            for h in range(count):
                conclude(record, head, at + h, states + step * h)
        return 0

    return attention


@inline
def table_of(record, slot):
    """Where it stands in which pages a slot's blocks are."""
    return peek(record + ATTEND.table) + 8 * slot * peek(record + ATTEND.blocks)


def together_of(kind):
    """-> all keys from begin to end of a slot's head for the four queries at q."""
    width, (_, scores_four), (_, values_four) = inline(kind.width), kind.score, kind.blend

    def together(record, slot, head, begin, end, q):
        dim, table = peek(record + ATTEND.size), table_of(record, slot)
        wide, cap = (dim + 15) // 16 * 16, peek_f32(record + ATTEND.cap)
        scores, states = q + 16 * wide, q + 16 * wide + 1024 + 4 * PIECES
        keys = peek(record + ATTEND.keys) + 64 * head * width(dim)
        values = peek(record + ATTEND.values) + 64 * head * width(wide)
        for base in range(begin // 64 * 64, end, 64):
            page = peek(table + base // 8) * peek(record + ATTEND.keys_step)
            scores_four(keys + page, q, scores, dim, wide)
            for h in range(opaque(4)):
                soften(scores + 256 * h, states + (4 * wide + VALUES) * h, base, cap)
            values_four(values + page, scores, states, wide, base)

    return inline(together)


def apart_of(kind):
    """-> the keys of a slot's head that the query at q sees, whose state is given."""
    width, (scores_one, _), (values_one, _) = inline(kind.width), kind.score, kind.blend

    def apart(record, slot, head, q, scores, state):
        dim, table = peek(record + ATTEND.size), table_of(record, slot)
        wide, cap = (dim + 15) // 16 * 16, peek_f32(record + ATTEND.cap)
        keys = peek(record + ATTEND.keys) + 64 * head * width(dim)
        values = peek(record + ATTEND.values) + 64 * head * width(wide)
        for base in range(peek(state + BEGIN) // 64 * 64, peek(state + END), 64):
            page = peek(table + base // 8) * peek(record + ATTEND.keys_step)
            scores_one(keys + page, q, scores, dim)
            soften(scores, state, base, cap)
            first, last = max(0, peek(state + BEGIN) - base), min(64, peek(state + END) - base)
            values_one(values + page, scores, state, wide, first, last)

    return inline(apart)


@inline
def conclude(record, head, at, state):
    """The values of query at by their weights, divided by what these sum to."""
    dim, group = peek(record + ATTEND.size), peek(record + ATTEND.group)
    query = head * group + at % group
    out = peek(record + ATTEND.out) + at // group * peek(record + ATTEND.out_step) + 4 * dim * query
    weight = splat(total(load(state + SUMS)))
    if peek(record + ATTEND.sinks) != 0:
        sink = splat(peek_f32(peek(record + ATTEND.sinks) + 4 * query))
        weight = add(weight, exp(sub(sink, splat(peek_f32(state)))))
    for j in range(0, dim, 16):
        store_first(out + 4 * j, div(load(state + VALUES + 4 * j), weight), dim - j)


def prepare_of(ask):
    """-> what makes query at (of the tokens' queries of this head of the cache) ready at q, and
    begins its state. -> its keys [begin, end)."""

    def prepare(record, pas, head, at, q, state):
        group, dim = peek(record + ATTEND.group), peek(record + ATTEND.size)
        x = peek(record + ATTEND.x) + at // group * peek(record + ATTEND.x_step)
        ask(x + 4 * dim * (head * group + at % group), q, dim)
        for j in range(0, dim, 16):
            store(state + VALUES + 4 * j, zeros1())
        end, begin = peek(peek(pas + POSITIONS) + 8 * (at // group)) + 1, 0
        if peek(record + ATTEND.window) > 0:
            begin = max(0, end - peek(record + ATTEND.window))
        poke_f32(state, np.float32(-np.inf))
        poke(state + BEGIN, begin)
        poke(state + END, end)
        store(state + SUMS, zeros1())
        return begin, end

    return inline(prepare)


def attention_of(kind):
    """The attention of a type of cache."""
    return Kernel(f"attention_{kind.name}", lambda machine: attention(kind), ATTEND, kind)


ATTENTIONS = {kind: attention_of(kind) for kind in CACHE_TYPES}
