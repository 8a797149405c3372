"""What is compiled: kernels, and functions inlined into them."""

from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Kernel:
    """A compiled entry point. make(machine) -> its function of words (record, pass, thread,
    threads), all int64."""

    name: str
    make: object
    operands: object = None


@dataclass(frozen=True, eq=False)
class Inline:
    """A function of words that is compiled into every kernel that calls it."""

    function: object

    def __call__(self, *args):
        raise RuntimeError("inline functions exist only inside compiled kernels")


def inline(function):
    return Inline(function)


KERNELS = {}  # by name


def kernel(function):
    """A kernel that is the same function on every machine."""
    KERNELS[function.__name__] = Kernel(function.__name__, lambda machine: function)
    return function
