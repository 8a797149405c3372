"""A calculator: a parser of arithmetic, which evaluates nothing else."""

import re
from fractions import Fraction

from ..errors import printable
from .functions import (
    CALCULATES,
    CONSTANTS,
    TOO_LARGE,
    TOO_SMALL,
    bounded,
    factorial,
    power,
    product,
    quotient,
)
from .tool import Tool, ToolFailed, an_object

LENGTH_MAX, DEPTH_MAX = 2000, 100  # characters of an expression, how deep it may be nested
DIGITS = 15  # that are shown of what is not exact
A_NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
WORD_OR_SIGN = re.compile(rf"\s*({A_NUMBER}|[A-Za-z_][A-Za-z_0-9]*|\*\*|//|[-+*/%^(),!])")
SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})
SAME = {"^": "**", "of": "*"}


class Arithmetic:
    """An expression, read from left to right. value() is a Fraction where it is exact, else a
    float. Raises ToolFailed."""

    def __init__(self, text):
        if len(text) > LENGTH_MAX:
            found = f"the expression has {len(text):,} characters"
            raise ToolFailed(f"{found}, expected at most {LENGTH_MAX:,}")
        self.words, self.place, self.depth = [], 0, 0
        text, at = text.translate(SIGNS).rstrip(), 0
        while at < len(text):
            found = WORD_OR_SIGN.match(text, at)
            if not found:
                self.refuse(text[at:])
            self.words.append(SAME.get(found[1], found[1]))
            at = found.end()

    def refuse(self, rest=None):
        if rest is None:
            rest = " ".join(self.words[self.place :])
        if rest.startswith(","):
            raise ToolFailed("a comma outside of a function; write 1000000, not 1,000,000")
        found = printable(rest.strip()[:40]) or "the end"
        raise ToolFailed(f"not understood at {found!r}; expected arithmetic, as 3 * (4 + 5) ** 2")

    def next(self):
        return self.words[self.place] if self.place < len(self.words) else ""

    def takes(self, *words):
        """The next word if it is one of these, and beyond it; else None."""
        if self.next() in words and self.next():
            self.place += 1
            return self.words[self.place - 1]
        return None

    def value(self):
        found = self.sum()
        if self.next():
            self.refuse()
        return found

    def sum(self):
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise ToolFailed(f"nested too deep; expected at most {DEPTH_MAX} levels")
        found = self.product()
        while sign := self.takes("+", "-"):
            other = self.product()
            found = bounded(found + other if sign == "+" else found - other)
        self.depth -= 1
        return found

    def product(self):
        found = self.signed()
        while sign := self.takes("*", "/", "//", "%"):
            other = self.signed()
            if sign == "*":
                found = product(found, other)
            elif other == 0:
                raise ToolFailed("division by zero")
            elif sign == "/":
                found = quotient(found, other)
            else:
                found = bounded(found // other if sign == "//" else found % other)
        return found

    def signed(self):
        minus = False
        while sign := self.takes("+", "-"):
            minus ^= sign == "-"
        found = self.raised()
        return -found if minus else found

    def raised(self):
        found = self.ended()
        if self.takes("**"):
            self.depth += 1
            if self.depth > DEPTH_MAX:
                raise ToolFailed(f"nested too deep; expected at most {DEPTH_MAX} levels")
            found = power(found, self.signed())
            self.depth -= 1
        return found

    def ended(self):
        """A number with what stands behind it: ! or a per cent sign."""
        found = self.number()
        while self.next() in ("!", "%"):
            if self.takes("!"):
                found = bounded(factorial(found))
                continue
            behind = self.words[self.place + 1 : self.place + 2]
            if behind in (["+"], ["-"]):
                found = "10 % - 3 may be per cent or a remainder"
                raise ToolFailed(f"{found}; write 0.1 - 3, or 10 % (-3)")
            if behind and behind[0] not in ("*", "/", "//", "**", ")", ",", "%"):
                break  # a remainder
            self.place += 1
            found = quotient(found, Fraction(100))
        return found

    def number(self):
        word = self.next()
        self.place += 1
        if word == "(":
            found = self.sum()
            return found if self.takes(")") else self.refuse()
        if word in CONSTANTS:
            return CONSTANTS[word]
        if word in CALCULATES and self.takes("("):
            return self.call(word)
        if word[:1].isdigit() or word[:1] == ".":
            if re.match("0[0-9]", word):
                found = f"{printable(word[:40])}: numbers do not begin with 0"
                raise ToolFailed(f"{found}; expected arithmetic; dates are for another tool")
            number, _, exponent = word.lower().partition("e")
            if len(exponent) > 5:
                raise ToolFailed(TOO_SMALL if exponent[0] == "-" else TOO_LARGE)
            scale = power(Fraction(10), Fraction(exponent or 0))
            return bounded(Fraction(number.rstrip(".")) * scale)
        self.place -= 1
        if word[:1].isalpha() and word not in CALCULATES:
            known = ", ".join([*CALCULATES, *CONSTANTS])
            raise ToolFailed(f"{printable(word[:40])} is unknown; expected one of {known}")
        return self.refuse()

    def call(self, name):
        function, least, most = CALCULATES[name]
        arguments = []
        if not self.takes(")"):
            arguments.append(self.sum())
            while self.takes(","):
                arguments.append(self.sum())
            if not self.takes(")"):
                self.refuse()
        if not least <= len(arguments) <= most:
            wants = f"{least}" if least == most else f"{least} to {most}"
            raise ToolFailed(f"{name}: {len(arguments)} arguments, expected {wants}")
        return bounded(function(*arguments))


def calculated(text):
    """What an expression is worth, as text. Raises ToolFailed."""
    try:
        return number_told(Arithmetic(text).value())
    except OverflowError:
        raise ToolFailed(TOO_LARGE) from None
    except ZeroDivisionError:  # of what became zero as a float
        raise ToolFailed("too near to zero to divide by") from None
    except ValueError:
        raise ToolFailed("undefined; expected numbers for which there is a result") from None


def number_told(value):
    """A number in digits: exact if it ends, else so many digits, and as a fraction if it is one."""
    if isinstance(value, float):
        return f"about {value + 0.0:.{DIGITS}g}"  # no zero has a sign
    if value.denominator == 1:
        return str(value.numerator)
    rest = value.denominator
    twos = fives = 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    if rest == 1 and places <= 30:
        digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
        return f"{'-' * (value < 0)}{digits[:-places]}.{digits[-places:]}"
    exact = f"{value.numerator}/{value.denominator}"
    try:
        about = f"about {product(1.0, value):.{DIGITS}g}"
    except (OverflowError, ToolFailed):  # no float holds it
        return exact
    return f"{about}, exactly {exact}" if len(exact) <= 30 else about


def calculator():
    """The tool."""
    return Tool(
        "calculator",
        "Compute arithmetic exactly. Knows + - * / // % ** ( ), and functions: "
        + ", ".join([*CALCULATES, *CONSTANTS])
        + ". Angles are in radians.",
        an_object(
            expression={"type": "string", "description": "such as (17 + 4) * 1.5, or sqrt(2)"}
        ),
        lambda given: calculated(given["expression"]),
        harmless=True,
    )
