"""A piece of a text, as it is made."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Chunk:
    """A piece of generated text. The last one has finish_reason "eos", "stop", "length",
    "context", "deadline", "cancelled", "closed" or "error", and no token.

    Where asked for: logprob of the token (natural logarithm, before any sampling rule), and top,
    [(id, logprob)] of the likeliest, best first.
    """

    text: str
    token: int | None = None
    finish_reason: str | None = None
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def begun(text: str, stop: str) -> int:
    """How many characters at the end of text may be the beginning of stop."""
    return next(
        (n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0
    )


def before_stop(text: str, stops: list[str]) -> tuple[int, str | None]:
    """How many characters of text come before the first of stops, with that, or before what may
    yet become one, with None."""
    found = [(text.find(stop), stop) for stop in stops if stop in text]
    if found:
        return min(found)
    return len(text) - max((begun(text, stop) for stop in stops), default=0), None
