"""The error that everything raises: four parts on one line. The one notice."""

import sys

from .needs import CALLED


class ModelError(Exception):
    """The file or the request is not one this program can serve; the message says why and what
    to do."""


def printable(text):
    """text with everything that could drive a terminal escaped."""
    return "".join(ch if ch.isprintable() else ch.encode("unicode_escape").decode() for ch in text)


def say(text):
    """A notice on stderr, behind the program's name."""
    print(f"{CALLED}: {text}", file=sys.stderr, flush=True)
