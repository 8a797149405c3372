"""Packages that are missing: all that a source needs are named at once, before it is read; and the extra that brings them."""

import json
import re
import sys

import pytest

from helpers.checkpoints import folder, llama2c_file, torch_file, weights
from helpers.places import ROOT
from helpers.rooms import patch
from twofile.export.main import main
from twofile.export.say import need
from twofile.export.tokenizers.packages import EXTRA

BYTES = json.dumps({"pre_tokenizer": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": {}, "merges": []}})
CHARS = json.dumps({"pre_tokenizer": None, "model": {"type": "BPE", "vocab": {}, "merges": [], "byte_fallback": True}})
RANKS = "IQ== 0\nIg== 1\n"


def hub(text, template=None, name="tokenizer.json"):
    def make(place):
        path = folder(place, weights())
        (path / name).write_text(text)
        if template:
            (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        return path

    return make


def trained(**more):
    return lambda place: torch_file(place / "ckpt.pt", weights(), extra={"tokenizer": BYTES, **more})


def llama2c(place):
    (place / "tokenizer.model").write_text(RANKS)
    return llama2c_file(place / "a.bin", weights())


def gguf(model, template=None, tensors=True):
    def make(place):
        package = pytest.importorskip("gguf")
        np = pytest.importorskip("numpy")
        w = package.GGUFWriter(str(place / "a.gguf"), "llama")
        w.add_tokenizer_model(model)
        w.add_token_list(["a", "b"])
        if template:
            w.add_chat_template(template)
        if tensors:
            w.add_tensor("token_embd.weight", np.zeros((4, 4), "f4"))
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        return place / "a.gguf"

    return make


NONE, ONLY = ["--tokenizer", "none"], ["--tokenizer-only"]
CASES = {  # what there is -> (maker, options, the packages that are named)
    "a folder": (hub(BYTES), [], "tokenizers"),
    "a folder that chats": (hub(BYTES, "{{x}}"), [], "tokenizers jinja2"),
    "a folder in SentencePiece's manner": (hub(CHARS), [], ""),
    "such a folder that chats": (hub(CHARS, "{{x}}"), [], "jinja2"),
    "a folder of tiktoken's": (hub(RANKS, "{{x}}", "tokenizer.model"), [], "tiktoken jinja2"),
    "a folder without its tokenizer": (hub(BYTES, "{{x}}"), NONE, ""),
    "a folder's tokenizer alone": (hub(BYTES, "{{x}}"), ONLY, "tokenizers jinja2"),
    "a checkpoint of our trainer": (trained(), [], "tokenizers"),
    "one that chats": (trained(chat_template="{{x}}"), [], "tokenizers jinja2"),
    "its tokenizer alone": (trained(chat_template="{{x}}"), ONLY, "tokenizers jinja2"),
    "one without its tokenizer": (trained(chat_template="{{x}}"), NONE, ""),
    "llama2.c, tiktoken beside": (llama2c, [], "tiktoken"),
    "llama2.c alone": (llama2c, NONE, ""),
    "llama2.c with a template": (llama2c, ["--chat-template", "t.jinja"], "tiktoken jinja2"),
    "another tokenizer": (llama2c, ["--tokenizer", "t.json"], "tokenizers"),
    "a GGUF": (gguf("gpt2"), [], "gguf tokenizers"),
    "a GGUF that chats": (gguf("gpt2", "{{x}}"), [], "gguf tokenizers jinja2"),
    "a GGUF of SentencePiece's that chats": (gguf("llama", "{{x}}"), [], "gguf jinja2"),
    "a GGUF without its tokenizer": (gguf("gpt2", "{{x}}"), NONE, "gguf"),
    "a GGUF with another": (gguf("gpt2", "{{x}}"), ["--tokenizer", "t.json"], "gguf tokenizers"),
    "a GGUF of a tokenizer": (gguf("gpt2", "{{x}}", False), ONLY, "tokenizers jinja2"),
}


@pytest.mark.parametrize("name", CASES)
def test_all_are_named_at_once(name, tmp_path, capsys, monkeypatch):
    """None of them is installed; nothing is read for longer, nothing is written. Those that are there are not named."""
    make, options, wanted = CASES[name]
    source = make(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.json").write_text(BYTES)
    (tmp_path / "t.jinja").write_text("{{x}}")
    reached = []
    for room in ("read_source", "lone_tokenizer"):
        patch(monkeypatch, room, lambda *args: reached.append(args) or (_ for _ in ()).throw(KeyError("read")))
    command = [str(source), "-o", str(tmp_path / "o.bin"), *options]

    def said(*missing):
        with monkeypatch.context() as m:
            for package in missing:
                m.setitem(sys.modules, package, None)
            assert main(command) == 1 and not (tmp_path / "o.bin").exists()
        return capsys.readouterr().err.strip().splitlines()[-1]

    line = said(*EXTRA)
    assert bool(reached) != bool(wanted), line
    if wanted:
        names = wanted.split()
        are = "s " + " and ".join(names) + ", which are" if len(names) > 1 else f" {wanted}, which is"
        advice = f"pip install {wanted} (twofile[export] brings all)"
        assert line == f"export.py: error: this source needs the Python package{are} not installed; {advice}"
        assert said(*names[1:]).count("pip install " + " ".join(names[1:])) == (1 if names[1:] else 0)
    others = [package for package in EXTRA if package not in wanted.split()]
    assert "KeyError('read')" in said(*others) and "KeyError('read')" in said()


def test_a_package_that_is_broken_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "brokenpackage.py").write_text("import there_is_no_such_package_either")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Exception, match="brokenpackage cannot be imported .*; expected it whole; pip install -U brokenpackage"):
        need("brokenpackage.part")
    with pytest.raises(Exception, match="package absentpackage, which is not installed; pip install absentpackage"):
        need("absentpackage.part")


def test_the_extra_brings_all():
    """Of pyproject.toml: what the exporter asks for, in the versions that the tests run with; docs/export.md names it."""
    text = (ROOT / "pyproject.toml").read_text()
    extra = re.findall(r'"([^"]+)"', re.search(r"^export = \[(.*)\]$", text, re.M).group(1))
    assert {re.match(r"\w+", row)[0] for row in extra} == set(EXTRA)
    assert set(extra) <= set((ROOT / "requirements-dev.txt").read_text().split("\n"))
    rooms = "".join(path.read_text() for path in (ROOT / "twofile" / "export").rglob("*.py"))
    assert {name.split(".")[0] for name in re.findall(r'\bneed\("([\w.]+)"\)', rooms)} == set(EXTRA)
    told = (ROOT / "docs" / "export.md").read_text()
    assert '`pip install "twofile[export]"`' in told and 'pip install ".[export]"' in told
    assert all(f"`{name}`" in told for name in EXTRA)


SOURCES = (
    "config.json model.safetensors pytorch_model.bin .gguf -00001-of-00003.gguf .bin .pt params.json consolidated.*.pth ckpt.pt"
)
TOKENIZERS = "tokenizer.json vocab.json merges.txt tokenizer.model SentencePiece tiktoken .tiktoken tekken.json tokenizer.bin"


def test_help_lists_every_source(capsys):
    """And every kind of tokenizer, the extra, and no flag that does nothing."""
    with pytest.raises(SystemExit):
        main(["-h"])
    shown = capsys.readouterr().out
    assert [word for word in f"{SOURCES} {TOKENIZERS} --random --tokenizer-out".split() if word not in shown] == []
    assert "Hugging Face" in shown and "Meta" in shown and "llama2.c" in shown and 'pip install "twofile[export]"' in shown
    assert "--embed-tokenizer" not in shown and max(map(len, shown.splitlines())) <= 82
