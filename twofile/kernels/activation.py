"""Functions of the feed-forward part, number by number."""

import numpy as np

from ..compiler.kernel import Kernel, inline, kernel
from ..format.types import padded
from ..program.operands import COUNT, Number, Real, Rows, operands
from ..words.memory import load, peek, peek_f32, store
from ..words.numbers import add, div, exp, fma, keep, larger, magnitude, mul, splat, sub, zeros1
from .play import share
from .rows import INPUT, put_group

PLAIN = operands(
    "out or q = function(x).",
    INPUT,
    x=Rows(lambda r: 4 * r.cols),
    width=Number("columns without those that fill up"),
)
GATED = operands(
    "out or q = function(gate) * up; x holds gate [width], then up [width].",
    INPUT,
    x=Rows(lambda r: 8 * r.width),
    width=Number("columns of gate, and of up"),
)
CLAMPED_GATED = operands(
    "out or q = gate * sigmoid(alpha * gate) * (up + 1), the gate at most limit, up within it.",
    GATED,
    alpha=Real("of the sigmoid"),
    limit=Real("of gate and of up's size"),
)
IN_PLACE = operands(
    "x = function(x, gain), in place.",
    x=Rows(lambda r: 4 * padded(r.width, 16), writes=True),
    width=Number("columns"),
    gain=Real("a factor, or a cap"),
)


@inline
def silu(v):
    return div(v, add(splat(np.float32(1)), exp(sub(zeros1(), v))))


@inline
def tanh(v):
    one = splat(np.float32(1))
    return sub(one, div(splat(np.float32(2)), add(exp(add(v, v)), one)))


@inline
def gelu_tanh(v):
    """v * Phi(v) as Hendrycks and Gimpel (2016) approximate it:
    v * sigmoid(1.5957691 * (v + 0.044715 * v^3))"""
    inner = mul(
        v,
        fma(mul(v, v), splat(np.float32(0.07135481282553)), splat(np.float32(1.5957691216057308))),
    )
    return div(v, add(splat(np.float32(1)), exp(sub(zeros1(), inner))))


@inline
def gelu_erf(v):
    """v * Phi(v) = max(v, 0) - |v| * Phi(-|v|); Phi by Abramowitz and Stegun 7.1.26, to 7.5e-8."""
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
    """PLAIN or GATED with a function of vectors; both have their operands at the same offsets."""

    def activation(record, pas, t, threads):
        groups, n = peek(record + GATED.cols) // 32, peek(record + GATED.width)
        zero = np.float32(0)
        first, last = share(peek(peek(record + COUNT)) * groups, t, threads)
        for item in range(first, last):
            i, g = item // groups, item % groups
            x = peek(record + GATED.x) + i * peek(record + GATED.x_step) + 128 * g
            v0, v1 = function(load(x)), function(load(x + 64))
            if gated:
                v0, v1 = mul(v0, load(x + 4 * n)), mul(v1, load(x + 4 * n + 64))
            put_group(
                record, i, g, keep(v0, 0, n - 32 * g, zero), keep(v1, 0, n - 32 * g - 16, zero)
            )
        return 0

    return activation


@kernel(CLAMPED_GATED)
def clamped_gated(record, pas, t, threads):
    """GATED as gpt-oss has it."""
    groups, n = peek(record + CLAMPED_GATED.cols) // 32, peek(record + CLAMPED_GATED.width)
    zero = np.float32(0)
    alpha = splat(peek_f32(record + CLAMPED_GATED.alpha))
    limit = splat(peek_f32(record + CLAMPED_GATED.limit))
    one, low = splat(np.float32(1)), sub(zeros1(), limit)
    first, last = share(peek(peek(record + COUNT)) * groups, t, threads)
    for item in range(first, last):
        i, g = item // groups, item % groups
        x = peek(record + CLAMPED_GATED.x) + i * peek(record + CLAMPED_GATED.x_step) + 128 * g
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
    """IN_PLACE with a function of vectors and gain."""

    def in_place(record, pas, t, threads):
        blocks = (peek(record + IN_PLACE.width) + 15) // 16
        first, last = share(peek(peek(record + COUNT)) * blocks, t, threads)
        for item in range(first, last):
            x = (
                peek(record + IN_PLACE.x)
                + item // blocks * peek(record + IN_PLACE.x_step)
                + item % blocks * 64
            )
            store(x, function(load(x), peek_f32(record + IN_PLACE.gain)))
        return 0

    return in_place


@inline
def times(v, gain):
    return mul(v, splat(gain))


@inline
def capped(v, cap):
    return mul(splat(cap), tanh(div(v, splat(cap))))


def pair(name, function):
    """The two kernels of an activation: without a gate, with one."""
    return (
        Kernel(f"{name}_plain", lambda machine: activation(function, False), PLAIN),
        Kernel(f"{name}_gated", lambda machine: activation(function, True), GATED),
    )


FUNCTIONS = {  # by name of ACTIVATIONS: what there is without a gate, and with one
    "silu": pair("silu", silu),
    "gelu_tanh": pair("gelu_tanh", gelu_tanh),
    "gelu_erf": pair("gelu_erf", gelu_erf),
    "relu": pair("relu", relu),
    "relu2": pair("relu2", relu2),
    "clamped": (None, clamped_gated),
}
sigmoid_gated = Kernel("sigmoid_gated", lambda machine: activation(sigmoid, True), GATED)
softcap = Kernel("softcap", lambda machine: in_place(capped), IN_PLACE)
scale = Kernel("scale", lambda machine: in_place(times), IN_PLACE)
