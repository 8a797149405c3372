"""A block of 64 keys and their values in int8, a scale for 32 columns each."""

import numpy as np

from ..compiler.kernel import inline
from ..words.memory import (
    load,
    load_bytes,
    load_f16,
    loads_f32,
    peek,
    peek_f16,
    peek_f32,
    peek_i32,
    peek_u8,
    poke_f16,
    poke_f32,
    poke_i32,
    poke_u8,
    spreads,
    store,
    stores,
)
from ..words.numbers import (
    add,
    dot,
    dot7,
    higher,
    highest,
    joined,
    keep,
    larger,
    largest,
    magnitude,
    mul,
    no_sums1,
    no_sums4,
    opaque,
    quantise,
    scaled,
    sevens,
    splat,
    start,
    sub,
    woven,
    zeros1,
    zeros4,
)
from .blocks import BEGIN, END, FADE, PIECES, VALUES

# A block's keys: of four columns after four [64 positions, 4], each 128 more than it is; then of 32
# columns after 32 [64 positions], the scales in binary16. Its values: of four positions after four
# [wide, 4]; then scales as those of keys. A query: the int8 of its groups of 32 columns, then their
# scales (float32), then what they sum to (int32). All sums of products are of whole numbers, exact.
WEIGHT = 16383  # the largest weight of a block becomes this; in pieces of seven bits


def width_q8(n):
    """Bytes of n numbers of a position."""
    return (n + 3) // 4 * 4 + (n + 31) // 32 * 2


@inline
def group_at(p, n):
    """-> 32 float32 at p; those from the n-th on are 0."""
    nothing = np.float32(0)
    return keep(load(p), 0, n, nothing), keep(load(p + 64), 0, n - 16, nothing)


@inline
def narrowed(v0, v1, q, scale):
    """A group of 32 float32 as int8 to q; their scale to scale."""
    poke_f16(scale, largest(larger(magnitude(v0), magnitude(v1))) / np.float32(127))
    kept = peek_f16(scale)
    inverse = np.float32(1) / kept if kept != np.float32(0) else np.float32(0)
    quantise(q, v0, inverse)
    quantise(q + 16, v1, inverse)


@inline
def turned_at(p, n):
    """As group_at, of a key or a query; a whole group is turned by Hadamard's matrix, which changes
    no score: few columns much larger than the others, which keys tend to have, become all alike."""
    v0, v1 = group_at(p, n)
    if n >= 32:
        v0, v1 = woven(add(v0, v1)), woven(sub(v0, v1))
    return v0, v1


@inline
def put_q8(k, v, keys, values, i, dim, spare):
    """Write a head's key at k and value at v as the i-th of a block. They are rounded by
    themselves, whatever else is written when."""
    wide = (dim + 15) // 16 * 16
    for g in range(0, dim, 32):
        v0, v1 = turned_at(k + 4 * g, dim - g)
        narrowed(v0, v1, spare, keys + (dim + 3) // 4 * 256 + 4 * g + 2 * i)
        for j in range(0, min(32, dim - g), 4):
            poke_i32(keys + 64 * (g + j) + 4 * i, peek_i32(spare + j) ^ -0x7F7F7F80)
        v0, v1 = group_at(v + 4 * g, dim - g)
        narrowed(v0, v1, spare, values + 64 * wide + 4 * g + 2 * i)
        for j in range(min(32, wide - g)):
            poke_u8(values + (i // 4 * wide + g + j) * 4 + i % 4, peek_u8(spare + j))


@inline
def ask_q8(x, q, dim):
    """Make a query at x ready at q."""
    groups = (dim + 31) // 32
    for g in range(groups):
        v0, v1 = turned_at(x + 128 * g, dim - 32 * g)
        size = largest(larger(magnitude(v0), magnitude(v1)))
        inverse = np.float32(127) / size if size != np.float32(0) else np.float32(0)
        sums = quantise(q + 32 * g, v0, inverse) + quantise(q + 32 * g + 16, v1, inverse)
        poke_f32(q + 32 * groups + 4 * g, size / np.float32(127))
        poke_i32(q + 36 * groups + 4 * g, sums)


@inline
def score_one(k, q, scores, dim):
    """The scores of a block of 64 keys k for a query."""
    groups = (dim + 31) // 32
    scales = k + (dim + 3) // 4 * 256
    for c in range(0, 64, 16):
        acc = zeros1()
        for g in range(groups):
            sums = start(acc, q + 36 * groups + 4 * g, 0)
            for j in range(32 * g, min(32 * g + 32, dim), 4):
                sums = dot(sums, load_bytes(k + 64 * j + 4 * c), q + j, 0)
            acc = scaled(acc, sums, load_f16(scales + 128 * g + 2 * c), q + 32 * groups + 4 * g, 0)
        store(scores + 4 * c, acc)


@inline
def score_four(k, q, scores, dim, wide):
    """As score_one, for four queries that are 4 * wide apart."""
    groups, step = (dim + 31) // 32, 4 * wide
    scales = k + (dim + 3) // 4 * 256
    for c in range(0, 64, 16):
        acc = zeros4()
        for g in range(groups):
            sums = start(acc, q + 36 * groups + 4 * g, step)
            if dim >= 32 * g + 32:  # a loop of so many steps is unrolled
                for j in range(0, 32, 4):
                    at = q + 32 * g + j
                    sums = dot(sums, load_bytes(k + 64 * (32 * g + j) + 4 * c), at, step)
            else:
                for j in range(32 * g, dim, 4):
                    sums = dot(sums, load_bytes(k + 64 * j + 4 * c), q + j, step)
            by = load_f16(scales + 128 * g + 2 * c)
            acc = scaled(acc, sums, by, q + 32 * groups + 4 * g, step)
        stores(scores + 4 * c, 256, acc)


@inline
def weigh(scales, weights, pieces, first, last):
    """The weights of a block times its four vectors of scales of a group of columns, as whole
    numbers in pieces of seven bits, and what one stands for; of keys outside [first, last), 0."""
    a, b = mul(load(weights), scales[0]), mul(load(weights + 64), scales[1])
    c, d = mul(load(weights + 128), scales[2]), mul(load(weights + 192), scales[3])
    if first > 0 or last < 64:  # what was never written may be no number
        nothing = np.float32(0)
        a, b = keep(a, first, last, nothing), keep(b, first - 16, last - 16, nothing)
        c, d = keep(c, first - 32, last - 32, nothing), keep(d, first - 48, last - 48, nothing)
    most = highest(higher(higher(a, b), higher(c, d)))
    inverse = np.float32(WEIGHT) / most if most != np.float32(0) else np.float32(0)
    sevens(pieces, pieces + 64, a, inverse)
    sevens(pieces + 16, pieces + 80, b, inverse)
    sevens(pieces + 32, pieces + 96, c, inverse)
    sevens(pieces + 48, pieces + 112, d, inverse)
    poke_f32(pieces + 128, most / np.float32(WEIGHT))


@inline
def scales_at(p):
    """64 binary16 at p."""
    return load_f16(p), load_f16(p + 32), load_f16(p + 64), load_f16(p + 96)


@inline
def blend_one(v, weights, state, wide, first, last):
    """Add a block's values v by their weights to the state of a query that sees keys [first, last)
    of them."""
    pieces, fade = weights + 1024, splat(peek_f32(state + FADE))
    for g in range(0, wide, 32):
        weigh(scales_at(v + 64 * wide + 4 * g), weights, pieces, first, last)
        for c in range(g, min(g + 32, wide), 16):
            high, low = no_sums1(), no_sums1()
            for j in range(0, 64, 4):
                numbers = load_bytes(v + j * wide + 4 * c)
                high = dot7(high, numbers, pieces + j, 0)
                low = dot7(low, numbers, pieces + 64 + j, 0)
            acc = mul(load(state + VALUES + 4 * c), fade)
            store(state + VALUES + 4 * c, joined(acc, high, low, pieces + 128, 0))


@inline
def blend_four(v, weights, states, wide, base):
    """As blend_one, for the block at base and four queries; those that see nothing of it keep
    their states."""
    step, pieces, seeing = 4 * wide + VALUES, weights + 1024, 0
    for h in range(opaque(4)):
        state = states + step * h
        seeing += peek(state + BEGIN) < base + 64 and peek(state + END) > base
    for h in range(opaque(4 * (seeing < 4))):
        state = states + step * h
        first, last = max(0, peek(state + BEGIN) - base), min(64, peek(state + END) - base)
        if first < 64 and last > 0:
            blend_one(v, weights + 256 * h, state, wide, first, last)
    for g in range(0, wide * (seeing == 4), 32):
        scales = scales_at(v + 64 * wide + 4 * g)
        for h in range(opaque(4)):
            state = states + step * h
            first, last = peek(state + BEGIN) - base, peek(state + END) - base
            weigh(scales, weights + 256 * h, pieces + PIECES * h, first, last)
        for c in range(g, min(g + 32, wide), 16):
            high, low = no_sums4(), no_sums4()
            for j in range(0, 64, 4):
                numbers = load_bytes(v + j * wide + 4 * c)
                high = dot7(high, numbers, pieces + j, PIECES)
                low = dot7(low, numbers, pieces + 64 + j, PIECES)
            fade = spreads(zeros4(), states + FADE, step)
            acc = mul(loads_f32(zeros4(), states + VALUES + 4 * c, step), fade)
            acc = joined(acc, high, low, pieces + 128, PIECES)
            stores(states + VALUES + 4 * c, step, acc)


score_q8, blend_q8 = (score_one, score_four), (blend_one, blend_four)
