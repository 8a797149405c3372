"""Which reader a path asks for."""

import os
import re

from ...errors import ModelError, printable
from ...files import open_regular
from ...format.table import FOREIGN
from .gguf import read_gguf
from .huggingface import read_folder
from .llama2c import read_llama2c_bin
from .torch import read_torch

# one that is cut at some byte, which only joining mends
PIECE = re.compile(r"(?s).*\.gguf[.-](part\d+of\d+|split-?[a-z0-9]+|[a-z]{2}|0\d+)")
OURS = (b"24ka", b"PK\x03\x04")  # what a model.bin is not, but a source may be


def read_source(path, allow_pickle=False):
    """Recognise a source by looking at it -> Source."""
    if path.is_dir():
        return read_folder(path, allow_pickle)
    if PIECE.fullmatch(path.name):
        stem = printable(path.name.partition(".gguf")[0])[:60]
        found = "one piece of a GGUF that was cut into pieces of bytes; expected the whole"
        raise ModelError(f"{found}; join them in order: cat {stem}.gguf?* > {stem}.gguf")
    fd, size = open_regular(path, "a checkpoint or a Hugging Face folder")
    with os.fdopen(fd, "rb") as f:
        head = f.read(256)
    if head.startswith(b"GGUF"):
        return read_gguf(path)
    if head.startswith(b"PK\x03\x04"):
        return read_torch(path)
    known = [what for magic, what in FOREIGN if head.startswith(magic) and magic not in OURS]
    if known or head.startswith(b"\x80"):
        what = known[0] if known else "a bare pickle"
        wants = "expected a llama2.c .bin or .pt, or a Hugging Face folder"
        raise ModelError(f"this is {what}; {wants}; convert it first")
    if head[8:9] == b"{":
        found = "this is a safetensors file"
        raise ModelError(f"{found}; give the folder that holds it and its config.json")
    if size < 256:
        wants = "a llama2.c checkpoint, a torch checkpoint or a Hugging Face folder"
        raise ModelError(f"{size} bytes; expected {wants}")
    return read_llama2c_bin(path, head)
