"""Tiny models, made with export.py's own writer."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from helpers.vocabularies import byte_bpe
from twofile.export.arrays import Rows
from twofile.export.packchat import ROLES, pack_chat
from twofile.export.rope import rope_table
from twofile.export.source import Source
from twofile.export.write import write_model
from twofile.format.config import Config
from twofile.format.types import MATRIX_TYPES, type_of
from twofile.layers.stack import expected_tensors
from twofile.modelfile import open_model
from twofile.tokenizer.file import CONTROL
from twofile.tokenizer.tokenizer import Tokenizer

TYPES = [t.name for t in MATRIX_TYPES]
# no two sizes equal, rows not of 16, columns not of 32, head_dim not of 16; everything that can have a bias has one
AWKWARD = {
    "dim": 48,
    "n_layers": 2,
    "n_heads": 6,
    "n_kv_heads": 2,
    "head_dim": 12,
    "ffn_dim": 76,
    "vocab_size": 93,
    "max_ctx": 200,
}


def make_model(
    path, dtype, seed=0, bias=True, head=True, window=None, tokenizer=b"", embed=False, flags=0, types=None, **sizes
):
    """A random model.bin of AWKWARD sizes (or others), written by export.py; -> path. types: {matrix: [(rows, name of a type)]}
    of those in pieces."""
    flags |= (0 if not bias else 24 if "kinds" in sizes else 30) | (1 if head else 0) | (32 if embed else 0)
    sha = __import__("hashlib").sha256(tokenizer).digest() if tokenizer else bytes(32)
    c = Config("llama", **{**AWKWARD, **sizes}, flags=flags, bos=1, eos=2, tokenizer_sha256=sha)
    rng, tensors = np.random.default_rng(seed), {}
    for name, shape, role, *_ in expected_tensors(c):
        x = rng.standard_normal(shape).astype(np.float32)
        if role == "matrix":
            tensors[name] = Rows(x if name == "embed" else x * np.float32(2 / shape[1] ** 0.5))
        elif name.endswith((".w", ".scale")):
            tensors[name] = 1 + x / 3
        elif name.endswith(".decay"):  # rates, which are negative, and biases
            tensors[name] = np.where(np.arange(len(x)) < len(x) // 2, -np.abs(x), x)
        else:
            tensors[name] = x / 3
    tensors["rope2"] = rope_table(c.second.size if c.second else 0, 1e6)
    types = {name: [(rows, type_of(kind)) for rows, kind in pieces] for name, pieces in (types or {}).items()}
    source = Source("a test", c, np.repeat(rope_table(c.heads.size, 10000.0), c.rope.tables, 0), tensors, types=types)
    quiet = SimpleNamespace(add=lambda n: None)
    with open(path, "wb") as f:
        write_model(f, source, c, type_of(dtype), tokenizer if embed else b"", b"made by a test", quiet)
    if window:
        rewrite_tensor(path, "window", np.array(window, "<i4"))
    return path


def break_token(path):
    """Token 92 of an f32 model of AWKWARD sizes becomes one whose embedding is no number; -> path"""
    raw, t = bytearray(path.read_bytes()), open_model(path).tensors["embed"]
    for k in range(48):  # row 92: block 5, lane 12
        at = t.off + 4 * ((5 * 48 + k) * 16 + 12)
        raw[at : at + 4] = np.array(np.nan, "<f4").tobytes()
    path.write_bytes(raw)
    return path


def rewrite_tensor(path, name, value):
    """Replace a tensor's bytes and mend the hashes, as a newer exporter would have written it."""
    import hashlib

    raw, t = bytearray(Path(path).read_bytes()), open_model(path).tensors[name]
    raw[t.off : t.off + t.nbytes] = value.tobytes()
    mend(raw)
    Path(path).write_bytes(raw)
    assert hashlib.sha256(raw[0x60 : data_off(raw)]).digest() == raw[0x40:0x60]


def data_off(raw):
    return int.from_bytes(raw[0x28:0x30], "little")


def mend(raw):
    """Recompute the metadata checksum of a changed model file."""
    import hashlib

    raw[0x40:0x60] = hashlib.sha256(raw[0x60 : data_off(raw)]).digest()
    return raw


MARKS = ["<|user|>", "<|assistant|>", "<|system|>"]


def make_talker(path, **sizes):
    """A random model that can hold a conversation: <|system|>S<|end|><|user|>Q<|end|><|assistant|>A<|end|>; -> path."""

    plain = Tokenizer(byte_bpe())
    fields = {
        "pieces": [*plain.pieces, *(m.encode() for m in MARKS)],
        "types": [*plain.types.tolist(), *[CONTROL] * 3],
        "prio": [-float(i) for i in range(266)],
    }
    pieces = {"first": MARKS[0], "system": MARKS[2], "after_system": "<|end|>" + MARKS[0]}
    pieces |= {"u2a": "<|end|>" + MARKS[1], "a2u": "<|end|>" + MARKS[0], "gen": "<|end|>" + MARKS[1]}
    chat = pack_chat(pieces, dict.fromkeys(ROLES, 0), fields, False)
    return make_model(path, "q8_0", vocab_size=266, tokenizer=byte_bpe(**fields, chat=chat), embed=True, seed=5, **sizes)


PROMPTS = ["the fox", "a", "the hen and the fox and the the", "x" * 100, "the", "zz top", "the fox", "", "end"]


# identity
def damage(path, name):
    """Flip a bit in the middle of a tensor."""
    t = open_model(path).tensors[name]
    with open(path, "r+b") as f:
        f.seek(t.off + t.nbytes // 2)
        byte = f.read(1)[0]
        f.seek(-1, 1)
        f.write(bytes([byte ^ 4]))
