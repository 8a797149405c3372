"""What people pass by mistake, told by its first bytes."""

import re
from typing import NamedTuple

from ..errors import ModelError

# sound files, which may only stand in the wrong place
SOUND = "model tokenizer cache weights shard pickle pieces settings".split()
COPY, UNPACK = "copy it again, in binary mode", "unpack it first"
FETCH = "download it again, the file itself"


class Foreign(NamedTuple):
    """A file that begins so. todo: what to do with it wherever it stands, or one of SOUND."""

    begins: bytes
    what: str
    todo: str


FOREIGN = [
    Foreign(b"\x89LMB\r\n\x1a\n", "a model.bin", "model"),
    Foreign(b"\x89LMT\r\n\x1a\n", "a tokenizer.bin", "tokenizer"),
    Foreign(b"\x89LMK\r\n\x1a\n", "a prompt cache", "cache"),
    Foreign(b"\x89LMB", "a model.bin that was transferred in text mode", COPY),
    Foreign(b"\x89LMT", "a tokenizer.bin that was transferred in text mode", COPY),
    Foreign(b"\xc2\x89LM", "a file of ours that was transferred in text mode", COPY),
    Foreign(b"\xef\xbf\xbdLM", "a file of ours that was transferred in text mode", COPY),
    Foreign(b"GGUF", "a GGUF file", "weights"),
    Foreign(b"PK\x03\x04", "a zip archive or a torch checkpoint", "weights"),
    Foreign(b"24ka", "a llama2.c checkpoint", "weights"),
    Foreign(b"\x89HDF", "an HDF5 file", "save the model as safetensors first"),
    Foreign(b"MZqFpD", "a llamafile", "give the GGUF that is inside of it"),
    Foreign(b"\x1f\x8b", "a gzip archive", UNPACK),
    Foreign(b"\xfd7zXZ", "an xz archive", UNPACK),
    Foreign(b"BZh9", "a bzip2 archive", UNPACK),
    Foreign(b"\x28\xb5\x2f\xfd", "a zstd archive", UNPACK),
    Foreign(b"7z\xbc\xaf", "a 7z archive", UNPACK),
    Foreign(b"version https://git-", "a git-lfs pointer", "fetch what it points to: git lfs pull"),
    Foreign(b"<!DOCTYPE", "a web page", FETCH),
    Foreign(b"<!doctype", "a web page", FETCH),
    Foreign(b"<html", "a web page", FETCH),
    Foreign(b"Entry not found", "a hub's message that it has no such file", FETCH),
    Foreign(b"Repository not found", "a hub's message that it has no such folder", FETCH),
    Foreign(b"Invalid username", "a hub's message that one must log in", FETCH),
    Foreign(b"Access to model", "a hub's message that one must ask for access", FETCH),
]


def kind_of_file(head):
    """-> (what a file with these first bytes is, todo as of Foreign); None if nobody knows."""
    for row in FOREIGN:
        if head.startswith(row.begins):
            return row.what, row.todo
    # no size of a llama2.c checkpoint, of which the third byte is zero, is a protocol of pickles
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5") and any(head[2:3]):
        return "a bare pickle", "pickle"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 27:
        return "a safetensors file", "shard"
    if head[:1] == b"\n" and b"\x0a\x05<unk>" in head[:64]:
        return "a SentencePiece model", "pieces"
    return ("JSON", "settings") if re.match(rb'\s*\{\s*["}]', head) else None


def refuse_foreign(head, wants, todo, where=""):
    """ModelError if head, the first bytes of a file, are known to be of something else than what is
    wanted. todo: {one of SOUND: what to do with it here}; what is not in it is welcome. where: what
    the message begins with."""
    what, advice = kind_of_file(head) or ("", "")
    if advice in SOUND:
        advice = todo.get(advice)
    if advice:
        raise ModelError(f"{where}this is {what}; expected {wants}; {advice}")
