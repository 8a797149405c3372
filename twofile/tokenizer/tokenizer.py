"""Text to ids and back; the tokenizer of a model."""

import codecs
import time
from pathlib import Path

from ..errors import ModelError, printable
from ..files import read_small
from .contents import read_tokenizer
from .file import (
    ADD_BOS,
    ADD_EOS,
    BYTE_BPE,
    CHAT_DATE,
    CHAT_ID,
    CHAT_TEXT,
    CONTROL,
    LSTRIP,
    MOST_BYTES,
    NFC,
    PREFIX,
    PREFIX_UNLESS,
    RSTRIP,
    SPM,
    UNUSED,
    chat_parts,
)
from .merges import LONG, Merger, composed
from .splits import SPLITS, Cutter, UserTokens


class TextStream:
    """Tokens in, whole characters out: a character may span several tokens. start: drop the space
    that encode put first. tokenizer: None where nothing is ever pushed."""

    def __init__(self, tokenizer, start=False):
        self.tokenizer, self.decoder = tokenizer, codecs.getincrementaldecoder("utf-8")("replace")
        self.strip = bool(start and tokenizer and tokenizer.flags & (PREFIX | PREFIX_UNLESS))

    def push(self, token):
        """The characters that are whole with this token, as str."""
        raw = self.tokenizer.piece(token)
        if self.strip and raw:
            self.strip, raw = False, raw.removeprefix(b" ")
        return self.decoder.decode(raw)

    def flush(self):
        """What is left at the end: U+FFFD for an unfinished character."""
        return self.decoder.decode(b"", final=True)


class Tokenizer:
    """A tokenizer.bin: text -> ids by merging the neighbours of best priority, and ids -> text.

    source: path, or the bytes of the file. Raises ModelError if anything in it is not as the format
    says. Attributes: n_vocab, bos, eos, unk, pad (None if absent), stops (ids that end a text),
    pieces and types by id, sha256 (of the whole file), chat (what its template writes, or None),
    longest (the most characters that one token stands for; None if there is no such number).
    """

    def __init__(self, source):
        name = "tokenizer in model.bin" if isinstance(source, bytes) else printable(str(source))
        try:
            if not isinstance(source, bytes):
                source = read_small(source, "a tokenizer.bin", MOST_BYTES)
            self._load(read_tokenizer(source))
            self._check(8)
        except ModelError as e:
            raise ModelError(f"{name}: {e}" if not str(e).startswith(name) else str(e)) from None

    def _load(self, file):
        """Take what a TokenizerFile says."""
        self.sha256, self.kind, self.flags = file.sha256, file.kind, file.flags
        self.n_vocab, self.pieces, self.types = file.n_vocab, file.pieces, file.types
        self.bos, self.eos, self.unk, self.pad = file.bos, file.eos, file.unk, file.pad
        self.pretok, self.classes, self.tests = file.pretok, file.classes, file.tests
        self.chat, self.strips, self.prefix_runs = file.chat, file.strips, file.prefix_runs
        self.stops = file.stops
        self.merger, self.users = Merger(file), UserTokens(file)
        self.ids, self.ranks = self.merger.ids, self.merger.ranks
        self.cutter = None  # without patterns, a text is one word
        if SPLITS[self.pretok]:
            self.cutter = Cutter(self.pretok, self.classes, self.kind == BYTE_BPE)
        self.longest = None
        if self.merger.complete and not any(self.types & (LSTRIP | RSTRIP)):
            longest = max(map(len, [*self.ids, *self.users.pieces]), default=1)
            self.longest = longest * (4 if self.flags & NFC else 1)  # four may be composed to one

    def _check(self, count):
        """Encode the first of the stored test texts; raises ModelError if the ids are others."""
        for text, ids in self.tests[:count]:
            if self.encode(text, add_bos=False) != ids:
                found = f"self-test failed on {text[:40]!r}"
                raise ModelError(f"{found}: it does not do what its exporter saw; export it again")

    def selftest(self):
        """Encode all stored test texts; raises ModelError if one gives other ids than the reference
        did at export."""
        self._check(len(self.tests))

    def encode(self, text, add_bos=True):
        """text -> list of ids, with the begin token if the model has one and add_bos. Control
        tokens are never matched. Raises ModelError for a word that would fill the memory."""
        ids = [self.bos] if add_bos and self.flags & ADD_BOS and self.bos is not None else []
        ids += self._run(text, True)
        if add_bos and self.flags & ADD_EOS and self.eos is not None:
            ids.append(self.eos)
        return ids

    def encode_chat(self, messages):
        """[{"role": "system" (only first), "user" or "assistant" in turn, "content": str}], the
        last a user's -> ids up to where the assistant begins. Contents go through encode: they
        never become control tokens. Raises ModelError."""
        if self.chat is None:
            found = "this model was exported without a chat template"
            raise ModelError(f"{found}; expected one to chat; complete text instead")
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
        """The words that tell turns apart in this model's template and are no control tokens,
        sorted: a user can write them too."""
        names = ("after_system", "u2a", "a2u", "gen") if self.chat else ()
        items = [item for name in names for item in self.chat[name] or ()]
        words = {word for kind, value in items if kind == CHAT_TEXT for word in value.split()}
        return sorted(w for w in words if len(w) > 2 and (set(w) & set("<>[]{}|#") or w[-1] == ":"))

    def _run(self, text, prefix):
        """ids of a run of text between control tokens. prefix: whether it may get the space that
        some models begin with."""
        ids, ids_of = [], self.merger.ids_of
        if self.flags & NFC:
            text = composed(text)
        if self.kind == SPM:
            text = text.replace("\u2581", " ")
            spaced = self.flags & PREFIX or self.flags & PREFIX_UNLESS and text[:1] != " "
            if text and prefix and spaced:
                text = " " + text
        for part in self.users.split(text):
            if isinstance(part, int):
                ids.append(part)
            else:
                for word in self.words(part):
                    ids += ids_of(word)
        return ids

    def words(self, text):
        """The words, str or bytes, that text without user-defined tokens is merged in; an
        iterator."""
        return self.cutter(text) if self.cutter else self._whole(text)

    def _whole(self, text):
        """Yield text as one word, but a long one cut where no merge crosses."""
        at = 0
        for m in self.apart.finditer(text) if len(text) > LONG and self.apart else ():
            yield text[at : m.start()]
            at = m.start()
        if at < len(text):
            yield text[at:] if at else text

    @property
    def apart(self):
        """A pattern for places in a text that no merge crosses, or None."""
        return self.merger.apart

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


def find_tokenizer(file, path=None):
    """The Tokenizer at path, or else the one inside the model file (of open_model), or beside it;
    None if the model was exported without one. Raises ModelError if it is another model's."""
    c, inside = file.config, file.tensors.get("tokenizer")
    beside = Path(file.path).parent / "tokenizer.bin"
    if path is None and inside is not None:
        tokenizer = Tokenizer(inside.data[: MOST_BYTES + 1].tobytes())
    elif path is None and not any(c.tokenizer_sha256):
        return None  # exported without one: what lies beside it is another model's
    elif path is not None or beside.exists():
        tokenizer = Tokenizer(path or beside)
    else:
        found = f"{printable(str(beside))}: not found; expected this model's tokenizer"
        raise ModelError(f"{found}; copy it there, or name it with -z")
    if any(c.tokenizer_sha256) and tokenizer.sha256 != c.tokenizer_sha256:
        found, want = tokenizer.sha256.hex()[:16], c.tokenizer_sha256.hex()[:16]
        where = printable(str(path or (file.path if inside else beside)))
        raise ModelError(
            f"{where}: tokenizer {found}… is of another model, expected {want}…; "
            "use the one exported with it"
        )
    if tokenizer.n_vocab > c.vocab_size:
        found = f"tokenizer has {tokenizer.n_vocab} tokens, the model {c.vocab_size}"
        raise ModelError(f"{found}; use the one exported with it")
    return tokenizer
