"""What a file does wrong is told from what we do wrong: a bug is never called damage."""

import struct

import numpy as np
import pytest

import twofile.export.arrays
import twofile.export.convert
import twofile.export.quantise
import twofile.export.sources.llama2c
import twofile.export.tokenizers.pack
import twofile.export.write
from twofile.errors import ModelError
from twofile.export.damage import Told, Tripped, reading, worded
from twofile.export.main import main


def llama2c(path, layers=1):
    """A file of llama2.c, version 0: dim 8, hidden 8, two heads, 16 tokens, 4 positions."""
    numbers = 16 * 8 + layers * (8 + 4 * 64 + 8 + 3 * 64) + 8 + 4 * 4
    path.write_bytes(struct.pack("<7i", 8, 8, layers, 2, 2, 16, 4) + np.ones(numbers, "<f4").tobytes())
    return path


def exported(source, capsys, *more):
    """-> exit code, what an export says last, all that it says."""
    out = source.with_name("out.bin")
    code = main([str(source), "-o", str(out), "--overwrite", "--tokenizer", "none", *more])
    err = capsys.readouterr().err
    return code, err.strip().splitlines()[-1], err


def no_such_key(*_, **__):
    return {}["a bug"]


def no_such_name(*_, **__):
    return Told.a_bug


BUGS = [
    (twofile.export.quantise, "inverse"),
    (twofile.export.write, "layout"),
    (twofile.export.write, "expected_tensors"),
    (twofile.export.arrays, "to_float32"),
    (twofile.export.sources.llama2c, "llama2c_shapes"),
    (twofile.export.sources.llama2c, "check_model"),
    (twofile.export.convert, "config_with"),
]


@pytest.mark.parametrize("bug", [no_such_key, no_such_name])
@pytest.mark.parametrize("room, name", BUGS)
def test_a_bug_is_no_damage(room, name, bug, tmp_path, capsys, monkeypatch):
    source = llama2c(tmp_path / "a.bin")
    assert exported(source, capsys)[0] == 0
    monkeypatch.setattr(room, name, bug)
    code, last, err = exported(source, capsys)
    assert code == 1 and last.startswith("export.py: internal: ") and last.endswith("please report it")
    assert "a bug" in last or "a_bug" in last
    assert "Traceback" not in err and "Traceback" in exported(source, capsys, "-v")[2]


def test_damage_is_no_bug(tmp_path, capsys):
    source = llama2c(tmp_path / "a.bin")
    source.write_bytes(source.read_bytes()[:-4])
    code, last, _ = exported(source, capsys)
    assert code == 1 and last.startswith("export.py: error: ") and "internal" not in last


def test_who_knows_the_name_says_the_words():
    with pytest.raises(ModelError, match=r"^a.json: KeyError\('x'\); expected more$"):
        with worded("a.json: ", "; expected more"), reading():
            {}["x"]
    with pytest.raises(KeyError), worded("a.json: ", "; expected more"):
        {}["x"]  # not among reading lines
    with pytest.raises(Tripped, match="cannot be read"), reading():
        "x".no_such_name  # noqa: B018 (JSON may hold a text where we look for more)
    with pytest.raises(AttributeError), reading():
        Tripped.no_such_name  # noqa: B018 (no parser gives this)
