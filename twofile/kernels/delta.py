"""The gated delta rule."""

import numpy as np

from ..compiler.kernel import inline, kernel
from ..format.types import padded
from ..program.operands import (
    N_TOKENS,
    POSITIONS,
    SCRATCH,
    SCRATCH_STEP,
    SLOTS,
    Flat,
    Number,
    Rows,
    Scratch,
    operands,
)
from ..words.memory import load, loads_f32, peek, peek_f32, poke_f32, spreads, stores
from ..words.numbers import add, fma, mul, splat, store_first, sub, zeros4
from .pick import exp64
from .play import share

DECAYS = operands(
    "x [b, a; heads each], in place: b becomes sigmoid(b), a exp(rate log(1 + e^(a + bias))).",
    x=Rows(lambda r: 8 * r.heads, writes=True),
    rates=Flat(lambda r: 8 * r.heads),  # rates, then biases
    heads=Number("heads of values"),
)
DELTA_RULE = operands(
    "A head's state S [keys, values] fades, learns where it was wrong, is read: S = decay S; "
    "S += k (rate (v - k S)); out = q S. x: q and k of heads that have group heads of values each, "
    "side by side or, with turns, in turns; then v of all heads.",
    x=Rows(lambda r: 4 * (2 * r.keys * (r.heads // r.group) + r.heads * r.values)),
    rates=Rows(lambda r: 8 * r.heads),  # what DECAYS left: all rates, then all decays
    states=Flat(  # [slot, head, values / 16, keys, 16], begun anew at position 0
        lambda r: 4 * r.slots * r.heads * r.keys * padded(r.values, 16), writes=True
    ),
    out=Rows(lambda r: 4 * r.heads * r.values, writes=True),
    heads=Number("heads of values"),
    group=Number("of these that share a q and a k"),
    keys=Number("columns of q and of k"),
    values=Number("columns of v"),
    turns=Number("1 = head h has pair h mod pairs, else h div group"),
    sums=Scratch(lambda r: 256),
)


@kernel(DECAYS)
def decays(record, pas, t, threads):
    n = peek(record + DECAYS.heads)
    first, last = share(peek(pas + N_TOKENS) * n, t, threads)
    for item in range(first, last):
        x = peek(record + DECAYS.x) + item // n * peek(record + DECAYS.x_step) + 4 * (item % n)
        w = peek(record + DECAYS.rates) + 4 * (item % n)
        b = np.float64(peek_f32(x))
        a = np.float64(peek_f32(x + 4 * n)) + np.float64(peek_f32(w + 4 * n))
        e = exp64(-abs(b))
        poke_f32(x, np.float32((1.0 if b > 0.0 else e) / (1.0 + e)))
        e = exp64(-abs(a))
        s, sums = e / (2.0 + e), 0.0  # log(1 + e) = 2 (s + s^3 / 3 + ...), s at most 1/3
        for k in range(33, 0, -2):
            sums = sums * s * s + 1.0 / k
        poke_f32(
            x + 4 * n,
            np.float32(exp64(min(0.0, np.float64(peek_f32(w)) * (max(a, 0.0) + 2.0 * s * sums)))),
        )
    return 0


@inline
def four_rows(acc, scratch):
    """The sum of the vectors of a tile of four."""
    stores(scratch, 64, acc)
    return add(
        add(load(scratch), load(scratch + 64)), add(load(scratch + 128), load(scratch + 192))
    )


@kernel(DELTA_RULE)
def delta(record, pas, t, threads):
    """Yang et al. 2024. A thread has 16 columns of a head's state at a time, and takes the tokens
    in turn: a sequence's must stand in its order."""
    heads, group = peek(record + DELTA_RULE.heads), peek(record + DELTA_RULE.group)
    keys, dim = peek(record + DELTA_RULE.keys), peek(record + DELTA_RULE.values)
    pairs, blocks = heads // group, (dim + 15) // 16
    scratch = peek(pas + SCRATCH) + t * peek(pas + SCRATCH_STEP)
    first, last = share(heads * blocks, t, threads)
    for item in range(first, last):
        head, at = item // blocks, item % blocks * 16
        pair = head % pairs if peek(record + DELTA_RULE.turns) != 0 else head // group
        for i in range(peek(pas + N_TOKENS)):
            x = peek(record + DELTA_RULE.x) + i * peek(record + DELTA_RULE.x_step)
            w = (
                peek(record + DELTA_RULE.rates)
                + i * peek(record + DELTA_RULE.rates_step)
                + 4 * head
            )
            q, k = x + 4 * keys * pair, x + 4 * keys * (pairs + pair)
            v = load(x + 4 * (2 * keys * pairs + dim * head + at))
            rate, decay = splat(peek_f32(w)), splat(peek_f32(w + 4 * heads))
            s = (
                peek(record + DELTA_RULE.states)
                + (peek(peek(pas + SLOTS) + 8 * i) * heads * blocks + item) * keys * 64
            )
            acc = zeros4()
            if peek(peek(pas + POSITIONS) + 8 * i) == 0:
                for j in range(0, keys, 4):
                    stores(s + 64 * j, 64, acc)
            for j in range(0, keys, 4):
                rows = mul(loads_f32(acc, s + 64 * j, 64), decay)
                stores(s + 64 * j, 64, rows)
                acc = fma(rows, spreads(acc, k + 4 * j, 4), acc)
            change = mul(sub(v, four_rows(acc, scratch)), rate)
            acc = zeros4()
            for j in range(0, keys, 4):
                rows = fma(spreads(acc, k + 4 * j, 4), change, loads_f32(acc, s + 64 * j, 64))
                stores(s + 64 * j, 64, rows)
                acc = fma(rows, spreads(acc, q + 4 * j, 4), acc)
            out = (
                peek(record + DELTA_RULE.out)
                + i * peek(record + DELTA_RULE.out_step)
                + 4 * (dim * head + at)
            )
            store_first(out, four_rows(acc, scratch), dim - at)
    return 0
