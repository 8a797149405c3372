"""Sources that would run something, or never end. Rows X of the list of harms."""

import os
import pickle
import re
import time

import numpy as np
import pytest

from helpers.hostile import HUB, folder, json_tokenizer, torch_zip, written
from twofile.errors import ModelError
from twofile.export.main import main
from twofile.export.sandbox import bounded
from twofile.export.sources.pickled import rebuild_tensor
from twofile.export.template import compile_chat


def refused(source, capsys, out, *more):
    """The message of an export that must be refused, in one line, with nothing left behind."""
    began = time.perf_counter()
    assert main([str(source), "-o", str(out), *more]) == 1
    err = capsys.readouterr().err.strip().splitlines()
    assert err[-1].startswith("export.py: error: ") and not [line for line in err if "Traceback" in line]
    assert time.perf_counter() - began < 10 and not list(out.parent.glob(out.name + "*"))
    return err[-1]


class Runs:
    def __reduce__(self):
        return os.system, ("touch owned",)


PICKLES = {
    "X4 a call": (lambda: pickle.dumps(Runs(), 2), "asks for (posix|nt).system"),
    "X4 a call, protocol 4": (lambda: pickle.dumps(Runs(), 4), "asks for (posix|nt).system"),
    "X4 eval": (lambda: b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.", "asks for builtins.eval"),
    "X4 a name behind a known one": (lambda: b"\x80\x02ctorch\nFloatStorage.__reduce__\n.", "asks for torch.FloatStorage"),
    "X4 a class by INST": (lambda: b"(S'x'\nios\nsystem\n.", "MARK|uses|damaged"),
    "X4 an object by NEWOBJ": (lambda: b"\x80\x02ccollections\nOrderedDict\n)\x81.", "uses NEWOBJ"),
    "X4 attributes": (lambda: b"\x80\x02ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00aNsb.", "no model_args"),
    "X4 an extension": (lambda: b"\x80\x02\x82\x01.", "uses EXT1"),
    "X4 empty": (lambda: b"", "damaged|no end"),
    "X4 pops what is not there": (lambda: b"\x80\x02Ra.", "damaged"),
    "X4 tensor of a list": (lambda: b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(]KKK\x01\x01]]tR.", "damaged"),
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_never_run(name, tmp_path, capsys, monkeypatch):
    make, says = PICKLES[name]
    monkeypatch.chdir(tmp_path)
    error = refused(torch_zip(tmp_path / "a.pt", make()), capsys, tmp_path / "m.bin")
    assert re.search(says, error) and not (tmp_path / "owned").exists(), error


def test_x4_a_few_stored_numbers_are_no_large_tensor():
    """Strides of zero would make a terabyte of four bytes."""
    raw = (np.zeros(64, np.uint8), "<f4")
    assert rebuild_tensor(raw, 0, (4, 4), (4, 1)).shape == (4, 4)
    for size, stride in (
        ((1 << 20, 1 << 20), (0, 0)),
        ((17,), (1,)),
        ((4, 5), (4, 1)),
        ((2,), (1, 1)),
        ((-1,), (1,)),
        ((2.0,), (1,)),
    ):
        with pytest.raises(ModelError, match="reaches past|no whole numbers"):
            rebuild_tensor(raw, 0, size, stride)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "..", "", "a/b", "\x1b[31m", 7, None, ["x"], {}])
def test_x5_shards_have_plain_names(name, tmp_path, capsys):
    index = {"weight_map": {"a": name}}
    path = folder(tmp_path / "hf", config__json=HUB, **{"model__safetensors__index__json": index})
    assert "\x1b" not in refused(path, capsys, tmp_path / "m.bin")


TEMPLATES = {
    "X13 10 GB": ("{{ 'x' * 10000000000 }}", "Memory|died|too much"),
    "X13 10 GB, bit by bit": ("{% for i in range(99999) %}{{ 'x' * 99999 }}{% endfor %}", "Memory|died|too much"),
    "X13 attributes": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe|refuses|Security|leaves"),
    "X13 changes": ("{% set _ = messages.append(1) %}{{ messages }}", "unsafe|refuses|leaves"),
    "X13 import": ("{% import 'os' as os %}{{ os }}", "refuses|loader|no loader|TypeError|died"),
    "X13 syntax": ("{% if", "TemplateSyntaxError|Unexpected|unexpected"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_programs_of_strangers(name, tmp_path, monkeypatch):
    """Rendered in a process with limits, in the immutable sandbox; not from the folder one is in. Refused ones are left out."""
    pytest.importorskip("jinja2")
    template, says = TEMPLATES[name]
    monkeypatch.chdir(tmp_path)
    for module in ("json", "re", "jinja2", "resource"):
        (tmp_path / f"{module}.py").write_text("open('owned', 'w')")
    began = time.perf_counter()
    with pytest.raises(ModelError, match=says) as caught:
        compile_chat(template, {})
    assert time.perf_counter() - began < 35 and not (tmp_path / "owned").exists() and str(caught.value).isprintable()


def test_x14_an_engine_that_dies_is_a_message(tmp_path, capsys):
    """The tokenizers library is native code of others: it reads in a process of its own, and may die there."""
    for program, says in (
        ("import os; os.abort()", "died"),
        ("while 1: pass", "died|end"),
        ("x = b'x' * (1 << 40)", "MemoryError"),
    ):
        with pytest.raises(ModelError, match=says):
            bounded(program, {}, 1 << 30, 1)
    for raw, says in ((b"\n\x07\x0a\x05<unk>" + b"\xff" * 30, "protobuf"), (json_tokenizer(merges=[["a", "c"]]), "KeyError")):
        assert says in refused(written(tmp_path / "t", raw), capsys, tmp_path / "o.bin", "--tokenizer-only")
