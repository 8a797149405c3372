"""Which reader a path asks for."""

import os
import re

from ...errors import ModelError, printable
from ...files import open_regular
from ...format.foreign import refuse_foreign
from .gguf import read_gguf
from .huggingface import read_folder
from .llama2c import read_llama2c_bin
from .torch import read_torch

HUB_NAME = re.compile(r"(https?:.*|[\w.-]+/[\w.-]+)")  # what other programs download
# one that is cut at some byte, which only joining mends
PIECE = re.compile(r"(?s).*\.gguf[.-](part\d+of\d+|split-?[a-z0-9]+|[a-z]{2}|0\d+)")
WANTS = "a trained model: a Hugging Face folder, a GGUF, llama2.c's .bin or .pt"
INSTEAD = {  # what to do with a sound file that is no source
    "model": "run.py runs it as it is; to change it, give what it was made of",
    "tokenizer": "give the model, and this with --tokenizer",
    "pieces": "give the model, and this with --tokenizer, or --tokenizer-only for it alone",
    "cache": "give the model",
    "settings": "give the folder that holds it; or, of a tokenizer, --tokenizer-only",
    "shard": "give the folder that holds it and its config.json",
    "pickle": "convert it first, to safetensors",
}


def read_source(path, allow_pickle=False):
    """Recognise a source by looking at it -> Source."""
    if path.is_dir():
        return read_folder(path, allow_pickle)
    if not path.exists() and HUB_NAME.fullmatch(str(path)):
        found = "not found; expected a file or folder on this machine"
        raise ModelError(f"{found}; nothing is downloaded here: fetch it first")
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
    refuse_foreign(head, WANTS, INSTEAD)
    if size < 256:
        raise ModelError(f"{size} bytes; expected {WANTS}; is it whole?")
    return read_llama2c_bin(path, head)
