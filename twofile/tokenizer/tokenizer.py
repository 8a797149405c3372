"""Text to ids and back."""

import codecs
import functools
import hashlib
import heapq
import itertools
import re
import time

import numpy as np

from ..errors import ModelError, printable
from ..files import read_small
from ..format.fields import NONE
from .file import (
    ADD_BOS,
    ADD_EOS,
    BYTE,
    BYTE_BPE,
    BYTE_FALLBACK,
    CHAT_DATE,
    CHAT_ID,
    CHAT_TEXT,
    CONTROL,
    EXPLICIT,
    IGNORE_MERGES,
    LSTRIP,
    MOST_BYTES,
    MOST_TOKENS,
    NFC,
    NORMAL,
    PIECE_MAX,
    PREFIX,
    PREFIX_UNLESS,
    RSTRIP,
    SPM,
    TOKENIZER_HEADER,
    UNUSED,
    USER,
    USER_MAX,
    WHITE,
    _tokenizer_sections,
    _tokenizer_tests,
    tokenizer_chat,
)
from .splits import BYTE_SPLITS, LETTER, NUMBER, SPACE, SPLITS, _cut
from .template import chat_parts

LONG = 4096  # characters of a text that is worth a search for what makes it quick
WORD_MAX = 1 << 22  # characters that are merged at once; more would take more than a gigabyte


class Tokenizer:
    """A tokenizer.bin: text -> ids by merging the neighbours of best priority, and ids -> text.

    source: path, or the bytes of the file. Raises ModelError if anything in it is not as the format says.
    Attributes: n_vocab, bos, eos (None if absent), stops (ids that end a text), sha256 (of the whole file).
    """

    def __init__(self, source):
        name = "tokenizer in model.bin" if isinstance(source, bytes) else printable(str(source))
        try:
            self._load(
                source
                if isinstance(source, bytes)
                else read_small(source, "a tokenizer.bin", MOST_BYTES)
            )
            self._check(8)
        except ModelError as e:
            raise ModelError(f"{name}: {e}" if not str(e).startswith(name) else str(e)) from None

    def _load(self, raw):
        sections = _tokenizer_sections(raw)
        _, _, _, _, self.kind, n, self.flags, self.pretok, *ids, _, _ = (
            TOKENIZER_HEADER.unpack_from(raw)
        )
        self.sha256, self.n_vocab, self.cache, self.lut = hashlib.sha256(raw).digest(), n, {}, None
        self.bos, self.eos, self.unk, self.pad = (None if i == NONE else i for i in ids[:4])
        offsets, prio, types, stops = (
            np.frombuffer(sections[k], t)
            for k, t in (("offsets", "<u4"), ("prio", "<f4"), ("types", "u1"), ("stops", "<u4"))
        )
        if not 1 <= n <= MOST_TOKENS or not len(offsets) - 1 == len(prio) == len(types) == n:
            raise ModelError(
                f"{n} tokens, {len(prio)} priorities, {len(types)} types, expected as many; export it again"
            )
        blob = sections["pieces"]
        if offsets[0] or offsets[-1] != len(blob) or (np.diff(offsets.astype(np.int64)) < 0).any():
            raise ModelError(f"piece offsets are not in order up to {len(blob)}; export it again")
        if np.diff(offsets.astype(np.int64)).max() > PIECE_MAX:
            raise ModelError(f"a piece is longer than {PIECE_MAX} bytes; export it again")
        if (
            not np.isfinite(prio).all()
            or (types & 0xCF).max() > UNUSED
            or self.kind not in (SPM, BYTE_BPE)
            or self.flags > 255
        ):
            raise ModelError(
                "unknown kind, flag or token type, or a priority that is no number; does it need a newer run.py?"
            )
        if any(
            i is not None and i >= n
            for i in (self.bos, self.eos, self.unk, self.pad, *stops.tolist())
        ):
            raise ModelError(f"a bos, eos, unk, pad or stop id is not below {n}; export it again")
        if self.pretok not in SPLITS or sections["reserved"]:
            raise ModelError(
                f"pre-tokenizer {self.pretok} or section is unknown, expected to {max(SPLITS)}; use a newer one"
            )
        edges = offsets.tolist()
        self.pieces = [blob[a:b] for a, b in zip(edges, edges[1:])]
        self.types, self.stops = types, frozenset(stops.tolist())
        self.classes = np.frombuffer(sections["classes"], "<u4").reshape(-1, 3)
        first, last, kinds = self.classes.T
        if (first > last).any() or (last > 0x10FFFF).any() or (kinds > 255).any():
            raise ModelError("a class run ends before it starts, or past U+10FFFF; export it again")
        if int((last.astype(np.int64) - first + 1).sum()) > 4 * 0x110000:
            raise ModelError(
                "the class runs overlap, expected each character in one; export it again"
            )
        self.chat, self.strips, self.prefix_runs = tokenizer_chat(sections["chat"], self)
        self.tests = _tokenizer_tests(sections["tests"])
        self._index(prio, sections["merges"])

    def _index(self, prio, merges):
        """The lookups of the encoder, and what must hold of the pieces for it to find an id for every text."""
        kinds = (self.types & 15).tolist()
        self.ids, self.bytes, users = {}, {}, []
        for i, (piece, kind) in enumerate(zip(self.pieces, kinds)):
            if kind == NORMAL:
                if not piece:
                    raise ModelError(f"token {i} is an empty piece; export it again")
                self.ids.setdefault(piece, i)
            elif kind == BYTE and len(piece) == 1:
                self.bytes.setdefault(piece[0], i)
            elif kind == USER and piece:
                users.append(i)
        if self.kind == SPM:
            try:
                b"\n".join(
                    p for p, kind in zip(self.pieces, kinds) if kind in (NORMAL, USER)
                ).decode()
            except UnicodeDecodeError:
                raise ModelError(
                    "a piece is not UTF-8, as SentencePiece's are; export it again"
                ) from None
        single = (
            self.ids if self.kind == BYTE_BPE else {bytes([b]): i for b, i in self.bytes.items()}
        )
        if (self.kind == BYTE_BPE or self.flags & BYTE_FALLBACK) and any(
            bytes([b]) not in single for b in range(256)
        ):
            raise ModelError("not all of the 256 byte tokens are there; export it again")
        ranks = np.unique(-prio, return_inverse=True)[1].tolist()
        self.ranks = {piece: ranks[i] for piece, i in self.ids.items()}  # 0 is merged first
        self.pairs = None
        if self.flags & EXPLICIT:
            rows = np.frombuffer(merges, "<u4").reshape(-1, 2)
            if len(rows) and rows.max() >= self.n_vocab:
                raise ModelError(
                    f"a merge names token {rows.max()}, expected less than {self.n_vocab}; export it again"
                )
            self.pairs = {}
            for rank, (a, b) in enumerate(rows.tolist()):
                self.pairs.setdefault((self.pieces[a], self.pieces[b]), rank)
        if users and max(len(self.pieces[i]) for i in users) > USER_MAX:
            raise ModelError(
                f"a user-defined token is longer than {USER_MAX} bytes; export it again"
            )
        self.user_ids, lengths = {}, {}
        for i in users:
            text = self.pieces[i].decode("utf-8", "replace")
            self.user_ids.setdefault(text, i)
            lengths.setdefault(text[0], set()).add(len(text))
        self.user_lengths = {
            ch: sorted(found, reverse=True) for ch, found in lengths.items()
        }  # the longest first
        self.user_starts = re.compile(f"[{''.join(map(re.escape, lengths))}]") if lengths else None
        self.complete = (
            self.flags & BYTE_FALLBACK or self.kind == BYTE_BPE
        )  # else a run of unknown characters is one token
        longest = max(
            map(len, itertools.chain(self.ids, (self.pieces[i] for i in users))), default=1
        )
        longest *= 4 if self.flags & NFC else 1  # four characters may be composed to one
        self.longest = (
            longest if self.complete and not any(self.types & (LSTRIP | RSTRIP)) else None
        )

    def _check(self, count):
        for text, ids in self.tests[:count]:
            if self.encode(text, add_bos=False) != ids:
                raise ModelError(
                    f"self-test failed on {text[:40]!r}: it does not do what its exporter saw; export it again"
                )

    def selftest(self):
        """Encode all stored test texts; raises ModelError if one gives other ids than the reference did at export."""
        self._check(len(self.tests))

    def encode(self, text, add_bos=True):
        """text -> list of ids, with the begin token if the model has one and add_bos. Control tokens are never matched."""
        ids = [self.bos] if add_bos and self.flags & ADD_BOS and self.bos is not None else []
        ids += self._run(text, True)
        return ids + (
            [self.eos] if add_bos and self.flags & ADD_EOS and self.eos is not None else []
        )

    def encode_chat(self, messages):
        """[{"role": "system" (only first), "user" or "assistant" in turn, "content": str}], the last a user's -> ids up to
        where the assistant begins. Contents go through encode: they never become control tokens. Raises ModelError."""
        if self.chat is None:
            raise ModelError(
                "this model was exported without a chat template; expected one to chat; complete text instead"
            )
        ids, text = [], ""
        for part in chat_parts(messages, self.chat, self.strips):
            for kind, value in [(CHAT_TEXT, part)] if isinstance(part, str) else part:
                if kind == CHAT_ID:
                    ids += [*self._run(text, self.prefix_runs or not ids), value]
                    text = ""
                else:
                    text += time.strftime(value) if kind == CHAT_DATE else value
        return ids + self._run(text, self.prefix_runs or not ids)

    def chat_form(self):
        """What the chat template writes around contents, as {name: text}; None without one."""
        shows = {CHAT_TEXT: str, CHAT_ID: self.name, CHAT_DATE: "{{today as {}}}".format}
        chat = {name: items for name, items in (self.chat or {}).items() if items is not None}
        return {
            name: "".join(shows[kind](value) for kind, value in items)
            for name, items in chat.items()
        } or None

    def markers(self):
        """The words that tell turns apart in this model's template and are no control tokens: a user can write them too."""
        parts = (
            [self.chat[name] or () for name in ("after_system", "u2a", "a2u", "gen")]
            if self.chat
            else ()
        )
        words = {
            word
            for part in parts
            for kind, value in part
            if kind == CHAT_TEXT
            for word in value.split()
        }
        return sorted(w for w in words if len(w) > 2 and (set(w) & set("<>[]{}|#") or w[-1] == ":"))

    def _run(self, text, prefix):
        """ids of a run of text between control tokens. prefix: whether it may get the space that some models begin with."""
        ids = []
        if self.flags & NFC:
            text = composed(text)
        if self.kind == SPM:
            text = text.replace("\u2581", " ")
            if (
                text
                and prefix
                and (self.flags & PREFIX or self.flags & PREFIX_UNLESS and text[0] != " ")
            ):
                text = " " + text
        for part in self._split_users(text) if self.user_starts else [text]:
            ids += [part] if isinstance(part, int) else self._plain(part)
        return ids

    def _plain(self, text):
        """ids of text without user-defined tokens."""
        ids = []
        for word in self._words(text):
            ids += self._word(word)
        return ids

    def _split_users(self, text):
        """text -> [what is between, id of a user-defined token, …], the longest at each place, without the white space that it
        takes. A dictionary for each length, not one large expression: the time must not grow with their number."""
        parts, at, i = [], 0, 0
        while m := self.user_starts.search(text, i):
            i = m.start()
            size = next((n for n in self.user_lengths[m[0]] if text[i : i + n] in self.user_ids), 0)
            if size:
                token = self.user_ids[text[i : i + size]]
                parts += [text[at:i].rstrip() if self.types[token] & LSTRIP else text[at:i], token]
                at = i + size
                if self.types[token] & RSTRIP:
                    at = WHITE.match(text, at).end()
            i = max(i + 1, at)
        return [*parts, text[at:]]

    @functools.cached_property
    def apart(self):
        """A pattern for places that no merge crosses: no token spells a space, or a line end, behind something else. None if
        there are none. Long texts are cut there, to save time."""
        if self.pairs is None and self.complete:
            inside = lambda c: any(c in piece.lstrip(c) for piece in self.ids)
            cuts = [c for c in " \n" if not inside(c.encode())]
            return re.compile("|".join(f"(?<=[^{c}]){c}" for c in cuts)) if cuts else None

    def _words(self, text):
        """Yield text cut by the model's patterns, which run on a string of character classes instead of the text."""
        if not SPLITS[self.pretok]:
            at = 0
            for m in self.apart.finditer(text) if len(text) > LONG and self.apart else ():
                yield text[at : m.start()]
                at = m.start()
            if at < len(text):
                yield text[at:] if at else text
            return
        if self.lut is None:
            self.lut = np.full(0x110000, ord("."), np.uint8)
            old = {LETTER: "x", NUMBER: "0", SPACE: "\t"} if self.pretok < 4 else {}
            for first, last, kind in self.classes.tolist():
                self.lut[first : last + 1] = ord(old[kind]) if kind in old else kind
            if old:
                for ch in "stmdlverSTMDLVER' ":
                    self.lut[ord(ch)] = ord(ch)
                self.lut[[0x0A, 0x0D]], self.lut[0x17F] = ord("\n"), ord("z")
        classes = (
            self.lut[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")]
            .tobytes()
            .decode("latin-1")
        )
        spans = [(0, len(text))]
        for pattern in SPLITS[self.pretok]:
            spans = _cut(re.compile(pattern), classes, spans)
        if self.pretok in BYTE_SPLITS and self.kind == BYTE_BPE:
            for first, last in spans:
                raw = text[first:last].encode("utf-8", "replace")
                parts = [(0, len(raw))]
                for pattern in BYTE_SPLITS[self.pretok]:
                    parts = _cut(re.compile(pattern), raw, parts)
                for a, b in parts:
                    yield raw[a:b]
            return
        for first, last in spans:
            yield text[first:last]

    def _word(self, word):
        """ids of a word (str or bytes), remembered if it is short."""
        ids = self.cache.get(word)
        if ids is None:
            ids = self._merge(word)
            if len(word) <= 64:
                if len(self.cache) >= 1 << 16:
                    self.cache.clear()
                self.cache[word] = ids
        return ids

    def _merge(self, word):
        """Merge the neighbours of the best priority, the leftmost of equals, until none can be merged (Sennrich et al. 2016;
        the order is SentencePiece's). A heap, so that the time is n log n in the length of the word."""
        raw = word if isinstance(word, bytes) else word.encode("utf-8", "replace")
        if self.flags & IGNORE_MERGES and raw in self.ids:
            return [self.ids[raw]]
        part = (
            [bytes([b]) for b in raw]
            if self.kind == BYTE_BPE
            else [ch.encode("utf-8", "replace") for ch in word]
        )
        n, heap = len(part), []
        if n > WORD_MAX:
            raise ModelError(
                f"the text: a word of {n:,} characters, expected at most {WORD_MAX:,}; put spaces in between"
            )
        after, before = list(range(1, n + 1)), list(range(-1, n - 1))
        ranks, pairs = self.ranks, self.pairs

        def rank(i, j):
            return ranks.get(part[i] + part[j]) if pairs is None else pairs.get((part[i], part[j]))

        def offer(i, j):
            best = rank(i, j)
            if best is not None:
                heapq.heappush(heap, best << 32 | i)

        for i in range(n - 1):
            offer(i, i + 1)
        while heap:
            best = heapq.heappop(heap)
            i = best & 0xFFFFFFFF
            j = after[i]
            if part[i] is None or j >= n or rank(i, j) != best >> 32:
                continue  # one of the two was merged with another since
            part[i], part[j] = part[i] + part[j], None
            k = after[i] = after[j]
            if k < n:
                before[k] = i
                offer(i, k)
            if before[i] >= 0:
                offer(before[i], i)
        ids = []
        for piece in part:
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

    def piece(self, token):
        """The bytes that a token prints; none for control tokens and ids beyond the vocabulary."""
        if token == self.unk and self.kind == SPM:
            return " \u2047 ".encode()
        if not 0 <= token < self.n_vocab or self.types[token] & 15 in (CONTROL, UNUSED):
            return b""
        return self.pieces[token]

    def name(self, token):
        """A token as people write it; control tokens by name."""
        return self.pieces[token].decode("utf-8", "replace") if 0 <= token < self.n_vocab else "?"

    def decode(self, ids):
        """ids -> str; U+FFFD stands for bytes that are not UTF-8."""
        stream = TextStream(self, start=True)
        return "".join([stream.push(i) for i in ids]) + stream.flush()


class TextStream:
    """Tokens in, whole characters out: a character may span several tokens. start: drop the space that encode put first."""

    def __init__(self, tokenizer, start=False):
        self.tokenizer, self.decoder = tokenizer, codecs.getincrementaldecoder("utf-8")("replace")
        self.strip = bool(start and tokenizer and tokenizer.flags & (PREFIX | PREFIX_UNLESS))

    def push(self, token):
        raw = self.tokenizer.piece(token)
        if self.strip and raw:
            self.strip, raw = False, raw.removeprefix(b" ")
        return self.decoder.decode(raw)

    def flush(self):
        """What is left at the end: U+FFFD for an unfinished character."""
        return self.decoder.decode(b"", final=True)


def composed(text):
    """text in Unicode's form C. unicodedata takes the square of the length of a run of combining marks: in a long text they are
    put in order first, which changes nothing."""
    from unicodedata import combining, normalize

    if len(text) > LONG and not text.isascii():
        if not hasattr(composed, "marks"):
            marks = (
                c for c in map(chr, range(0x300, 0x20000)) if combining(normalize("NFD", c)[0])
            )
            composed.marks = re.compile(f"[{''.join(marks)}]{{64,}}")
        ordered = lambda m: "".join(
            sorted("".join(normalize("NFD", c) for c in m[0]), key=combining)
        )
        text = composed.marks.sub(ordered, text)
    return normalize("NFC", text)
