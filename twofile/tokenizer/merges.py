"""Words become ids by merging neighbours."""

import functools
import heapq
import re

import numpy as np

from ..errors import ModelError, WrongValue
from .file import (
    BYTE,
    BYTE_BPE,
    BYTE_FALLBACK,
    EXPLICIT,
    IGNORE_MERGES,
    MARK,
    NORMAL,
    SPM,
    UNK_EACH,
    USER,
    WOVEN,
    merged_pieces,
)

LONG = 4096  # characters of a text that is worth a search for what makes it quick


WORD_MAX = 1 << 22  # characters that are merged at once; more would take more than a gigabyte


class Merger:
    """Words to ids, by the pieces of a TokenizerFile. Raises ModelError where a word would have
    none.

    Attributes: ids {piece: id}, bytes {byte: id}, ranks {piece: rank}, 0 is merged first, pairs
    {(piece, piece): rank} or None, complete: whether each byte has a token, apart: see below.
    """

    def __init__(self, file):
        self.kind, self.flags, self.unk, self.words = file.kind, file.flags, file.unk, {}
        self.ids, self.bytes = {}, {}
        kinds = (file.types & 15).tolist()
        pieces = merged_pieces(file.pieces, kinds, file.kind)
        for i, (piece, kind) in enumerate(zip(pieces, kinds)):
            if kind in (NORMAL, WOVEN):
                if not piece:
                    raise ModelError(f"token {i} is an empty piece; export it again")
                self.ids.setdefault(piece, i)
            elif kind == BYTE and len(piece) == 1:
                self.bytes.setdefault(piece[0], i)
        if self.kind == SPM:
            said = zip(file.pieces, kinds)
            said = (p for p, kind in said if kind in (NORMAL, USER, WOVEN, MARK))
            try:
                b"\n".join(said).decode()
            except UnicodeDecodeError:
                raise ModelError(
                    "a piece is not UTF-8, as SentencePiece's are; export it again"
                ) from None
        bytewise = self.kind == BYTE_BPE
        single = self.ids if bytewise else {bytes([b]) for b in self.bytes}
        whole = bool(self.flags & BYTE_FALLBACK or bytewise)
        self.complete = whole and all(bytes([b]) in single for b in range(256))
        ranks = np.unique(-file.prio, return_inverse=True)[1].tolist()
        self.ranks = {piece: ranks[i] for piece, i in self.ids.items()}
        self.pairs = explicit(file, pieces) if self.flags & EXPLICIT else None

    @functools.cached_property
    def apart(self):
        """A pattern for places that no merge crosses: no token spells a space, or a line end,
        behind something else. None if there are none. Long texts are cut there, to save time."""
        if self.pairs is None:
            inside = lambda c: any(c in piece.lstrip(c) for piece in self.ids)
            found = [c for c in " \n" if self.complete or c.encode() in self.ids]
            cuts = [c for c in found if not inside(c.encode())]
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
        if self.unk is None and not self.complete:
            parts = [piece for piece in parts if piece in self.ids or self.as_bytes(piece)]
        if len(parts) > WORD_MAX:
            found = f"the text: a word of {len(parts):,} characters"
            raise WrongValue(f"{found}, expected at most {WORD_MAX:,}; put spaces in between")
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
            elif own := self.as_bytes(piece):
                ids += own
            elif self.unk is not None and (self.flags & UNK_EACH or ids[-1:] != [self.unk]):
                ids.append(self.unk)  # else one for a run of unknown characters, as SentencePiece
        return ids

    def as_bytes(self, piece):
        """The byte tokens of a character without a token; none unless all are there."""
        ids = [self.bytes.get(b) for b in piece] if self.flags & BYTE_FALLBACK else []
        return [] if None in ids else ids


def explicit(file, pieces):
    """{(piece, piece): rank} of a file that lists its merges."""
    rows, pairs = file.merges, {}
    if len(rows) and rows.max() >= file.n_vocab:
        found = f"a merge names token {rows.max()}"
        raise ModelError(f"{found}, expected less than {file.n_vocab}; export it again")
    for rank, (a, b) in enumerate(rows.tolist()):
        pairs.setdefault((pieces[a], pieces[b]), rank)
    return pairs


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
