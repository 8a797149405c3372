"""How 16 rows of a group of columns lie in bits, for each number of them."""

from typing import NamedTuple

from ..compiler.kernel import inline
from ..format.types import CODEBOOK
from ..words.memory import load_bytes, peek_u8
from ..words.numbers import booked, both, high_nibbles, low_nibbles, picked

# A step is 16 rows by 4 columns: 64 bytes, a row's four columns side by side. A group of 32 columns
# has four pairs of steps. What does not fill bytes lies in planes, in which one byte holds bits of
# the same row and column of several steps.


@inline
def low8(w, k):
    return load_bytes(w + 128 * k)


@inline
def high8(w, k):
    return load_bytes(w + 128 * k + 64)


@inline
def one8(w, lane, k):
    return peek_u8(w + k // 4 * 64 + 4 * lane + k % 4)


@inline
def low4(w, k):
    return low_nibbles(load_bytes(w + 64 * k))


@inline
def high4(w, k):
    return high_nibbles(load_bytes(w + 64 * k))


@inline
def one4(w, lane, k):
    return (peek_u8(w + k // 8 * 64 + 4 * lane + k % 4) >> (k % 8 // 4 * 4)) % 16


@inline
def low5(w, k):
    return both(low4(w, k), picked(load_bytes(w + 256), 2 * k - 4, 16))


@inline
def high5(w, k):
    return both(high4(w, k), picked(load_bytes(w + 256), 2 * k - 3, 16))


@inline
def one5(w, lane, k):
    return one4(w, lane, k) + (peek_u8(w + 256 + 4 * lane + k % 4) >> (k // 4)) % 2 * 16


@inline
def low6(w, k):
    return both(low4(w, k), picked(load_bytes(w + 256 + k // 2 * 64), k % 2 * 4 - 4, 48))


@inline
def high6(w, k):
    return both(high4(w, k), picked(load_bytes(w + 256 + k // 2 * 64), k % 2 * 4 - 2, 48))


@inline
def one6(w, lane, k):
    return one4(w, lane, k) + one2(w + 256, lane, k) * 16


@inline
def low2(w, k):
    return picked(load_bytes(w + k // 2 * 64), k % 2 * 4, 3)


@inline
def high2(w, k):
    return picked(load_bytes(w + k // 2 * 64), k % 2 * 4 + 2, 3)


@inline
def one2(w, lane, k):
    return (peek_u8(w + k // 16 * 64 + 4 * lane + k % 4) >> (k % 16 // 4 * 2)) % 4


@inline
def low3(w, k):
    return both(low2(w, k), picked(load_bytes(w + 128), 2 * k - 2, 4))


@inline
def high3(w, k):
    return both(high2(w, k), picked(load_bytes(w + 128), 2 * k - 1, 4))


@inline
def one3(w, lane, k):
    return one2(w, lane, k) + (peek_u8(w + 128 + 4 * lane + k % 4) >> (k // 4)) % 2 * 4


@inline
def low_booked(w, k):
    return booked(low4(w, k))


@inline
def high_booked(w, k):
    return booked(high4(w, k))


@inline
def one_booked(w, lane, k):
    return CODEBOOK[one4(w, lane, k)] + 128


class Bits(NamedTuple):
    """The group at w. low(w, k), high(w, k): bytes of the first and the second step of pair k;
    one(w, lane, k): of one row and column. fits: pairs whose products fit sums of int16; 0: the
    bytes are not few bits, but numbers 128 too large."""

    low: object
    high: object
    one: object
    fits: int


BYTES = Bits(low8, high8, one8, 0)
BOOKED = Bits(low_booked, high_booked, one_booked, 0)
FEW = {
    2: Bits(low2, high2, one2, 4),
    3: Bits(low3, high3, one3, 4),
    4: Bits(low4, high4, one4, 4),
    5: Bits(low5, high5, one5, 2),
    6: Bits(low6, high6, one6, 1),
}


def bits_of(kind):
    """The Bits of a quantised Type."""
    if kind.book:
        return BOOKED
    return BYTES if kind.bits == 8 else FEW[kind.bits]
