"""The tables of Unicode's form C, as a tokenizer's own engine knows them."""

import bisect
import unicodedata

from ...tokenizer.forms import COMPOSES, DECOMPOSES, MARKS, OF_WORDS, S_BASE, S_COUNT
from .splits import EVERY

FIRST, LAST = "\u0334", "\u0345"  # marks of the lowest class, 1, and of the highest, 240


def form_rows(nfd, nfc):
    """Rows of FormC. nfd, nfc: str -> str, the engine's own forms."""
    rows, parts = [], changed(nfd, list(map(chr, EVERY[1:])))
    for ch, whole in sorted(parts.items()):
        if S_BASE <= ord(ch) < S_BASE + S_COUNT:
            continue
        if nfc(ch) == ch:
            rows.append((COMPOSES << 24 | ord(ch), ord(nfc(whole[:-1])), ord(whole[-1]), 0))
        else:
            rows.append((DECOMPOSES << 24 | ord(ch), *(map(ord, whole.ljust(3, "\0")))))
    return [*run_rows(MARKS, mark_classes(nfd, set(map(ord, parts)))), *rows]


def run_rows(what, kinds):
    """Rows of runs of neighbours that are of the same kind. kinds: {code point: its kind}."""
    runs = []
    for c, kind in sorted(kinds.items()):
        if runs and runs[-1][1:] == [c - 1, kind]:
            runs[-1][1] = c
        else:
            runs.append([c, c, kind])
    return [(what << 24 | first, last, kind, 0) for first, last, kind in runs]


def word_rows(found):
    """Rows of the characters that words are made of, found among all."""
    return run_rows(OF_WORDS, dict.fromkeys(map(ord, found), 0))


def words_of_python():
    """As regular expressions say it: letters, marks, digits, what connects, and what joins."""
    kinds = ("L", "M"), ("Nd", "Nl", "Pc")
    known = lambda kind: kind[:1] in kinds[0] or kind in kinds[1]
    return [chr(c) for c in EVERY if known(unicodedata.category(chr(c))) or c in (0x200C, 0x200D)]


def changed(form, texts):
    """{text: what form makes of it} of the texts that it changes; none of them begins with a mark
    that what ends the one before could take."""
    made = form("\0".join(texts)).split("\0")
    return {text: new for text, new in zip(texts, made) if text != new}


def mark_classes(nfd, without):
    """{code point: combining class} of all marks, by how the engine puts them in order."""
    others = [chr(c) for c in EVERY[1:] if c not in without]
    low = {text[0] for text in changed(nfd, [ch + FIRST for ch in others])}
    low |= {text[1] for text in changed(nfd, [LAST + ch for ch in others])}
    known, out = {}, {}  # one mark of each class that both the engine and Python know
    for ch in sorted(low):
        known.setdefault(unicodedata.combining(ch), ch)
    kinds = sorted(kind for kind in known if kind)
    for ch in sorted(low):
        at = bisect.bisect_left(kinds, True, key=lambda kind: not after(nfd, ch, known[kind]))
        out[ord(ch)] = kinds[at]
    return out


def after(nfd, ch, other):
    """Whether a mark is of a higher class than another."""
    return nfd(ch + other) == other + ch and ch != other
