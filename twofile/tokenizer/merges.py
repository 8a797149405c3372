"""Words become ids by merging neighbours; text in Unicode's form C."""

import functools
import heapq
import re

import numpy as np

from ..errors import ModelError
from .file import BYTE, BYTE_BPE, BYTE_FALLBACK, EXPLICIT, IGNORE_MERGES, NORMAL, SPM, USER

LONG = 4096  # characters of a text that is worth a search for what makes it quick


def composed(text):
    """text in Unicode's form C. unicodedata takes the square of the length of a run of combining
    marks: in a long text they are put in order first, which changes nothing."""
    from unicodedata import normalize

    if len(text) > LONG and not text.isascii():
        text = runs_of_marks().sub(in_order, text)
    return normalize("NFC", text)


@functools.cache
def runs_of_marks():
    """A pattern for long runs of combining marks."""
    from unicodedata import combining, normalize

    marks = (c for c in map(chr, range(0x300, 0x20000)) if combining(normalize("NFD", c)[0]))
    return re.compile(f"[{''.join(marks)}]{{64,}}")


def in_order(m):
    """The marks of a match, decomposed, in their canonical order."""
    from unicodedata import combining, normalize

    return "".join(sorted("".join(normalize("NFD", c) for c in m[0]), key=combining))


WORD_MAX = 1 << 22  # characters that are merged at once; more would take more than a gigabyte


class Merger:
    """Words to ids, by the pieces of a TokenizerFile. Raises ModelError where a word would have
    none.

    Attributes: ids {piece: id}, bytes {byte: id}, ranks {piece: rank}, 0 is merged first, pairs
    {(piece, piece): rank} or None, complete: whether every word has ids, apart: see below.
    """

    def __init__(self, file):
        self.kind, self.flags, self.unk, self.words = file.kind, file.flags, file.unk, {}
        self.ids, self.bytes = {}, {}
        kinds = (file.types & 15).tolist()
        for i, (piece, kind) in enumerate(zip(file.pieces, kinds)):
            if kind == NORMAL:
                if not piece:
                    raise ModelError(f"token {i} is an empty piece; export it again")
                self.ids.setdefault(piece, i)
            elif kind == BYTE and len(piece) == 1:
                self.bytes.setdefault(piece[0], i)
        if self.kind == SPM:
            said = (p for p, kind in zip(file.pieces, kinds) if kind in (NORMAL, USER))
            try:
                b"\n".join(said).decode()
            except UnicodeDecodeError:
                raise ModelError(
                    "a piece is not UTF-8, as SentencePiece's are; export it again"
                ) from None
        bytewise = self.kind == BYTE_BPE
        single = self.ids if bytewise else {bytes([b]) for b in self.bytes}
        # else a run of unknown characters is one token
        self.complete = bool(self.flags & BYTE_FALLBACK or bytewise)
        if self.complete and any(bytes([b]) not in single for b in range(256)):
            raise ModelError("not all of the 256 byte tokens are there; export it again")
        ranks = np.unique(-file.prio, return_inverse=True)[1].tolist()
        self.ranks = {piece: ranks[i] for piece, i in self.ids.items()}
        self.pairs = self.explicit(file) if self.flags & EXPLICIT else None

    def explicit(self, file):
        """{(piece, piece): rank} of a file that lists its merges."""
        rows, pairs = file.merges, {}
        if len(rows) and rows.max() >= file.n_vocab:
            found = f"a merge names token {rows.max()}"
            raise ModelError(f"{found}, expected less than {file.n_vocab}; export it again")
        for rank, (a, b) in enumerate(rows.tolist()):
            pairs.setdefault((file.pieces[a], file.pieces[b]), rank)
        return pairs

    @functools.cached_property
    def apart(self):
        """A pattern for places that no merge crosses: no token spells a space, or a line end,
        behind something else. None if there are none. Long texts are cut there, to save time."""
        if self.pairs is None and self.complete:
            inside = lambda c: any(c in piece.lstrip(c) for piece in self.ids)
            cuts = [c for c in " \n" if not inside(c.encode())]
            return re.compile("|".join(f"(?<=[^{c}]){c}" for c in cuts)) if cuts else None

    def ids_of(self, word):
        """ids of a word (str or bytes), remembered if it is short."""
        ids = self.words.get(word)
        if ids is None:
            ids = self.merge(word)
            if len(word) <= 64:
                if len(self.words) >= 1 << 16:
                    self.words.clear()
                self.words[word] = ids
        return ids

    def merge(self, word):
        """ids of a word (str or bytes)."""
        raw = word if isinstance(word, bytes) else word.encode("utf-8", "replace")
        if self.flags & IGNORE_MERGES and raw in self.ids:
            return [self.ids[raw]]
        if self.kind == BYTE_BPE:
            parts = [bytes([b]) for b in raw]
        else:
            parts = [ch.encode("utf-8", "replace") for ch in word]
        if len(parts) > WORD_MAX:
            found = f"the text: a word of {len(parts):,} characters"
            raise ModelError(f"{found}, expected at most {WORD_MAX:,}; put spaces in between")
        if self.pairs is None:
            merge_neighbours(parts, lambda a, b, get=self.ranks.get: get(a + b))
        else:
            merge_neighbours(parts, lambda a, b, get=self.pairs.get: get((a, b)))
        ids = []
        for piece in parts:
            if piece is None:
                continue
            found = self.ids.get(piece)
            if found is not None:
                ids.append(found)
            elif self.flags & BYTE_FALLBACK:
                ids += [self.bytes[b] for b in piece]
            elif self.unk is not None and (not ids or ids[-1] != self.unk):
                ids.append(self.unk)  # one for a run of unknown characters, as SentencePiece
        return ids


def merge_neighbours(parts, rank):
    """Merge the neighbours of the best priority, the leftmost of equals, until none can be merged
    (Sennrich et al. 2016; the order is SentencePiece's): in a list of bytes, in place, where the
    second of two becomes None. rank(a, b): 0 is merged first, None never. A heap, so that the time
    is n log n in the length of the list."""
    n, heap = len(parts), []
    after, before = list(range(1, n + 1)), list(range(-1, n - 1))

    def offer(i, j):
        best = rank(parts[i], parts[j])
        if best is not None:
            heapq.heappush(heap, best << 32 | i)

    for i in range(n - 1):
        offer(i, i + 1)
    while heap:
        best = heapq.heappop(heap)
        i = best & 0xFFFFFFFF
        j = after[i]
        if parts[i] is None or j >= n or rank(parts[i], parts[j]) != best >> 32:
            continue  # one of the two was merged with another since
        parts[i], parts[j] = parts[i] + parts[j], None
        k = after[i] = after[j]
        if k < n:
            before[k] = i
            offer(i, k)
        if before[i] >= 0:
            offer(before[i], i)
