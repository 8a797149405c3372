"""The choice of a token; e^x in float64, the same everywhere."""

import math
from collections import namedtuple

import numpy as np

from ..compiler.kernel import inline, kernel
from ..format.types import padded
from ..words.memory import load, peek, peek_f32, peek_f64, peek_i32, poke_f32, poke_f64, poke_i32
from ..words.numbers import larger, largest, magnitude, power_of_two, zeros1

EXP = tuple(1 / math.factorial(k) for k in range(14, -1, -1))


@inline
def exp64(x):
    """e^x for float64 x <= 0; made of + and * alone, so that it is the same on every machine."""
    x = max(x, -700.0)
    n = np.int64(math.floor(x * 1.4426950408889634 + 0.5))
    r = x - n * 0.693147180369123816490 - n * 1.90821492927058770002e-10
    y = 0.0
    for c in EXP:
        y = y * r + c
    return y * power_of_two(n)


# The block that pick() needs beside the logits: its settings, then for the k best their values
# (float32), ids (int32) and sums of weights (float64). The rules of sampling that act in here are
# settings by their names in RULES, float64 each; so is the coin. k is an int64.
ACTING = "temperature", "top_p", "min_p"
SETTINGS = *ACTING, "coin", "k"
OFFSETS = *range(0, 8 * len(SETTINGS), 8), padded(8 * len(SETTINGS), 64)
PICK = namedtuple("Pick", (*SETTINGS, "best"))(*OFFSETS)  # in bytes, from the block's beginning


@inline
def insert(values, ids, found, k, value, i):
    """Put value in its place among the found best, equals by index; -> how many there are now."""
    if found == k and not value > peek_f32(values + 4 * (k - 1)):
        return found
    at = min(found, k - 1)
    while at > 0 and value > peek_f32(values + 4 * (at - 1)):
        poke_f32(values + 4 * at, peek_f32(values + 4 * (at - 1)))
        poke_i32(ids + 4 * at, peek_i32(ids + 4 * (at - 1)))
        at -= 1
    poke_f32(values + 4 * at, value)
    poke_i32(ids + 4 * at, np.int32(i))
    return min(found + 1, k)


@inline
def four_largest(p):
    return largest(larger(larger(load(p), load(p + 64)), larger(load(p + 128), load(p + 192))))


@inline
def best(logits, n, k, values, ids):
    """The k largest of n, in order; -> how many, or -1 if one is not finite. 64 at a time: few
    reach the best so far."""
    found, most = 0, zeros1()
    for i in range(0, n - 15, 16):
        most = larger(most, magnitude(load(logits + 4 * i)))
    limit = largest(most)
    for i in range(n // 16 * 16, n):
        limit += np.float32(0) * peek_f32(logits + 4 * i)  # no change, or NaN
    if not limit < np.float32(np.inf):
        return -1
    start = 0
    while start < n:
        end = min(start + 64, n)
        if (
            end - start < 64
            or found < k
            or four_largest(logits + 4 * start) > peek_f32(values + 4 * (k - 1))
        ):
            for i in range(start, end):
                found = insert(values, ids, found, k, peek_f32(logits + 4 * i), i)
        start = end
    return found


@inline
def drawn(block, values, sums, n):
    """Which of n values in falling order is chosen: top-p, min-p, temperature, then the coin."""
    top, count, total = np.float64(peek_f32(values)), n, 0.0
    for i in range(n):
        total += exp64(np.float64(peek_f32(values + 4 * i)) - top)
        poke_f64(sums + 8 * i, total)
    if peek_f64(block + PICK.top_p) < 1.0:
        count = 1
        while count < n and peek_f64(sums + 8 * (count - 1)) < peek_f64(block + PICK.top_p) * total:
            count += 1
    total = 0.0
    for i in range(count):
        below = np.float64(peek_f32(values + 4 * i)) - top
        if exp64(below) < peek_f64(block + PICK.min_p):
            count = i
            break
        total += exp64(below / peek_f64(block + PICK.temperature))
        poke_f64(sums + 8 * i, total)
    for i in range(count):
        if peek_f64(sums + 8 * i) > peek_f64(block + PICK.coin) * total:
            return i
    return count - 1


@kernel()
def pick(logits, n, block, ready):
    """The id chosen from n float32 logits, or -1 if one is not finite. ready: the n best stand in
    the block already."""
    k = peek(block + PICK.k)
    values, ids = block + PICK.best, block + PICK.best + 4 * k
    found = n if ready != 0 else best(logits, n, k, values, ids)
    if found < 0:
        return -1
    at = 0
    if peek_f64(block + PICK.temperature) != 0.0:
        at = drawn(block, values, block + PICK.best + 8 * k, found)
    return np.int64(peek_i32(ids + 4 * at))
