"""A way to cut text, known by what it does on every class of character."""

import itertools
import json
import random
from unicodedata import category

import numpy as np

from ...errors import ModelError, printable
from ...tokenizer.splits import SPLITS, Cutter
from ..sandbox import CUTS, bounded
from .splits import EVERY, class_runs

# one or two of every kind that a known way tells apart, or a version of it might: letters, marks,
# numbers, signs, white space and what re takes for it, others
KINDS = (
    "aZstSTrevmldREVMLD\u017f\u00e9\u00c9\u01c5\u02b0\u05d0\u4e2d\u306e\u30a2\u30fc\ud55c"
    "\u0301\u0903\u20dd\u3099"
    "17\u0663\u2163\u00b2\u00bd"
    "'!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\u2026\u3001\u300c\uff01\u2019\u20ac\u2192\U0001f600"
    " \t\n\r\u00a0\u3000\u2028\x85\x0b\x1c"
    "\0\x7f\u200d\u00ad\ue000\ufeff\u0378"
)
FEW = "as'\u0301\u4e2d\u306e1\u0663.!/$\u3001 \n\t\u00a0"  # those whose order decides
AROUND = ("{}", "a{}a", " {}", "1{}", "{}{} ", ".{}\n", "\n{}", "'{}a", "\u4e2d{}\u4e2d")


def probes():
    """Texts in which every kind stands beside every other, and the same at random."""
    rng, some = random.Random(0), KINDS + " \n\t'1a" * 6
    pairs = map("".join, itertools.product(KINDS, repeat=2))
    threes = map("".join, itertools.product(FEW, repeat=3))
    longer = ("".join(rng.choices(some, k=rng.randint(4, 16))) for _ in range(6000))
    return [*pairs, *threes, *longer]


def at_edges():
    """Characters at which a run of the same category begins or ends, and those after and before."""
    kinds = [category(chr(c)) for c in EVERY]
    edges = (i for i in range(2, len(EVERY) - 2) if kinds[i] != kinds[i - 1])
    return [chr(EVERY[i + k]) for i in edges for k in (-2, -1, 0, 1)]


def known_way(pre, find, classes):
    """The number in SPLITS of what a pre-tokenizer of tokenizer.json, of any form, does; None if
    no known one does the same. find: as of class_runs; classes(number): of all characters."""
    texts, some = probes(), sorted(set(KINDS))
    wanted = cuts_of(pre, texts)
    for number in SPLITS:
        if number and same(number, class_runs(find, number, some), texts, wanted):
            every = at_edges()
            texts = ["|".join(form.format(ch, ch) for ch in every) for form in AROUND]
            return number if same(number, classes(number), texts, cuts_of(pre, texts)) else None
    return None


def same(number, classes, texts, wanted):
    """Whether a known way cuts all texts as wanted: the lengths of their pieces, in one list."""
    cutter, at = Cutter(number, np.array(classes, "<u4").reshape(-1, 3), False), 0
    for text in texts:
        found = [len(word) for word in cutter(text)]
        if found != wanted[at : at + len(found)]:
            return False
        at += len(found)
    return at == len(wanted)


def cuts_of(pre, texts):
    """The lengths of the pieces that a pre-tokenizer cuts texts into. It is a stranger's: run in a
    process of its own."""
    try:
        return bounded(CUTS, {"json": json.dumps(pre), "texts": texts}, 6 << 30, 15)
    except ModelError as e:
        found = f"tokenizer.json: its pre-tokenizer does not work ({printable(str(e))[:80]})"
        raise ModelError(f"{found}; expected what tokenizers runs; is it whole?") from None
