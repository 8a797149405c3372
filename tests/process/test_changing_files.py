"""Identity, and files that change while they are read. Rows E1 to E3 of the table of bad inputs."""

import hashlib
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from helpers.models import damage, make_model, mend
from helpers.places import ROOT
from helpers.process import call, refused, start
from helpers.vocabularies import byte_bpe
from twofile.errors import ModelError
from twofile.format.table import PAGE, RECORD, RECORD_FIELDS
from twofile.model import Model
from twofile.modelfile import open_model


def test_a_model_is_pinned_by_its_id(tiny, tmp_path):
    """--info shows it; --id takes 16 digits or more of it, in every mode; another model, or one changed weight, is refused."""
    model_id = json.loads(call(tiny, "--info", "--json").stdout)["model_id"]
    assert len(model_id) == 64
    for given in (model_id, model_id[:16].upper(), model_id[:40]):
        assert call(tiny, "-p", "x", "-n", "1", "--id", given).returncode == 0
    other, changed = tmp_path / "other.bin", tmp_path / "changed.bin"
    make_model(other, "q8_0", vocab_size=263, tokenizer=byte_bpe(), embed=True, seed=9)
    changed.write_bytes(Path(tiny).read_bytes())
    damage(changed, "l1.down")
    modes = (
        ["-p", "x"],
        ["--info"],
        ["--verify"],
        ["--tokenize", "-p", "x"],
        ["--batch", "-"],
        ["--score", "-p", "xyz"],
        ["--bench"],
    )
    for mode in modes:
        refused(call(other, *mode, "--id", model_id[:16]), f"expected {model_id[:16]}; get the file")
    refused(call(changed, "-p", "x", "--id", model_id), "checksum of l1.down does not match")
    assert call(changed, "-p", "x", "-n", "1").returncode == 0  # which nobody would see
    refused(call(changed, "--verify"), "changed.bin: checksum of l1.down does not match its data")
    import pickle

    m = Model(tiny, id=model_id, verbose=False)
    assert pickle.loads(pickle.dumps(m)).settings["id"] == model_id
    for wrong in ("", "xyz", model_id[:15], model_id + "0"):
        with pytest.raises(ModelError, match="expected 16 to 64"):
            Model(tiny, id=wrong)


def nan_model(path, name, **more):
    """An f32 model with one NaN in a matrix; its hashes are right."""
    make_model(path, "f32", vocab_size=263, tokenizer=byte_bpe(), embed=True, n_layers=3, **more)
    t = open_model(path).tensors[name]
    values = t.data.view("<f4").copy()
    values[5 * 16] = np.nan
    raw = bytearray(path.read_bytes())
    raw[t.off : t.off + t.nbytes] = values.tobytes()
    index = list(open_model(path).tensors).index(name)
    at = PAGE + index * RECORD + RECORD_FIELDS.size - 32
    raw[at : at + 32] = hashlib.sha256(values).digest()
    path.write_bytes(mend(raw))
    return path


@pytest.mark.parametrize(
    "name, place", [("l0.qkv", "layer 0"), ("l1.o", "layer 1"), ("l2.down", "layer 2"), ("head", "output")]
)
def test_a_nan_is_traced_to_its_layer(name, place, tmp_path):
    """Position and layer, in text, batch, score, choices and perplexity; on one thread and two; --verify names the tensor."""
    path = nan_model(tmp_path / "m.bin", name)
    says = f"m.bin: NaN or infinity at position 2, begun in {place}, expected finite logits; run --verify"
    refused(call(path, "-p", "xy", "-t", "2"), says)
    refused(call(path, "--verify"), f"tensor {name} holds NaN")
    with pytest.raises(ModelError, match=f"position [12], begun in {place}"):
        Model(path, n_threads=1, verbose=False).score([5, 6, 7])
    if name == "l1.o":
        done = call(path, "--batch", "-", stdin=b'"xy"\n"xy"\n')  # of each line its own error
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.returncode == 1 and len(lines) == 2 and all(says in line["error"] for line in lines)
        refused(call(path, "-p", "x", "--choices", "a", "b"), "NaN or infinity", place)
        refused(call(path, "--score", "-p", "xyz"), "NaN or infinity", place)
        refused(call(path, "--perplexity", "-c", "50", stdin=b"xyz " * 100), "NaN or infinity", place)
        m = Model(path, n_threads=2, verbose=False)
        with pytest.raises(ModelError, match=place):
            m.generate([300 % 263] * 100, 3)


# files that change while they are read
def test_a_file_replaced_by_another(endless_copy):
    """E1: a rename leaves the running program its file; so does export.py --overwrite, which renames."""
    path, want, begin = endless_copy
    p = begin()
    other = path.with_name("other")
    other.write_bytes(os.urandom(path.stat().st_size))
    os.replace(other, path)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 0 and out == want and err == b""


def test_a_file_overwritten_in_place(endless_copy):
    """E3: the text is anybody's guess, and an error with words where numbers stop being numbers; never outside the file."""
    path, want, begin = endless_copy
    p = begin()
    t = open_model(path).tensors
    with open(path, "r+b") as f:
        f.seek(t["embed"].off)
        f.write(os.urandom(t["out_norm.w"].off - t["embed"].off))
    out, err = p.communicate(timeout=60)
    assert p.returncode in (0, 1) and b"Traceback" not in err and (p.returncode == 0 or b"NaN or infinity" in err)


def test_a_file_cut_in_place(endless_copy):
    """E2: the operating system ends whoever maps it (the README says so); if the pages are still in memory it may go on."""
    path, want, begin = endless_copy
    p = begin()
    os.truncate(path, 8192)
    out, err = p.communicate(timeout=60)
    assert p.returncode in (-signal.SIGBUS, 0, 1) and b"Traceback" not in err
    assert "somebody shortens model.bin" in (ROOT / "README.md").read_text()


@pytest.fixture
def endless_copy(tmp_path):
    """A model file of ours, what it writes, and how to begin to write it and wait for the first bytes."""
    path = tmp_path / "model.bin"
    make_model(path, "q8_0", vocab_size=263, tokenizer=byte_bpe(), embed=True, max_ctx=6000, n_layers=2)
    args = (path, "-p", "the", "-n", "5000", "-s", "1", "-q", "--ignore-eos", "-t", "1")
    want = Model(path, n_threads=1, verbose=False).generate("the", 5000, seed=1, ignore_eos=True).encode() + b"\n"

    def begin():
        p = start(*args)
        first = os.read(p.stdout.fileno(), 1)
        out = p.communicate
        p.communicate = lambda **k: (lambda o, e: (first + o, e))(*out(**k))
        return p

    return path, want, begin
