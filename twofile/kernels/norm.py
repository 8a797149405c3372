"""Norms of rows and of heads."""

import numpy as np

from ..compiler.kernel import kernel
from ..program.passes import BIAS, COLS, COUNT, OUT, OUT_STEP, X_STEP, A, B, C, W, X
from ..words.memory import load, peek, peek_f32
from ..words.numbers import add, fma, keep, mul, root, splat, store_first, sub, total, zeros1
from .play import share
from .rows import put_group


def norm(centred, adding):
    """OUT or Q = X / sqrt(mean(X^2) + eps) * W, or, adding, OUT += that; A = true columns, B = eps, C = address of the tokens
    to take, or 0. Centred is the layer norm (Ba et al. 2016): of X less its mean, plus BIAS if there is one."""

    def norm(record, pas, t, threads):
        groups, n = peek(record + COLS) // 32, peek(record + A)
        item, last = share(peek(peek(record + COUNT)) * groups, t, threads)
        while item < last:
            i, g = item // groups, item % groups
            stop = min(groups, g + last - item)
            item += stop - g
            token = i
            if peek(record + C) != 0:
                token = peek(peek(record + C) + 8 * i)
            x = peek(record + X) + token * peek(record + X_STEP)
            mean, sums = zeros1(), zeros1()
            if centred:
                for k in range(0, groups * 128, 64):
                    sums = add(sums, load(x + k))
                mean = splat(total(sums) / np.float32(n))
            squares = zeros1()
            for k in range(0, groups * 128, 64):
                v = load(x + k)
                if centred:
                    v = keep(sub(v, mean), 0, n - k // 4, np.float32(0))
                squares = fma(v, v, squares)
            scale = splat(
                np.float32(1) / root(total(squares) / np.float32(n) + peek_f32(record + B))
            )
            w, bias = peek(record + W), peek(record + BIAS)
            for k in range(128 * g, 128 * stop, 128):
                v0, v1 = mul(load(x + k), scale), mul(load(x + k + 64), scale)
                if centred:
                    v0, v1 = (
                        mul(sub(load(x + k), mean), scale),
                        mul(sub(load(x + k + 64), mean), scale),
                    )
                v0, v1 = mul(v0, load(w + k)), mul(v1, load(w + k + 64))
                if centred and bias != 0:
                    v0, v1 = add(v0, load(bias + k)), add(v1, load(bias + k + 64))
                if adding:
                    out = peek(record + OUT) + i * peek(record + OUT_STEP) + k
                    v0, v1 = add(v0, load(out)), add(v1, load(out + 64))
                put_group(record, i, k // 128, v0, v1)
        return 0

    return norm


@kernel
def headnorm(record, pas, t, threads):
    """X = X / sqrt(mean(X^2) + eps) * W, in place, for each of A heads of C columns; B = eps."""
    heads, n = peek(record + A), peek(record + C)
    first, last = share(peek(peek(record + COUNT)) * heads, t, threads)
    for item in range(first, last):
        at = item % heads * n * 4
        x, w = peek(record + X) + item // heads * peek(record + X_STEP) + at, peek(record + W) + at
        squares = zeros1()
        for j in range(0, n, 16):
            v = keep(load(x + 4 * j), 0, n - j, np.float32(0))
            squares = fma(v, v, squares)
        scale = splat(np.float32(1) / root(total(squares) / np.float32(n) + peek_f32(record + B)))
        for j in range(0, n, 16):
            store_first(x + 4 * j, mul(mul(load(x + 4 * j), scale), load(w + 4 * j)), n - j)
    return 0
