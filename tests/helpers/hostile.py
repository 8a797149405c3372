"""Files that promise more than they hold."""

import json
import os
import struct
import zipfile

import pytest

posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


def holes(path, raw, size):
    """A file of this size that begins with raw; the rest is a hole, which takes no room."""
    with open(path, "wb") as f:
        f.write(raw)
        try:
            f.truncate(size)
        except OSError as e:
            pytest.skip(f"no such sparse file here: {e}")
    return path


def torch_zip(path, body):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        z.writestr("x/data.pkl", body)
        z.writestr("x/data/0", bytes(64))
    return path


def gguf_head(fields, n_tensors=0, n_fields=1):
    return struct.pack("<4sIQQ", b"GGUF", 3, n_tensors, n_fields) + fields


def text(s):
    return struct.pack("<Q", len(s)) + s


HUB = {"architectures": ["LlamaForCausalLM"], "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def folder(path, **files):
    path.mkdir()
    for name, raw in files.items():
        raw = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
        (path / name.replace("__", ".")).write_bytes(raw)
    return path


def json_tokenizer(**changes):
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"], **changes}
    spaced = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    return json.dumps({"model": model, "added_tokens": [], "normalizer": spaced}).encode()


def written(path, raw):
    path.write_bytes(raw)
    return path
