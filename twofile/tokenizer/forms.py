"""Text in Unicode's form C, by the tables that a file brings."""

import functools
import re

from ..errors import ModelError

# kinds of rows, in the upper byte of their first number; those of words are added.py's
MARKS, COMPOSES, DECOMPOSES, OF_WORDS = range(4)
L_BASE, V_BASE, T_BASE, S_BASE = 0x1100, 0x1161, 0x11A7, 0xAC00  # of Hangul, composed by a rule
V_COUNT, T_COUNT, S_COUNT = 21, 28, 11172


class FormC:
    """Normalises text (Unicode Standard Annex 15). rows: u4 [n, 4], so that every machine does what
    the exporter's engine did, whatever version of Unicode its Python knows:

    MARKS: first and last character, combining class; COMPOSES: a character, and the two that it is
    composed of; DECOMPOSES: a character, and up to three that it becomes, which become it never.
    """

    def __init__(self, rows):
        self.classes, self.parts, self.pairs, most = {}, {}, {}, 0x10FFFF
        for first, x, y, z in rows.tolist():
            kind, first = first >> 24, first & 0xFFFFFF
            if kind == OF_WORDS:
                continue
            fits = kind <= DECOMPOSES and first <= most and max(y, z) <= most
            if not fits or x > most or kind == MARKS and not (0 <= x - first < 4096 and y < 256):
                raise ModelError("a row of the tables of form C is none; export it again")
            if kind == MARKS:
                self.classes |= dict.fromkeys(range(first, x + 1), y)
            else:
                self.parts[first] = [c for c in (x, y, z) if c]
            if kind == COMPOSES:
                self.pairs[x, y] = first
        for c in self.parts:
            self.decomposed(c, 0)  # ends, or is refused

    @functools.cached_property
    def touched(self):
        """A pattern for what may change: marks, and what composes with or becomes something else,
        with one character before."""
        change = {*self.classes, *(b for _, b in self.pairs), *self.parts} - {*self.pairs.values()}
        change |= {*range(V_BASE, V_BASE + V_COUNT), *range(T_BASE + 1, T_BASE + T_COUNT)}
        some = "".join(map(re.escape, map(chr, sorted(change))))
        return re.compile(f"[^{some}]?[{some}]+")

    def decomposed(self, c, depth=0):
        """The code points that c becomes at last."""
        if depth > 8:
            raise ModelError("the tables of form C go in a circle; export it again")
        if S_BASE <= c < S_BASE + S_COUNT:
            head, t = divmod(c - S_BASE, T_COUNT)
            parts = [L_BASE + head // V_COUNT, V_BASE + head % V_COUNT, T_BASE + t]
            return parts[: 3 if t else 2]
        if c not in self.parts:
            return [c]
        return [e for d in self.parts[c] for e in self.decomposed(d, depth + 1)]

    def pair(self, a, b):
        """What two code points compose to, or None."""
        if L_BASE <= a < L_BASE + 19 and V_BASE <= b < V_BASE + V_COUNT:
            return S_BASE + ((a - L_BASE) * V_COUNT + b - V_BASE) * T_COUNT
        whole = S_BASE <= a < S_BASE + S_COUNT and (a - S_BASE) % T_COUNT == 0
        if whole and T_BASE < b < T_BASE + T_COUNT:
            return a + b - T_BASE
        return self.pairs.get((a, b))

    def __call__(self, text):
        """text in form C."""
        return text if text.isascii() else self.touched.sub(self.compose, text)

    def compose(self, m):
        """A match in form C: decomposed, its marks in order, composed again."""
        whole, marks = [], []
        for c in (d for ch in m[0] for d in self.decomposed(ord(ch))):
            if self.classes.get(c, 0):
                marks.append(c)
            else:
                whole += [*sorted(marks, key=self.classes.get), c]
                marks = []
        whole += sorted(marks, key=self.classes.get)
        out, start, last = [], -1, 0  # start: where the last character that is no mark stands
        for c in whole:
            kind = self.classes.get(c, 0)
            near = start >= 0 and (last < kind or last == 0 and start == len(out) - 1)
            made = self.pair(out[start], c) if near else None
            if made is not None:
                out[start] = made
                continue
            if not kind:
                start = len(out)
            last = kind
            out.append(c)
        return "".join(map(chr, out))
