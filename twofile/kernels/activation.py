"""Functions of the feed-forward part, number by number."""

import numpy as np

from ..compiler.kernel import inline, kernel
from ..program.passes import COLS, COUNT, GAIN, X_STEP, A, B, X
from ..words.memory import load, peek, peek_f32, store
from ..words.numbers import add, div, exp, fma, keep, larger, magnitude, mul, splat, sub, zeros1
from .play import share
from .rows import put_group


@inline
def silu(v):
    return div(v, add(splat(np.float32(1)), exp(sub(zeros1(), v))))


@inline
def tanh(v):
    one = splat(np.float32(1))
    return sub(one, div(splat(np.float32(2)), add(exp(add(v, v)), one)))


@inline
def gelu_tanh(v):
    """v * Phi(v) as Hendrycks and Gimpel (2016) approximate it: v * sigmoid(1.5957691 * (v + 0.044715 * v^3))"""
    inner = mul(
        v,
        fma(mul(v, v), splat(np.float32(0.07135481282553)), splat(np.float32(1.5957691216057308))),
    )
    return div(v, add(splat(np.float32(1)), exp(sub(zeros1(), inner))))


@inline
def gelu_erf(v):
    """v * Phi(v) = max(v, 0) - |v| * Phi(-|v|); Phi by Abramowitz and Stegun 7.1.26, right to 7.5e-8."""
    size = magnitude(v)
    z = mul(size, splat(np.float32(0.7071067811865476)))
    t = div(splat(np.float32(1)), fma(z, splat(np.float32(0.3275911)), splat(np.float32(1))))
    y = splat(np.float32(1.061405429))
    y = fma(y, t, splat(np.float32(-1.453152027)))
    y = fma(y, t, splat(np.float32(1.421413741)))
    y = fma(y, t, splat(np.float32(-0.284496736)))
    y = mul(fma(y, t, splat(np.float32(0.254829592))), t)
    tail = mul(mul(splat(np.float32(0.5)), y), exp(sub(zeros1(), mul(z, z))))
    return sub(relu(v), mul(size, tail))


@inline
def sigmoid(v):
    one = splat(np.float32(1))
    return div(one, add(one, exp(sub(zeros1(), v))))


@inline
def relu(v):
    return larger(v, zeros1())


@inline
def relu2(v):
    return mul(relu(v), relu(v))


def activation(function, gated):
    """OUT or Q = function(gate) * up, X holding gate [A], then up [A]; or function(X), if not gated."""

    def activation(record, pas, t, threads):
        groups, n = peek(record + COLS) // 32, peek(record + A)
        zero = np.float32(0)
        first, last = share(peek(peek(record + COUNT)) * groups, t, threads)
        for item in range(first, last):
            i, g = item // groups, item % groups
            x = peek(record + X) + i * peek(record + X_STEP) + 128 * g
            v0, v1 = function(load(x)), function(load(x + 64))
            if gated:
                v0, v1 = mul(v0, load(x + 4 * n)), mul(v1, load(x + 4 * n + 64))
            put_group(
                record, i, g, keep(v0, 0, n - 32 * g, zero), keep(v1, 0, n - 32 * g - 16, zero)
            )
        return 0

    return activation


@kernel
def clamped_gated(record, pas, t, threads):
    """As activation, gated, of gpt-oss: gate * sigmoid(GAIN * gate) * (up + 1), the gate at most B, up within -B and B."""
    groups, n, zero = peek(record + COLS) // 32, peek(record + A), np.float32(0)
    alpha, limit = splat(peek_f32(record + GAIN)), splat(peek_f32(record + B))
    one, low = splat(np.float32(1)), sub(zeros1(), limit)
    first, last = share(peek(peek(record + COUNT)) * groups, t, threads)
    for item in range(first, last):
        i, g = item // groups, item % groups
        x = peek(record + X) + i * peek(record + X_STEP) + 128 * g
        v0, v1 = zeros1(), zeros1()
        for half in range(2):
            gate = sub(zeros1(), larger(sub(zeros1(), load(x + 64 * half)), low))
            up = larger(sub(zeros1(), larger(sub(zeros1(), load(x + 4 * n + 64 * half)), low)), low)
            v = mul(div(gate, add(one, exp(sub(zeros1(), mul(gate, alpha))))), add(up, one))
            if half == 0:
                v0 = v
            else:
                v1 = v
        put_group(record, i, g, keep(v0, 0, n - 32 * g, zero), keep(v1, 0, n - 32 * g - 16, zero))
    return 0


def in_place(function):
    """X = function(X, GAIN), in place; A columns."""

    def in_place(record, pas, t, threads):
        blocks = (peek(record + A) + 15) // 16
        first, last = share(peek(peek(record + COUNT)) * blocks, t, threads)
        for item in range(first, last):
            x = peek(record + X) + item // blocks * peek(record + X_STEP) + item % blocks * 64
            store(x, function(load(x), peek_f32(record + GAIN)))
        return 0

    return in_place


@inline
def times(v, gain):
    return mul(v, splat(gain))


@inline
def capped(v, cap):
    return mul(splat(cap), tanh(div(v, splat(cap))))
