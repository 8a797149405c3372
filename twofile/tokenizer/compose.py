"""Unicode's form C, in time also for long texts."""

import functools
import re

LONG = 4096  # characters of a text that is worth a search for what makes it quick


def composed(text):
    """text in Unicode's form C. unicodedata takes the square of the length of a run of combining
    marks: in a long text they are put in order first, which changes nothing."""
    from unicodedata import normalize

    if len(text) > LONG and not text.isascii():
        text = runs_of_marks().sub(in_order, text)
    return normalize("NFC", text)


@functools.cache
def runs_of_marks():
    """A pattern for long runs of combining marks."""
    from unicodedata import combining, normalize

    marks = (c for c in map(chr, range(0x300, 0x20000)) if combining(normalize("NFD", c)[0]))
    return re.compile(f"[{''.join(marks)}]{{64,}}")


def in_order(m):
    """The marks of a match, decomposed, in their canonical order."""
    from unicodedata import combining, normalize

    return "".join(sorted("".join(normalize("NFD", c) for c in m[0]), key=combining))
