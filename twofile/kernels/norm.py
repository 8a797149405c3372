"""Norms of rows and of heads."""

import numpy as np

from ..compiler.kernel import Kernel, kernel
from ..program.operands import CHUNK, COUNT, Flat, Number, Real, Rows, operands
from ..words.memory import load, peek, peek_f32
from ..words.numbers import add, fma, keep, mul, root, splat, store_first, sub, total, zeros1
from .play import share
from .rows import INPUT, put_group

NORM = operands(
    "out or q = x / sqrt(mean(x^2) + eps) * weight, or, adding, out += that.",
    INPUT,
    x=Rows(lambda r: 4 * r.cols, many=lambda r: CHUNK),  # with take, any of the pass
    weight=Flat(lambda r: 4 * r.cols),
    bias=Flat(lambda r: 4 * r.cols, optional=True),
    take=Flat(lambda r: 8 * r.many, optional=True),  # int64: which tokens; all in turn without it
    width=Number("columns without those that fill up"),
    eps=Real("added to the mean of the squares"),
)
HEADNORM = operands(
    "x = x / sqrt(mean(x^2) + eps) * weight, head by head, in place.",
    x=Rows(lambda r: 4 * r.heads * r.width, writes=True),
    weight=Flat(lambda r: 4 * r.heads * r.width),
    heads=Number("heads of a row"),
    width=Number("columns of a head"),
    eps=Real("added to the mean of the squares"),
)


def norm(centred, adding):
    """NORM for one kind. centred: the layer norm (Ba et al. 2016): of x less its mean, plus bias if
    there is one. adding: to what stands in out."""

    def norm(record, pas, t, threads):
        groups, n = peek(record + NORM.cols) // 32, peek(record + NORM.width)
        item, last = share(peek(peek(record + COUNT)) * groups, t, threads)
        while item < last:
            i, g = item // groups, item % groups
            stop = min(groups, g + last - item)
            item += stop - g
            token = i
            if peek(record + NORM.take) != 0:
                token = peek(peek(record + NORM.take) + 8 * i)
            x = peek(record + NORM.x) + token * peek(record + NORM.x_step)
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
                np.float32(1) / root(total(squares) / np.float32(n) + peek_f32(record + NORM.eps))
            )
            w, bias = peek(record + NORM.weight), peek(record + NORM.bias)
            for k in range(128 * g, 128 * stop, 128):
                v0, v1 = mul(load(x + k), scale), mul(load(x + k + 64), scale)
                if centred:
                    v0 = mul(sub(load(x + k), mean), scale)
                    v1 = mul(sub(load(x + k + 64), mean), scale)
                v0, v1 = mul(v0, load(w + k)), mul(v1, load(w + k + 64))
                if centred and bias != 0:
                    v0, v1 = add(v0, load(bias + k)), add(v1, load(bias + k + 64))
                if adding:
                    out = peek(record + NORM.out) + i * peek(record + NORM.out_step) + k
                    v0, v1 = add(v0, load(out)), add(v1, load(out + 64))
                put_group(record, i, k // 128, v0, v1)
        return 0

    return norm


@kernel(HEADNORM)
def headnorm(record, pas, t, threads):
    heads, n = peek(record + HEADNORM.heads), peek(record + HEADNORM.width)
    first, last = share(peek(peek(record + COUNT)) * heads, t, threads)
    for item in range(first, last):
        at = item % heads * n * 4
        x = peek(record + HEADNORM.x) + item // heads * peek(record + HEADNORM.x_step) + at
        w = peek(record + HEADNORM.weight) + at
        squares = zeros1()
        for j in range(0, n, 16):
            v = keep(load(x + 4 * j), 0, n - j, np.float32(0))
            squares = fma(v, v, squares)
        scale = splat(
            np.float32(1) / root(total(squares) / np.float32(n) + peek_f32(record + HEADNORM.eps))
        )
        for j in range(0, n, 16):
            store_first(x + 4 * j, mul(mul(load(x + 4 * j), scale), load(w + 4 * j)), n - j)
    return 0


def normed(name, centred):
    """A kind of norm: two kernels, by whether it adds."""
    plain = Kernel(name, lambda machine: norm(centred, False), NORM)
    return plain, Kernel(f"{name}_add", lambda machine: norm(centred, True), NORM)


NORMS = normed("rmsnorm", False), normed("layernorm", True)  # by config.norms.centred
