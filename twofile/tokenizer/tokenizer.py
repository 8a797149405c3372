"""Text to ids and back; the tokenizer of a model."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import ModelError, printable, set_by
from ..files import open_regular, path_asked
from .added import NOT_IN_TEXTS, AddedTokens
from .chats import Conversations
from .contents import read_tokenizer
from .file import (
    ADD_BOS,
    BYTE_BPE,
    CONTROL,
    LSTRIP,
    MARK,
    MOST_BYTES,
    NFC,
    PREFIX,
    PREFIX_EACH,
    PREFIX_UNLESS,
    RSTRIP,
    SPM,
    UNUSED,
    USER,
    WOVEN,
)
from .forms import FormC
from .merges import LONG, Merger
from .splits import SPLITS, Cutter
from .stream import TextStream
from .talk import thinking


class Tokenizer(Conversations):
    """A tokenizer.bin: text -> ids by merging the neighbours of best priority, and ids -> text.

    source: path, or the bytes of the file. Raises ModelError if anything in it is not as the format
    says. chat is what its template writes, tools its ToolForm, or None.
    """

    n_vocab: int
    bos: int | None
    eos: int | None
    unk: int | None
    pad: int | None
    stops: set[int]  #: ids that end a text
    begins: list[int]  #: ids before one
    pieces: list[bytes]  #: by id
    sha256: bytes  # of the whole file
    longest: int | None  #: the most characters of one token; None without a limit

    def __init__(self, source: str | os.PathLike[str] | bytes) -> None:
        name = "tokenizer in model.bin"
        if not isinstance(source, bytes):
            name = printable(path_asked(source, "a tokenizer.bin"))
        try:
            if not isinstance(source, bytes):
                with os.fdopen(open_regular(source, "a tokenizer.bin")[0], "rb") as f:
                    source = f.read(MOST_BYTES + 1)  # one too many is refused by what it is
            self._load(read_tokenizer(source))
            self._check(8)
        except ModelError as e:
            if str(e).startswith(name):
                raise
            raise ModelError(f"{name}: {e}") from None

    def _load(self, file):
        """Take what a TokenizerFile says."""
        self.sha256, self.kind, self.flags = file.sha256, file.kind, file.flags
        self.n_vocab, self.pieces, self.types = file.n_vocab, file.pieces, file.types
        self.bos, self.eos, self.unk, self.pad = file.bos, file.eos, file.unk, file.pad
        self.pretok, self.classes, self.tests = file.pretok, file.classes, file.tests
        self.chat, self.strips, self.thoughts = file.chat, file.strips, file.thoughts
        self.tools = file.tools
        self.prefix_runs, self.stops = file.prefix_runs, file.stops
        bos = [self.bos] if self.flags & ADD_BOS and self.bos is not None else []
        self.begins = file.begins or bos
        self.form_c = FormC(file.forms) if self.flags & NFC else str
        self.thinking = thinking(file)
        self.merger = Merger(file)
        self.added, self.normed = AddedTokens(file, False), AddedTokens(file, True, self._ready)
        self.ids, self.ranks = self.merger.ids, self.merger.ranks
        self.cutter = None  # without patterns, a text is one word
        if SPLITS[self.pretok]:
            self.cutter = Cutter(self.pretok, self.classes, self.kind == BYTE_BPE)
        self.longest = None
        if self.merger.complete and not any(self.types & (LSTRIP | RSTRIP)):
            longest = max(map(len, [*self.ids, *self.added.pieces]), default=1)
            self.longest = longest * (4 if self.flags & NFC else 1)  # four may be composed to one

    def _check(self, count):
        """Encode the first of the stored test texts; raises ModelError if the ids are others."""
        for text, ids in self.tests[:count]:
            if self.encode(text, add_bos=False) != ids:
                found = f"self-test failed on {text[:40]!r}"
                raise ModelError(f"{found}: it does not do what its exporter saw; export it again")

    def selftest(self) -> None:
        """Encode all stored test texts; raises ModelError if one gives other ids than the reference
        did at export."""
        self._check(len(self.tests))

    def encode(self, text: str, add_bos: bool = True) -> list[int]:
        """text -> list of ids, with what begins a text if the model has it and add_bos. Control
        tokens are never matched. Raises ModelError for a word that would fill the memory."""
        return [*(self.begins if add_bos else ()), *self._run(text, True, NOT_IN_TEXTS)]

    def _run(self, text, first, stays):
        """ids of a run of text between control tokens. first: whether it may get the space that
        some models begin with; stays: kinds of tokens that are not found in it."""
        ids, ids_of = [], self.merger.ids_of
        if text and first and self.flags & PREFIX and not self.flags & PREFIX_EACH:
            text = " " + text  # SentencePiece's, whatever follows it
        for part in self.added.split(text, stays):
            if isinstance(part, int):
                ids.append(part)
                first = False
                continue
            for piece in self.normed.split(self._ready(part), stays):
                if isinstance(piece, int):
                    ids.append(piece)
                elif piece:
                    for word in self.words(self._spaced(piece, first)):
                        ids += ids_of(word)
                first = False
        return ids

    def _ready(self, text):
        """A text between tokens that are found as they stand, as others are looked for in it."""
        text = self.form_c(text)
        if self.kind == SPM and not self.flags & PREFIX_UNLESS:
            text = text.replace("\u2581", " ")  # else later
        each = PREFIX | PREFIX_EACH
        return " " + text if text and self.flags & each == each else text

    def _spaced(self, text, first):
        """A text without tokens, with a space before it if that is the model's way."""
        if self.kind == SPM:
            text = text.replace("\u2581", " ")
        wants = self.flags & PREFIX_UNLESS and (first or self.flags & PREFIX_EACH)
        return " " + text if wants and text[:1] != " " else text

    def words(self, text: str) -> Iterator[str] | Iterator[bytes]:
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

    def piece(self, token: int) -> bytes:
        """The bytes that a token prints; none for control tokens and ids beyond the vocabulary."""
        if token == self.unk and self.kind == SPM:
            return " \u2047 ".encode()
        if not 0 <= token < self.n_vocab or self.types[token] & 15 in (CONTROL, UNUSED):
            return b""
        raw = self.pieces[token]
        spaced = self.kind == SPM and self.types[token] & 15 in (USER, WOVEN, MARK)
        return raw.replace(b"\xe2\x96\x81", b" ") if spaced else raw

    def name(self, token: int) -> str:
        """A token as people write it; control tokens by name."""
        return self.pieces[token].decode("utf-8", "replace") if 0 <= token < self.n_vocab else "?"

    def decode(self, ids: Iterable[int]) -> str:
        """ids -> str; U+FFFD stands for bytes that are not UTF-8."""
        stream = TextStream(self, start=True)
        return "".join([stream.push(i) for i in ids]) + stream.flush()


def find_tokenizer(file, path=None):
    """The Tokenizer at path, or else the one inside the model file (of open_model), or beside it;
    None if the model was exported without one. Raises ModelError if it is another model's."""
    c, inside = file.config, file.tensors.get("tokenizer")
    beside = Path(file.path).parent / "tokenizer.bin"
    path = None if path is None else path_asked(path, "a tokenizer.bin")
    if path is None and inside is not None:
        tokenizer = Tokenizer(inside.data[: MOST_BYTES + 1].tobytes())
    elif path is None and not any(c.tokenizer_sha256):
        return None  # exported without one: what lies beside it is another model's
    elif path is not None or beside.exists():
        tokenizer = Tokenizer(beside if path is None else path)
    else:
        found = f"{printable(str(beside))}: not found; expected this model's tokenizer"
        raise ModelError(f"{found}; copy it there, or name it with {set_by('tokenizer')}")
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
