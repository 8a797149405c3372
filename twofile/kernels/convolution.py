"""Short convolutions over the tokens."""

from ..compiler.kernel import inline
from ..program.passes import COLS, N_TOKENS, POSITIONS, SLOTS, X_STEP, A, B, C, E, W, X
from ..words.memory import load, peek, store
from ..words.numbers import fma, mul, store_first
from .activation import silu
from .play import share
from .rows import put_group


@inline
def convolved(record, state, position, at, u):
    """The 16 columns at byte at of a row, whose inputs are u, as the sum over the taps; u is kept for the next positions."""
    taps, row = peek(record + B), 4 * peek(record + COLS)
    ring, w = max(1, taps - 1), peek(record + W) + at + (taps - 1) * row
    acc = mul(u, load(w))
    for j in range(1, min(taps - 1, position) + 1):
        acc = fma(load(state + (position - j) % ring * row + at), load(w - j * row), acc)
    store(state + position % ring * row + at, u)
    return acc


def convolution(gated):
    """Each of A columns of X by itself as the sum of its last B inputs, weighted by the taps W [B, COLS]: silu(that) in place,
    or, gated, X holding b [A], c [A], x [A]: OUT or Q = c * that of b * x. C: the last inputs, [slot, B - 1 (or 1), COLS], E
    bytes a slot. A thread has some of the columns, and takes the tokens in turn: a sequence's must stand in its order."""

    def convolution(record, pas, t, threads):
        n, wide = peek(record + A), 4 * peek(record + A)
        first, last = share(peek(record + COLS) // 32, t, threads)
        for i in range(peek(pas + N_TOKENS)):
            state = peek(record + C) + peek(peek(pas + SLOTS) + 8 * i) * peek(record + E)
            position = peek(peek(pas + POSITIONS) + 8 * i)
            for g in range(first, last):
                x = peek(record + X) + i * peek(record + X_STEP) + 128 * g
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
