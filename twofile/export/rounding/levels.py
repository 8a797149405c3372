"""The numbers that a group's elements can be, before they are scaled."""

from typing import NamedTuple

import numpy as np

from ...compiler.kernel import inline
from ...words.numbers import add, larger, splat
from .words import counted, nearest, smaller


class Levels(NamedTuple):
    """nearest(v) -> of 16 lanes the level nearest to v; number(v) -> the bits that stand for it.
    low, high: the first and the last; below, above: as what part of them the largest element is
    tried: from, to, how many times."""

    nearest: object
    number: object
    low: float
    high: float
    below: tuple = ()
    above: tuple = ()


def between(low, high, zero):
    """Whole numbers; -> inline functions (nearest, number)."""
    least, most, plus = np.float32(low), np.float32(high), np.float32(zero)

    def near(v):
        return smaller(larger(nearest(v), splat(least)), splat(most))

    near = inline(near)

    def number(v):
        return add(near(v), splat(plus))

    return near, inline(number)


def of_book(book):
    """Those of a book; -> inline functions (nearest, number)."""
    first, many = np.float32(book[0]), len(book) - 1
    bounds = tuple(np.float32((a + b) / 2) for a, b in zip(book, book[1:]))
    steps = tuple(np.float32(b - a) for a, b in zip(book, book[1:]))
    one, none = np.float32(1), np.float32(0)

    def near(v):
        found = splat(first)
        for k in range(many):
            found = counted(found, v, splat(bounds[k]), splat(steps[k]))
        return found

    def number(v):
        found = splat(none)
        for k in range(many):
            found = counted(found, v, splat(bounds[k]), splat(one))
        return found

    return inline(near), inline(number)


def levels_of(kind):
    """The Levels of a Type. Of one with a least they are the numbers as they are stored."""
    if kind.book:
        low, high = float(kind.book[0]), float(kind.book[-1])
        return Levels(*of_book(kind.book), low, high, (0.8, 1.05, 10), (0.8, 1.05, 10))
    low, high = float(-kind.zero), float(2**kind.bits - 1 - kind.zero)
    near = between(low, high, kind.zero)
    if kind.least:
        return Levels(*near, low, high)
    return Levels(*near, low, high, (0.75, 1 + 0.4 / kind.zero, 12), (0.8, 1 + 0.4 / high, 8))
