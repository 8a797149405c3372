"""A tokenizer.bin, section by section."""

import hashlib
import re
import struct

from ..errors import EXPORTER, ModelError
from ..format.fields import NONE
from ..format.foreign import SOUND, refuse_foreign
from ..format.table import ENDIAN, VERSION
from ..format.types import padded

TOKENIZER_MAGIC = b"\x89LMT\r\n\x1a\n"
TOKENIZER_HEADER = struct.Struct("<8sIIQ8IQ32s")  # 0x60 bytes, then the section table
SECTIONS = "offsets pieces prio types stops classes merges chat tests more".split()
SPM, BYTE_BPE = 1, 2
ADD_BOS, ADD_EOS, PREFIX, PREFIX_UNLESS, IGNORE_MERGES, BYTE_FALLBACK, NFC, EXPLICIT = (
    1 << i for i in range(8)
)
PREFIX_EACH, UNK_EACH = 256, 512
ALL_FLAGS = 1023
# kinds of tokens. WOVEN: user-defined, and merges make it too; PRINTED: never found in a text;
# MARK: user-defined, but never found in what is said in a conversation
NORMAL, BYTE, CONTROL, USER, UNUSED, WOVEN, PRINTED, MARK = range(8)
# beside a kind: takes white space at its left, right; not inside words; found in normalised text
LSTRIP, RSTRIP, ALONE, NORMED = 0x10, 0x20, 0x40, 0x80
# what a chat template writes around contents; see talk.py
CHAT = "first system after_system u2a a2u gen".split()
BUT_LAST, OPEN, SPANS, FIRST_END, BOTH = (1 << i for i in range(5))  # of thoughts, see talk.py
CHAT_TEXT, CHAT_ID, CHAT_DATE = range(3)  # kinds of its items
DATE_FORM = re.compile("[%A-Za-z ,./-]{1,32}")  # no width that fills the memory
PIECE_MAX, USER_MAX = 4096, 256  # bytes of a piece; of one that is searched for in texts
MOST_TOKENS, MOST_BYTES = 1 << 20, 64 << 20  # of a tokenizer.bin


def merged_pieces(pieces, types, kind):
    """The pieces [bytes] as merges know them. One of an added token has its own text, in which a
    marked space is no space."""
    marks = "\u2581".encode() if kind == SPM else b" "
    rows = zip(pieces, types)
    return [p.replace(marks, b" ") if t & 15 == WOVEN else p for p, t in rows]


# a section's unit in bytes, and the most bytes it may have
LIMITS = {
    "offsets": (4, 8 << 20),
    "prio": (4, 8 << 20),
    "stops": (4, 1 << 16),
    "classes": (12, 12 << 17),
    "merges": (8, 8 << 20),
    "chat": (1, 1 << 20),
    "tests": (1, 4 << 20),
    "more": (4, 1 << 20),
}

# what to do with a sound file in the place of a tokenizer.bin
NO_TOKENIZER = dict.fromkeys(SOUND, f"make one with {EXPORTER} --tokenizer-only")
NO_TOKENIZER["model"] = "name none where the model has its own inside, or what was exported with it"


def check_tokenizer_header(raw):
    """Raises ModelError unless raw begins as a tokenizer.bin does, is whole, and has its
    checksum."""
    if raw[:8] != TOKENIZER_MAGIC:
        refuse_foreign(raw[:64], "a tokenizer.bin", NO_TOKENIZER)
        found = f"starts with {raw[:8]!r}" if raw else "empty"
        raise ModelError(f"{found}, expected {TOKENIZER_MAGIC!r}; was it written by {EXPORTER}?")
    if len(raw) < 256:
        raise ModelError(f"{len(raw)} bytes, shorter than the 256 of a header; copy it again")
    if len(raw) > MOST_BYTES:
        raise ModelError(f"{len(raw):,} bytes, expected at most {MOST_BYTES:,}; export it again")
    _, version, endian, size, *_, digest = TOKENIZER_HEADER.unpack_from(raw)
    if version != VERSION or endian != ENDIAN:
        found = f"format version {version}, this run.py reads {VERSION}"
        raise ModelError(f"{found}; export again or use a newer run.py")
    if size != len(raw):
        found = f"file is {len(raw):,} bytes, header says {size:,} (truncated?)"
        raise ModelError(f"{found}; copy it again")
    found = hashlib.sha256(raw[:0x40] + bytes(32))
    found.update(memoryview(raw)[0x60:])
    if found.digest() != digest:
        raise ModelError("checksum does not match: the file is damaged; copy or export it again")


def tokenizer_sections(raw):
    """name -> bytes of each section, after everything that can be checked without looking inside.
    Raises ModelError."""
    check_tokenizer_header(raw)
    *_, zero, _ = TOKENIZER_HEADER.unpack_from(raw)
    table = struct.unpack_from("<20Q", raw, 0x60)
    sections, expected = {}, 256
    for name, off, length in zip(SECTIONS, table[::2], table[1::2]):
        if off != expected or off + length > len(raw):
            found = f"section {name} is at {off:,}, {length:,} bytes"
            raise ModelError(f"{found}, expected at {expected:,}; export it again")
        unit, most = LIMITS.get(name, (1, MOST_BYTES))
        if length % unit or length > most:
            wants = f"a multiple of {unit} to {most:,}"
            raise ModelError(
                f"section {name} has {length:,} bytes, expected {wants}; export it again"
            )
        sections[name], expected = raw[off : off + length], padded(off + length, 64)
    if expected != len(raw) or zero:
        found = f"sections end at {expected:,} of {len(raw):,} bytes"
        raise ModelError(f"{found}, or reserved bytes are set; export it again")
    return sections


def tokenizer_chat(raw, types):
    """The section "chat", bytes, of a file whose tokens have these types [n_vocab] -> {name of
    CHAT: [(kind, value)] or None}, {role: strips}, thoughts as of chat_parts(), whether each run of
    text gets the prefix, where a form of tools begins; or None, {}, None, True, 0 if it is empty.
    Raises ModelError."""
    if not raw:
        return None, {}, None, True, 0
    pieces, at, thoughts = {}, 4, None
    try:
        for name in CHAT:
            pieces[name], at = chat_items(raw, at, types)
        if at < len(raw):
            cuts, how, (ends, at) = raw[at], raw[at + 1], chat_items(raw, at + 2, types)
            (_, start), (_, end) = ends or [(CHAT_TEXT, "")] * 2
            thoughts = (start, end, cuts, how) if ends else None
            texts = isinstance(start, str) and isinstance(end, str) and (end or not ends)
            if cuts > 8 or how > 31 or how & SPANS and not start or not texts:
                raise ValueError
        whole = None not in map(pieces.get, ("first", "u2a", "a2u", "gen"))
        if not whole or max(raw[:3]) > 8 or raw[3] > 1:
            raise ValueError
    except (struct.error, ValueError, TypeError, IndexError):
        raise ModelError("the chat section is not what export.py writes; export it again") from None
    return pieces, dict(zip(("system", "user", "assistant"), raw)), thoughts, not raw[3], at


def chat_items(raw, at, types):
    """One piece of the section "chat", which begins at that byte -> [(kind, value)] or None, where
    the next begins. ValueError or struct.error for what is none."""
    (count,), at, items = struct.unpack_from("<I", raw, at), at + 4, []
    for _ in range(0 if count == NONE else min(count, len(raw))):
        kind, length = struct.unpack_from("<II", raw, at)
        value, at = raw[at + 8 : at + 8 + length], at + 8 + length
        if kind > CHAT_DATE or len(value) != length:
            raise ValueError
        value = struct.unpack("<I", value)[0] if kind == CHAT_ID else value.decode()
        if kind == CHAT_DATE and not DATE_FORM.fullmatch(value):
            raise ValueError
        if kind == CHAT_ID and (value >= len(types) or types[value] & 15 not in (CONTROL, MARK)):
            raise ValueError
        items.append((kind, value))
    return None if count == NONE else items, at


def tokenizer_tests(raw):
    """[(text, ids)] of the stored self-test. Raises ModelError."""
    tests, at = [], 4
    try:
        for _ in range(struct.unpack_from("<I", raw)[0] if raw else 0):
            n_text, n_ids = struct.unpack_from("<II", raw, at)
            if n_text > 1 << 15:  # they are encoded at every start
                found = f"self-test section has a text of {n_text:,} bytes"
                raise ModelError(f"{found}, expected 32,768 at most; export it again")
            ids = struct.unpack_from(f"<{min(n_ids, len(raw))}I", raw, at + 8 + n_text)
            tests.append((raw[at + 8 : at + 8 + n_text].decode(), list(ids)))
            at += 8 + n_text + 4 * n_ids
    except (struct.error, UnicodeDecodeError):
        raise ModelError("self-test section is cut short or not text; export it again") from None
    return tests
