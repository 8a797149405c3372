"""Matrices times rows."""

from ..compiler.kernel import Kernel, inline
from ..machines.x86 import tile_config, tile_config_half, tile_dot, tile_dot_too, tile_release
from ..program.operands import AHEAD, COUNT, SCRATCH, SCRATCH_STEP, Scratch, operands
from ..words.memory import loads_i32, peek, peek_f32, prefetch
from ..words.numbers import fma, opaque, scaled, splat, zeros1, zeros4, zeros16
from .play import after, piece, taken
from .rows import put_blocks, put_rows
from .tiles import QUANTISED
from .weights import FLOATS, WEIGHTS, sums_float

# for 2 KiB of the matrix unit's sums, and a block of weights as bytes
MATMUL = operands(QUANTISED.about, QUANTISED, bytes=Scratch(lambda r: 2048 + 16 * r.cols))
UNPACKED = 16  # tokens for which a block of weights is unpacked


def matmul_quantised(weights, machine):
    """out [tokens, rows] = q [tokens, cols] @ w [rows, cols].T, four tokens at a time while there
    are four; of many tokens with a block's weights unpacked before."""
    tile, unpack, width = weights.tile(machine), weights.unpack(False), weights.width
    tile_of_bytes, packed = weights.tile_bytes(machine), weights.type.bits < 8
    columns = weights.type.share // 8

    def matmul(record, pas, t, threads):
        n, groups = peek(peek(record + COUNT)), peek(record + QUANTISED.cols) // 32
        pairs = opaque(columns)  # unrolled, the wide tile's sums do not fit the registers
        bytes_ = peek(pas + SCRATCH) + t * peek(pas + SCRATCH_STEP) + 2048
        blocks = peek(record + QUANTISED.n_rows) // 16
        many = piece(blocks, threads)
        block, end = taken(record, many, blocks)
        while block < end:
            w = peek(record + QUANTISED.w) + block * groups * width
            if packed and n >= UNPACKED:
                unpack(w, groups, peek(record + AHEAD), bytes_)
                for i in range(0, n - 3, 4):
                    acc = tile_of_bytes(zeros4(), record, i, bytes_, block, pairs)
                    put_rows(record, i, block, acc)
            else:
                for i in range(0, n - 3, 4):
                    put_rows(record, i, block, tile(zeros4(), record, i, w, block, pairs))
            for i in range(n - n % 4, n):
                put_rows(record, i, block, tile(zeros1(), record, i, w, block, columns))
            block, end = after(record, block, end, many, blocks)
        return 0

    return matmul


def products_of(weights):
    """-> a block of weights, as signed bytes at w, times sixteen tokens from i on, on the matrix
    unit; `later` are the next block's weights."""
    scales, (low_of, plus), columns = weights.scales, weights.added, weights.type.share
    top_of, scale, per_part, per_super = scales.top, scales.scale, scales.bytes, scales.above
    parts, half = 32 // columns, weights.width * columns // 64

    def products(record, i, w, block, sums, later):
        acc, cols = zeros16(), peek(record + QUANTISED.cols)
        last, g_step = cols // columns - 1, peek(record + QUANTISED.qs_step)
        s = peek(record + QUANTISED.scales) + block * (cols // columns) * per_part
        d = peek(record + QUANTISED.above) + block * ((cols + 255) // 256) * per_super
        q_step = peek(record + QUANTISED.q_step)
        q = peek(record + QUANTISED.q) + i * q_step
        qs = peek(record + QUANTISED.qs) + i * g_step
        tile_dot(q, q_step, w, sums)
        # the next part's products are on their way while these are scaled, and the next block's
        # weights, a quarter with each of the first tokens
        for part in range(0, last, 2):
            for k in range(0, half, 64):
                prefetch(later + part * 2 * half + k)
            second, group = part + 1, part // parts
            top, low = top_of(d, group), low_of(d, group)
            tile_dot_too(q + columns * second, q_step, w + 16 * columns * second, sums + 1024)
            found, at = loads_i32(acc, sums, 64), qs + 4 * (part // parts)
            acc = scaled(acc, found, scale(s, top, part), at, g_step)
            acc = plus(acc, record, i, s, low, part)
            more = min(part + 2, last)
            tile_dot(q + columns * more, q_step, w + 16 * columns * more, sums)
            found, at = loads_i32(acc, sums + 1024, 64), qs + 4 * (second // parts)
            acc = scaled(acc, found, scale(s, top, second), at, g_step)
            acc = plus(acc, record, i, s, low, second)
        if last % 2 == 0:
            found, at = loads_i32(acc, sums, 64), qs + 4 * (last // parts)
            top, low = top_of(d, last // parts), low_of(d, last // parts)
            acc = scaled(acc, found, scale(s, top, last), at, g_step)
            acc = plus(acc, record, i, s, low, last)
        put_rows(record, i, block, acc)

    return inline(products)


def matmul_tiles(weights, machine):
    """As matmul_quantised, sixteen tokens at a time on the matrix unit while there are sixteen: the
    same sums, so the same bits."""
    tile, unpack, width = weights.tile(machine), weights.unpack(True), weights.width
    products, columns = products_of(weights), weights.type.share // 8
    config = tile_config if columns == 4 else tile_config_half

    def matmul(record, pas, t, threads):
        n, groups = peek(peek(record + COUNT)), peek(record + QUANTISED.cols) // 32
        blocks = peek(record + QUANTISED.n_rows) // 16
        many = piece(blocks, threads)
        sums = peek(pas + SCRATCH) + t * peek(pas + SCRATCH_STEP)
        bytes_, pairs = sums + 2048, opaque(columns)
        if n >= 16:
            config()
        block, end = taken(record, many, blocks)
        while block < end:
            w = peek(record + QUANTISED.w) + block * groups * width
            if n >= 16:
                unpack(w, groups, peek(record + AHEAD), bytes_)
            for i in range(0, n - 15, 16):
                later = w + groups * width + i // 16 * width // 2
                products(record, i, bytes_, block, sums, later)
            for i in range(n - n % 16, n - 3, 4):
                put_rows(record, i, block, tile(zeros4(), record, i, w, block, pairs))
            for i in range(n - n % 4, n):
                put_rows(record, i, block, tile(zeros1(), record, i, w, block, columns))
            block, end = after(record, block, end, many, blocks)
        if n >= 16:
            tile_release()
        return 0

    return matmul


def matmul_float(loads, size):
    """As matmul_quantised, for weights of size bytes read by loads and x in float32."""
    one, four = sums_float(loads, size)

    def matmul(record, pas, t, threads):
        n, cols = peek(peek(record + COUNT)), peek(record + FLOATS.cols)
        out_step, size_of, blocks = 16 * size, cols * 16 * size, peek(record + FLOATS.n_rows) // 16
        many = max(4, piece(blocks, threads))
        block, end = taken(record, many, blocks)
        while block < end:
            # few tokens: four blocks of rows at once, to hide the latency of fma
            if n < 4 and end - block >= 4:
                w = peek(record + FLOATS.w) + block * size_of
                for i in range(n):
                    acc, x = zeros4(), peek(record + FLOATS.x) + i * peek(record + FLOATS.x_step)
                    for k in range(cols):
                        acc = fma(
                            loads(acc, w + k * out_step, size_of), splat(peek_f32(x + 4 * k)), acc
                        )
                    put_blocks(record, i, block, acc)
                block, end = after(record, block + 3, end, many, blocks)
                continue
            for i in range(0, n - 3, 4):
                put_rows(record, i, block, four(record, i, block, 0))
            for i in range(n - n % 4, n):
                put_rows(record, i, block, one(record, i, block))
            block, end = after(record, block, end, many, blocks)
        return 0

    return matmul


def matmul_of(weights):
    """The matmul of a type of weights."""
    if not weights.type.quantised:
        make = lambda machine: matmul_float(weights.loads, weights.size)
        return Kernel(f"matmul_{weights.type.name}", make, FLOATS, weights.type)

    def make(machine):
        return (matmul_tiles if machine.tiles else matmul_quantised)(weights, machine)

    return Kernel(f"matmul_{weights.type.name}", make, MATMUL, weights.type)


MATMULS = {weights.type: matmul_of(weights) for weights in WEIGHTS}
