"""Rows of a matrix, by their numbers."""

import numpy as np

from ..compiler.kernel import inline
from ..program.passes import ADD, COLS, GAIN, N_TOKENS, OUT, OUT_STEP, A, B, S, W
from ..words.memory import peek, peek_f16, peek_f32, peek_u8, poke_f32
from .play import share


@inline
def weight_q8(record, row, k):
    """Element [row, k] of W."""
    groups, lane = peek(record + COLS) // 32, row % 16
    scale = peek_f16(peek(record + S) + (row // 16 * groups + k // 32) * 32 + 2 * lane)
    w = peek(record + W) + row // 16 * groups * 512 + k // 4 * 64 + 4 * lane + k % 4
    return np.float32(peek_u8(w) - 128) * scale


@inline
def weight_q4(record, row, k):
    groups, lane = peek(record + COLS) // 32, row % 16
    scale = peek_f16(peek(record + S) + (row // 16 * groups + k // 32) * 32 + 2 * lane)
    w = peek(record + W) + row // 16 * groups * 256 + k // 8 * 64 + 4 * lane + k % 4
    return np.float32((peek_u8(w) >> (k % 8 // 4 * 4)) % 16 - 8) * scale


def weight_float(peek_weight, size):
    def weight(record, row, k):
        return peek_weight(
            peek(record + W) + ((row // 16 * peek(record + COLS) + k) * 16 + row % 16) * size
        )

    return inline(weight)


def embed(weight):
    """OUT [tokens, A] = the rows of W that the ids at B of the pass name, times GAIN; added to OUT if ADD."""

    def embed(record, pas, t, threads):
        cols = peek(record + A)
        gain = peek_f32(record + GAIN)
        for i in range(peek(pas + N_TOKENS)):
            row = peek(peek(pas + peek(record + B)) + 8 * i)
            out = peek(record + OUT) + i * peek(record + OUT_STEP)
            first, last = share(cols, t, threads)
            for k in range(first, last):
                before = np.float32(0)
                if peek(record + ADD) != 0:
                    before = peek_f32(out + 4 * k)
                poke_f32(out + 4 * k, before + weight(record, row, k) * gain)
        return 0

    return embed
