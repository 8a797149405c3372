"""Matrices times rows."""

from ..compiler.kernel import inline
from ..machines.amx import tile_config, tile_dot, tile_dot_too, tile_release
from ..program.passes import (
    AHEAD,
    COLS,
    COUNT,
    G_STEP,
    Q_STEP,
    QC,
    QS,
    ROWS,
    SCRATCH,
    SCRATCH_STEP,
    X_STEP,
    Q,
    S,
    W,
    X,
)
from ..words.dots import dot, dot4, finish4, scaled, start, start4
from ..words.memory import (
    load_bytes,
    load_f16,
    loads_i32,
    peek,
    peek_f32,
    prefetch,
    spreads,
    store_bytes,
)
from ..words.numbers import (
    fma,
    high_nibbles,
    low_nibbles,
    lowered,
    opaque,
    splat,
    zeros1,
    zeros4,
    zeros16,
)
from .play import share
from .rows import put_blocks, put_rows


@inline
def tile_q8(acc, record, i, block, steps):
    """16 rows of weights times a tile of tokens from i on. steps: 8, for the 8 * 4 columns of a group."""
    groups, q_step, g_step = peek(record + COLS) // 32, peek(record + Q_STEP), peek(record + G_STEP)
    w, s = peek(record + W) + block * groups * 512, peek(record + S) + block * groups * 32
    q, at = peek(record + Q) + i * q_step, i * g_step
    qs, qc = peek(record + QS) + at, peek(record + QC) + at
    for _ in range(groups):
        sums = start(acc, qc, g_step)
        for k in range(steps):
            prefetch(w + 64 * k + AHEAD)
            sums = dot(sums, load_bytes(w + 64 * k), q + 4 * k, q_step)
        acc = scaled(acc, sums, load_f16(s), qs, g_step)
        w, s, q, qs, qc = w + 512, s + 32, q + 32, qs + 4, qc + 4
    return acc


@inline
def tile_q4(acc, record, i, block, steps):
    groups, q_step, g_step = peek(record + COLS) // 32, peek(record + Q_STEP), peek(record + G_STEP)
    w, s = peek(record + W) + block * groups * 256, peek(record + S) + block * groups * 32
    q, at = peek(record + Q) + i * q_step, i * g_step
    qs, qc = peek(record + QS) + at, peek(record + QC) + at
    for _ in range(groups):
        sums = start4(acc)
        for k in range(steps // 2):
            prefetch(w + 64 * k + AHEAD)
            pair = load_bytes(w + 64 * k)
            sums = dot4(sums, low_nibbles(pair), q + 8 * k, q_step)
            sums = dot4(sums, high_nibbles(pair), q + 8 * k + 4, q_step)
        acc = scaled(acc, finish4(sums, qc, g_step), load_f16(s), qs, g_step)
        w, s, q, qs, qc = w + 256, s + 32, q + 32, qs + 4, qc + 4
    return acc


def matmul_quantised(tile):
    """OUT [tokens, rows] = Q [tokens, cols] @ W [rows, cols].T, four tokens at a time while there are four."""

    def matmul(record, pas, t, threads):
        n = peek(peek(record + COUNT))
        first, last = share(peek(record + ROWS) // 16, t, threads)
        steps = opaque(8)  # unrolled, the wide tile's sums do not fit the registers
        for block in range(first, last):
            for i in range(0, n - 3, 4):
                put_rows(record, i, block, tile(zeros4(), record, i, block, steps))
            for i in range(n - n % 4, n):
                put_rows(record, i, block, tile(zeros1(), record, i, block, 8))
        return 0

    return matmul


@inline
def signed_q8(w, groups, out):
    """A block of rows as the matrix unit takes it: for each group of 32 columns, [8, 64] int8."""
    for k in range(0, groups * 512, 64):
        prefetch(w + k + AHEAD)
        store_bytes(out + k, lowered(load_bytes(w + k), 128))


@inline
def signed_q4(w, groups, out):
    for k in range(0, groups * 256, 64):
        prefetch(w + k + AHEAD)
        pair = load_bytes(w + k)
        store_bytes(out + 2 * k, lowered(low_nibbles(pair), 8))
        store_bytes(out + 2 * k + 64, lowered(high_nibbles(pair), 8))


def matmul_tiles(signed, width, rest):
    """As matmul_quantised, sixteen tokens at a time on the matrix unit while there are sixteen: the same sums, so the same
    bits. width: bytes of a group of a block; rest: matmul_quantised's tile."""

    def matmul(record, pas, t, threads):
        n, groups = peek(peek(record + COUNT)), peek(record + COLS) // 32
        first, last = share(peek(record + ROWS) // 16, t, threads)
        q_step, g_step = peek(record + Q_STEP), peek(record + G_STEP)
        sums = peek(pas + SCRATCH) + t * peek(pas + SCRATCH_STEP)
        bytes_, steps = sums + 2048, opaque(8)
        if n >= 16:
            tile_config()
        for block in range(first, last):
            if n >= 16:
                signed(peek(record + W) + block * groups * width, groups, bytes_)
            for i in range(0, n - 15, 16):
                acc, w, s = zeros16(), bytes_, peek(record + S) + block * groups * 32
                q, qs = peek(record + Q) + i * q_step, peek(record + QS) + i * g_step
                tile_dot(q, q_step, w, sums)
                later = peek(record + W) + (block + 1) * groups * width + i // 16 * width // 2
                for g in range(
                    0, groups - 1, 2
                ):  # the next group's products are on their way while these are scaled
                    for k in range(
                        0, width // 2, 64
                    ):  # and the next block's weights, a quarter with each of the first tokens
                        prefetch(later + g * width + k)
                    tile_dot_too(q + 32 * g + 32, q_step, w + 512 * g + 512, sums + 1024)
                    acc = scaled(acc, loads_i32(acc, sums, 64), load_f16(s), qs, g_step)
                    after = min(g + 2, groups - 1)
                    tile_dot(q + 32 * after, q_step, w + 512 * after, sums)
                    acc = scaled(
                        acc, loads_i32(acc, sums + 1024, 64), load_f16(s + 32), qs + 4, g_step
                    )
                    s, qs = s + 64, qs + 8
                if groups % 2:
                    acc = scaled(acc, loads_i32(acc, sums, 64), load_f16(s), qs, g_step)
                put_rows(record, i, block, acc)
            for i in range(n - n % 16, n - 3, 4):
                put_rows(record, i, block, rest(zeros4(), record, i, block, steps))
            for i in range(n - n % 4, n):
                put_rows(record, i, block, rest(zeros1(), record, i, block, 8))
        if n >= 16:
            tile_release()
        return 0

    return matmul


def sums_float(loads, size):
    """-> the sums of a block of rows, whose weights of size bytes are read by loads, for one token and for four from i on.
    Rows are summed column by column."""

    def one(record, i, block):
        cols, x, acc = peek(record + COLS), peek(record + X) + i * peek(record + X_STEP), zeros1()
        w = peek(record + W) + block * cols * 16 * size
        for k in range(cols):
            acc = fma(loads(acc, w + k * 16 * size, 0), spreads(acc, x + 4 * k, 0), acc)
        return acc

    def four(record, i, block, steps):
        cols, x_step, acc = peek(record + COLS), peek(record + X_STEP), zeros4()
        w, x = peek(record + W) + block * cols * 16 * size, peek(record + X) + i * x_step
        for k in range(cols):
            acc = fma(loads(zeros1(), w + k * 16 * size, 0), spreads(acc, x + 4 * k, x_step), acc)
        return acc

    return inline(one), inline(four)


def matmul_float(loads, size):
    """As matmul_quantised, for weights of size bytes read by loads and X in float32."""
    one, four = sums_float(loads, size)

    def matmul(record, pas, t, threads):
        n, cols = peek(peek(record + COUNT)), peek(record + COLS)
        first, last = share(peek(record + ROWS) // 16, t, threads)
        out_step, many = 16 * size, cols * 16 * size
        block = first
        while block < last:
            if (
                n < 4 and last - block >= 4
            ):  # few tokens: four blocks of rows at once, to hide the latency of fma
                w = peek(record + W) + block * many
                for i in range(n):
                    acc, x = zeros4(), peek(record + X) + i * peek(record + X_STEP)
                    for k in range(cols):
                        acc = fma(
                            loads(acc, w + k * out_step, many), splat(peek_f32(x + 4 * k)), acc
                        )
                    put_blocks(record, i, block, acc)
                block += 4
                continue
            for i in range(0, n - 3, 4):
                put_rows(record, i, block, four(record, i, block, 0))
            for i in range(n - n % 4, n):
                put_rows(record, i, block, one(record, i, block))
            block += 1
        return 0

    return matmul
