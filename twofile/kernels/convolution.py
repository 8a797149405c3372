"""Short convolutions over the tokens."""

from ..compiler.kernel import Kernel, inline
from ..program.operands import N_TOKENS, POSITIONS, SLOTS, Flat, Number, Rows, operands
from ..words.memory import load, peek, store
from ..words.numbers import fma, mul, store_first
from .activation import silu
from .play import share
from .rows import INPUT, put_group


def convolve(about, gated):
    """The operands of both kinds of convolution, at the same offsets."""
    return operands(
        about,
        INPUT,
        x=Rows(lambda r: 4 * r.width * (3 if gated else 1), writes=not gated),
        weight=Flat(lambda r: 4 * r.taps * r.cols),  # [taps, cols], the last tap the token's own
        inputs=Flat(
            lambda r: (r.slots - 1) * r.slot + 4 * max(r.taps - 1, 1) * r.cols, writes=True
        ),
        width=Number("columns without those that fill up"),
        taps=Number("inputs that are summed"),
        slot=Number("bytes of a slot of inputs, [taps - 1 (or 1), cols]"),
    )


CONVOLVE = convolve("x = silu(each column's last inputs, weighted by the taps), in place.", False)
CONVOLVE_GATED = convolve("out or q = c * that of b * x, of x [b, c, x; width each].", True)


@inline
def convolved(record, state, position, at, u):
    """The 16 columns at byte at of a row, whose inputs are u, as the sum over the taps; u is kept
    for the next positions."""
    taps, row = peek(record + CONVOLVE.taps), 4 * peek(record + CONVOLVE.cols)
    ring, w = max(1, taps - 1), peek(record + CONVOLVE.weight) + at + (taps - 1) * row
    acc = mul(u, load(w))
    for j in range(1, min(taps - 1, position) + 1):
        acc = fma(load(state + (position - j) % ring * row + at), load(w - j * row), acc)
    store(state + position % ring * row + at, u)
    return acc


def convolution(gated):
    """CONVOLVE or CONVOLVE_GATED. A thread has some of the columns, and takes the tokens in turn: a
    sequence's must stand in its order."""

    def convolution(record, pas, t, threads):
        n, wide = peek(record + CONVOLVE.width), 4 * peek(record + CONVOLVE.width)
        first, last = share(peek(record + CONVOLVE.cols) // 32, t, threads)
        for i in range(peek(pas + N_TOKENS)):
            state = peek(record + CONVOLVE.inputs) + peek(peek(pas + SLOTS) + 8 * i) * peek(
                record + CONVOLVE.slot
            )
            position = peek(peek(pas + POSITIONS) + 8 * i)
            for g in range(first, last):
                x = peek(record + CONVOLVE.x) + i * peek(record + CONVOLVE.x_step) + 128 * g
                v0, v1 = load(x), load(x + 64)
                if gated:
                    v0, v1 = mul(v0, load(x + 2 * wide)), mul(v1, load(x + 2 * wide + 64))
                v0 = convolved(record, state, position, 128 * g, v0)
                v1 = convolved(record, state, position, 128 * g + 64, v1)
                if gated:  # beyond the columns the taps are 0
                    put_group(record, i, g, mul(v0, load(x + wide)), mul(v1, load(x + wide + 64)))
                else:
                    store_first(x, silu(v0), n - 32 * g)
                    store_first(x + 64, silu(v1), n - 32 * g - 16)
        return 0

    return convolution


convolution_plain = Kernel("convolution", lambda machine: convolution(False), CONVOLVE)
convolution_gated = Kernel("convolution_gated", lambda machine: convolution(True), CONVOLVE_GATED)
