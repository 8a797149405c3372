"""Positions as angles, and what goes into the cache of keys and values."""

import math

import numpy as np

from ..compiler.kernel import inline, kernel
from ..program.passes import (
    COLS,
    GAIN,
    N_TOKENS,
    OUT,
    OUT_STEP,
    POSITIONS,
    QS,
    SLOTS,
    X_STEP,
    A,
    B,
    C,
    D,
    E,
    Q,
    S,
    W,
    X,
)
from ..words.memory import load, peek, peek_f32, poke_f32
from ..words.numbers import add, keep, mul, splat, store_first, sub
from .play import share


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


@kernel
def angles(record, pas, t, threads):
    """OUT: for each token and rope table, cos [A], sin [A] of position * frequency (W), times the amplitude. B = tables.

    The angle is the float32 product, as in the reference programs; its cosine and sine are our own, in float64.
    """
    half = peek(record + A)
    for i in range(peek(pas + N_TOKENS)):
        position = np.float32(peek(peek(pas + POSITIONS) + 8 * i))
        for table in range(peek(record + B)):
            w = peek(record + W) + table * half * 8
            out = peek(record + OUT) + i * peek(record + OUT_STEP) + table * half * 8
            first, last = share(half, t, threads)
            for j in range(first, last):
                angle = np.float64(position * peek_f32(w + 4 * j))
                amplitude = np.float64(peek_f32(w + 4 * (half + j)))
                turns = math.floor(angle * 0.6366197723675814 + 0.5)
                r = (
                    angle - turns * 1.5707963267341256
                )  # pi / 2 in two parts: the first product is exact
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
    """One head at p, in place: pairs (j, j + half) by the angle's cos and sin at cs (0 = not at all), times gain."""
    scale = splat(gain)
    for j in range(0, half, 16):
        x, y = load(p + 4 * j), load(p + 4 * (half + j))
        a, b = x, y
        if cs != 0:
            c, s = load(cs + 4 * j), load(cs + 4 * (half + j))
            a, b = sub(mul(x, c), mul(y, s)), add(mul(y, c), mul(x, s))
        store_first(p + 4 * j, mul(a, scale), half - j)
        store_first(p + 4 * (half + j), mul(b, scale), half - j)


def rope(poke_kv, store_kv, size):
    """Rotate q and k in X (q scaled by GAIN), and put k and v into the cache.

    A = kv heads, B = queries of each, C = head_dim, D = positions of a slot; W = angles of step S, or 0; E = factors of q,
    one for each COLS positions, or 0. The caches: keys at Q [slot, head, position / 64, head_dim, 64], values at QS [slot,
    head, position, head_dim padded to 16]; or Q = 0: there are no k and v, another layer's are seen.
    """

    def rope(record, pas, t, threads):
        heads, group, dim, room = (
            peek(record + A),
            peek(record + B),
            peek(record + C),
            peek(record + D),
        )
        wide = (dim + 15) // 16 * 16
        first, last = share(peek(pas + N_TOKENS) * heads, t, threads)
        for item in range(first, last):
            i, head = item // heads, item % heads
            x = peek(record + X) + i * peek(record + X_STEP)
            k, v = (
                x + 4 * dim * (heads * group + head),
                x + 4 * dim * (heads * group + heads + head),
            )
            cs = peek(record + W)
            if cs != 0:
                cs += i * peek(record + S)
            position, gain = peek(peek(pas + POSITIONS) + 8 * i), peek_f32(record + GAIN)
            if peek(record + E) != 0:
                gain *= peek_f32(peek(record + E) + 4 * (position // peek(record + COLS)))
            for j in range(head * group, (head + 1) * group):
                rotate(x + 4 * dim * j, cs, dim // 2, gain)
            if peek(record + Q) == 0:
                continue
            if cs != 0:
                rotate(k, cs, dim // 2, np.float32(1))
            lane = (peek(peek(pas + SLOTS) + 8 * i) * heads + head) * room
            keys = peek(record + Q) + ((lane + position // 64 * 64) * dim + position % 64) * size
            values = peek(record + QS) + (lane + position) * wide * size
            for j in range(dim):
                poke_kv(keys + j * 64 * size, peek_f32(k + 4 * j))
            for j in range(0, dim, 16):
                store_kv(values + j * size, keep(load(v + 4 * j), 0, dim - j, np.float32(0)))
        return 0

    return rope
