"""What is compiled: kernels, and functions inlined into them."""

from typing import NamedTuple


class Kernel(NamedTuple):
    """Compiled code: a function of words of four int64 (record, pass, thread, threads) -> int64.

    name: of all kernels its own. make(machine) -> the function, for that Machine. operands: what a
    record gives it (program/operands.py); None: it is no step of a program. type: what its weights
    or its cache are made of, where there are kernels for several.
    """

    name: str
    make: object
    operands: object = None
    type: object = None


def kernel(declared=None):
    """The Kernel of a function that is the same on all machines, with these operands."""
    return lambda function: Kernel(function.__name__, lambda machine: function, declared)


class Inline:
    """A function of words that is compiled into every kernel that calls it."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *args):
        raise RuntimeError("inline functions exist only inside compiled kernels")


def inline(function):
    return Inline(function)
