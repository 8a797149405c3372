"""How columns of an input go together; what their errors make of others."""

from ...compiler.kernel import Kernel
from ...format.types import SUPER
from ...words.memory import load, loads_f32, peek, peek_f32, poke_f32, spreads, store, stores
from ...words.numbers import add, fma, splat, zeros16

ROW = 4 * SUPER  # bytes of a column's row

# of MOMENTS: X, float32 [ROWS, STEP bytes], its columns filled up to 32 with zeros; SUMS: float32
# [supers, 256, 256]; of FEEDS: SUMS, which are used up; OUT, which begins as the unit matrices;
# LEFT: float32 [supers, 256]
X, STEP, ROWS, COLS, SUMS, OUT, LEFT = range(0, 56, 8)


def moments(record, _, first, last):
    """Of supers (256 columns) first to last: to the sums of products of each two of their columns
    those of these rows are added."""
    n, step = peek(record + ROWS), peek(record + STEP)
    for s in range(first, last):
        x, sums = peek(record + X) + ROW * s, peek(record + SUMS) + ROW * SUPER * s
        cols = min(peek(record + COLS) - SUPER * s, SUPER)
        for i in range(0, cols, 16):
            for j in range(0, cols, 16):
                found = zeros16()
                for t in range(n):
                    at = x + step * t
                    found = fma(spreads(found, at + 4 * i, 4), load(at + 4 * j), found)
                to = sums + ROW * i + 4 * j
                stores(to, ROW, add(found, loads_f32(found, to, ROW)))
    return 0


def feeds(record, _, first, last):
    """Of supers first to last, whose sums S are of an input x: how much of an error of a column
    each column behind it makes good, if it is chosen freely; it is out[column, other], negative. At
    left: of a square of a column's error, what then is left of it in the output.

    S = U D U', of which U is 1 on its diagonal and 0 below; out = U^-1, left = D: elimination from
    the last column to the first."""
    for s in range(first, last):
        sums, out = peek(record + SUMS) + ROW * SUPER * s, peek(record + OUT) + ROW * SUPER * s
        left = peek(record + LEFT) + ROW * s
        for j in range(SUPER - 1, -1, -1):
            pivot = peek_f32(sums + (ROW + 4) * j)
            poke_f32(left + 4 * j, pivot)
            for i in range(j):
                factor = peek_f32(sums + ROW * i + 4 * j) / pivot
                for k in range(0, j, 16):
                    at = sums + ROW * i + 4 * k
                    store(at, fma(splat(-factor), load(sums + ROW * j + 4 * k), load(at)))
                for k in range(j - j % 16, SUPER, 16):
                    at = out + ROW * i + 4 * k
                    store(at, fma(splat(-factor), load(out + ROW * j + 4 * k), load(at)))
    return 0


MOMENTS = Kernel("moments", lambda machine: moments)
FEEDS = Kernel("feeds", lambda machine: feeds)
