"""Small tokenizers."""

import functools
import struct
import unicodedata

from twofile.export.tokenizers.forms import form_rows
from twofile.export.tokenizers.pack import pack_tokenizer
from twofile.tokenizer.file import ADD_BOS, BYTE, BYTE_BPE, BYTE_FALLBACK, CONTROL, NFC, NORMAL, PREFIX, SPM, USER

AWKWARD_TEXTS = [
    "",
    " ",
    "?",
    "  two  spaces ",
    "\n\n\t",
    "naïve 🙂 안녕",
    "\x00\x7f",
    "<s>",
    "a" * 5000,
    "\u2581x",
    "e\u0301",
    "\u017f's 'S",
]


def byte_bpe(**changes):
    """A small byte-level BPE: all bytes, some merges, a user-defined and a control token."""
    pieces = [bytes([b]) for b in range(256)] + [b"th", b"the", b" the", b"he", b" t", b"<|end|>", b"[tool]"]
    types = [NORMAL] * 261 + [CONTROL, USER]
    classes = [(65, 90, 1), (97, 122, 1), (48, 57, 2), (9, 13, 3), (32, 32, 3), (0xE0, 0xFF, 1)]
    prio = [-float(i) for i in range(263)]
    fields = dict(kind=BYTE_BPE, pieces=pieces, prio=prio, types=types, pretok=1, eos=261, stops=(261,), classes=classes)
    if changes.get("flags", 0) & NFC:
        fields["forms"] = forms()
    return pack_tokenizer(**{**fields, **changes})


@functools.cache
def forms():
    """The tables of form C, as this Python knows them."""
    return form_rows(*(functools.partial(unicodedata.normalize, form) for form in ("NFD", "NFC")))


def spm(**changes):
    """A small SentencePiece-like BPE with byte fallback."""
    pieces = [b"<unk>", b"<s>", b"</s>"] + [bytes([b]) for b in range(256)]
    types = [CONTROL] * 3 + [BYTE] * 256
    for piece in [" ", "a", "b", "ab", " ab", "é", "aé", "aa", "aaaa"]:
        pieces.append(piece.encode())
        types.append(NORMAL)
    prio = [0.0] * 259 + [-20.0, -21.0, -22.0, -3.0, -1.0, -23.0, -2.0, -4.0, -5.0]
    flags = ADD_BOS | PREFIX | BYTE_FALLBACK
    fields = dict(kind=SPM, pieces=pieces, prio=prio, types=types, flags=flags, bos=1, eos=2, unk=0, stops=(2,))
    return pack_tokenizer(**{**fields, **changes})


def u32(n):
    return struct.pack("<I", n)
