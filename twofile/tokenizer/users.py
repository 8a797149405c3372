"""User-defined tokens, which are searched for in text."""

import re

import numpy as np

from ..errors import ModelError
from .file import LSTRIP, RSTRIP, USER, USER_MAX

WHITE = re.compile(r"\s*")


class UserTokens:
    """The user-defined tokens of a TokenizerFile; ids {text: id}, empty if there are none."""

    def __init__(self, file):
        self.types = file.types
        found = [i for i in np.flatnonzero((self.types & 15) == USER).tolist() if file.pieces[i]]
        self.pieces = [file.pieces[i] for i in found]
        if found and max(map(len, self.pieces)) > USER_MAX:
            what = f"a user-defined token is longer than {USER_MAX} bytes"
            raise ModelError(f"{what}; export it again")
        self.ids, lengths = {}, {}
        for i, piece in zip(found, self.pieces):
            text = piece.decode("utf-8", "replace")
            self.ids.setdefault(text, i)
            lengths.setdefault(text[0], set()).add(len(text))
        # a dictionary for each length, not one large expression: the time must not grow with their
        # number; the longest first
        self.lengths = {ch: sorted(sizes, reverse=True) for ch, sizes in lengths.items()}
        self.starts = re.compile(f"[{''.join(map(re.escape, lengths))}]") if lengths else None

    def split(self, text):
        """text -> [what is between, id of a user-defined token, …], the longest at each place,
        without the white space that it takes."""
        parts, at, i = [], 0, 0
        while self.starts and (m := self.starts.search(text, i)):
            i = m.start()
            size = next((n for n in self.lengths[m[0]] if text[i : i + n] in self.ids), 0)
            if size:
                token = self.ids[text[i : i + size]]
                before = text[at:i]
                parts += [before.rstrip() if self.types[token] & LSTRIP else before, token]
                at = i + size
                if self.types[token] & RSTRIP:
                    at = WHITE.match(text, at).end()
            i = max(i + 1, at)
        return [*parts, text[at:]]
