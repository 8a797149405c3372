"""What is compiled: kernels, and functions inlined into them."""

import functools
from dataclasses import dataclass

KERNELS = {}


@dataclass(frozen=True, eq=False)
class Inline:
    """A function of words that is compiled into every kernel that calls it."""

    function: object

    def __call__(self, *args):
        raise RuntimeError("inline functions exist only inside compiled kernels")

    @functools.cached_property
    def compiled(self):
        import numba

        return numba.njit(error_model="numpy", forceinline=True)(self.function)


def inline(function):
    return Inline(function)


def kernel(function):
    """A compiled entry point (record, pass, thread, threads); all int64."""
    KERNELS[function.__name__] = lambda: function
    return function
