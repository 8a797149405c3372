"""Which reader a path asks for."""

import os

from ...errors import ModelError
from ...files import open_regular
from ...format.table import FOREIGN
from .gguf import read_gguf
from .huggingface import read_folder
from .llama2c import read_llama2c_bin
from .torch import read_torch


def read_source(path, allow_pickle=False):
    """Recognise a source by looking at it."""
    if path.is_dir():
        return read_folder(path, allow_pickle)
    fd, size = open_regular(path, "a checkpoint or a Hugging Face folder")
    with os.fdopen(fd, "rb") as f:
        head = f.read(256)
    if head.startswith(b"GGUF"):
        return read_gguf(path)
    if head.startswith(b"PK\x03\x04"):
        return read_torch(path)
    known = [
        what
        for magic, what in FOREIGN
        if head.startswith(magic) and magic not in (b"24ka", b"PK\x03\x04")
    ]
    if known or head.startswith(b"\x80"):
        what = known[0] if known else "a bare pickle"
        raise ModelError(
            f"this is {what}; expected a llama2.c .bin or .pt, or a Hugging Face folder; convert it first"
        )
    if head[8:9] == b"{":
        raise ModelError(
            "this is a safetensors file; give the folder that holds it and its config.json"
        )
    if size < 256:
        raise ModelError(
            f"{size} bytes; expected a llama2.c checkpoint, a torch checkpoint or a Hugging Face folder"
        )
    return read_llama2c_bin(path, head)
