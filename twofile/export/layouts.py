"""How a GGUF's blocks lie, type by type, and what of them goes where in ours."""

from typing import NamedTuple

from ..compiler.kernel import inline
from ..format.types import (
    IQ4_NL,
    IQ4_XS,
    Q2_K,
    Q3_K,
    Q4_0,
    Q4_1,
    Q4_K,
    Q5_0,
    Q5_1,
    Q5_K,
    Q6_K,
    Q8_0,
    Type,
)
from ..words.memory import peek, peek_u8
from ..words.word import LL, Word, read_at, write_at

# The layouts are llama.cpp's (ggml-quants). p: a block of a row; w, s, d: where the first group of
# its columns lies in a block of 16 rows; lane: which of these it is. Where a least is subtracted
# there, it is added here: its float16 has the other sign. x is 8 bytes of several numbers each.

peek_u16 = Word("p->p", lambda b, p: b.zext(read_at(b, p, LL.i16), LL.i64))
peek_u32 = Word("p->p", lambda b, p: b.zext(read_at(b, p, LL.i32), LL.i64))
poke_u8 = Word("pp->v", lambda b, p, n: write_at(b, p, b.trunc(n, LL.i8)))
poke_u16 = Word("pp->v", lambda b, p, n: write_at(b, p, b.trunc(n, LL.i16)))
poke_u32 = Word("pp->v", lambda b, p, n: write_at(b, p, b.trunc(n, LL.i32)))

NIBBLES, PAIRS, ONES = 0x0F0F0F0F0F0F0F0F, 0x0303030303030303, 0x0101010101010101


@inline
def put_steps(w, k, lane, x):
    """8 bytes of nibbles are pair k of steps."""
    poke_u32(w + 64 * k + 4 * lane, x | x >> 28)


@inline
def halves_of_16(p, w, lane):
    """16 bytes: of a group the first half in the lower halves of the bytes, the second above."""
    for k in range(2):
        x = peek(p + 8 * k)
        put_steps(w, k, lane, x & NIBBLES)
        put_steps(w, k + 2, lane, x >> 4 & NIBBLES)


@inline
def halves_of_32(p, w, step, lane):
    """32 bytes: one group in the lower halves of the bytes, the next, step bytes on, above."""
    for k in range(4):
        x = peek(p + 8 * k)
        put_steps(w, k, lane, x & NIBBLES)
        put_steps(w + step, k, lane, x >> 4 & NIBBLES)


@inline
def ones_of(p, g, w, lane):
    """A plane of bit g of 32 bytes."""
    plane = 0
    for k in range(4):
        x = peek(p + 8 * k) >> g & ONES
        plane |= (x | x >> 31) << 2 * k
    poke_u32(w + 4 * lane, plane)


@inline
def pairs_of(p, g, w, lane):
    """Two planes of bits 2 g and the next of 32 bytes."""
    for h in range(2):
        x, y = peek(p + 16 * h) >> 2 * g & PAIRS, peek(p + 16 * h + 8) >> 2 * g & PAIRS
        poke_u32(w + 64 * h + 4 * lane, x | x >> 30 | (y | y >> 30) << 4)


@inline
def fifths(bits, w, lane):
    """A plane of the 32 bits of a word, one for each column."""
    plane = 0
    for c in range(4):
        x = bits >> c & 0x11111111
        x = (x | x >> 3) & 0x03030303
        x = (x | x >> 6) & 0x000F000F
        plane |= ((x | x >> 12) & 255) << 8 * c
    poke_u32(w + 4 * lane, plane)


@inline
def put_half(at, p, lane):
    poke_u16(at + 2 * lane, peek_u16(p))


@inline
def put_halves(at, p, sign, lane):
    """Two float16, the second with the sign flipped by sign."""
    put_half(at, p, lane)
    poke_u16(at + 32 + 2 * lane, peek_u16(p + 2) ^ sign)


@inline
def q4_0(p, w, s, d, lane):
    halves_of_16(p + 2, w, lane)
    put_half(s, p, lane)


@inline
def q4_1(p, w, s, d, lane):
    halves_of_16(p + 4, w, lane)
    put_halves(s, p, 0, lane)


@inline
def q5_0(p, w, s, d, lane):
    halves_of_16(p + 6, w, lane)
    fifths(peek_u32(p + 2), w + 256, lane)
    put_half(s, p, lane)


@inline
def q5_1(p, w, s, d, lane):
    halves_of_16(p + 8, w, lane)
    fifths(peek_u32(p + 4), w + 256, lane)
    put_halves(s, p, 0, lane)


@inline
def q8_0(p, w, s, d, lane):
    for k in range(8):
        poke_u32(w + 64 * k + 4 * lane, peek_u32(p + 2 + 4 * k) ^ 0x80808080)
    put_half(s, p, lane)


@inline
def q2_k(p, w, s, d, lane):
    for g in range(8):
        pairs_of(p + 16 + g // 4 * 32, g % 4, w + 128 * g, lane)
    for part in range(16):
        poke_u8(s + 16 * part + lane, peek_u8(p + part))
    put_halves(d, p + 80, 0x8000, lane)


@inline
def q3_k(p, w, s, d, lane):
    for g in range(8):
        pairs_of(p + 32 + g // 4 * 32, g % 4, w + 192 * g, lane)
        ones_of(p, g, w + 192 * g + 128, lane)
    for part in range(16):
        low = peek_u8(p + 96 + part % 8) >> part // 8 * 4 & 15
        high = peek_u8(p + 104 + part % 4) >> part // 4 * 2 & 3
        poke_u8(s + 16 * part + lane, low + 16 * high - 32)
    put_half(d, p + 108, lane)


@inline
def sixes(p, s, lane):
    """12 bytes: 8 scales and 8 leasts of 6 bits."""
    for g in range(4):
        a, b, c = peek_u8(p + g), peek_u8(p + 4 + g), peek_u8(p + 8 + g)
        poke_u8(s + 32 * g + lane, a & 63)
        poke_u8(s + 32 * g + 16 + lane, b & 63)
        poke_u8(s + 32 * (g + 4) + lane, c & 15 | a >> 6 << 4)
        poke_u8(s + 32 * (g + 4) + 16 + lane, c >> 4 | b >> 6 << 4)


@inline
def q4_k(p, w, s, d, lane):
    for g in range(0, 8, 2):
        halves_of_32(p + 16 + 16 * g, w + 256 * g, 256, lane)
    sixes(p + 4, s, lane)
    put_halves(d, p, 0x8000, lane)


@inline
def q5_k(p, w, s, d, lane):
    for g in range(0, 8, 2):
        halves_of_32(p + 48 + 16 * g, w + 320 * g, 320, lane)
    for g in range(8):
        ones_of(p + 16, g, w + 320 * g + 256, lane)
    sixes(p + 4, s, lane)
    put_halves(d, p, 0x8000, lane)


@inline
def q6_k(p, w, s, d, lane):
    for h in range(2):
        for g in range(2):
            halves_of_32(p + 64 * h + 32 * g, w + 384 * (4 * h + g), 768, lane)
        for g in range(4):
            pairs_of(p + 128 + 32 * h, g, w + 384 * (4 * h + g) + 256, lane)
    for part in range(16):
        poke_u8(s + 16 * part + lane, peek_u8(p + 192 + part))
    put_half(d, p + 208, lane)


@inline
def iq4_xs(p, w, s, d, lane):
    for g in range(8):
        halves_of_16(p + 8 + 16 * g, w + 256 * g, lane)
        low, high = peek_u8(p + 4 + g // 2) >> g % 2 * 4 & 15, peek_u16(p + 2) >> 2 * g & 3
        poke_u8(s + 16 * g + lane, low + 16 * high - 32)
    put_half(d, p, lane)


class Layout(NamedTuple):
    """A type of gguf's. type: ours; columns and bytes (size) of a block; block(p, w, s, d, lane)
    puts one into ours; fill: one whose weights are zeros and scales too."""

    type: Type
    columns: int
    size: int
    block: object
    fill: bytes


LAYOUTS = {  # by gguf's name
    "Q4_0": Layout(Q4_0, 32, 18, q4_0, bytes(2) + b"\x88" * 16),
    "Q4_1": Layout(Q4_1, 32, 20, q4_1, bytes(20)),
    "Q5_0": Layout(Q5_0, 32, 22, q5_0, bytes(2) + b"\xff" * 4 + bytes(16)),
    "Q5_1": Layout(Q5_1, 32, 24, q5_1, bytes(24)),
    "Q8_0": Layout(Q8_0, 32, 34, q8_0, bytes(34)),
    "Q2_K": Layout(Q2_K, 256, 84, q2_k, bytes(84)),
    "Q3_K": Layout(Q3_K, 256, 110, q3_k, b"\xff" * 32 + bytes(72) + b"\xaa" * 4 + bytes(2)),
    "Q4_K": Layout(Q4_K, 256, 144, q4_k, bytes(144)),
    "Q5_K": Layout(Q5_K, 256, 176, q5_k, bytes(176)),
    "Q6_K": Layout(Q6_K, 256, 210, q6_k, bytes(128) + b"\xaa" * 64 + bytes(18)),
    "IQ4_NL": Layout(IQ4_NL, 32, 18, q4_0, bytes(18)),
    "IQ4_XS": Layout(IQ4_XS, 256, 136, iq4_xs, bytes(2) + b"\xaa" * 2 + bytes(132)),
}
