"""Nearly half a minute of fuzz.py, the same cases each time; what longer runs found; the reader in C as a second opinion."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest

import fuzz
from helpers.models import mend
from helpers.places import ROOT
from helpers.reader import build_reader
from helpers.rooms import patch
from twofile.errors import ModelError
from twofile.export.tokenizers.rules import classes_of
from twofile.modelfile import open_model

SECONDS = 25


def test_half_a_minute_of_fuzzing():
    """In a process of its own, since it makes shortcuts. All targets take their turn."""
    command = [sys.executable, ROOT / "tests" / "fuzz.py", "--seconds", str(SECONDS), "--seed", "ci", "--cases", "100000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    print(done.stdout)
    assert done.returncode == 0 and "FOUND" not in done.stdout, done.stdout + done.stderr
    assert done.stdout.count(" cases, ") == len(fuzz.TARGETS) + 1


@pytest.fixture(autouse=True)
def classes_are_found_anew():
    """What a test says of characters is not kept for those that come after it."""
    yield
    classes_of.cache_clear()


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_seeds_are_accepted(name, tmp_path, monkeypatch):
    """Else the cases made of them would all be refused for one reason."""
    for package, names in {"gguf": ["gguf"], "tokenizers": ["tokenizer_json"], "tiktoken": ["tiktoken"]}.items():
        if name in names:
            pytest.importorskip(package)
    patch(monkeypatch, "class_runs", lambda find, pretok: [(65, 90, 1), (97, 122, 1), (48, 57, 2), (32, 32, 3)])
    patch(monkeypatch, "say", lambda text: None)
    target = fuzz.TARGETS[name](tmp_path)
    for seed in target.seeds:
        target.check(target.plain(seed))


ESC = "\x1b[31m"
ODD_TYPE = [(1, [(1, b"<unk>"), (3, 99)]), (2, [(3, 2)]), (3, [(4, 0)])]
FOUND = {  # what the fuzzer found: escape sequences in messages, and what was no ModelError
    "offsets in a message": ("safetensors", lambda t: header(t, data_offsets=[2560, ESC]), "overlaps"),
    "a type in a message": ("safetensors", lambda t: header(t, dtype=ESC), "type"),
    "a switch in a message": (
        "config",
        lambda t: config(t, quantization_config=ESC),
        "quantization_config .* is not supported",
    ),
    "a rope type in a message": ("config", lambda t: config(t, rope_scaling={"rope_type": ESC}), "rope type"),
    "an infinite size": ("config", lambda t: config(t, hidden_size=float("inf")), "expected the sizes"),
    "a model's type in a message": ("tokenizer_json", lambda t: tree(t, ["model", "type"], {"a" * 99: 0}), "known: BPE"),
    "a post-processor of nothing": ("tokenizer_json", lambda t: tree(t, ["post_processor", "single"], [{}]), None),
    "a token with a huge id": ("tokenizer_json", lambda t: tree(t, ["model", "vocab", "a"], 10**9), "ids from"),
    "a vocabulary that is a list": ("tokenizer_json", lambda t: tree(t, ["model", "vocab"], ["a"]), "no table"),
    "brackets without end": ("tokenizer_json", lambda t: b'{"a":' + b"[" * 100000, "tokenizer.json"),
    "a tensor's name in a message": ("pickle", lambda t: pickled(t, b"output.weight", b"out\x1b[31weight"), "were not used"),
    "a byte token of no byte": ("sentencepiece", lambda t: t.plain(t.seeds[0]).replace(b"<0x41>", b"<0xZZ>"), "no tokenizer"),
    "a type that is none": ("sentencepiece", lambda t: t.plain(ODD_TYPE), "no tokenizer"),
}


def header(t, **changes):
    tensors, body = t.seeds[0]
    name = "model.norm.weight"
    return t.plain(({**tensors, name: {**tensors[name], **changes}}, body))


def config(t, **changes):
    return b"config.json\n" + json.dumps({**t.config, **changes}).encode()


def tree(t, path, value):
    whole = json.loads(t.plain(t.seeds[1]))
    at = whole
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(whole).encode()


def pickled(t, old, new):
    assert len(old) == len(new)
    raw = t.plain(t.seeds[0])
    return raw.replace(old, new)


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_is_mended(name, tmp_path, monkeypatch):
    patch(monkeypatch, "say", lambda text: None)
    kind, make, says = FOUND[name]
    target = fuzz.TARGETS[kind](tmp_path)
    if says is None:
        return target.check(make(target))
    with pytest.raises(ModelError, match=says) as caught:
        target.check(make(target))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1200


def compare(reader, target, seeds, place):
    """Cases of the seeds of a ModelFile -> [(case, run.py's words or None, the reader's)] where only one of the two accepts."""
    ours, paths = [], []
    for n, seed in enumerate(seeds):
        raw = target.case(random.Random(seed))
        path = place / f"{n}.bin"
        path.write_bytes(raw)
        paths.append(path)
        try:
            open_model(path)
            ours.append(None)
        except ModelError as e:
            ours.append(str(e))
    theirs = []
    for n in range(0, len(paths), 500):
        done = subprocess.run([reader, *paths[n : n + 500]], capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr[-3000:]
        theirs += done.stdout.splitlines()
    rows = list(zip(seeds, ours, theirs, strict=True))
    return [row for row in rows if (row[1] is None) != (row[2] == "accepted")], sum(o is None for o in ours)


def test_two_readers_accept_the_same_files(tmp_path):
    """Some hundreds of damaged models: run.py and the reader in C, under its sanitisers, take the same ones."""
    reader, target = build_reader(tmp_path), fuzz.ModelFile(tmp_path)
    apart, accepted = compare(reader, target, [f"reader/{n}" for n in range(1500)], tmp_path)
    assert apart == [] and accepted > 200


def test_the_reader_in_c_takes_every_kind_of_model(tmp_path):
    """And sees the same harm in a number that is none."""
    reader, target = build_reader(tmp_path), fuzz.ModelFile(tmp_path)
    for i, raw in enumerate(target.seeds):
        (tmp_path / f"m{i}.bin").write_bytes(raw)
        t = open_model(tmp_path / f"m{i}.bin").tensors["l0.fn.w"] if b"l0.fn.w" in raw else None
        bad = bytearray(raw)
        if t:
            bad[t.off : t.off + 4] = np.float32(np.nan).tobytes()
        (tmp_path / f"bad{i}.bin").write_bytes(mend(bad))
        done = subprocess.run([reader, tmp_path / f"m{i}.bin", tmp_path / f"bad{i}.bin"], capture_output=True, text=True)
        assert done.stdout.splitlines() == ["accepted", "not finite" if t else "accepted"]
