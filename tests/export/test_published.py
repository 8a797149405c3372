"""Models as they were published, against other programs' texts and logits."""

import subprocess
import sys

import numpy as np
import pytest

from helpers.logits import closeness
from helpers.places import ROOT, shared
from twofile.export.main import main
from twofile.model import Model


def test_hf_llama_from_shared(tmp_path):
    assert main([str(shared("checkpoints/tinystories-656k")), "-o", str(tmp_path / "m.bin")]) == 0
    m = Model(tmp_path / "m.bin", verbose=False)
    assert m.tokenizer.stops == {2} and m.generate("Once upon a time", max_tokens=30, temperature=0).startswith(", ")


REAL = "checkpoints/stories260K/stories260K.bin"


def exported(tmp_path, source, *options):
    out = tmp_path / f"{'_'.join(options)}m.bin"
    done = subprocess.run(
        [sys.executable, ROOT / "export.py", source, "-o", out, "--overwrite", *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("name", ["stories260K.bin", "stories260K_v1.bin"])
def test_stories260k_greedy_text(tmp_path, name):
    """200 tokens, byte for byte what llama2.c writes (which ends its text with a line end of its own)."""
    want = shared("checkpoints/stories260K/expected_greedy_200.txt").read_bytes()
    path = exported(tmp_path, shared(f"checkpoints/stories260K/{name}"), "--type", "f32")
    for threads in (1, 2):
        m = Model(path, n_threads=threads, verbose=False)
        assert m.generate("", max_tokens=200, temperature=0).encode() + b"\n" == want


def test_stories260k_quantised(tmp_path, record_property):
    """How far q8_0 and q4_0 are from f32 on the model's own text; and how many tokens agree."""
    text = shared("checkpoints/stories260K/expected_greedy_200.txt").read_text().rstrip("\n")
    full = Model(exported(tmp_path, shared(REAL), "--type", "f32"), verbose=False)
    ids = full.tokenize(text)
    log = lambda x: x - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)) - x.max(-1, keepdims=True)
    want = log(full.logits(ids).astype(float))
    for dtype, most_kl, least_agreement in (("q8_0", 2e-3, 0.98), ("q4_0", 0.2, 0.75)):
        m = Model(exported(tmp_path, shared(REAL), "--type", dtype), verbose=False)
        got = log(m.logits(ids).astype(float))
        kl = (np.exp(want) * (want - got)).sum(-1).mean()
        agree = (want.argmax(-1) == got.argmax(-1)).mean()
        greedy = [c.token for c in m.stream("", max_tokens=200, temperature=0) if c.token is not None]
        same = next((i for i, (a, b) in enumerate(zip(greedy, ids[1:])) if a != b), len(greedy))
        print(f"{dtype}: mean KL {kl:.5f}, top-1 {agree:.1%}, first {same} of {len(ids) - 1} greedy tokens agree")
        assert kl <= most_kl and agree >= least_agreement


def test_tinystories_656k_against_transformers(tmp_path):
    """Logits of transformers, float32 and eager, kept by tests/make_golden.py; every weight type against f32's source."""
    golden = np.load(ROOT / "tests" / "golden" / "tinystories-656k.npz")
    m = Model(exported(tmp_path, shared("checkpoints/tinystories-656k"), "--type", "f32"), verbose=False)
    rms, largest = closeness(m.logits(golden["ids"].tolist()), golden["logits"].astype(float))
    print(f"rms/std {rms:.2e}, max/std {largest:.2e}")
    assert rms <= 1e-5 and largest <= 1e-4


def test_llama2xs_pt_and_bin_are_one_model(tmp_path):
    a = exported(tmp_path, shared("checkpoints/llama2xs/ckpt.pt"), "--tokenizer", "none")
    b = exported(tmp_path, shared("checkpoints/llama2xs/model.bin"), "--tokenizer", "none", "--type", "q8_0")
    one, two = bytearray(a.read_bytes()), bytearray(b.read_bytes())
    for raw in (one, two):
        note, length = int.from_bytes(raw[0x30:0x38], "little"), int.from_bytes(raw[0x38:0x40], "little")
        raw[note : note + length] = bytes(length)
        raw[0x38:0x60] = bytes(40)  # the note's length and the hash that covers it
    assert one == two
