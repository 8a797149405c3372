"""What goes wrong, in four parts on one line, and what is only said."""

import sys


class ModelError(Exception):
    """The file or the request is not one this program can serve; the message says why and what to
    do."""


def printable(text):
    """text with everything that could drive a terminal escaped."""
    return "".join(ch if ch.isprintable() else ch.encode("unicode_escape").decode() for ch in text)


def say(text):
    """Put a notice on stderr, in the program's name."""
    print(f"run.py: {text}", file=sys.stderr, flush=True)
