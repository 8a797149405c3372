"""The packages that a source needs; all that are missing, named at once."""

import contextlib
import re
from importlib.util import find_spec
from pathlib import Path

from ...errors import ModelError
from ...files import read_small
from ...tokenizer.file import MOST_BYTES
from ..arrays import mapped
from ..damage import reading
from ..say import lack
from ..settings import first_bytes, read_json_if
from ..sources.ggufbytes import GgufBytes, gguf_description
from ..sources.ggufparts import first_part
from ..sources.torch import load_torch
from .beside import tokenizer_beside, tokenizer_in_folder
from .folder import SETTINGS, find_template

EXTRA = ("gguf", "tokenizers", "tiktoken", "jinja2")  # of pyproject.toml's extra "export"


def not_installed():
    """Those of EXTRA."""
    return [name for name in EXTRA if find_spec(name) is None]


def check_packages(args):
    """ModelError that names every package which is not installed and that this command line calls
    for, before anything is read for longer. Where nothing is missing, nothing is looked at."""
    missing, wanted = not_installed(), set()
    if missing and not args.random:
        with contextlib.suppress(ModelError, OSError):  # what is wrong, a file's reader says
            wanted |= of_source(Path(args.source), args)
    if missing and args.tokenizer not in (None, "none"):
        with contextlib.suppress(ModelError, OSError):
            wanted |= of_tokenizer(Path(args.tokenizer))
    if args.chat_template:
        wanted.add("jinja2")
    if lacks := [name for name in missing if name in wanted]:
        raise lack(lacks)


def of_source(path, args):
    """What a source calls for; what its own tokenizer does too, if that is asked for."""
    own = args.tokenizer is None
    if path.is_dir():
        template = (
            args.tokenizer != "none" and find_template(path, read_json_if(path / SETTINGS))[0]
        )
        found, at = {"jinja2"} if template else set(), own and tokenizer_in_folder(path)
        return found | (of_tokenizer(at) if at else {"tokenizers"} if own else set())
    head = first_bytes(path, "a source")
    if head.startswith(b"GGUF"):
        return of_gguf(path, own)
    if head.startswith(b"PK\x03\x04"):
        with reading():
            value = load_torch(path)
            text, template = value.get("tokenizer"), value.get("chat_template")
        if text is None or not own:
            return of_tokenizer(tokenizer_beside(path)) if own else set()
        return of_json(text.encode()) | ({"jinja2"} if template else set())
    if not own:
        return set()
    return of_tokenizer(path if args.tokenizer_only else tokenizer_beside(path))


def of_gguf(path, own):
    """What a GGUF calls for."""
    fields, tensors = gguf_description(GgufBytes(mapped(first_part(path))))
    own = own and "tokenizer.ggml.tokens" in fields
    found = {
        "gguf": tensors,
        "tokenizers": own and fields.get("tokenizer.ggml.model") == "gpt2",
        "jinja2": own and fields.get("tokenizer.chat_template"),
    }
    return {name for name, needed in found.items() if needed}


def of_tokenizer(path):
    """What the file of a tokenizer calls for."""
    raw = read_small(path, "a tokenizer", MOST_BYTES)
    if raw[:64].split(b"\n")[0].strip().endswith(b" 0") or b'"token_bytes"' in raw[: 1 << 16]:
        return {"tiktoken"}
    return of_json(raw) if raw[:1] == b"{" else set()


def of_json(raw):
    """What a tokenizer.json calls for: bytes, form C and words have its own library as their
    reference."""
    wanted = re.search(rb'"ByteLevel"|"NFC"|"single_word":\s*true', raw)
    return {"tokenizers"} if wanted else set()
