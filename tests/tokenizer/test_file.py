"""A tokenizer.bin that is damaged is refused in words. Rows T of the list of harms."""

import struct
import time

import pytest

from helpers.vocabularies import byte_bpe, spm, u32
from twofile.errors import ModelError
from twofile.tokenizer.file import EXPLICIT, NFC
from twofile.tokenizer.tokenizer import Tokenizer


def changed(raw, at, new):
    raw = bytearray(raw)
    raw[at : at + len(new)] = new
    raw[0x40:0x60] = bytes(32)
    raw[0x40:0x60] = __import__("hashlib").sha256(raw).digest()
    return bytes(raw)


HARMS = {
    "T1 empty": (lambda: b"", "empty"),
    "T1 truncated": (lambda: spm()[:-64], "truncated"),
    "T1 header only": (lambda: spm()[:100], "shorter"),
    "T1 flipped bit": (lambda: spm()[:-70] + bytes([spm()[-70] ^ 1]) + spm()[-69:], "checksum"),
    "T1 another kind of file": (lambda: b"GGUF" + spm()[4:], "GGUF"),
    "T2 no tokens": (lambda: changed(spm(), 0x1C, u32(0)), "0 tokens"),
    "T2 more tokens than there are": (lambda: changed(spm(), 0x1C, u32(400)), "400 tokens"),
    "T3 offsets out of order": (lambda: changed(spm(), 256 + 40, u32(900)), "offsets"),
    "T3 section past the end": (lambda: changed(spm(), 0x68, struct.pack("<Q", 1 << 60)), "section"),
    "T3 section overlap": (lambda: changed(spm(), 0x70, struct.pack("<Q", 256)), "section"),
    "T4 long piece": (lambda: spm(pieces=Tokenizer(spm()).pieces[:-1] + [b"a" * 5000]), "longer than 4096"),
    "T4 empty piece": (lambda: spm(pieces=Tokenizer(spm()).pieces[:-1] + [b""]), "empty piece"),
    "T4 not UTF-8": (lambda: spm(pieces=Tokenizer(spm()).pieces[:-1] + [b"\xff\xfe"]), "not UTF-8"),
    "T6 a begin token": (lambda: spm(begins=[1, 268]), "not below 268"),
    "T6 begin tokens": (lambda: spm(begins=[1] * 65), "65 tokens before a text, expected to 64"),
    "T7 no tables": (lambda: byte_bpe(flags=NFC, forms=()), "lacks the tables"),
    "T7 a row of no table": (
        lambda: byte_bpe(flags=NFC, forms=[(1 << 24 | 0xE9, 0x65, 0x301, 0), (9 << 24, 0, 0, 0)]),
        "tables of form C",
    ),
    "T7 a run without end": (lambda: byte_bpe(flags=NFC, forms=[(1, 0x10FFFF, 9, 0)]), "tables of form C"),
    "T7 a circle": (lambda: byte_bpe(flags=NFC, forms=[(1 << 24 | 65, 66, 67, 0), (1 << 24 | 66, 65, 67, 0)]), "circle"),
    "T6 NaN priority": (lambda: spm(prio=[float("nan")] * 268), "priority"),
    "T6 stop id": (lambda: spm(stops=(268,)), "not below 268"),
    "T6 bos": (lambda: spm(bos=300), "not below 268"),
    "T7 pre-tokenizer": (lambda: byte_bpe(pretok=99), "pre-tokenizer 99"),
    "T7 class run backwards": (lambda: byte_bpe(classes=[(9, 8, 1)]), "class run"),
    "T7 class run too far": (lambda: byte_bpe(classes=[(9, 0x110000, 1)]), "class run"),
    "T8 chat section": (lambda: with_chat(), "chat section is not what"),
    "T10 self-test": (lambda: spm(tests=[("ab", [1, 2, 3])]), "self-test failed"),
    "version": (lambda: changed(spm(), 8, u32(2)), "version 2"),
    "merge out of range": (lambda: byte_bpe(flags=EXPLICIT, merges=[(1, 999)]), "merge names token 999"),
    "tests cut short": (lambda: with_chat(8), "self-test section"),
}


def with_chat(section=7):
    """A file whose section says 64 bytes of rubbish where there is nothing yet."""
    raw = bytearray(spm())
    at = len(raw)
    raw += b"\xff" * 64
    rows = [list(struct.unpack_from("<QQ", raw, 0x60 + 16 * i)) for i in range(10)]
    if section == 8:
        rows[8] = [rows[8][0], 64]
        raw = raw[: rows[8][0]] + b"\xff" * 64
        at = rows[8][0]
    else:
        rows[7] = [rows[8][0], 64]
        raw = raw[: rows[8][0]] + b"\xff" * 64 + raw[rows[8][0] : at]
        rows[8][0] += 64
    rows[9] = [len(raw), 0]
    for i, row in enumerate(rows):
        struct.pack_into("<QQ", raw, 0x60 + 16 * i, *row)
    return changed(bytes(raw), 0x10, struct.pack("<Q", len(raw)))


@pytest.mark.parametrize("harm", HARMS)
def test_bad_file_is_refused_in_words(harm, tmp_path):
    make, says = HARMS[harm]
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(make())
    began = time.perf_counter()
    with pytest.raises(ModelError, match=says) as caught:
        Tokenizer(path)
    assert time.perf_counter() - began < 1
    assert "tokenizer.bin" in str(caught.value) and "\n" not in str(caught.value)
