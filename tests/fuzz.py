"""Damaged files of every kind that run.py and export.py read. Each must work, or be refused with a ModelError: nothing else,
within a bound of time and memory.

    python tests/fuzz.py --cases 100000 --seed 1 [--target model] [--first N]     a finding tells how to repeat its case
    python tests/fuzz.py --seconds 30                          as many as this takes
    python tests/fuzz.py --atheris --target gguf [libFuzzer flags]                guided by coverage, where atheris is installed

Cases are made from small good files: some by changing bytes, most by changing one value of the format and mending every
checksum, so that they get behind it. A model that is accepted runs a few tokens; a tokenizer encodes and decodes.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import pickletools
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import zipfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import numpy as np  # noqa: E402

if "--atheris" in sys.argv:
    import atheris

    with atheris.instrument_imports(include=["twofile"]):  # all but the kernels, which must be in the cache already
        import twofile.export.main  # noqa: F401

from helpers import checkpoints  # noqa: E402
from helpers.models import MARKS, make_model  # noqa: E402
from helpers.rooms import replace  # noqa: E402
from helpers.vocabularies import AWKWARD_TEXTS, byte_bpe, spm  # noqa: E402
from twofile.compiler.code import Code  # noqa: E402
from twofile.errors import ModelError, printable  # noqa: E402
from twofile.export.convert import export  # noqa: E402
from twofile.export.main import parser  # noqa: E402
from twofile.export.packchat import ROLES, pack_chat  # noqa: E402
from twofile.export.tokenizers.any import read_tokenizer  # noqa: E402
from twofile.export.tokenizers.splits import byte_alphabet, class_runs  # noqa: E402
from twofile.export.tokenizers.tiktoken import TIKTOKEN  # noqa: E402
from twofile.format.types import padded  # noqa: E402
from twofile.model import Model  # noqa: E402
from twofile.modelfile import open_model  # noqa: E402
from twofile.tokenizer.file import ADD_BOS, CHAT, CONTROL, EXPLICIT, LSTRIP, NFC, RSTRIP, USER  # noqa: E402
from twofile.tokenizer.splits import LETTER, NUMBER, SPACE  # noqa: E402
from twofile.tokenizer.tokenizer import Tokenizer  # noqa: E402

SECONDS, MEGABYTES = 5, 200  # that a case may take; of the processor
NUMBERS = [0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 48, 63, 64, 127, 128, 255, 256, 1000, 4096, 65535, 65536, 1 << 20, 1 << 22]
NUMBERS += [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 64, 2**64 - 1]
FLOATS = [0.0, -0.0, 1.0, -1.0, 1e-5, 0.5, 1e30, 3.4e38, 1e-40, float("inf"), float("-inf"), float("nan")]
ODD = [None, True, False, 0, 1, -1, 2, 3, 16, 10**6, 10**9, 2**63, 10**30, 0.0, 0.5, -1.5, 1e308, float("nan"), float("inf")]
ODD += [
    "",
    "x",
    "\ud800",
    "\x1b[31m",
    "é" * 40,
    "../../etc/passwd",
    "/dev/zero",
    [],
    {},
    [1],
    [[]],
    {"a": 1},
    ["x", 7],
    "9" * 50,
]
TEXT = "the  quick\n brown 🙂 fox's <|end|>[tool] aab 1234"

# -- changes


def odd_number(rng, bits):
    value = rng.choice(NUMBERS) if rng.random() < 0.7 else rng.getrandbits(rng.choice((3, 8, 16, bits)))
    return (value + rng.choice((0, 0, 0, -1, 1))) % (1 << bits)


def bytes_changed(rng, raw, first=0, last=None):
    """A few random changes of bytes [first, last)."""
    raw = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if len(raw) <= first:
            break
        at, kind = (
            rng.randrange(first, min(len(raw), last or len(raw)) if first < (last or len(raw)) else len(raw)),
            rng.randrange(8),
        )
        if kind == 0:
            raw[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            raw[at] = rng.randrange(256)
        elif kind in (2, 3):
            size = rng.choice((2, 4, 4, 8))
            at -= at % size if rng.random() < 0.7 else 0
            raw[at : at + size] = odd_number(rng, 8 * size).to_bytes(size, "little")[: len(raw) - at]
        elif kind == 4:
            del raw[at : at + rng.choice((1, 4, 16, 64, 1000))]
        elif kind == 5:
            raw[at:at] = rng.randbytes(rng.choice((1, 4, 16, 64)))
        elif kind == 6:
            part = raw[at : at + rng.choice((4, 16, 64, 200))]
            to = rng.randrange(first, len(raw))
            raw[to : to + len(part) * rng.randrange(2)] = part
        else:
            del raw[rng.randrange(at, len(raw)) :]
    return bytes(raw)


def tree_changed(rng, value, depth=0):
    """One value of a JSON tree replaced, left out, or put elsewhere."""
    if isinstance(value, dict) and value and rng.random() < 0.95 - 0.1 * (depth > 4):
        key, out = rng.choice(list(value)), dict(value)
        kind = rng.random()
        if kind < 0.08:
            del out[key]
        elif kind < 0.14:
            out[rng.choice([str(x) for x in ODD])] = out.pop(key)
        elif kind < 0.18:
            out[key] = rng.choice(list(value.values()))
        else:
            out[key] = tree_changed(rng, value[key], depth + 1)
        return out
    if isinstance(value, list) and value and rng.random() < 0.9:
        i, out = rng.randrange(len(value)), list(value)
        kind = rng.random()
        if kind < 0.1:
            del out[i]
        elif kind < 0.2:
            out.insert(i, rng.choice(out))
        else:
            out[i] = tree_changed(rng, value[i], depth + 1)
        return out
    if isinstance(value, str) and rng.random() < 0.3:
        return value[: rng.randrange(len(value) + 1)] + rng.choice(["", "x", "\u2581", " ", "\x00", "Ġ"])
    if isinstance(value, int) and rng.random() < 0.4:
        return value + rng.choice((-1, 1, 2, 100, -value, value))
    return rng.choice(ODD)


def json_changed(rng, tree):
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        tree = tree_changed(rng, tree)
    raw = json.dumps(tree).encode()
    if rng.random() < 0.1:
        raw = bytes_changed(rng, raw)
    return raw if rng.random() > 0.005 else b"[" * 100000


# -- the targets: seeds, a change, and what must come of it


class Target:
    """seeds: whatever change(rng, seed) turns into the bytes of a case; check(raw) runs it."""

    def __init__(self, folder):
        self.folder = folder
        self.seeds = self.make()

    def case(self, rng):
        return self.change(rng, rng.choice(self.seeds))

    def change(self, rng, raw):
        return bytes_changed(rng, raw)

    def plain(self, seed):
        """The bytes of a seed, which must be accepted."""
        return seed

    def mend(self, raw):
        """raw with its checksums made good."""
        return raw

    def write(self, name, raw):
        path = self.folder / name
        path.write_bytes(raw)
        return path


class ModelFile(Target):
    SIZES = dict(dim=16, n_layers=1, n_heads=4, n_kv_heads=2, head_dim=6, ffn_dim=12, vocab_size=40, max_ctx=16)
    KINDS = (
        dict(dtype="q8_0"),
        dict(dtype="q4_0", bias=False, head=False),
        dict(dtype="f32", flags=512 | 128 | 2048, norm=1, parallel=1, act=3),
        dict(dtype="bf16", flags=32768 | 64, qk_norm=1, bias=False),
        dict(dtype="q8_0", n_experts=3, top_k=2, expert_ffn=8, flags=16384, norm_topk=1),
        dict(
            dtype="f16", n_experts=2, top_k=1, expert_ffn=8, shared_ffn=12, flags=8192, qk_norm=2, temp_beta=0.1, temp_len=4.0
        ),
        dict(dtype="q8_0", vocab_size=263, embed=True),
        dict(dtype="q8_0", n_layers=2, kinds=b"\1\0".ljust(224, b"\0"), conv_len=3, qk_norm=1, qk_after=1),
        dict(dtype="f32", n_layers=2, kinds=b"\2\0".ljust(224, b"\0"), conv_len=2, delta_k_heads=1, delta_v_heads=2)
        | dict(delta_k_dim=4, delta_v_dim=5, flags=1 << 16),
        dict(dtype="q4_0", n_layers=3, kinds=b"\0\3\3".ljust(224, b"\0"), head_dim2=8, n_kv_heads2=1, kv_shared=1, ple_dim=16)
        | dict(ffn_dim2=20, flags=128 | 1 << 17 | 1 << 18),
    )

    def make(self):
        out = []
        for i, kind in enumerate(self.KINDS):
            kind = {**kind, "tokenizer": byte_bpe() if "embed" in kind else b""}
            out.append(make_model(self.folder / f"seed{i}", **{**self.SIZES, **kind}).read_bytes())
        return out

    def change(self, rng, raw):
        raw, kind = bytearray(raw), rng.random()
        n = struct.unpack_from("<I", raw, 0x18)[0]
        for _ in range(rng.choice((1, 1, 1, 2))):
            record = 4096 + 192 * rng.randrange(n)
            if kind < 0.3:  # a field of the config
                at = 0x70 + 4 * rng.randrange(60)
                small = rng.random() < 0.6
                value = (
                    struct.pack("<f", rng.choice(FLOATS))
                    if 0xC4 <= at < 0xFC and small
                    else (struct.pack("<I", rng.randrange(9) if small else odd_number(rng, 32)))
                )
                raw[at : at + 4] = value
            elif kind < 0.6:  # a field of a record
                at, form = rng.choice([(64, "I"), (68, "I"), (120, "I"), (124, "I"), (104, "Q"), (112, "Q"), (160, "I")])
                at, form = (72 + 8 * rng.randrange(4), "Q") if rng.random() < 0.3 else (at, form)
                now = struct.unpack_from("<" + form, raw, record + at)[0]
                bits = 8 * struct.calcsize(form)
                value = (now + rng.choice((1, -1, 64, -64, 16))) % (1 << bits) if rng.random() < 0.4 else odd_number(rng, bits)
                struct.pack_into("<" + form, raw, record + at, value)
            elif kind < 0.66:  # a name
                other = 4096 + 192 * rng.randrange(n)
                name = (
                    raw[other : other + 64]
                    if rng.random() < 0.5
                    else bytes_changed(rng, raw[record : record + 64])[:64].ljust(64)
                )
                raw[record : record + 64] = name
            elif kind < 0.7:  # a whole record
                other = 4096 + 192 * rng.randrange(n)
                raw[record : record + 192], raw[other : other + 192] = raw[other : other + 192], raw[record : record + 192]
            elif kind < 0.85:  # values of a tensor
                off, nbytes = struct.unpack_from("<QQ", raw, record + 104)
                at = off + rng.randrange(max(1, min(nbytes, 4096)))
                raw[at - at % 4 : at - at % 4 + 4] = (
                    struct.pack("<f", rng.choice(FLOATS)) if rng.random() < 0.5 else rng.randbytes(4)
                )
            elif kind < 0.92:  # the header
                at, size = rng.choice([(8, 4), (12, 4), (16, 8), (24, 4), (28, 4), (32, 8), (40, 8), (48, 8), (56, 8)])
                raw[at : at + size] = odd_number(rng, 8 * size).to_bytes(size, "little")
            else:
                raw = bytearray(bytes_changed(rng, raw))
                if rng.random() < 0.5 and len(raw) > 24:
                    raw[16:24] = len(raw).to_bytes(8, "little")
            if len(raw) < 8192:
                return bytes(raw)
        return self.mend(bytes(raw)) if rng.random() < 0.95 else bytes(raw)

    def mend(self, raw):
        """With its checksum, as somebody who means it would write it."""
        data_off = struct.unpack_from("<Q", raw, 0x28)[0] if len(raw) > 0x60 else 0
        if not 0x60 < data_off <= len(raw):
            return raw
        return raw[:0x40] + hashlib.sha256(raw[0x60:data_off]).digest() + raw[0x60:]

    def check(self, raw):
        path = self.write("model.bin", raw)
        model = Model(path, n_threads=1, verbose=False)
        ids = [0, model.config.vocab_size - 1, 1 % model.config.vocab_size][: model.n_ctx]
        assert model.logits(ids).shape == (len(ids), model.config.vocab_size)
        assert model.info["bytes"] == len(raw)
        if model.tokenizer:
            use(model.tokenizer)


def use(t):
    """What a tokenizer is for."""
    ids = t.encode(TEXT)
    assert all(0 <= i < t.n_vocab for i in ids)
    assert isinstance(t.decode([*ids, 0, t.n_vocab - 1, t.n_vocab, 1 << 40]), str)
    if t.chat is not None:
        with contextlib.suppress(ModelError):  # it may have no system message
            assert all(0 <= i < t.n_vocab for i in t.encode_chat([dict(role="user", content=TEXT)]))
        t.chat_form()


class TokenizerFile(Target):
    def make(self):
        plain = Tokenizer(byte_bpe())
        fields = {"pieces": [*plain.pieces, *(m.encode() for m in MARKS)], "types": [*plain.types.tolist(), *[CONTROL] * 3]}
        fields |= {"prio": [-float(i) for i in range(266)]}
        chat = pack_chat({k: MARKS[i % 3] + "x" for i, k in enumerate(CHAT)}, dict.fromkeys(ROLES, 4), fields, True)
        user = plain.types.tolist()[:-1] + [USER | LSTRIP | RSTRIP]
        seeds = [byte_bpe(), spm(), byte_bpe(**fields, chat=chat), byte_bpe(types=user, pretok=0)]
        seeds += [byte_bpe(flags=EXPLICIT | NFC, merges=[(116, 104), (256, 101)], tests=[("the", [257])])]
        return seeds + [
            byte_bpe(pretok=n, classes=[(65, 90, 65), (97, 122, 97), (48, 57, 48), (32, 32, 32)]) for n in (4, 6, 8, 9)
        ]

    def change(self, rng, raw):
        raw, kind = bytearray(raw), rng.random()
        table = struct.unpack_from("<20Q", raw, 0x60)
        for _ in range(rng.choice((1, 1, 2, 3))):
            if kind < 0.15:
                at, size = rng.choice([(0x18 + 4 * i, 4) for i in range(8)] + [(0x38, 8), (8, 4), (12, 4), (16, 8)])
                raw[at : at + size] = (rng.randrange(300) if rng.random() < 0.6 else odd_number(rng, 32)).to_bytes(
                    size, "little"
                )
            elif kind < 0.25:
                at = 0x60 + 8 * rng.randrange(20)
                raw[at : at + 8] = odd_number(rng, 64).to_bytes(8, "little")
            elif kind < 0.9:  # inside a section
                i = rng.randrange(9)
                off, length = table[2 * i], table[2 * i + 1]
                if length:
                    body = bytes_changed(rng, raw[off : off + length])
                    raw[off : off + length] = body[:length].ljust(length, rng.choice((b"\0", b"\xff")))
            else:
                raw = bytearray(bytes_changed(rng, raw))
                if rng.random() < 0.5 and len(raw) > 24:
                    raw[16:24] = len(raw).to_bytes(8, "little")
            if len(raw) < 256:
                return bytes(raw)
        return self.mend(bytes(raw)) if rng.random() < 0.95 else bytes(raw)

    def mend(self, raw):
        return raw[:0x40] + hashlib.sha256(raw[:0x40] + bytes(32) + raw[0x60:]).digest() + raw[0x60:]

    def check(self, raw):
        t = Tokenizer(self.write("tokenizer.bin", raw))
        t.selftest()
        use(t)


class Export(Target):
    """Files that export.py reads; what it makes of one that it accepts must be a model that run.py opens."""

    NAME = "source.bin"

    def check(self, raw, tokenizer="none"):
        self.export(self.write(self.NAME, raw), tokenizer)

    def export(self, source, tokenizer="none"):
        flags = ["-o", self.folder / "out.bin", "--type", "q8_0", "--overwrite", "--allow-pickle"]
        flags += ["--tokenizer", tokenizer] if tokenizer else []
        export(parser().parse_args([str(source), *map(str, flags)]))
        open_model(self.folder / "out.bin")


SHAPE = dict(dim=16, ffn=12, layers=1, heads=2, kv=1, vocab=40, ctx=16)


class Llama2c(Export):
    def make(self):
        w = {tied: checkpoints.weights(SHAPE, tied) for tied in (False, True)}
        files = [(v, tied) for v in (0, 1, 2) for tied in (False, True)]
        return [checkpoints.llama2c_file(self.folder / "s", w[tied], v, tied, SHAPE).read_bytes() for v, tied in files]

    def change(self, rng, raw):
        if rng.random() < 0.2:
            return bytes_changed(rng, raw)
        raw = bytearray(raw)
        for _ in range(rng.choice((1, 1, 2, 3))):
            at = 4 * rng.randrange(10)
            struct.pack_into("<I", raw, at, rng.randrange(50) if rng.random() < 0.6 else odd_number(rng, 32))
        return bytes_changed(rng, raw, 250) if rng.random() < 0.2 else bytes(raw)


class Safetensors(Export):
    def make(self):
        checkpoints.SHAPE, kept = SHAPE, checkpoints.SHAPE
        try:
            place = checkpoints.folder(self.folder, checkpoints.weights(SHAPE))
            split = self.folder / "split"
            split.mkdir()
            checkpoints.folder(split, checkpoints.weights(SHAPE), shards=2)
        finally:
            checkpoints.SHAPE = kept
        self.index = json.loads((split / "hf" / "model.safetensors.index.json").read_text())
        self.config = json.loads((place / "config.json").read_text())
        raw = (place / "model.safetensors").read_bytes()
        size = struct.unpack("<Q", raw[:8])[0]
        return [(json.loads(raw[8 : 8 + size]), raw[8 + size :])]

    def plain(self, seed):
        text = json.dumps(seed[0]).encode()
        return struct.pack("<Q", len(text)) + text + seed[1]

    def change(self, rng, seed):
        header, body = seed
        if rng.random() < 0.15:
            text = json.dumps(header).encode()
            return bytes_changed(rng, struct.pack("<Q", len(text)) + text + body)
        text = json_changed(rng, header)
        size = len(text) if rng.random() < 0.95 else odd_number(rng, 64)
        return struct.pack("<Q", size) + text + (bytes_changed(rng, body) if rng.random() < 0.1 else body)

    def check(self, raw):
        self.write("hf/model.safetensors", raw)
        self.export(self.folder / "hf")


class ConfigJson(Safetensors):
    def plain(self, seed):
        return b"config.json\n" + json.dumps(self.config).encode()

    FAMILIES = ("Llama", "Qwen2", "Gemma2", "GPTNeo", "Mixtral", "Falcon", "Phi3", "Olmo3")

    def change(self, rng, seed):
        name, tree = "config.json", self.config
        kind = rng.random()
        if kind < 0.1:
            name, tree = "generation_config.json", dict(temperature=0.7, top_p=0.9, top_k=40, eos_token_id=[2, 3])
        elif kind < 0.2:
            name, tree = "model.safetensors.index.json", self.index
        elif kind < 0.6:
            rope = dict(factor=2.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8, beta_fast=32)
            rope |= dict(short_factor=[1.0] * 4, long_factor=[2.0] * 4, mscale=1.0, mscale_all_dim=1.0, beta_slow=1)
            rope["rope_type"] = rng.choice(("llama3", "yarn", "longrope", "linear", "default", "dynamic"))
            more = dict(rope_scaling=rope, attention_types=[[["global", "local"], 1]], sliding_window=4, head_dim=8)
            more |= dict(rope_local_base_freq=1e4, layer_types=["full_attention"], partial_rotary_factor=0.5)
            more = dict(rng.sample(sorted(more.items()), rng.randrange(1, len(more))))
            tree = {**tree, **more, "architectures": [f"{rng.choice(self.FAMILIES)}ForCausalLM"]}
        return name.encode() + b"\n" + json_changed(rng, tree)

    def check(self, raw):
        name, _, body = raw.partition(b"\n")
        place = self.folder / ("split/hf" if b"index" in name else "hf")
        path = place / name.decode()
        was = path.read_bytes() if path.exists() else None
        path.write_bytes(body)
        try:
            self.export(place)
        finally:
            path.unlink() if was is None else path.write_bytes(was)


class Gguf(Export):
    """Metadata and tensors are a list of values, each of which may change before they are written."""

    NAME = "source.gguf"

    def make(self):
        d, f, h, v = 32, 32, 2, 40
        u32, f32, string = 4, 6, 8
        fields = [("general.architecture", string, "llama"), ("general.alignment", u32, 32), ("general.name", string, "x")]
        fields += [(f"llama.{k}", u32, n) for k, n in dict(context_length=16, embedding_length=d, block_count=1).items()]
        fields += [("llama.feed_forward_length", u32, f), ("llama.attention.head_count", u32, h)]
        fields += [("llama.attention.head_count_kv", u32, h), ("llama.attention.layer_norm_rms_epsilon", f32, 1e-5)]
        fields += [("llama.rope.freq_base", f32, 1e4), ("llama.rope.dimension_count", u32, d // h)]
        tokens = (
            ["<unk>", "<s>", "</s>"]
            + [chr(97 + i) for i in range(24)]
            + ["ab", "abc", "\u2581a"]
            + [f"<0x{i:02X}>" for i in range(10)]
        )
        fields += [("tokenizer.ggml.model", string, "llama"), ("tokenizer.ggml.tokens", 9, (string, tokens))]
        fields += [("tokenizer.ggml.scores", 9, (f32, [-float(i) for i in range(v)]))]
        fields += [("tokenizer.ggml.token_type", 9, (5, [2, 3, 3] + [1] * 27 + [6] * 10))]
        fields += [("tokenizer.ggml.bos_token_id", u32, 1), ("tokenizer.ggml.eos_token_id", u32, 2)]
        shapes = {"token_embd.weight": (d, v), "output_norm.weight": (d,), "output.weight": (d, v)}
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            shapes[f"blk.0.{name}.weight"] = (d, d)
        shapes |= {"blk.0.attn_norm.weight": (d,), "blk.0.ffn_norm.weight": (d,)}
        out = []
        for kind, block, size in ((0, 1, 4), (1, 1, 2), (30, 1, 2), (8, 32, 34), (2, 32, 18)):
            rows, at = [], 0
            for name, shape in shapes.items():
                own = (0, 1, 4) if len(shape) == 1 else (kind, block, size)
                rows.append([name, list(shape), own[0], at])
                at = padded(at + int(np.prod(shape)) // own[1] * own[2], 32)
            body = np.random.default_rng(0).integers(0, 40, at).astype(np.uint8).tobytes()
            out.append((fields, rows, body))
        return out

    def plain(self, seed):
        fields, rows, body = seed
        return self.pack(fields, rows, [len(rows), len(fields)], body)

    def change(self, rng, seed):
        fields, rows, body = seed
        fields, rows, kind = list(fields), [[row[0], list(row[1]), *row[2:]] for row in rows], rng.random()
        counts = [len(rows), len(fields)]
        for _ in range(rng.choice((1, 1, 2))):
            i, j = rng.randrange(len(fields)), rng.randrange(len(rows))
            key, form, value = fields[i]
            if kind < 0.4:
                if isinstance(value, tuple):
                    values = list(value[1])
                    at = rng.randrange(len(values))
                    values[at] = rng.choice([values[at - 1], "", "\ud800", 7, -1, 0.5, 2**31, "<0xZZ>"])
                    fields[i] = (
                        key,
                        form,
                        (value[0] if rng.random() < 0.9 else rng.randrange(14), values[: rng.choice((at, 99))]),
                    )
                else:
                    new = rng.choice([value, "", "mamba", "gpt2", "qwen2", *NUMBERS, *FLOATS])
                    fields[i] = (key, rng.choice((form, form, form, rng.randrange(14))), new)
            elif kind < 0.5:
                fields[i] = (bytes_changed(rng, key.encode()).decode("utf-8", "replace"), form, value)
            elif kind < 0.55:
                del fields[i]
            elif kind < 0.85:
                part = rng.randrange(4)
                if part == 0:
                    rows[j][0] = rng.choice([rows[j - 1][0], "x", rows[j][0] + "x", "blk.0.attn_qkv.weight"])
                elif part == 1:
                    k = rng.randrange(len(rows[j][1]))
                    rows[j][1][k] = odd_number(rng, 64) if rng.random() < 0.6 else rows[j][1][k] + rng.choice((1, -1, 32))
                    rows[j][1] = rows[j][1] * rng.choice((1, 1, 1, 2, 3))
                elif part == 2:
                    rows[j][2] = rng.randrange(45)
                else:
                    rows[j][3] = odd_number(rng, 64) if rng.random() < 0.5 else rows[j - 1][3]
            elif kind < 0.9:
                counts[rng.randrange(2)] = odd_number(rng, 64)
            if len(fields) < 2:
                break
        raw = self.pack(fields, rows, counts, body)
        return bytes_changed(rng, raw, 0, 1500) if kind > 0.9 else raw

    @staticmethod
    def pack(fields, rows, counts, body):
        text = lambda s: (lambda b: struct.pack("<Q", len(b)) + b)(str(s).encode("utf-8", "replace"))
        forms = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}

        def one(kind, value):
            if kind not in forms:
                return text(value)
            form, value = forms[kind], value if isinstance(value, (int, float)) else 0
            if form in "fd":
                return struct.pack("<" + form, max(-3e38, min(3e38, value)) if value == value else value)
            size = struct.calcsize(form)
            return (int(value if abs(value) < 2**64 else 0) % (1 << 8 * size)).to_bytes(size, "little")

        out = struct.pack("<4sIQQ", b"GGUF", 3, *counts)
        for key, kind, value in fields:
            out += text(key) + struct.pack("<I", kind)
            if isinstance(value, tuple):
                out += struct.pack("<IQ", value[0], len(value[1])) + b"".join(one(value[0], x) for x in value[1])
            else:
                out += one(kind, value)
        for name, shape, kind, off in rows:
            out += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *(n % 2**64 for n in shape))
            out += struct.pack("<IQ", kind, off)
        return out.ljust(padded(len(out), 32), b"\0") + body

    def check(self, raw):
        self.export(self.write(self.NAME, raw), None)


class Pickle(Export):
    """The instructions of a checkpoint's pickle, in another order, number or with other arguments."""

    NAME = "source.pt"
    INSERTED = [
        b"(",
        b"]",
        b"}",
        b")",
        b"0",
        b"2",
        b"N",
        b"\x88",
        b"K\x07",
        b"q\x01",
        b"h\x01",
        b"r\xff\xff\xff\x7f",
        b"j\x00\x00\x00\x00",
    ]
    INSERTED += [
        b"R",
        b"b",
        b"Q",
        b"t",
        b"\x85",
        b"\x86",
        b"\x87",
        b"s",
        b"u",
        b"a",
        b"e",
        b"cos\nsystem\n",
        b"cbuiltins\neval\n",
        b".",
    ]
    INSERTED += [
        b"\x8a\x08" + b"\xff" * 8,
        b"X\xff\xff\xff\x7f",
        b"X\x01\x00\x00\x00x",
        b"\x93",
        b"\x81",
        b"\x94",
        b"ccollections\nOrderedDict\n",
    ]
    INSERTED += [
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"I10\n",
        b"L9999999L\n",
        b"G\x7f\xf0\x00\x00\x00\x00\x00\x00",
        b"\x91",
        b"\x8f",
    ]

    def make(self):
        checkpoints.SHAPE, kept = SHAPE, checkpoints.SHAPE
        try:
            path = checkpoints.torch_file(self.folder / "s.pt", checkpoints.weights(SHAPE))
        finally:
            checkpoints.SHAPE = kept
        with zipfile.ZipFile(path) as z:
            body = z.read("ckpt/data.pkl")
            data = {i.filename: z.read(i) for i in z.infolist() if i.filename != "ckpt/data.pkl"}
        at = [pos for _, _, pos in pickletools.genops(body)] + [len(body)]
        return [([body[a:b] for a, b in zip(at, at[1:])], data, path.read_bytes())]

    def plain(self, seed):
        return seed[2]

    def change(self, rng, seed):
        ops, data, whole = seed
        if rng.random() < 0.15:
            spot = rng.random()
            return bytes_changed(rng, whole) if spot < 0.5 else bytes_changed(rng, whole, len(whole) - 1200)
        ops = list(ops)
        for _ in range(rng.choice((1, 1, 2, 3))):
            i, kind = rng.randrange(len(ops)), rng.randrange(6)
            if kind == 0:
                del ops[i]
            elif kind == 1:
                ops.insert(i, rng.choice(self.INSERTED))
            elif kind == 2:
                ops[i] = rng.choice(self.INSERTED)
            elif kind == 3:
                j = rng.randrange(len(ops))
                ops[i], ops[j] = ops[j], ops[i]
            elif kind == 4:
                ops[i:i] = ops[i : i + rng.randrange(1, 30)] * rng.choice((1, 1, 50))
            elif len(ops[i]) > 1:
                ops[i] = ops[i][:1] + bytes_changed(rng, ops[i][1:])
            if not ops:
                break
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as z:
            z.writestr("ckpt/data.pkl", b"".join(ops))
            for name, raw in data.items():
                z.writestr(name, raw)
        return out.getvalue()


class Tokenizers(Export):
    """A tokenizer's own file, by --tokenizer-only."""

    HINTS = dict(n_vocab=None, bos=1, eos=2)

    def check(self, raw):
        made = read_tokenizer(self.write("tokenizer.json", raw), dict(self.HINTS))
        use(Tokenizer(made))


class TokenizerJson(Tokenizers):
    def make(self):
        letters = sorted(byte_alphabet())
        vocab = {ch: i for i, ch in enumerate([*letters, "th", "the", "Ġt"])}
        level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True, "trim_offsets": True}
        added = dict(single_word=False, lstrip=True, rstrip=True, normalized=False)
        added = [dict(added, id=259, content="<|end|>", special=True), dict(added, id=260, content="[tool]", special=False)]
        model = {
            "type": "BPE",
            "vocab": vocab,
            "merges": ["t h", "th e", "Ġ t"],
            "ignore_merges": False,
            "byte_fallback": False,
        }
        j = {
            "version": "1.0",
            "added_tokens": added,
            "pre_tokenizer": level,
            "decoder": level,
            "model": model,
            "normalizer": {"type": "NFC"},
        }
        plain = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)] + ["\u2581", "a", "b", "ab", "\u2581ab"]
        vocab = {piece: i for i, piece in enumerate(plain)}
        steps = [{"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]
        model = {
            "type": "BPE",
            "vocab": vocab,
            "merges": [["a", "b"], ["\u2581", "ab"]],
            "byte_fallback": True,
            "unk_token": "<unk>",
        }
        special = [dict(id=i, content=plain[i], special=True) for i in range(3)]
        post = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]}
        k = {
            "added_tokens": special,
            "normalizer": {"type": "Sequence", "normalizers": steps},
            "model": model,
            "post_processor": post,
        }
        return [j, k]

    def plain(self, tree):
        return json.dumps(tree).encode()

    def change(self, rng, tree):
        return json_changed(rng, tree)


class SentencePiece(Tokenizers):
    def make(self):
        pieces = [("<unk>", 2), ("<s>", 3), ("</s>", 3)] + [(f"<0x{i:02X}>", 6) for i in range(256)]
        pieces += [(p, 1) for p in ("\u2581", "a", "b", "ab", "\u2581ab", "é")] + [("[tool]", 4)]
        rows = [(1, [(1, p.encode()), (2, struct.pack("<f", -i)), (3, kind)]) for i, (p, kind) in enumerate(pieces)]
        return [[*rows, (2, [(3, 2), (41, 1), (42, 2)]), (3, [(1, b"identity"), (4, 0), (3, 1)])]]

    def plain(self, rows):
        return self.pack(rows)

    @classmethod
    def pack(cls, fields):
        out = b""
        for number, value in fields:
            if isinstance(value, int):
                out += cls.varint(number << 3) + cls.varint(value)
            elif isinstance(value, bytes) and len(value) == 4:
                out += cls.varint(number << 3 | 5) + value
            else:
                body = value if isinstance(value, bytes) else cls.pack(value)
                out += cls.varint(number << 3 | 2) + cls.varint(len(body)) + body
        return out

    @staticmethod
    def varint(n):
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    def change(self, rng, rows):
        rows = list(rows)
        for _ in range(rng.choice((1, 1, 2, 3))):
            i = rng.choice((rng.randrange(len(rows)), len(rows) - 1, len(rows) - 2))
            number, parts = rows[i]
            if rng.random() < 0.1:
                del rows[i]
                continue
            parts = list(parts)
            j = rng.randrange(len(parts))
            key = parts[j][0] if rng.random() < 0.8 else rng.choice((1, 2, 3, 4, 5, 41, 43, 1 << 28))
            value = rng.choice(
                [
                    parts[j][1],
                    rng.choice(NUMBERS),
                    rng.randrange(8),
                    b"",
                    b"\xff\xfe",
                    b"<0xZZ>",
                    bytes(4),
                    b"\0\0\xc0\x7f",
                    b"a" * 5000,
                ]
            )
            parts[j] = (key, value)
            rows[i] = (number if rng.random() < 0.95 else rng.randrange(9), parts)
        raw = self.pack(rows)
        return bytes_changed(rng, raw, 16) if rng.random() < 0.2 else raw


class Llama2cTokenizer(Tokenizers):
    def make(self):
        pieces = [b"<unk>", b"\n<s>\n", b"\n</s>\n"] + [f"<0x{i:02X}>".encode() for i in range(256)]
        pieces += [p.encode()[:40] for p in AWKWARD_TEXTS] + [b"a", b"b", b"ab"]
        return [struct.pack("<I", 40) + b"".join(struct.pack("<fI", -i, len(p)) + p for i, p in enumerate(pieces))]


class Tiktoken(Tokenizers):
    def make(self):
        import base64

        pieces = [bytes([b]) for b in range(256)] + [b"th", b"the", b" the", b"he"]
        TIKTOKEN.setdefault(260, (2, ADD_BOS, 260, (261,), ["<|begin|>", "<|end|>"]))
        return [b"".join(base64.b64encode(p) + b" %d\n" % i for i, p in enumerate(pieces))]

    def change(self, rng, raw):
        lines = raw.splitlines(keepends=True)
        for _ in range(rng.choice((1, 1, 2))):
            i, j = rng.randrange(1, len(lines)), rng.randrange(len(lines))
            lines[i] = rng.choice(
                [lines[j], lines[i].replace(b" ", b"  "), lines[i][:4] + b" %d\n" % j, b"\n", b"YWJj" + lines[i]]
            )
        return bytes_changed(rng, b"".join(lines), 10) if rng.random() < 0.3 else b"".join(lines)


TARGETS = dict(model=ModelFile, tokenizer=TokenizerFile, llama2c=Llama2c, safetensors=Safetensors, config=ConfigJson, gguf=Gguf)
TARGETS |= dict(pickle=Pickle, tokenizer_json=TokenizerJson, sentencepiece=SentencePiece, llama2c_tokenizer=Llama2cTokenizer)
TARGETS |= dict(tiktoken=Tiktoken)


# -- running them


def classes():
    """What class_runs would find with an engine: letters, numbers and white space."""
    import unicodedata

    kinds, runs = {"L": LETTER, "N": NUMBER}, []
    for code in range(0x110000):
        ch = chr(code)
        kind = SPACE if ch.isspace() and not 0x1C <= code <= 0x1F else kinds.get(unicodedata.category(ch)[0])
        if kind and runs and runs[-1][1:] == (code - 1, kind):
            runs[-1] = (runs[-1][0], code, kind)
        elif kind:
            runs.append((code, code, kind))
    return runs


EXCUSED = []  # what was made for the first time, and took its time


def quick():
    """Make what a case costs small: kernels are loaded once, engines run in this process, classes of characters are kept."""

    def once(function, key):
        kept = {}

        def call(*args):
            if key(*args) not in kept:
                kept[key(*args)] = function(*args)
                EXCUSED.append(key(*args))
            return kept[key(*args)]

        return call

    if Code is not sys.modules["twofile.compiler.code"].Code:  # done already
        return
    replace("Code", once(Code, lambda names, notice: tuple(names)))
    real = class_runs
    replace(
        "class_runs", once(lambda find, pretok: real(find, pretok) if pretok > 3 else classes(), lambda find, pretok: pretok)
    )
    replace("say", lambda text: None)

    def bounded(program, job, memory, seconds):
        found = {"sys": sys, "json": json, "job": job}
        try:
            exec(program.replace("json.dump(out, sys.stdout)", ""), found)
        except SystemExit as e:
            raise ModelError(printable(str(e))[-120:]) from None
        return found["out"]

    replace("bounded", bounded)
    os.fsync = lambda fd: None


def one(target, raw):
    """Run a case -> (accepted, what is wrong or None)."""
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    accepted, wrong, excused = True, None, len(EXCUSED)
    try:
        target.check(raw)
    except ModelError as e:
        accepted = False
        if "\n" in str(e) or not str(e).isprintable() or len(str(e)) > 1200:
            wrong = f"an unfit message: {str(e)[:200]!r}"
        if "internal" in str(e):
            wrong = str(e)
    except BaseException as e:  # noqa: B902 (a panic of a Rust library is one)
        if isinstance(e, KeyboardInterrupt):
            raise
        import traceback

        where = traceback.extract_tb(e.__traceback__)[-1]
        accepted, wrong = False, f"{type(e).__name__}: {str(e)[:150]} at {Path(where.filename).name}:{where.lineno}"
    seconds = time.process_time() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if len(EXCUSED) == excused and (seconds > SECONDS or grown > MEGABYTES):
        wrong = wrong or f"took {seconds:.1f} s and {grown:.0f} MB"
    return accepted, wrong


def fuzz(names, cases, seed, first=0, seconds=None, show=lambda text: None):
    """-> {target: [cases, accepted, {what is wrong: first case}]}. cases: of each target; seconds: in all."""
    quick()
    np.seterr(all="ignore")
    found, folder = {}, Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    try:
        end = time.perf_counter() + (seconds or 1e9)
        for turn, name in enumerate(names):
            (folder / name).mkdir()
            target, row = TARGETS[name](folder / name), [0, 0, {}]
            found[name], began = row, time.perf_counter()
            share = began + (end - began) / (len(names) - turn)
            for n in range(first, first + cases):
                if seconds and time.perf_counter() > share:
                    break
                accepted, wrong = one(target, target.case(random.Random(f"{seed}/{name}/{n}")))
                row[0], row[1] = row[0] + 1, row[1] + accepted
                if wrong and wrong not in row[2]:
                    row[2][wrong] = n
                    show(f"FOUND {name}: {wrong}; --target {name} --seed {seed} --first {n} --cases 1")
            took = time.perf_counter() - began
            show(f"{name}: {row[0]} cases, {row[1]} accepted, {len(row[2])} kinds of finding, {took:.0f} s")
    finally:
        shutil.rmtree(folder)
    return found


def guided(name, argv):
    """The same checks, fed by libFuzzer through atheris; its inputs are changed as above, by our own mutators."""

    def unknown(name):
        raise ModelError(f"kernel {name} is not in the cache, and cannot be compiled from instrumented functions")

    quick()
    replace("compile_kernel", unknown)
    np.seterr(all="ignore")
    folder = Path(tempfile.mkdtemp())
    target = TARGETS[name](folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for n in range(200):
        (corpus / str(n)).write_bytes(target.case(random.Random(n)))

    def entry(data):
        _, wrong = one(target, data)
        if wrong:
            raise RuntimeError(wrong)

    def mutator(data, size, seed):
        rng = random.Random(seed)
        raw = target.case(rng) if rng.random() < 0.3 else bytes_changed(rng, data)
        return target.mend(bytes(raw)[:size])

    atheris.Setup([sys.argv[0], *argv, str(corpus)], entry, custom_mutator=mutator)
    atheris.Fuzz()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--cases", type=int, default=10000, help="of each target")
    ap.add_argument("--seed", default="0")
    ap.add_argument("--first", type=int, default=0)
    ap.add_argument("--seconds", type=float, help="in all, each target its share")
    ap.add_argument("--target", choices=TARGETS, action="append")
    ap.add_argument("--atheris", action="store_true")
    args, rest = ap.parse_known_args()
    names = args.target or list(TARGETS)
    if args.atheris:
        return guided(names[0], rest)
    found = fuzz(names, args.cases, args.seed, args.first, args.seconds, lambda text: print(text, flush=True))
    whole = [sum(row[i] for row in found.values()) for i in (0, 1)]
    wrong = sum(len(row[2]) for row in found.values())
    print(f"all: {whole[0]} cases, {whole[1]} accepted, {wrong} kinds of finding")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
