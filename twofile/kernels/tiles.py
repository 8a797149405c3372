"""16 rows of weights times a tile of tokens, composed of bits and scales."""

import numpy as np

from ..compiler.kernel import inline
from ..format.types import GROUP
from ..program.operands import AHEAD, Flat, Number, Rows, operands
from ..words.memory import peek, prefetch, spreads, store_bytes
from ..words.numbers import (
    dot,
    dot_few,
    fma,
    gathered,
    less,
    lowered,
    scaled,
    splat,
    spread_sums,
    start,
    start_few,
)
from .rows import RESULT


def matrices(r):
    """Rows of weights of a record: of one matrix, or of all experts'."""
    return r.n_rows * getattr(r, "experts", 1)


def beside_bytes(r, ending, rows):
    """Bytes of the tensor beside a matrix that ends so; 0 if there is none."""
    found = {end: kind.nbytes(s, False) for end, kind, s in r.type.beside((rows, r.cols))}
    return found.get(ending, 0)


QUANTISED = operands(
    "sums = x @ w.T, of weights of scaled bits; x is q, and of its groups scales qs, sums qc, sums "
    "times scales qm, sums of halves qh.",
    RESULT,
    q=Rows(lambda r: r.cols),
    qs=Rows(lambda r: r.cols // 8),
    qc=Rows(lambda r: r.cols // 8 * (r.type.share == GROUP and not r.type.least), like="qs"),
    qm=Rows(lambda r: r.cols // 8 * (r.type.share == GROUP and r.type.least), like="qs"),
    qh=Rows(lambda r: r.cols // 4 * (r.type.share < GROUP)),
    w=Flat(lambda r: matrices(r) * r.cols * r.type.bits // 8),
    scales=Flat(lambda r: beside_bytes(r, ".s", matrices(r))),
    above=Flat(lambda r: beside_bytes(r, ".d", matrices(r)), optional=True),
    cols=Number("columns, filled up to whole groups of 32"),
)


def sums_of(bits, zero, columns, machine):
    """-> the sums of a tile of tokens and the weights at w, from pair `first` of a group's steps
    on, as the machine makes them; at c are the tokens' sums of those columns. pairs: columns / 8.
    """
    low, high, fits = bits.low, bits.high, bits.fits

    def whole(acc, w, first, q, q_step, c, c_step, pairs):
        sums = start(acc, c, c_step)
        for k in range(first, first + pairs):
            at = q + 8 * k
            sums = dot(dot(sums, low(w, k), at, q_step), high(w, k), at + 4, q_step)
        return sums

    def few(acc, w, first, q, q_step, c, c_step, pairs):
        some = start_few(acc)
        for k in range(first, first + pairs):
            at = q + 8 * k
            some = dot_few(dot_few(some, low(w, k), at, q_step), high(w, k), at + 4, q_step)
        return gathered(less(acc, c, c_step, zero), some)

    def fewer(acc, w, first, q, q_step, c, c_step, pairs):
        sums = less(acc, c, c_step, zero)
        for k in range(first, first + pairs, fits):
            some = start_few(acc)
            for j in range(k, k + fits):
                at = q + 8 * j
                some = dot_few(dot_few(some, low(w, j), at, q_step), high(w, j), at + 4, q_step)
            sums = gathered(sums, some)
        return sums

    if not fits:
        return inline(whole)
    return inline(fewer if machine.pairwise and fits < columns // 8 else few)


def added(kind, scales):
    """-> what a tile becomes by the least of the weights of a part, and what is above that for a
    group: nothing, if they have none."""

    def nothing(d, group):
        return splat(np.float32(0))

    def none(acc, record, i, s, low, part):
        return acc

    def groups(acc, record, i, s, low, part):
        step = peek(record + QUANTISED.qs_step)
        at = peek(record + QUANTISED.qm) + i * step + 4 * part
        return fma(least(s, low, part), spreads(acc, at, step), acc)

    def halves(acc, record, i, s, low, part):
        step, h_step = peek(record + QUANTISED.qs_step), peek(record + QUANTISED.qh_step)
        at = peek(record + QUANTISED.qs) + i * step + part // 2 * 4
        sums = peek(record + QUANTISED.qh) + i * h_step + 4 * part
        return fma(least(s, low, part), spread_sums(acc, sums, h_step, at, step), acc)

    if not kind.least:
        return inline(nothing), inline(none)
    least = scales.least
    return scales.low, inline(groups if kind.share == GROUP else halves)


def tile_of(weights, bits, width, zero, machine):
    """-> 16 rows of weights times a tile of tokens from i on: of the block of that number, whose
    bits are at w, a group of them width bytes. pairs: of steps, of columns that share a scale."""
    kind, scales, (low_of, plus) = weights.type, weights.scales, weights.added
    top_of, scale, per_part, per_super = scales.top, scales.scale, scales.bytes, scales.above
    parts, columns = GROUP // kind.share, kind.share
    sums, run = sums_of(bits, zero, columns, machine), 8 if kind.above else 1 << 30
    by_group = parts == 1

    def tile(acc, record, i, w, block, pairs):
        q_step, g_step = peek(record + QUANTISED.q_step), peek(record + QUANTISED.qs_step)
        groups, ahead = peek(record + QUANTISED.cols) // 32, peek(record + AHEAD)
        s = peek(record + QUANTISED.scales) + block * groups * parts * per_part
        d = peek(record + QUANTISED.above) + block * ((groups + 7) // 8) * per_super
        q, qs = peek(record + QUANTISED.q) + i * q_step, peek(record + QUANTISED.qs) + i * g_step
        c, c_step = peek(record + QUANTISED.qc) + i * g_step, g_step
        if not by_group:
            c_step = peek(record + QUANTISED.qh_step)
            c = peek(record + QUANTISED.qh) + i * c_step
        for first in range(0, groups, run):
            top, low = top_of(d, first), low_of(d, first)
            prefetch(d + first // 8 * per_super + ahead // 32)
            for group in range(first, min(first + run, groups)):
                for k in range(0, width, 64):
                    prefetch(w + ahead + k)
                prefetch(s + parts * per_part * group + ahead // 8)
                for h in range(parts):
                    part = parts * group + h
                    at = c + 4 * part
                    found = sums(acc, w, 4 // parts * h, q, q_step, at, c_step, pairs)
                    acc = scaled(acc, found, scale(s, top, part), qs, g_step)
                    acc = plus(acc, record, i, s, low, part)
                w, q, qs = w + width, q + 32, qs + 4
        return acc

    return inline(tile)


def unpacked(bits, width, zero):
    """-> a block of rows at w as bytes at out, [8, 64] for each group: less zero."""
    low, high = bits.low, bits.high

    def unpack(w, groups, ahead, out):
        for _ in range(groups):
            for k in range(0, width, 64):
                prefetch(w + ahead + k)
            for k in range(4):
                store_bytes(out + 128 * k, lowered(low(w, k), zero))
                store_bytes(out + 128 * k + 64, lowered(high(w, k), zero))
            w, out = w + width, out + 512

    return inline(unpack)
