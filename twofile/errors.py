"""The error that everything raises: four parts on one line."""


class ModelError(Exception):
    """The file or the request is not one this program can serve; the message says why and what to
    do."""


def printable(text):
    """text with everything that could drive a terminal escaped."""
    return "".join(ch if ch.isprintable() else ch.encode("unicode_escape").decode() for ch in text)
