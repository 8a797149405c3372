"""A sound file in the wrong place: it says what it is, and what to do with it here."""

import json
import struct

import numpy as np
import pytest

from helpers.checkpoints import SHAPE, llama2c_file, safetensors_file, torch_file, weights
from helpers.models import make_model
from helpers.vocabularies import byte_bpe
from twofile.errors import ModelError
from twofile.export.main import main
from twofile.format.foreign import FOREIGN, SOUND, kind_of_file
from twofile.front.text import read_text
from twofile.modelfile import open_model
from twofile.tokenizer.tokenizer import Tokenizer

PIECES = b"\n\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02"


def gguf(path):
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + bytes(400))


FILES = {  # name -> (maker, what it is)
    "model.bin": (lambda p: make_model(p, "f32", vocab_size=263, tokenizer=byte_bpe(), embed=True), "a model.bin"),
    "tokenizer.bin": (lambda p: p.write_bytes(byte_bpe()), "a tokenizer.bin"),
    "kept.cache": (lambda p: p.write_bytes(b"\x89LMK\r\n\x1a\n" + bytes(300)), "a prompt cache"),
    "m.gguf": (gguf, "a GGUF file"),
    "ckpt.pt": (lambda p: torch_file(p, weights()), "a zip archive or a torch checkpoint"),
    "old.pkl": (lambda p: p.write_bytes(b"\x80\x04\x95" + bytes(300)), "a bare pickle"),
    "model.safetensors": (lambda p: safetensors_file(p, {"a": np.zeros((9, 9), "f4")}), "a safetensors file"),
    "v1.bin": (lambda p: llama2c_file(p, weights(), version=1), "a llama2.c checkpoint"),
    "tokenizer.model": (lambda p: p.write_bytes(PIECES * 30), "a SentencePiece model"),
    "config.json": (lambda p: p.write_text(json.dumps({"architectures": ["X"], "vocab_size": 9}, indent=1)), "JSON"),
}


@pytest.fixture
def place(tmp_path):
    """A folder with one of each, and a source and a tokenizer that are as they should be."""
    for name, (make, _) in FILES.items():
        make(tmp_path / name)
    llama2c_file(tmp_path / "good.bin", weights())
    return tmp_path


def exported(*args):
    def refused(path, capsys):
        assert main([str(path if x is ... else path.parent / x if x == "good.bin" else x) for x in args]) == 1
        (line,) = [x for x in capsys.readouterr().err.splitlines() if ": error: " in x]
        return line.removeprefix("export.py: error: ")

    return refused


def raised(use):
    def refused(path, capsys):
        with pytest.raises(ModelError) as caught:
            use(path)
        return str(caught.value)

    return refused


CONVERTED = {"m.gguf", "ckpt.pt", "old.pkl", "model.safetensors", "v1.bin", "config.json"}
PLACES = {  # place -> (how it is refused, the files that belong there or are judged by themselves, words)
    "run.py's model": (
        raised(open_model),
        {"model.bin"},
        lambda name: "with twofile export" if name in CONVERTED else "give the model.bin",
    ),
    "run.py's -z": (
        raised(Tokenizer),
        {"tokenizer.bin"},
        lambda name: "name none where the model has its own" if name == "model.bin" else "--tokenizer-only",
    ),
    "run.py's -f": (raised(lambda p: read_text(str(p))), {"config.json"}, lambda name: "give a file of text"),
    "a source": (
        exported(..., "--tokenizer", "none", "-o", "o.bin"),
        {"m.gguf", "ckpt.pt", "v1.bin"},
        lambda name: {"model.bin": "run.py runs it as it is", "kept.cache": "give the model"}.get(
            name, "--tokenizer" if "tokenizer" in name else "folder" if name != "old.pkl" else "convert it first"
        ),
    ),
    "--tokenizer": (
        exported("good.bin", "--tokenizer", ..., "-o", "o.bin"),
        {"tokenizer.bin", "tokenizer.model", "config.json"},
        lambda name: "what the model was made of" if name in ("model.bin", "kept.cache") else "the tokenizer's own file",
    ),
    "--tokenizer-only": (
        exported(..., "--tokenizer-only", "-o", "o.bin"),
        {"tokenizer.bin", "tokenizer.model", "config.json", "m.gguf", "ckpt.pt"},
        lambda name: "what the model was made of" if name in ("model.bin", "kept.cache") else "the tokenizer's own file",
    ),
    "--chat-template": (
        exported("good.bin", "--tokenizer", "t.model", "--chat-template", ..., "-o", "o.bin"),
        set(),
        lambda name: "give the template's own text",
    ),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", PLACES)
def test_each_in_every_wrong_place(where, name, place, capsys, monkeypatch):
    """Four parts on a line, the right name, advice that helps; nothing is damaged and nothing is written."""
    monkeypatch.chdir(place)
    (place / "t.model").write_bytes(b"\x1b\0\0\0" + struct.pack("<fi", 0, 1) * SHAPE["vocab"])
    refused, belong, todo = PLACES[where]
    before = sorted(p.name for p in place.iterdir())
    if name in belong:
        assert kind_of_file((place / name).read_bytes()[:4096])[0] == FILES[name][1]
        return
    said = refused(place / name, capsys)
    assert said.startswith(f"{place / name}: this is {FILES[name][1]}; expected "), said
    assert todo(name) in said.split("; ", 2)[2] and "text mode" not in said and said.isprintable(), said
    assert sorted(p.name for p in place.iterdir()) == before


BY_THEMSELVES = [row for row in FOREIGN if row.todo not in SOUND]


@pytest.mark.parametrize("row", BY_THEMSELVES, ids=lambda row: str(row.begins))
def test_what_helps_wherever_it_stands(row, tmp_path, capsys):
    """An archive, a download that failed, a file changed on its way: the same words as a model, a tokenizer, a source."""
    path = tmp_path / "x"
    path.write_bytes(row.begins + b"\0" * 400)
    says = f"{path}: this is {row.what}; expected "
    for use in (open_model, Tokenizer):
        with pytest.raises(ModelError) as caught:
            use(path)
        assert str(caught.value).startswith(says) and str(caught.value).endswith(row.todo)
    for args in ([path], [path, "--tokenizer-only"]):
        assert main([*map(str, args), "-o", str(tmp_path / "o")]) == 1
        err = capsys.readouterr().err.strip()
        assert says in err and err.endswith(row.todo)


def test_a_model_that_lost_its_line_ends_or_its_bytes(tmp_path):
    """What really was transferred as text is said to be: line ends, or an encoding."""
    raw = make_model(tmp_path / "m", "f32").read_bytes()
    for harmed in (raw.replace(b"\r\n", b"\n"), raw.decode("latin-1").encode(), raw.decode("utf-8", "replace").encode()):
        (tmp_path / "m").write_bytes(harmed)
        with pytest.raises(ModelError, match="transferred in text mode; expected a model.bin; copy it again, in binary mode"):
            open_model(tmp_path / "m")


def test_a_width_is_no_pickle(tmp_path):
    """The first number of a llama2.c checkpoint is its width: one of 640 begins as a pickle of version 2 does."""
    for dim in (128, 384, 640, 896, 1152, 1280):
        shape = {**SHAPE, "dim": dim, "ffn": 32, "layers": 1}
        source = llama2c_file(tmp_path / "a.bin", weights(shape), shape=shape)
        assert main([str(source), "-o", str(tmp_path / "m.bin"), "--tokenizer", "none", "--overwrite"]) == 0
        assert open_model(tmp_path / "m.bin").config.dim == dim


def test_texts_are_texts(tmp_path):
    """A prompt may begin as other files do."""
    for text in ("GGUF is a format", "24karat", "PK\x03\x04", "<html><body>hi", '{"a": 1}', "BZh9", "version https://git-lfs"):
        (tmp_path / "t").write_text(text)
        assert read_text(str(tmp_path / "t")) == text.encode()


def test_a_folder_is_called_one(tmp_path, capsys):
    for use, says in ((open_model, "expected a model.bin"), (Tokenizer, "expected a tokenizer.bin")):
        with pytest.raises(ModelError, match=f"a folder, not a regular file; {says}; .* make one of it with twofile export"):
            use(tmp_path)
    assert main([str(llama2c_file(tmp_path / "a", weights())), "--tokenizer", str(tmp_path), "-o", str(tmp_path / "o")]) == 1
    assert "a folder, not a regular file; expected a tokenizer" in capsys.readouterr().err
