"""Small files of settings, read carefully."""

import json
import os

from ..errors import ModelError, printable
from ..files import open_regular, read_small

# bytes of a configuration, index or header; of a tokenizer 64 MiB (MOST_BYTES)
MOST_JSON = 10 << 20


def loads(raw, share=8, **how):
    """json.loads of what is no more than a share-th brackets and commas: of those, a megabyte
    becomes thirty in memory."""
    if sum(map(raw.count, (b",", b"[", b"{"))) > len(raw) // share + 4096:
        raise ValueError("more brackets and commas than words")
    return json.loads(raw.decode(), **how)


def read_json(path):
    """A dict."""
    raw = read_small(path, "a Hugging Face folder with it", MOST_JSON)
    try:
        value = loads(raw)
        if not isinstance(value, dict):
            raise ValueError("no object")
        return value
    except (ValueError, RecursionError) as e:
        found = f"{printable(str(path))}: not readable JSON ({printable(str(e))[:80]})"
        raise ModelError(f"{found}; expected a table of names; is it whole?") from None


def read_json_if(path):
    """A dict, {} if there is no such file."""
    return read_json(path) if path.exists() else {}


def first_bytes(path, what):
    """What a regular file begins with; what it should be is for messages."""
    with os.fdopen(open_regular(path, what)[0], "rb") as f:
        return f.read(4096)


def read_text(path, what):
    """The text of a file of at most 1 MiB."""
    return read_small(path, what, 1 << 20).decode("utf-8", "replace")
