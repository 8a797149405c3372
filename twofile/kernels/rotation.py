"""Positions as angles, and what goes into the cache of keys and values."""

import math

import numpy as np

from ..compiler.kernel import Kernel, inline, kernel
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
from ..words.memory import load, peek, peek_f32, poke_f32
from ..words.numbers import add, mul, splat, store_first, sub
from .cache import CACHE_TYPES, key_bytes, pages, table_bytes, value_bytes
from .play import share

ANGLES = operands(
    "out: for each token and table, cos [half], sin [half] of position * frequency * amplitude.",
    out=Rows(lambda r: 8 * r.half * r.tables, writes=True),
    frequencies=Flat(lambda r: 8 * r.half * r.tables),  # table after table; then its amplitudes
    half=Number("pairs of a head"),
    tables=Number("tables of frequencies"),
)
ROPE = operands(
    "Rotate q, times gain, and k, in x [heads * group, then heads, then heads for v; size each], "
    "and put k and v into the cache; without a cache there are no k and v to put.",
    x=Rows(
        lambda r: 4 * r.size * r.heads * (r.group + (2 if r.keys else 0)),
        writes=True,
    ),
    angles=Rows(lambda r: 4 * r.size, optional=True),  # None: not rotated
    keys=Rows(key_bytes, writes=True, optional=True, many=pages),
    values=Rows(value_bytes, writes=True, optional=True, like="keys", many=pages),
    table=Flat(table_bytes, optional=True),
    factors=Flat(lambda r: 4 * ((r.positions - 1) // r.length + 1), optional=True),
    heads=Number("heads of keys"),
    group=Number("queries of each"),
    size=Number("columns of a head"),
    blocks=Number("of 64 positions that a slot has"),
    length=Number("positions that share one of factors, which q is multiplied by", 0),
    gain=Real("factor of q"),
    spare=Scratch(lambda r: 32),  # a group of numbers on their way into the cache
)


@inline
def sine(r):
    """sin(r) for |r| <= pi / 4, float64, by its series."""
    y, square = 0.0, r * r
    for k in range(16, 0, -2):
        y = (1.0 - y) * square / (k * (k + 1))
    return r * (1.0 - y)


@inline
def cosine(r):
    y, square = 0.0, r * r
    for k in range(15, 0, -2):
        y = (1.0 - y) * square / (k * (k + 1))
    return 1.0 - y


@kernel(ANGLES)
def angles(record, pas, t, threads):
    """The angle is the float32 product, as in the reference programs; its cosine and sine are our
    own, in float64."""
    half = peek(record + ANGLES.half)
    for i in range(peek(pas + N_TOKENS)):
        position = np.float32(peek(peek(pas + POSITIONS) + 8 * i))
        for table in range(peek(record + ANGLES.tables)):
            w = peek(record + ANGLES.frequencies) + table * half * 8
            out = peek(record + ANGLES.out) + i * peek(record + ANGLES.out_step) + table * half * 8
            first, last = share(half, t, threads)
            for j in range(first, last):
                angle = np.float64(position * peek_f32(w + 4 * j))
                amplitude = np.float64(peek_f32(w + 4 * (half + j)))
                turns = math.floor(angle * 0.6366197723675814 + 0.5)
                # pi / 2 in two parts: the first product is exact
                r = angle - turns * 1.5707963267341256
                r = r - turns * 6.077100506506192e-11
                quarter = np.int64(turns) & 3
                s, c = sine(r), cosine(r)
                if quarter & 1 == 1:
                    s, c = c, -s
                if quarter & 2 == 2:
                    s, c = -s, -c
                poke_f32(out + 4 * j, np.float32(c * amplitude))
                poke_f32(out + 4 * (half + j), np.float32(s * amplitude))
    return 0


@inline
def rotate(p, cs, half, gain):
    """One head at p, in place: pairs (j, j + half) by the angle's cos and sin at cs (0 = not at
    all), times gain."""
    scale = splat(gain)
    for j in range(0, half, 16):
        x, y = load(p + 4 * j), load(p + 4 * (half + j))
        a, b = x, y
        if cs != 0:
            c, s = load(cs + 4 * j), load(cs + 4 * (half + j))
            a, b = sub(mul(x, c), mul(y, s)), add(mul(y, c), mul(x, s))
        store_first(p + 4 * j, mul(a, scale), half - j)
        store_first(p + 4 * (half + j), mul(b, scale), half - j)


def rope(kind):
    """ROPE for a type of cache."""
    width, put_head = inline(kind.width), kind.put

    def rope(record, pas, t, threads):
        heads, group = peek(record + ROPE.heads), peek(record + ROPE.group)
        dim = peek(record + ROPE.size)
        wide = (dim + 15) // 16 * 16
        spare = peek(pas + SCRATCH) + t * peek(pas + SCRATCH_STEP)
        first, last = share(peek(pas + N_TOKENS) * heads, t, threads)
        for item in range(first, last):
            i, head = item // heads, item % heads
            x = peek(record + ROPE.x) + i * peek(record + ROPE.x_step)
            k = x + 4 * dim * (heads * group + head)
            v = x + 4 * dim * (heads * group + heads + head)
            cs = peek(record + ROPE.angles)
            if cs != 0:
                cs += i * peek(record + ROPE.angles_step)
            position, gain = peek(peek(pas + POSITIONS) + 8 * i), peek_f32(record + ROPE.gain)
            if peek(record + ROPE.factors) != 0:
                gain *= peek_f32(
                    peek(record + ROPE.factors) + 4 * (position // peek(record + ROPE.length))
                )
            for j in range(head * group, (head + 1) * group):
                rotate(x + 4 * dim * j, cs, dim // 2, gain)
            if peek(record + ROPE.keys) == 0:
                continue
            if cs != 0:
                rotate(k, cs, dim // 2, np.float32(1))
            block = peek(peek(pas + SLOTS) + 8 * i) * peek(record + ROPE.blocks) + position // 64
            page = peek(peek(record + ROPE.table) + 8 * block) * peek(record + ROPE.keys_step)
            keys = peek(record + ROPE.keys) + page + 64 * head * width(dim)
            values = peek(record + ROPE.values) + page + 64 * head * width(wide)
            put_head(k, v, keys, values, position % 64, dim, spare)
        return 0

    return rope


def rope_of(kind):
    """The rope of a type of cache."""
    return Kernel(f"rope_{kind.name}", lambda machine: rope(kind), ROPE, kind)


ROPES = {kind: rope_of(kind) for kind in CACHE_TYPES}
