"""Functions that a calculator knows; exact where they can be, bounded."""

import math
import sys
from fractions import Fraction

from .tool import ToolFailed

BITS_MAX = 4096  # of a number, above and below the line: about 1,200 digits
TOO_LARGE, TOO_SMALL = "too large", "too small"


def bounded(value):
    """A number as it goes on: a Fraction of at most so many bits, or a finite float. Raises
    ToolFailed."""
    if isinstance(value, complex):
        raise ToolFailed("no real number; expected numbers for which there is one")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ToolFailed(TOO_LARGE if math.isinf(value) else "undefined")
        if 0 < abs(value) < sys.float_info.min:  # its last digits are lost
            raise ToolFailed(TOO_SMALL)
        return value
    value = Fraction(value)
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > BITS_MAX:
        raise out_of_bounds(size_of(value))
    return value


def size_of(x):
    """About which power of two a Fraction is."""
    return x.numerator.bit_length() - x.denominator.bit_length()


def out_of_bounds(size):
    """The ToolFailed of a Fraction that has too many digits, about 2 ** size."""
    found = "too many digits" if abs(size) < BITS_MAX // 2 else TOO_LARGE if size > 0 else TOO_SMALL
    return ToolFailed(f"{found}; expected numbers of at most 1,200 digits")


def product(a, b):
    """a * b; what is no zero does not become one."""
    found = a * b
    if found == 0 and a != 0 and b != 0:
        raise ToolFailed(TOO_SMALL)
    return bounded(found)


def quotient(a, b):
    """a / b, b is not 0; what is no zero does not become one."""
    if isinstance(a, float) and isinstance(b, Fraction):
        return product(a, 1 / b)
    found = a / b
    if found == 0 and a != 0:
        raise ToolFailed(TOO_SMALL)
    return bounded(found)


def power(base, exponent):
    """base ** exponent; its size is known before it is computed."""
    if base == 0 and exponent < 0:
        raise ToolFailed("division by zero")
    if isinstance(exponent, Fraction) and exponent.denominator == 1 and isinstance(base, Fraction):
        if size_of_power(base, exponent) > BITS_MAX:
            raise out_of_bounds(size_of(base) * exponent)
        if base in (0, 1, -1):
            return base ** int(exponent % 2 if base == -1 else min(exponent, 1))
        return bounded(base ** int(exponent))
    if isinstance(exponent, Fraction) and exponent == Fraction(1, 2):
        return square_root(base)
    try:
        size = size_of(base) if isinstance(base, Fraction) and base > 0 else 0
        if abs(size) > 1000:  # no float holds it, though perhaps what comes of it
            twos = size * exponent
            whole = math.floor(twos)
            part = float(base / Fraction(2) ** size) ** float(exponent)
            found = math.ldexp(part * 2 ** float(twos - whole), whole)
        else:
            found = float(base) ** float(exponent)
    except OverflowError:
        found = 0 if (abs(base) < 1) == (exponent > 0) else math.inf
    if found == 0 and base != 0:
        raise ToolFailed(TOO_SMALL)
    return bounded(found)


def square_root(x):
    if x < 0:
        raise ToolFailed("the square root of a negative number is no real number")
    if isinstance(x, Fraction):
        above, below = math.isqrt(x.numerator), math.isqrt(x.denominator)
        if above * above == x.numerator and below * below == x.denominator:
            return Fraction(above, below)
        half = size_of(x) // 2  # so that it fits into a float
        return math.ldexp(math.sqrt(x / Fraction(4) ** half), half)
    return math.sqrt(x)


def rounded(x, digits=0):
    """To so many digits behind the point; what lies in the middle goes away from zero."""
    n = as_whole(digits)
    if abs(n) > 300:
        raise ToolFailed("round: expected at most 300 digits")
    scale = Fraction(10) ** n
    scaled = abs(Fraction(x)) * scale
    found = math.floor(scaled + Fraction(1, 2)) / scale * (-1 if x < 0 else 1)
    return float(found) if isinstance(x, float) else found


def whole_by(way):
    """A function of math's that gives whole numbers, which are as inexact as what they are of."""
    return lambda x: float(way(x)) if isinstance(x, float) else way(x)


def inexact(function, at=0, worth=0):
    """A function of math's by floats; at one place its worth is exact."""

    def computed(x):
        if isinstance(x, Fraction) and x == at:
            return Fraction(worth)
        found = function(float(x))
        if found == 0 and x != at:
            raise ToolFailed(TOO_SMALL)
        return found

    return computed


def exponential(x):
    """e ** x"""
    if x < -1000:
        raise ToolFailed(TOO_SMALL)
    return inexact(math.exp, 0, 1)(x)


def as_whole(x):
    """A number that must be whole -> int. Raises ToolFailed."""
    if isinstance(x, float):
        raise ToolFailed("expected a whole number that is exact")
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
    found = quotient(natural(x), natural(base))
    near = round(found)
    exact = isinstance(x, Fraction) and isinstance(base, Fraction)
    if exact and abs(found - near) < 1e-9 and size_of_power(base, near) <= BITS_MAX:
        return near if base**near == x else found
    return found


def size_of_power(base, exponent):
    """Bits that a Fraction's power has at least."""
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    return (bits - 1) * abs(exponent)


def natural(x):
    """log of a number, also one that no float holds."""
    if isinstance(x, float):
        return math.log(x)
    if abs(x - 1) < Fraction(1, 2):
        return inexact(math.log1p)(x - 1)
    size = size_of(x)
    return math.log(x / Fraction(2) ** size) + size * math.log(2)


def hypotenuse(a, b):
    if isinstance(a, float) or isinstance(b, float):
        return math.hypot(a, b)
    return square_root(a * a + b * b)


def mean(*numbers):
    return sum(numbers) / len(numbers)


CALCULATES = {  # name -> (function, least arguments, most)
    "sqrt": (square_root, 1, 1),
    "abs": (abs, 1, 1),
    "round": (rounded, 1, 2),
    "floor": (whole_by(math.floor), 1, 1),
    "ceil": (whole_by(math.ceil), 1, 1),
    "trunc": (whole_by(math.trunc), 1, 1),
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
    "exp": (exponential, 1, 1),
    "log": (logarithm, 1, 2),
    "ln": (logarithm, 1, 1),
    "log2": (lambda x: logarithm(x, Fraction(2)), 1, 1),
    "log10": (lambda x: logarithm(x, Fraction(10)), 1, 1),
    "sin": (inexact(math.sin), 1, 1),
    "cos": (inexact(math.cos, 0, 1), 1, 1),
    "tan": (inexact(math.tan), 1, 1),
    "asin": (inexact(math.asin), 1, 1),
    "acos": (inexact(math.acos, 1, 0), 1, 1),
    "atan": (inexact(math.atan), 1, 1),
    "hypot": (hypotenuse, 2, 2),
    "degrees": (inexact(math.degrees), 1, 1),
    "radians": (inexact(math.radians), 1, 1),
}
CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}
