"""What run.py's own checks advise, while a file is being exported: not to export it again."""

import ast
import json
import re

import pytest

from helpers.checkpoints import convert, folder, llama2c_file, weights
from helpers.jsons import SPACED
from helpers.places import ROOT
from helpers.rooms import patch
from helpers.vocabularies import byte_bpe
from twofile.errors import ModelError
from twofile.export.damage import Tripped
from twofile.export.main import main
from twofile.export.say import AGAIN, advising
from twofile.tokenizer.tokenizer import Tokenizer

HOUSE = ROOT / "twofile"


def texts(path):
    """The texts of a room, those with values in them as one."""
    tree, parts = ast.parse(path.read_text("utf-8")), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts |= {id(value) for value in node.values}
            yield "".join(value.value if isinstance(value, ast.Constant) else "X" for value in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def test_every_such_advice_is_replaced():
    """Wherever a room below the exporter says to export again."""
    rooms = [p for p in HOUSE.rglob("*.py") if "export" not in p.relative_to(HOUSE).parts[0] and p.parent.name != "front"]
    said = [text for path in rooms for text in texts(path) if re.search(r"export\b.*\bagain", text)]
    said.remove("run X, copy or export it again")  # of a run
    assert len(said) > 40
    for text in said:
        with pytest.raises(ModelError) as caught, advising("do so"):
            raise ModelError(text)
        assert str(caught.value) == AGAIN.sub("; do so", text) and str(caught.value).count("; do so") == 1, text
        assert not re.search(r"\bexport\b(?!\.py)", str(caught.value)), text


def test_what_was_tripped_over_stays_that():
    with pytest.raises(Tripped), advising("do so"):
        raise Tripped(KeyError("a; export again"))


def last(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "config, found",
    [
        ({"head_dim": 7}, "head"),
        ({"rms_norm_eps": 5.0}, "eps"),
        ({"vocab_size": 92}, "92"),
        ({"max_position_embeddings": 1 << 31}, "max_ctx"),
    ],
)
def test_a_source_that_asks_for_what_is_not_run(config, found, tmp_path, capsys):
    """The checks of a model file speak of the source: its name, what was found, and no advice to do the same again."""
    source = folder(tmp_path, weights(), **config)
    assert convert(source, tmp_path / "m.bin") == 1
    said = last(capsys)
    assert (
        said.startswith(f"export.py: error: {source}: ") and found in said and "again" not in said and "run.py" not in said[11:]
    )


def test_a_tokenizer_that_is_not_run(tmp_path, capsys, monkeypatch):
    """A piece that is too long, other ids than its reference's: choose another one; its name is the file's."""
    source, path = llama2c_file(tmp_path / "a.bin", weights()), tmp_path / "tokenizer.json"
    model = dict(type="BPE", vocab={chr(33 + i): i for i in range(60)}, merges=[], byte_fallback=False)
    path.write_text(json.dumps(dict(model=model, added_tokens=[], pre_tokenizer=None, normalizer=SPACED)))

    def refuse(*args):
        raise ModelError("tokenizer in model.bin: a piece is longer than 4096 bytes; export it again")

    with monkeypatch.context() as m:
        patch(m, "finish_tokenizer", refuse)
        for args, advice in (([source], "choose another with --tokenizer"), ([path, "--tokenizer-only"], "give another")):
            assert main([*map(str, args), "-o", str(tmp_path / "m.bin")]) == 1
            assert last(capsys) == f"export.py: error: {path}: a piece is longer than 4096 bytes; {advice}"
    patch(monkeypatch, "Tokenizer", other := type("Other", (Tokenizer,), {"_run": lambda self, *args: [1]}))
    assert other.encode is Tokenizer.encode
    tests = byte_bpe(tests=[("th", [2])])
    (tmp_path / "t.bin").write_bytes(tests)
    assert main([str(tmp_path / "t.bin"), "--tokenizer-only", "-o", str(tmp_path / "u.bin")]) == 1
    assert last(capsys).endswith("t.bin: self-test failed on 'th': it does not do what its exporter saw; give another")


def test_what_was_written_may_be_exported_again(tmp_path, capsys, monkeypatch):
    """Where the finished file is not what was written, that is the advice that helps."""
    source = llama2c_file(tmp_path / "a.bin", weights())

    def damaged(path):
        raise ModelError("m: checksum of embed does not match its data; copy or export the file again")

    patch(monkeypatch, "checked", damaged)
    assert convert(source, tmp_path / "m.bin") == 1 and "export the file again" in last(capsys)
