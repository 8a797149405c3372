"""Functions that a calculator knows; exact where they can be, bounded."""

import math
from fractions import Fraction

from .tool import ToolFailed

BITS_MAX = 4096  # of a number, above and below the line: about 1,200 digits
TOO_LARGE = "too large"


def bounded(value):
    """A number as it goes on: a Fraction of at most so many bits, or a finite float. Raises
    ToolFailed."""
    if isinstance(value, complex):
        raise ToolFailed("no real number; expected numbers for which there is one")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ToolFailed(TOO_LARGE if math.isinf(value) else "undefined")
        return value
    value = Fraction(value)
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > BITS_MAX:
        raise ToolFailed(f"{TOO_LARGE}; expected numbers of at most 1,200 digits")
    return value


def power(base, exponent):
    """base ** exponent; its size is known before it is computed."""
    if isinstance(exponent, Fraction) and exponent.denominator == 1 and isinstance(base, Fraction):
        if base == 0 and exponent < 0:
            raise ToolFailed("division by zero")
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if abs(base) != 1 and bits > 1 and (bits - 1) * abs(exponent) > BITS_MAX:
            raise ToolFailed(f"{TOO_LARGE}; expected numbers of at most 1,200 digits")
        if base in (0, 1, -1):
            return base ** int(exponent % 2 if base == -1 else min(exponent, 1))
        return bounded(base ** int(exponent))
    if isinstance(exponent, Fraction) and exponent == Fraction(1, 2):
        return square_root(base)
    return bounded(float(base) ** float(exponent))


def square_root(x):
    if x < 0:
        raise ToolFailed("the square root of a negative number is no real number")
    if isinstance(x, Fraction):
        above, below = math.isqrt(x.numerator), math.isqrt(x.denominator)
        if above * above == x.numerator and below * below == x.denominator:
            return Fraction(above, below)
    return math.sqrt(x)


def rounded(x, digits=0):
    """To so many digits behind the point; what lies in the middle goes away from zero."""
    n = as_whole(digits)
    if abs(n) > 300:
        raise ToolFailed("round: expected at most 300 digits")
    scale = Fraction(10) ** n
    scaled = abs(Fraction(x)) * scale
    return math.copysign(1, x).__trunc__() * Fraction(math.floor(scaled + Fraction(1, 2))) / scale


def as_whole(x):
    """A number that must be whole -> int. Raises ToolFailed."""
    if x != int(x):
        raise ToolFailed("expected a whole number")
    return int(x)


def factorial(x):
    n = as_whole(x)
    if n < 0:
        raise ToolFailed("factorial: expected 0 or more")
    if n > 500:
        raise ToolFailed(TOO_LARGE)
    return math.factorial(n)


def choices_of(count):
    """Ways to take k of n, by a function of math's whose size is known before."""

    def counted_ways(n, k):
        n, k = as_whole(n), as_whole(k)
        if n < 0 or k < 0:
            raise ToolFailed("expected 0 or more")
        if min(k, n - k if count is math.comb else k) * n.bit_length() > 4 * BITS_MAX:
            raise ToolFailed(TOO_LARGE)
        return count(n, k)

    return counted_ways


def logarithm(x, base=None):
    """The natural one, or to a base; exact where the result is a whole number."""
    if x <= 0 or (base is not None and (base <= 0 or base == 1)):
        raise ToolFailed("log: expected numbers above 0, and a base that is not 1")
    if base is None:
        return natural(x)
    found = natural(x) / natural(base)
    near = round(found)
    exact = isinstance(x, Fraction) and isinstance(base, Fraction) and abs(near) < BITS_MAX
    if exact and abs(found - near) < 1e-9 and power(base, Fraction(near)) == x:
        return near
    return found


def natural(x):
    """log of a number, also one that no float holds."""
    return (
        math.log(x.numerator) - math.log(x.denominator) if isinstance(x, Fraction) else math.log(x)
    )


def mean(*numbers):
    return sum(numbers) / len(numbers)


CALCULATES = {  # name -> (function, least arguments, most)
    "sqrt": (square_root, 1, 1),
    "abs": (abs, 1, 1),
    "round": (rounded, 1, 2),
    "floor": (math.floor, 1, 1),
    "ceil": (math.ceil, 1, 1),
    "trunc": (math.trunc, 1, 1),
    "min": (min, 1, 99),
    "max": (max, 1, 99),
    "sum": (lambda *numbers: sum(numbers), 1, 99),
    "mean": (mean, 1, 99),
    "gcd": (lambda *numbers: math.gcd(*map(as_whole, numbers)), 1, 99),
    "lcm": (lambda a, b: math.lcm(as_whole(a), as_whole(b)), 2, 2),
    "factorial": (factorial, 1, 1),
    "comb": (choices_of(math.comb), 2, 2),
    "perm": (choices_of(math.perm), 2, 2),
    "pow": (power, 2, 2),
    "exp": (math.exp, 1, 1),
    "log": (logarithm, 1, 2),
    "ln": (logarithm, 1, 1),
    "log2": (lambda x: logarithm(x, Fraction(2)), 1, 1),
    "log10": (lambda x: logarithm(x, Fraction(10)), 1, 1),
    "sin": (math.sin, 1, 1),
    "cos": (math.cos, 1, 1),
    "tan": (math.tan, 1, 1),
    "asin": (math.asin, 1, 1),
    "acos": (math.acos, 1, 1),
    "atan": (math.atan, 1, 1),
    "hypot": (lambda a, b: square_root(a * a + b * b), 2, 2),
    "degrees": (math.degrees, 1, 1),
    "radians": (math.radians, 1, 1),
}
CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}
