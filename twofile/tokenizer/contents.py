"""What a tokenizer.bin says, checked."""

import hashlib
from typing import NamedTuple

import numpy as np

from ..errors import ModelError
from ..format.fields import NONE
from .file import (
    ALL_FLAGS,
    BYTE_BPE,
    MARK,
    MOST_TOKENS,
    NFC,
    PIECE_MAX,
    SPM,
    TOKENIZER_HEADER,
    tokenizer_chat,
    tokenizer_sections,
    tokenizer_tests,
)
from .forms import OF_WORDS
from .splits import SPLITS
from .toolform import ToolForm, read_tools


class TokenizerFile(NamedTuple):
    """The values of a tokenizer.bin; ids are below n_vocab, None if absent."""

    sha256: bytes  # of the whole file
    kind: int  # SPM or BYTE_BPE
    flags: int  # ADD_BOS and those beside it
    pretok: int  # a number of SPLITS
    n_vocab: int
    bos: int | None
    eos: int | None
    unk: int | None
    pad: int | None
    stops: frozenset  # ids that end a text
    pieces: list  # bytes of each token
    prio: np.ndarray  # float32 [n_vocab]: the largest is merged first
    types: np.ndarray  # u1 [n_vocab]: NORMAL to MARK, with LSTRIP and those beside it
    classes: np.ndarray  # u4 [runs, 3]: first and last character, class
    merges: np.ndarray  # u4 [merges, 2]: two ids each, the best first; used with EXPLICIT
    chat: dict | None  # see tokenizer_chat()
    strips: dict
    thoughts: tuple | None
    tools: ToolForm | None
    prefix_runs: bool
    tests: list  # [(text, ids)]
    begins: list  # ids that stand before a text, if it is not bos alone
    forms: np.ndarray  # u4 [rows, 4]: the tables of Unicode's form C, see forms.py


def read_tokenizer(raw):
    """The bytes of a tokenizer.bin -> TokenizerFile. Raises ModelError."""
    sections = tokenizer_sections(raw)
    _, _, _, _, kind, n, flags, pretok, *ids, _, _ = TOKENIZER_HEADER.unpack_from(raw)
    bos, eos, unk, pad = (None if i == NONE else i for i in ids[:4])
    prio, types, stops = (
        np.frombuffer(sections[name], dtype)
        for name, dtype in (("prio", "<f4"), ("types", "u1"), ("stops", "<u4"))
    )
    offsets = np.frombuffer(sections["offsets"], "<u4")
    if not 1 <= n <= MOST_TOKENS or not len(offsets) - 1 == len(prio) == len(types) == n:
        found = f"{n} tokens, {len(prio)} priorities, {len(types)} types"
        raise ModelError(f"{found}, expected as many; export it again")
    pieces = cut_pieces(sections["pieces"], offsets)
    known = (types & 15).max() <= MARK and kind in (SPM, BYTE_BPE) and flags <= ALL_FLAGS
    if not np.isfinite(prio).all() or not known:
        found = "unknown kind, flag or token type, or a priority that is no number"
        raise ModelError(f"{found}; does it need a newer run.py?")
    begins, forms = read_more(sections["more"])
    if any(i is not None and i >= n for i in (bos, eos, unk, pad, *stops.tolist(), *begins)):
        raise ModelError(f"a bos, eos, unk, pad or stop id is not below {n}; export it again")
    if pretok not in SPLITS:
        found = f"pre-tokenizer {pretok} is unknown"
        raise ModelError(f"{found}, expected to {max(SPLITS)}; use a newer one")
    if flags & NFC and not (forms[:, 0] >> 24 < OF_WORDS).any():
        found = "it normalises text and lacks the tables for it"
        raise ModelError(f"{found}, as older exports do; export it again")
    classes = read_classes(sections["classes"])
    chat, strips, thoughts, prefix_runs, at = tokenizer_chat(sections["chat"], types)
    more = sections["chat"][at:]
    return TokenizerFile(
        hashlib.sha256(raw).digest(),
        kind,
        flags,
        pretok,
        n,
        bos,
        eos,
        unk,
        pad,
        frozenset(stops.tolist()),
        pieces,
        prio,
        types,
        classes,
        np.frombuffer(sections["merges"], "<u4").reshape(-1, 2),
        chat,
        strips,
        thoughts,
        read_tools(more, types) if more else None,
        prefix_runs,
        tokenizer_tests(sections["tests"]),
        begins,
        forms,
    )


def read_more(raw):
    """The section "more" -> ids that stand before a text, u4 [rows, 4] of the tables of form C."""
    numbers = np.frombuffer(raw, "<u4")
    count = int(numbers[0]) if len(numbers) else 0
    if count > 64 or len(numbers) and (len(numbers) < 1 + count or (len(numbers) - 1 - count) % 4):
        raise ModelError(f"{count} tokens before a text, expected to 64; export it again")
    return numbers[1 : 1 + count].tolist(), numbers[1 + count :].reshape(-1, 4)


def cut_pieces(blob, offsets):
    """The bytes of each token: blob from one of the offsets, u4 [n_vocab + 1], to the next."""
    sizes = np.diff(offsets.astype(np.int64))
    if offsets[0] or offsets[-1] != len(blob) or (sizes < 0).any():
        raise ModelError(f"piece offsets are not in order up to {len(blob)}; export it again")
    if sizes.max() > PIECE_MAX:
        raise ModelError(f"a piece is longer than {PIECE_MAX} bytes; export it again")
    edges = offsets.tolist()
    return [blob[a:b] for a, b in zip(edges, edges[1:])]


def read_classes(raw):
    """The runs of characters of a class, u4 [runs, 3]: first, last, class."""
    classes = np.frombuffer(raw, "<u4").reshape(-1, 3)
    first, last, kinds = classes.T
    if (first > last).any() or (last > 0x10FFFF).any() or (kinds > 255).any():
        raise ModelError("a class run ends before it starts, or past U+10FFFF; export it again")
    if int((last.astype(np.int64) - first + 1).sum()) > 4 * 0x110000:
        raise ModelError("the class runs overlap, expected each character in one; export it again")
    return classes
