"""Train, export, run, end to end."""

import json
import lzma
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.checkpoints import SHAPE, torch_file, weights
from helpers.places import ROOT, shared
from twins.weights import read_tensors
from twofile.export.calibration.texts import read_texts
from twofile.export.main import main
from twofile.model import Model
from twofile.modelfile import open_model


def test_our_trainers_checkpoint(tmp_path):
    """Tokenizer inside, documents that begin and end with token 0."""
    pytest.importorskip("tokenizers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    t = Tokenizer(models.BPE())
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    t.train_from_iterator(["the fox and the shoe and the fox"] * 9, trainer)
    shape = {**SHAPE, "vocab": t.get_vocab_size()}
    args = dict(
        dim=48,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        vocab_size=shape["vocab"],
        hidden_dim=76,
        max_seq_len=64,
        norm_eps=1e-5,
        rope_theta=10000.0,
    )
    extra = {"tokenizer": t.to_str(), "note": "made by a test"}
    source = torch_file(tmp_path / "ckpt.pt", weights(shape, tied=True), args, extra)
    for options in ([], ["--tokenizer-out", str(tmp_path / "tokenizer.bin")]):
        assert main([str(source), "-o", str(tmp_path / "model.bin"), "--overwrite", *options]) == 0
        assert (tmp_path / "tokenizer.bin").exists() == bool(options)
        m = Model(tmp_path / "model.bin", verbose=False)
        assert m.tokenize("the fox")[0] == 0 and m.detokenize(m.tokenize("the fox")) == "the fox" and m.tokenizer.stops == {0}
        assert "made by a test" in m.file.note
    alone = tmp_path / "alone.bin"
    assert main([str(source), "--tokenizer-only", "-o", str(alone)]) == 0
    assert alone.read_bytes() == (tmp_path / "tokenizer.bin").read_bytes()


def test_pretrain_smoke(tmp_path):
    """Train, export, run, end to end, where torch is installed."""
    pytest.importorskip("torch")
    pytest.importorskip("tokenizers")
    done = subprocess.run(
        [sys.executable, ROOT / "train" / "pretrain.py", "--smoke", "--out", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert main([str(tmp_path / "ckpt.pt"), "-o", str(tmp_path / "model.bin")]) == 0
    text = Model(tmp_path / "model.bin", verbose=False).generate("A fox", max_tokens=20, seed=1, ignore_eos=True)
    assert len(text) > 10
    pytest.importorskip("jinja2")
    chat, preferred = tmp_path / "chat", tmp_path / "preferred"
    for program, options in (
        ("finetune.py", ["--base", tmp_path / "ckpt.pt", "--out", chat]),
        ("prefer.py", ["--chat", chat / "ckpt.pt", "--out", preferred]),
    ):
        done = subprocess.run([sys.executable, ROOT / "train" / program, "--smoke", *options], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert main([str(preferred / "ckpt.pt"), "-o", str(preferred / "model.bin")]) == 0
    model = Model(preferred / "model.bin", verbose=False)
    ids = model.encode_chat([{"role": "user", "content": "Tell me a story."}])
    assert [model.tokenizer.name(i) for i in (ids[0], ids[1], ids[-1])] == ["<|endoftext|>", "<|user|>", "<|assistant|>"]
    assert "<|end|>" in map(model.tokenizer.name, model.tokenizer.stops)


def test_a_killed_training_ends_with_the_same_weights(tmp_path):
    """Killed after its first checkpoint and started again, each stage ends as if nothing had been."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("tokenizers")
    base = tmp_path / "base"
    for program, options in (("pretrain.py", []), ("finetune.py", ["--base", base / "ckpt.pt"])):
        command = [sys.executable, ROOT / "train" / program, "--smoke", "--threads", "1", *map(str, options)]
        whole, cut = (base if not options else tmp_path / "whole"), tmp_path / f"cut {program}"
        subprocess.run([*command, "--out", whole], capture_output=True, check=True)
        with subprocess.Popen([*command, "--out", cut], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while not (cut / "resume.pt").exists() and process.poll() is None:
                time.sleep(0.01)
            process.kill()
        done = subprocess.run([*command, "--out", cut], capture_output=True, text=True)
        assert done.returncode == 0 and "resuming at step" in done.stdout, done.stderr
        one, two = (torch.load(folder / "ckpt.pt", weights_only=True)["model"] for folder in (whole, cut))
        assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one), program


def trainer(name, *options):
    command = [sys.executable, ROOT / "train" / name, *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_text_that_a_rounding_is_chosen_by(tmp_path):
    """The same each time; stories and conversations that --calibrate reads, and no word of what is kept to measure with."""
    pytest.importorskip("torch")
    pytest.importorskip("tokenizers")
    data = shared("corpus")
    for name in ("a.jsonl", "b.jsonl"):
        trainer("calibration.py", "--out", tmp_path / name, "--data", data, "--lines", 60)
    raw = (tmp_path / "a.jsonl").read_bytes()
    assert raw == (tmp_path / "b.jsonl").read_bytes()
    texts, known = read_texts(SimpleNamespace(calibrate=str(tmp_path / "a.jsonl")), (ROOT / "tokenizer.bin").read_bytes())
    assert len(texts) == 60
    kinds = Counter(known.name(ids[-1]) if ids[-1] in known.stops else "text" for ids in texts)
    assert set(kinds) == {"<|end|>", "text"} and 6 <= kinds["text"] <= 25
    whole = lzma.open(data / "tinystories.txt.xz", "rt", encoding="utf-8").read()
    stories = [value["text"] for line in raw.splitlines() if "text" in (value := json.loads(line))]
    assert stories and all(0 <= whole.find(story) < len(whole) - 200_000 for story in stories)


def test_the_weights_of_a_file_as_floats(tmp_path):
    """They are those of the file, of whatever types, and it says so."""
    pytest.importorskip("torch")
    pytest.importorskip("tokenizers")
    trainer("floats.py", ROOT / "model.bin", "--out", tmp_path / "ckpt.pt")
    args = ["-o", str(tmp_path / "f32.bin"), "--type", "f32", "--tokenizer", str(ROOT / "tokenizer.bin")]
    assert main([str(tmp_path / "ckpt.pt"), *args]) == 0
    want, got = (read_tensors(path) for path in (ROOT / "model.bin", tmp_path / "f32.bin"))
    assert all(np.array_equal(np.float32(x), np.float32(got[name])) for name, x in want.items())
    assert "floats.py, weights as iq4_xs/q5_k" in open_model(tmp_path / "f32.bin").note
