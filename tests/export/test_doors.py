"""The exporter's own doors: rows of families, whose fault an error is, the launcher."""

import ast
import re
import struct
from dataclasses import fields, replace

import pytest

from helpers.checkpoints import convert, folder, llama2c_file, torch_file, weights
from helpers.places import ROOT
from helpers.rooms import patch
from twofile.export.damage import TRIPS
from twofile.export.families.family import Family, Form, Gguf, Hub
from twofile.export.families.names import in_gguf, like_llama
from twofile.export.families.table import FAMILIES
from twofile.export.main import main
from twofile.export.pack import PLAIN
from twofile.export.source import Source
from twofile.format.config import Config
from twofile.format.types import Q8_0

HOUSE = ROOT / "twofile"
TREES = {path.relative_to(HOUSE).as_posix(): ast.parse(path.read_text("utf-8")) for path in HOUSE.rglob("*.py")}


# rows of families


@pytest.mark.parametrize("kind", [Family, Hub, Gguf, Source])
def test_a_misspelt_switch_is_an_error(kind):
    """Whichever it is, said in a row or changed in one, or set afterwards."""
    own = {Hub: dict(label="X"), Gguf: dict(arch="x"), Source: dict(kind="x", config=None, rope=None, tensors={})}.get(kind, {})
    good = kind(**own)
    for field in fields(kind):
        for wrong in (field.name + "s", field.name[:-1], field.name.upper()):
            with pytest.raises(TypeError, match=wrong):
                kind(**own, **{wrong: True})
            with pytest.raises(TypeError, match=wrong):
                replace(good, **{wrong: True})
            if kind is not Source:
                with pytest.raises(AttributeError):
                    setattr(good, wrong, True)


@pytest.mark.parametrize("names", [like_llama, in_gguf])
def test_so_is_a_misspelt_weight(names):
    for wrong in ("wQ", "norm", "e4", "Wq"):
        with pytest.raises(TypeError, match=wrong):
            names(**{wrong: "x"})
        with pytest.raises(TypeError, match=wrong):
            names({wrong: "x"})


def test_so_is_a_misspelt_number(tmp_path, capsys, monkeypatch):
    """Of Config, as a family's row gives it; and it is ours, not the file's."""
    with pytest.raises(TypeError, match="no number of a config: atn_scale"):
        Config("x", atn_scale=1.0)
    (family,) = [family for family in FAMILIES if family.hub.short == "Llama"]
    wrong = replace(family.hub, numbers=lambda j: dict(atn_scale=1.0))
    patch(monkeypatch, "FAMILIES", [replace(family, hub=wrong)])
    assert "TypeError('no number of a config: atn_scale')" in internal(folder(tmp_path, weights()), tmp_path, capsys)


OTHERWISE = {  # architectures of llama.cpp whose name is not that of the class of transformers
    "command-r": "Cohere",
    "chatglm": "Glm",
    "phi2": "Phi",
    "mistral3": "Ministral3",
    "hunyuan-dense": "HunYuanDenseV1",
}


def test_a_familys_names_on_the_hub_and_in_a_gguf_stand_in_one_row():
    """Each class in one row, each architecture beside its class; llama.cpp calls a Mixtral a llama too."""
    labels = [family.hub.label for family in FAMILIES]
    assert len(labels) == len(set(labels)) and all(isinstance(family, Family) for family in FAMILIES)
    archs, plain = [], lambda name: re.sub("[^a-z0-9]", "", name.lower())
    for family in FAMILIES:
        if family.gguf is None:
            continue
        archs.append(family.gguf.arch)
        mixture = [f.gguf for f in FAMILIES if f.gguf and f.gguf.arch == family.gguf.arch and f is not family]
        if mixture and family.gguf.names.router:
            assert (family.hub.short, family.gguf.arch) == ("Mixtral", "llama")
        else:
            assert plain(OTHERWISE.get(family.gguf.arch, family.gguf.arch)) == plain(family.hub.short)
    assert len(archs) - len(set(archs)) == 1 and set(OTHERWISE) <= set(archs)
    spoken = {plain(arch) for arch in archs} | {plain(name) for name in OTHERWISE.values()}
    lone = {family.hub.short for family in FAMILIES if family.gguf is None}
    assert not [short for short in lone if plain(short) in spoken]


def test_what_both_forms_say_is_said_for_a_reason():
    """What is true of the model is a switch of Family: no Form has one of the same name."""
    ours, forms = ({field.name for field in fields(kind)} for kind in (Family, Form))
    assert ours & forms == set() and ours - {"hub", "gguf"} and forms < {field.name for field in fields(Hub)}


# who asks for a family by its name


def labels():
    """Every name by which a family could be asked for: labels alone, and with their short forms and llama.cpp's names."""
    hubs, ggufs = [family.hub for family in FAMILIES], [family.gguf for family in FAMILIES if family.gguf]
    exact = {hub.label for hub in hubs} | {hub.pictures for hub in hubs if hub.pictures}
    short = {hub.short for hub in hubs} | {hub.short.lower() for hub in hubs} | {form.arch for form in ggufs}
    return exact, exact | short


def constants(node):
    return [n for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def test_no_family_is_asked_for_by_its_label_outside_its_row():
    """A label stands in its row and nowhere else."""
    exact, _ = labels()
    wrong = []
    for name, tree in TREES.items():
        rows = [k for k in ast.walk(tree) if isinstance(k, ast.keyword) and k.arg in ("label", "pictures")]
        own = {id(n) for row in rows if name.startswith("export/families/") for n in constants(row)}
        wrong += [(name, n.lineno, n.value) for n in constants(tree) if n.value in exact and id(n) not in own]
    assert wrong == []
    assert len(exact) > 45


ASKS = ("startswith", "endswith", "get", "index", "find", "removeprefix", "removesuffix")
# these ask what a GGUF calls its kind of tokenizer, which has names like a model's
OTHER_NAMES = ("export/tokenizers/",)


def asked(tree):
    """Constants that something is compared with: ==, in, match, a key, or an argument of a method that looks."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield from (n for part in (node.left, *node.comparators) for n in constants(part))
        elif isinstance(node, ast.match_case):
            yield from constants(node.pattern)
        elif isinstance(node, ast.Subscript):
            yield from constants(node.slice)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ASKS:
            yield from (n for part in node.args for n in constants(part))


def test_nothing_is_compared_with_a_familys_name():
    """Not with its short form either, nor with llama.cpp's name of it."""
    _, known = labels()
    found = []
    for name, tree in TREES.items():
        if not name.startswith(OTHER_NAMES):
            found += [(name, n.lineno, n.value) for n in asked(tree) if n.value in known]
    assert found == []
    planted = (
        'def f(w):\n    if w.label in ("GptOss", "x") or w.arch == "gemma3" or w.label.startswith("Olmo3"):\n        pass\n'
    )
    assert [n.value for n in asked(ast.parse(planted)) if n.value in known] == ["GptOss", "gemma3", "Olmo3"]


def test_only_who_looks_for_a_row_reads_its_names():
    """The rooms that recognise a source, and what a message or the file's name of the family needs."""
    looks = {"export/sources/huggingface.py", "export/sources/pictures.py", "export/sources/gguf.py"}
    says = {"export/sources/ggufconfig.py", "export/layers/weights.py", "export/families/family.py"}
    reads = lambda tree: any(isinstance(n, ast.Attribute) and n.attr in ("label", "short", "arch") for n in ast.walk(tree))
    assert {name for name, tree in TREES.items() if name.startswith("export/") and reads(tree)} == looks | says


# whose fault an error is


def internal(source, tmp_path, capsys, *options):
    """The message of an export that a bug of ours ends: one line, exit code 1, nothing left behind."""
    capsys.readouterr()
    assert convert(source, tmp_path / "out.model", *options) == 1
    *_, last = err = capsys.readouterr().err.strip().splitlines()
    assert re.fullmatch(r"export\.py: internal: .* at \w+\.py:\d+; please report it", last), err
    assert [line for line in err if "Traceback" in line or line.startswith(" ")] == []
    assert "damaged" not in last and "whole" not in last and not list(tmp_path.glob("out.model*"))
    return last


MAKERS = {
    "llama2.c": lambda place: llama2c_file(place / "a.bin", weights()),
    "torch": lambda place: torch_file(place / "a.pt", weights()),
    "a folder": lambda place: folder(place, weights()),
}
BUGS = {e: e("ours\n\x1b[31m") for e in TRIPS if e is not AttributeError} | {AttributeError: AttributeError("ours", obj=Q8_0)}


def breaks(error):
    def broken(*args, **named):
        raise error

    return broken


@pytest.mark.parametrize("error", BUGS.values(), ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("kind", MAKERS)
def test_a_packer_that_errs_is_no_damage_of_the_file(kind, error, tmp_path, capsys, monkeypatch):
    """Each exception that reading lines call damage is a bug where nothing is read."""
    monkeypatch.setitem(PLAIN, Q8_0, breaks(error))
    last = internal(MAKERS[kind](tmp_path), tmp_path, capsys, "--type", "q8_0")
    assert type(error).__name__ in last and "at pack.py:" in last and last.isprintable()


STEPS = "expected_tensors layout metadata parse_meta taken head_order norm rope_table check_model check_config"
STEPS += " check_ranges matrix_bytes write_model to_float32 find_tokenizer steering"


@pytest.mark.parametrize("step", STEPS.split())
@pytest.mark.parametrize("kind", MAKERS)
def test_nor_is_any_other_step_of_ours(kind, step, tmp_path, capsys, monkeypatch):
    """The plan of tensors, their order, the ranges of the config, the writer: KeyError is no lack of the file's."""
    source = MAKERS[kind](tmp_path)
    patch(monkeypatch, step, breaks(KeyError("a bug")))
    assert "KeyError('a bug')" in internal(source, tmp_path, capsys)


def test_the_old_file_stays_where_a_bug_ends_an_export(tmp_path, capsys, monkeypatch):
    source, out = MAKERS["llama2.c"](tmp_path), tmp_path / "m.bin"
    assert convert(source, out) == 0
    before = out.read_bytes()
    patch(monkeypatch, "matrix_bytes", breaks(KeyError("a bug")))
    assert convert(source, out) == 1 and out.read_bytes() == before and not list(tmp_path.glob("*.tmp*"))


def test_who_asks_for_more_gets_the_traceback(tmp_path, capsys, monkeypatch):
    """-v: for a report; the last line is the same."""
    patch(monkeypatch, "layout", breaks(IndexError("a bug")))
    args = [str(MAKERS["torch"](tmp_path)), "-o", str(tmp_path / "m.bin"), "--tokenizer", "none"]
    lasts = []
    for options in ([], ["-v"]):
        assert main([*args, *options]) == 1
        err = capsys.readouterr().err
        assert ("Traceback" in err) == bool(options)
        lasts.append(err.strip().splitlines()[-1])
    assert lasts[0] == lasts[1] and "IndexError('a bug')" in lasts[0]


def test_a_tokenizer_that_errs_is_a_bug_too(tmp_path, capsys, monkeypatch):
    raw = struct.pack("<I", 9) + b"".join(struct.pack("<fI", -i, 1) + bytes([97 + i]) for i in range(9))
    (tmp_path / "t.bin").write_bytes(raw)
    patch(monkeypatch, "pack_tokenizer", breaks(ValueError("a bug")))
    assert main([str(tmp_path / "t.bin"), "--tokenizer-only", "-o", str(tmp_path / "o.bin")]) == 1
    err = capsys.readouterr().err
    assert "internal: ValueError('a bug')" in err and err.count("\n") == 2 and not (tmp_path / "o.bin").exists()


def test_the_same_exceptions_in_reading_lines_are_damage(tmp_path, capsys):
    """A number that is none, a key that lacks, a list for a number: the file's fault, by name."""
    for n, (key, value, says) in enumerate(
        [
            ("vocab_size", "many", "ValueError"),
            ("hidden_size", [48], "TypeError"),
            ("num_attention_heads", 0, "ZeroDivisionError"),
            ("rms_norm_eps", {}, "TypeError"),
            ("num_attention_heads", None, "KeyError"),
        ]
    ):
        (tmp_path / str(n)).mkdir()
        source = folder(tmp_path / str(n), weights(), **{key: value})
        assert convert(source, tmp_path / "m.bin") == 1
        err = capsys.readouterr().err
        assert "config.json: " in err and says in err and "expected the sizes of a model" in err and "internal" not in err


def test_only_one_room_knows_what_reading_trips_over():
    """The classes of exceptions that are damage stand in damage.py; who catches one elsewhere has it of a known line."""
    names, caught = {e.__name__ for e in TRIPS}, {}
    for name, tree in TREES.items():
        if name.startswith("export/") and name not in ("export/damage.py", "export/sandbox.py"):
            handlers = [node.type for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type]
            kinds = {getattr(n, "id", getattr(n, "attr", "")) for handler in handlers for n in ast.walk(handler)} & names
            caught |= {name: kinds} if kinds else {}
    assert caught == {
        "export/settings.py": {"ValueError", "RecursionError"},  # json
        "export/calibration/texts.py": {"ValueError", "RecursionError"},  # a line of json
        "export/sources/gguf.py": {"NotImplementedError"},  # what the package gguf says of a type
        "export/tokenizers/tiktoken.py": {"ValueError"},  # base64 and a number
    }


# the launcher


def test_export_py_is_a_launcher():
    """A docstring, one import of the package, what to do where numpy is missing, and the call."""
    text = (ROOT / "export.py").read_text("utf-8")
    tree = ast.parse(text)
    assert len([line for line in text.splitlines() if line.strip()]) <= 14
    assert not [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.For, ast.Lambda))]
    froms = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    assert froms == ["twofile.export.main"]
