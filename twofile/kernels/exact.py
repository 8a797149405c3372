"""e^x in float64 of + and * alone."""

import math

import numpy as np

from ..compiler.kernel import inline
from ..words.numbers import power_of_two

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
