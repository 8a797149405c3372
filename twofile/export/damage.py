"""What a stranger's file does wrong, told apart from what we do wrong.

The rule: bytes become values in reading lines: a parser (json, struct, zipfile, pickletools, a
codec of another package), a look into what it gave (a key, an index, int() of it), numpy's view of
bytes as an array. Whatever a file holds, these lines are where it can hurt: they, and only they,
stand in a block `with reading()`. A value that leaves such a block is what its name says: a whole
number, a list of texts, a number that fits its field.

What comes behind it (the plan of tensors, packers, the writer, merging tokens) handles values of
ours and stands in no such block. What it raises is a bug, goes up as what it is, and main() asks
for a report. So no reader is wrapped as a whole, and no other room names these classes.

Who knows the name of the file says what is wrong with it: `with worded(...)` makes words of what
reading() found, and of nothing else, so that it may stand around whatever it likes.
"""

import struct
import zipfile
from contextlib import contextmanager

import numpy as np

from ..errors import ModelError, printable

# what parsers raise, and looks into what they gave
TRIPS = (KeyError, TypeError, ValueError, ArithmeticError, IndexError, AttributeError)
TRIPS += (struct.error, RecursionError, EOFError, NotImplementedError, zipfile.BadZipFile)


class Told:
    """A value that a file asks for by name."""


PARSED = (type(None), bool, int, float, str, bytes, list, dict, tuple, np.ndarray, Told)


def by_repr(e):
    return printable(repr(e))[:80]


def by_kind(e):
    return f"{type(e).__name__}: {printable(str(e))[:80]}"


def by_words(e, most=100):
    return printable(str(e))[:most]


class Tripped(ModelError):
    """A file that reading lines tripped over. found: the exception."""

    def __init__(self, found):
        super().__init__(f"cannot be read ({by_words(found)}); is it whole?")
        self.found = found


@contextmanager
def reading():
    """Around reading lines: what they trip over is Tripped. An attribute that anything but a parsed
    value lacks is a bug."""
    try:
        yield
    except TRIPS as e:
        if isinstance(e, AttributeError) and not isinstance(e.obj, PARSED):
            raise
        raise Tripped(e) from None


@contextmanager
def worded(before, after, shown=by_repr):
    """What is Tripped inside becomes a ModelError: before, the exception as shown, after."""
    try:
        yield
    except Tripped as e:
        raise ModelError(f"{before}{shown(e.found)}{after}") from None


@contextmanager
def theirs(before, after, shown=by_repr):
    """Around reading lines whose words are known at once."""
    with worded(before, after, shown), reading():
        yield
