"""Matrices times rows."""

from ..compiler.kernel import Kernel
from ..machines.x86 import tile_config, tile_dot, tile_dot_too, tile_release
from ..program.operands import COUNT, SCRATCH, SCRATCH_STEP, Scratch, operands
from ..words.memory import load_f16, loads_i32, peek, peek_f32, prefetch
from ..words.numbers import fma, opaque, scaled, splat, zeros1, zeros4, zeros16
from .play import share
from .rows import put_blocks, put_rows
from .weights import FLOATS, QUANTISED, WEIGHTS, sums_float

# matmul_tiles takes what MATMUL has, and for the matrix unit 2 KiB of sums and a block of weights
MATMUL = operands(QUANTISED.about, QUANTISED, tiles=Scratch(lambda r: 2048 + 16 * r.cols))


def matmul_quantised(tile):
    """out [tokens, rows] = q [tokens, cols] @ w [rows, cols].T, four tokens at a time while there
    are four."""

    def matmul(record, pas, t, threads):
        n = peek(peek(record + COUNT))
        first, last = share(peek(record + QUANTISED.n_rows) // 16, t, threads)
        steps = opaque(8)  # unrolled, the wide tile's sums do not fit the registers
        for block in range(first, last):
            for i in range(0, n - 3, 4):
                put_rows(record, i, block, tile(zeros4(), record, i, block, steps))
            for i in range(n - n % 4, n):
                put_rows(record, i, block, tile(zeros1(), record, i, block, 8))
        return 0

    return matmul


def matmul_tiles(signed, width, rest):
    """As matmul_quantised, sixteen tokens at a time on the matrix unit while there are sixteen: the
    same sums, so the same bits. width: bytes of a group of a block; rest: the tile of
    matmul_quantised."""

    def matmul(record, pas, t, threads):
        n, groups = peek(peek(record + COUNT)), peek(record + QUANTISED.cols) // 32
        first, last = share(peek(record + QUANTISED.n_rows) // 16, t, threads)
        q_step, g_step = peek(record + QUANTISED.q_step), peek(record + QUANTISED.qs_step)
        sums = peek(pas + SCRATCH) + t * peek(pas + SCRATCH_STEP)
        bytes_, steps = sums + 2048, opaque(8)
        if n >= 16:
            tile_config()
        for block in range(first, last):
            if n >= 16:
                signed(peek(record + QUANTISED.w) + block * groups * width, groups, bytes_)
            for i in range(0, n - 15, 16):
                acc, w, s = zeros16(), bytes_, peek(record + QUANTISED.scales) + block * groups * 32
                q = peek(record + QUANTISED.q) + i * q_step
                qs = peek(record + QUANTISED.qs) + i * g_step
                tile_dot(q, q_step, w, sums)
                later = (
                    peek(record + QUANTISED.w) + (block + 1) * groups * width + i // 16 * width // 2
                )
                # the next group's products are on their way while these are scaled, and the next
                # block's weights, a quarter with each of the first tokens
                for g in range(0, groups - 1, 2):
                    for k in range(0, width // 2, 64):
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


def matmul_float(loads, size):
    """As matmul_quantised, for weights of size bytes read by loads and x in float32."""
    one, four = sums_float(loads, size)

    def matmul(record, pas, t, threads):
        n, cols = peek(peek(record + COUNT)), peek(record + FLOATS.cols)
        first, last = share(peek(record + FLOATS.n_rows) // 16, t, threads)
        out_step, many = 16 * size, cols * 16 * size
        block = first
        while block < last:
            # few tokens: four blocks of rows at once, to hide the latency of fma
            if n < 4 and last - block >= 4:
                w = peek(record + FLOATS.w) + block * many
                for i in range(n):
                    acc, x = zeros4(), peek(record + FLOATS.x) + i * peek(record + FLOATS.x_step)
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


def matmul_of(weights):
    """The matmul of a type of weights."""
    if not weights.type.quantised:
        make = lambda machine: matmul_float(weights.loads, weights.size)
        return Kernel(f"matmul_{weights.type.name}", make, FLOATS, weights.type)

    def make(machine):
        if machine.tiles:
            return matmul_tiles(weights.signed, weights.width, weights.tile)
        return matmul_quantised(weights.tile)

    return Kernel(f"matmul_{weights.type.name}", make, MATMUL, weights.type)


MATMULS = {weights.type: matmul_of(weights) for weights in WEIGHTS}
