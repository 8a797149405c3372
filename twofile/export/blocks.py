"""Blocks of a GGUF as our types have them, to the bit."""

import numpy as np

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
)
from .arrays import Part
from .damage import reading
from .pack import Stored
from .say import need

# The layouts are llama.cpp's (ggml-quants). Where a least is subtracted there, it is added here:
# its float16 has the other sign.


def halves(raw, at, count=1):
    """float16 that stand at byte `at` of each block: [rows, blocks], or [rows, blocks, count]."""
    found = np.ascontiguousarray(raw[..., at : at + 2 * count]).view("<f2")
    return found[..., 0] if count == 1 else found


def piece(raw, first, last):
    """Bytes of each block as uint32 [rows, blocks, words]."""
    return np.ascontiguousarray(raw[..., first:last]).view("<u4")


def shifted(x, n, mask):
    """Bits n and on of each byte, of so many as the mask keeps."""
    return x >> np.uint32(n) & np.uint32(mask * 0x01010101)


def nibbles(raw, first, last):
    """Two words of numbers for one of bytes: of each 16 bytes the lower halves, then the upper."""
    x = piece(raw, first, last)
    x = x.reshape(*x.shape[:-1], -1, 4)
    x = np.stack((shifted(x, 0, 15), shifted(x, 4, 15)), -2)
    return x.reshape(*x.shape[:2], -1)


def fifths(raw, at):
    """The fifth bits, in their place, of 32 numbers of which one word has them."""
    bits = np.unpackbits(raw[..., at : at + 4], axis=-1, bitorder="little")
    return (bits << 4).view("<u4")


def bytes_of(words):
    """uint32 [rows, groups, 8] -> uint8 [rows, groups, 32]."""
    return np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape[:2], 32)


def q4_0(raw):
    return Stored(bytes_of(nibbles(raw, 2, 18)), halves(raw, 0))


def q4_1(raw):
    return Stored(bytes_of(nibbles(raw, 4, 20)), halves(raw, 0, 2))


def q5_0(raw):
    return Stored(bytes_of(nibbles(raw, 6, 22) | fifths(raw, 2)), halves(raw, 0))


def q5_1(raw):
    return Stored(bytes_of(nibbles(raw, 8, 24) | fifths(raw, 4)), halves(raw, 0, 2))


def q8_0(raw):
    return Stored(np.ascontiguousarray(raw[..., 2:]) ^ np.uint8(128), halves(raw, 0))


def sixes(raw, at):
    """12 bytes: 8 scales and 8 leasts of 6 bits -> uint8 [rows, blocks, 8, 2]."""
    x = raw[..., at : at + 12]
    low, mid, high = x[..., :4], x[..., 4:8], x[..., 8:]
    scales = np.concatenate((low & 63, high & 15 | low >> 6 << 4), -1)
    leasts = np.concatenate((mid & 63, high >> 4 | mid >> 6 << 4), -1)
    return np.stack((scales, leasts), -1)


def negated(above):
    """float16 [..., 2], the second of the other sign."""
    above[..., 1] = -above[..., 1]
    return above


def flat(x):
    """[rows, blocks, parts, ...] -> [rows, parts of all blocks, ...]"""
    return x.reshape(len(x), -1, *x.shape[3:])


def q4_k(raw):
    pairs = piece(raw, 16, 144).reshape(*raw.shape[:2], 4, 8)
    x = np.stack((shifted(pairs, 0, 15), shifted(pairs, 4, 15)), -2)
    values = bytes_of(x.reshape(len(raw), -1, 8))
    return Stored(values, flat(sixes(raw, 4)), negated(halves(raw, 0, 2)))


def q5_k(raw):
    pairs, plane = piece(raw, 48, 176).reshape(*raw.shape[:2], 4, 8), piece(raw, 16, 48)
    x = np.stack((shifted(pairs, 0, 15), shifted(pairs, 4, 15)), -2).reshape(*raw.shape[:2], 8, 8)
    x |= np.stack([shifted(plane, g, 1) << np.uint32(4) for g in range(8)], -2)
    values = bytes_of(x.reshape(len(raw), -1, 8))
    return Stored(values, flat(sixes(raw, 4)), negated(halves(raw, 0, 2)))


def q6_k(raw):
    low = piece(raw, 0, 128).reshape(*raw.shape[:2], 2, 2, 8)
    high = piece(raw, 128, 192).reshape(*raw.shape[:2], 2, 1, 8)
    x = np.concatenate((shifted(low, 0, 15), shifted(low, 4, 15)), -2)
    x |= np.concatenate([shifted(high, 2 * g, 3) for g in range(4)], -2) << np.uint32(4)
    scales = np.ascontiguousarray(raw[..., 192:208]).view(np.int8)
    return Stored(bytes_of(x.reshape(len(raw), -1, 8)), flat(scales), halves(raw, 208))


def quarters(raw, at):
    """64 bytes of 256 numbers of 2 bits -> uint32 [rows, blocks, 8, 8]."""
    x = piece(raw, at, at + 64).reshape(*raw.shape[:2], 2, 1, 8)
    x = np.concatenate([shifted(x, 2 * g, 3) for g in range(4)], -2)
    return x.reshape(*raw.shape[:2], 8, 8)


def q2_k(raw):
    values = bytes_of(quarters(raw, 16).reshape(len(raw), -1, 8))
    scales = np.ascontiguousarray(raw[..., :16])
    return Stored(values, flat(scales), negated(halves(raw, 80, 2)))


def q3_k(raw):
    plane, x = piece(raw, 0, 32), quarters(raw, 32)
    x |= np.stack([shifted(plane, g, 1) << np.uint32(2) for g in range(8)], -2)
    low, high = raw[..., 96:104], raw[..., 104:108]
    scales = np.concatenate((low & 15, low >> 4), -1)
    scales |= np.concatenate([high >> 2 * g & 3 for g in range(4)], -1) << 4
    scales = scales.astype(np.int8) - np.int8(32)
    return Stored(bytes_of(x.reshape(len(raw), -1, 8)), flat(scales), halves(raw, 108))


def iq4_xs(raw):
    high = halves(raw, 2).view("<u2")[..., None] >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    low = raw[..., 4:8]
    low = np.stack((low & 15, low >> 4), -1).reshape(*raw.shape[:2], 8)
    scales = (low | high.astype(np.uint8) << 4).astype(np.int8) - np.int8(32)
    values = nibbles(raw, 8, 136).reshape(len(raw), -1, 8)
    return Stored(bytes_of(values), flat(scales), halves(raw, 0))


KEPT = {  # by gguf's name of a type: ours, and how its blocks become that
    "Q4_0": (Q4_0, q4_0),
    "Q4_1": (Q4_1, q4_1),
    "Q5_0": (Q5_0, q5_0),
    "Q5_1": (Q5_1, q5_1),
    "Q8_0": (Q8_0, q8_0),
    "Q2_K": (Q2_K, q2_k),
    "Q3_K": (Q3_K, q3_k),
    "Q4_K": (Q4_K, q4_k),
    "Q5_K": (Q5_K, q5_k),
    "Q6_K": (Q6_K, q6_k),
    "IQ4_NL": (IQ4_NL, q4_0),
    "IQ4_XS": (IQ4_XS, iq4_xs),
}


class Blocks(Part):
    """Rows of quantised blocks of a GGUF: raw uint8 [rows, bytes], of gguf's type kind."""

    def __init__(self, raw, kind, cols):
        self.raw, self.kind, self.shape = raw, kind, (len(raw), cols)
        self.type, self.read = KEPT.get(kind.name, (None, None))

    def __getitem__(self, rows):
        return Blocks(self.raw[rows], self.kind, self.shape[1])

    def floats(self):
        dequantize, raw = need("gguf.quants").dequantize, np.ascontiguousarray(self.raw)
        with reading():
            found = dequantize(raw, self.kind)
        return found.reshape(self.shape).astype(np.float32, copy=False)

    def stored(self):
        size = need("gguf").GGML_QUANT_SIZES[self.kind][1]
        return self.read(self.raw.reshape(len(self.raw), -1, size))
