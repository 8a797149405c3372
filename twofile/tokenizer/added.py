"""Tokens found in a text before it is cut: added, user-defined."""

import bisect
import re

import numpy as np

from ..errors import ModelError
from .file import ALONE, CONTROL, LSTRIP, MARK, NORMED, RSTRIP, USER, USER_MAX, WOVEN
from .forms import OF_WORDS

# Unicode's white space; re's \\s and str.strip() know four characters more
BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"
BLANKS += "".join(map(chr, range(0x2000, 0x200B)))
SPACES = re.compile(f"[{BLANKS}]*")
NOT_IN_TEXTS, NOT_IN_TALKS = (CONTROL,), (CONTROL, MARK)  # kinds that stay text


class Words:
    """Knows the characters that words are made of, by the runs that a TokenizerFile brings."""

    def __init__(self, file):
        rows = file.forms[file.forms[:, 0] >> 24 == OF_WORDS]
        self.edges = np.stack((rows[:, 0] & 0xFFFFFF, rows[:, 1] + 1), 1).ravel().tolist()

    def within(self, text, first, last):
        """Whether a word goes on at one of the ends of text[first:last]."""
        beside = (text[first - 1 : first] if first else "") + text[last : last + 1]
        return any(bisect.bisect_right(self.edges, ord(ch)) % 2 for ch in beside)


class AddedTokens:
    """The tokens of a TokenizerFile that are looked for in texts: as they stand, or (normed) when
    they have been made ready for merging. ready(text): makes a token's own text so.

    Attributes: ids {text: id}, empty if there are none.
    """

    def __init__(self, file, normed, ready=str):
        self.types, self.words, kinds = file.types, Words(file), file.types & 15
        found = np.isin(kinds, (USER, WOVEN, MARK))
        self.pieces = [file.pieces[i] for i in np.flatnonzero(found)]
        if self.pieces and max(map(len, self.pieces)) > USER_MAX:
            what = f"a user-defined token is longer than {USER_MAX} bytes"
            raise ModelError(f"{what}; export it again")
        # a control token is not found, but what it spells is nothing else either
        found |= kinds == CONTROL if found.any() else False
        self.ids, lengths = {}, {}
        for i in np.flatnonzero(found & ((file.types & NORMED > 0) == normed)).tolist():
            text = ready(file.pieces[i].decode("utf-8", "replace"))
            if text and len(text) <= USER_MAX:
                self.ids.setdefault(text, i)
                lengths.setdefault(text[0], set()).add(len(text))
        # a dictionary for each length, not one large expression: the time must not grow with their
        # number; the longest first
        self.lengths = {ch: sorted(sizes, reverse=True) for ch, sizes in lengths.items()}
        self.starts = re.compile(f"[{''.join(map(re.escape, lengths))}]") if lengths else None

    def split(self, text, stays):
        """text -> [what is between, id of a token, …], the longest at each place, without the white
        space that it takes. stays: kinds that are not found."""
        parts, at, i = [], 0, 0
        while self.starts and (m := self.starts.search(text, i)):
            i = m.start()
            size = next((n for n in self.lengths[m[0]] if text[i : i + n] in self.ids), 0)
            end = i + max(size, 1)
            token = self.ids[text[i:end]] if size else 0
            kind = self.types[token] if size else CONTROL
            if kind & 15 not in stays and not (kind & ALONE and self.words.within(text, i, end)):
                before = text[at:i]
                parts += [before.rstrip(BLANKS) if kind & LSTRIP else before, token]
                # what it takes may be found as a token all the same
                at = SPACES.match(text, end).end() if kind & RSTRIP else end
            i = end
        return [*parts, text[at:]]
