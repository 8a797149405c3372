"""Characters that nobody sees, though a model reads them."""

import re
from collections import Counter

INVISIBLE = (
    re.compile(  # tags and hidden variation selectors, zero-width characters, controls of direction
        "([\U000e0000-\U000e007f\U000e0100-\U000e01ef]|(?<=[\ufe00-\ufe0f])[\ufe00-\ufe0f])"
        "|([\u200b-\u200d\u2060-\u2064\ufeff])|([\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069])"
    )
)


def unseen_in(text):
    """How many of each kind stand in a text -> Counter"""
    kinds = ("tag", "zero-width", "direction")
    return Counter(kinds[m.lastindex - 1] for m in INVISIBLE.finditer(text))


def counted(unseen, where):
    """A Counter of unseen_in() in words: 3 invisible characters in WHERE (2 tag, 1 zero-width)"""
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(unseen.items()))
    return f"{unseen.total()} invisible characters in {where} ({kinds})"
