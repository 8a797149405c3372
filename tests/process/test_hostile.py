"""Hostile files and poor surroundings: rows M, T, X and some of C and E of the list of harms. Most of M are in test_file.py, of
T in test_tokenizer.py, of X in test_export.py; here is the rest, what a refusal may cost, and what keeps kernels inside."""

import dataclasses
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from conftest import AWKWARD, ROOT, call, make_model, mend
from test_forward import SWITCHES, kinds
from test_tokenizer import byte_bpe

import export
import run

ROWS = [f"M{i}" for i in range(1, 26)] + [f"T{i}" for i in range(1, 11)] + [f"X{i}" for i in range(1, 15)]
ROWS += ["C2", "E4", "E5", "E9", "E10", "E13"]
SILENT = lambda text: None
posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


def test_every_row_is_named_by_a_test():
    text = "\n".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    text = text.replace("ROWS", "")
    assert [row for row in ROWS if not re.search(rf"[\"' (]{row}\b[^\"]|test_{row.lower()}_", text)] == []


# -- what a refusal costs -------------------------------------------------------------------------------------------------


def holes(path, raw, size):
    """A file of this size that begins with raw; the rest is a hole, which takes no room."""
    with open(path, "wb") as f:
        f.write(raw)
        try:
            f.truncate(size)
        except OSError as e:
            pytest.skip(f"no such sparse file here: {e}")
    return path


def sparse_model(path, change=None, **sizes):
    """A model.bin whose data is a hole, of any size; change(raw): of its description."""
    c = run.Config("llama", **{**AWKWARD, "flags": 1, **sizes})
    rows = export.layout(c, "q8_0")
    raw = bytearray(export.metadata(c, rows, {}, b""))
    raw = mend(change(raw)) if change else raw
    return holes(path, raw, struct.unpack_from("<Q", raw, 16)[0])


def many_records(raw):
    """65536 records, each good by itself, of which the config calls for none."""
    at = run.PAGE + 65536 * run.RECORD
    table, off = bytearray(), at
    for i in range(65536):
        fields = (b"x%d" % i, 1, 1, 1, 0, 0, 0, off, 4, 0, 0, bytes(32))
        table += run.RECORD_FIELDS.pack(*fields).ljust(run.RECORD, b"\0")
        off += 64
    head = run.HEADER.pack(run.MAGIC, 1, run.ENDIAN, off, 65536, run.RECORD, run.PAGE, at, at, 0, bytes(32))
    return bytearray(head + raw[0x60 : run.PAGE] + table)


def torch_zip(path, body):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        z.writestr("x/data.pkl", body)
        z.writestr("x/data/0", bytes(64))
    return path


def gguf_head(fields, n_tensors=0, n_fields=1):
    return struct.pack("<4sIQQ", b"GGUF", 3, n_tensors, n_fields) + fields


def text(s):
    return struct.pack("<Q", len(s)) + s


DOUBLED = b")" + b"q\x00h\x00\x86" * 60  # a tuple of twice a tuple of twice …
GGUF_ARRAY = gguf_head(text(b"general.name") + struct.pack("<IIQ", 9, 0, 1 << 40))
HUB = {"architectures": ["LlamaForCausalLM"], "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
NEO = {
    **HUB,
    "architectures": ["GPTNeoForCausalLM"],
    "attention_types": [[[], 10**18], [["local"] * 99, 10**18]],
    "vocab_size": 9,
}


def folder(path, **files):
    path.mkdir()
    for name, raw in files.items():
        raw = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
        (path / name.replace("__", ".")).write_bytes(raw)
    return path


def huge_folder(path, name, **files):
    return holes(folder(path, **files) / name, struct.pack("<Q", 1 << 39), 1 << 40).parent


def json_tokenizer(**changes):
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"], **changes}
    return json.dumps({"model": model, "added_tokens": []}).encode()


def written(path, raw):
    path.write_bytes(raw)
    return path


BOMBS = {  # name -> (program, maker of a file, words)
    "M11 65536 records of nothing": ("run", lambda p: sparse_model(p, many_records), "do not fit the config: unexpected x0"),
    "M14 a terabyte of norms": (
        "run",
        lambda p: sparse_model(p, lambda raw: raw[:4096] + b"\0" + raw[4097:], dim=1 << 20, n_layers=1024, ffn_dim=16),
        "expected a name",
    ),
    "M17 1024 layers too few": (
        "run",
        lambda p: sparse_model(p, lambda raw: put(raw, 0x74, "I", 1024), n_layers=1, max_ctx=9),
        "missing window",
    ),
    "M22 a window below 0, of a terabyte": (
        "run",
        lambda p: negative_window(sparse_model(p, dim=1 << 20, n_layers=200, ffn_dim=16), 200),
        "window or rope_id",
    ),
    "T1 a tokenizer of a terabyte": ("tokenizer", lambda p: holes(p, run.TOKENIZER_MAGIC, 1 << 40), "at most 67,108,864"),
    "T3 a million classes": ("tokenizer", lambda p: written(p, byte_bpe(classes=[(0, 0x10FFFF, 1)] * 90000)), "overlap"),
    "T3 stops": ("tokenizer", lambda p: written(p, byte_bpe(stops=[1] * 100000)), "section stops"),
    "T6 merges": (
        "tokenizer",
        lambda p: written(p, byte_bpe(flags=run.EXPLICIT, merges=[(1, 1)] * (1 << 21))),
        "section merges",
    ),
    "T10 a self-test of a million letters": (
        "tokenizer",
        lambda p: written(p, byte_bpe(pretok=0, tests=[("th" * 500_000, [1])] * 3)),
        "self-test section has a text of 1,000,000 bytes",
    ),
    "T8 10^6 segments": (
        "tokenizer",
        lambda p: written(p, byte_bpe(chat=struct.pack("<4BI", 0, 0, 0, 0, 10**6) * 100)),
        "chat",
    ),
    "X1 config.json of a terabyte": ("export", lambda p: huge_folder(p, "config.json"), "at most"),
    "X1 nested": ("export", lambda p: folder(p, config__json=b'{"a":' * 100000), "not readable JSON"),
    "X2 10^18 kinds of attention": (
        "export",
        lambda p: folder(p, config__json=NEO, model__safetensors=struct.pack("<Q", 2) + b"{}"),
        "config.json|is missing",
    ),
    "X4 a memo of 2^31 places": ("export", lambda p: torch_zip(p, b"\x80\x02Nr\xff\xff\xff\x7f."), "no model_args"),
    "X4 a tuple of 2^60 in 200 bytes": (
        "export",
        lambda p: torch_zip(p, b"\x80\x02}" + DOUBLED + b"Ns."),
        "a key that is no name",
    ),
    "X4 a string of 2 GB": ("export", lambda p: torch_zip(p, b"\x80\x02X\xff\xff\xff\x7fabc."), "damaged"),
    "X4 a zip with a list of members of 5 MB": (
        "export",
        lambda p: written(p, b"PK\x03\x04" + bytes(300) + long_list(5 << 20)),
        "list of members|cannot be read",
    ),
    "X5 header of 10 MB of brackets": (
        "export",
        lambda p: folder(p, config__json=HUB, model__safetensors=struct.pack("<Q", 9 << 20) + b"[]," * (3 << 20)),
        "not what safetensors writes",
    ),
    "X5 header of a terabyte": (
        "export",
        lambda p: huge_folder(p, "model.safetensors", config__json=HUB),
        "header of",
    ),
    "GGUF array of 2^40": ("export", lambda p: holes(p, GGUF_ARRAY, 1 << 42), "4 million"),
    "GGUF fields of 2^40": ("export", lambda p: holes(p, gguf_head(b"", 0, 1 << 40), 1 << 42), "not a whole GGUF"),
    "GGUF string of 2^40": ("export", lambda p: holes(p, gguf_head(struct.pack("<Q", 1 << 40)), 1 << 42), "cut short"),
    "llama2.c with 2^24 layers": (
        "export",
        lambda p: holes(p, struct.pack("<7i", 1, 1, 1 << 24, 1, 1, 1, 1), 1 << 40),
        "no sizes of a model",
    ),
    "llama2.c of a terabyte": (
        "export",
        lambda p: holes(p, struct.pack("<7i", 1 << 20, 1, 1, 1, 1, 1, 1), 1 << 40),
        "truncated|promises",
    ),
    "X14 protobuf of small fields": (
        "tokenizer.model",
        lambda p: written(p, b"\n\x07\x0a\x05<unk>" + b"\x08\x00" * 3000000),
        "fields",
    ),
    "tokenizer.json with id 10^9": ("tokenizer.model", lambda p: written(p, json_tokenizer(vocab={"a": 10**9})), "ids from"),
    "tokenizer of a terabyte": ("tokenizer.model", lambda p: holes(p, b"{", 1 << 40), "at most"),
}


def put(raw, at, form, value):
    struct.pack_into("<" + form, raw, at, value)
    return raw


def negative_window(path, layers):
    t = run.open_model(path).tensors["window"]
    with open(path, "r+b") as f:
        f.seek(t.off + 4 * (layers - 1))
        f.write(struct.pack("<i", -1))
    return path


def long_list(size):
    """The end of a zip file whose list of members is of this size."""
    return bytes(size) + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, size, 0, 0)


COST = """
import json, os, resource, sys, time
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
import run, export
args = dict(output=sys.argv[2] + ".out", type=None, tokenizer="none", overwrite=False, random=None, allow_pickle=True)
args |= dict(embed_tokenizer=False, verbose=False, chat_template=None)
ways = {
    "run": run.open_model, "tokenizer": run.Tokenizer, "export": lambda p: export.export(SimpleNamespace(source=p, **args)),
    "tokenizer.model": lambda p: export.lone_tokenizer(Path(p)),
}
export.say = lambda text: None
for way, path in json.load(sys.stdin):
    r, w = os.pipe()
    if not os.fork():
        before, began, said = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), "accepted"
        try:
            ways[way](path)
        except run.ModelError as e:
            said = str(e)
        except BaseException as e:
            said = "CRASH " + repr(e)
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os.write(w, json.dumps([time.process_time() - began, used / 1024, said[:500]]).encode())
        os._exit(0)
    os.close(w)
    print(os.read(r, 100000).decode() or '[0, 0, "died"]', flush=True)
    os.close(r)
    os.wait()
"""


@posix
def test_a_refusal_takes_less_than_a_second_and_100_mb(tmp_path):
    """Files that promise the most for the fewest bytes: a process for each, less what it had before it opened the file."""
    jobs = [(way, str(make(tmp_path / f"bomb{i}"))) for i, (way, make, _) in enumerate(BOMBS.values())]
    done = subprocess.run(
        [sys.executable, "-c", COST, ROOT, tmp_path / "o"], input=json.dumps(jobs), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    wrong = []
    for (name, (_, _, says)), line in zip(BOMBS.items(), done.stdout.splitlines(), strict=True):
        seconds, megabytes, said = json.loads(line)
        print(f"{seconds:6.2f} s {megabytes:6.1f} MB  {name}: {said[:110]}")
        fit = re.search(says, said) and said.isprintable() and "CRASH" not in said
        wrong += [] if fit and seconds < 1 and megabytes < 100 else [(name, seconds, megabytes, said)]
    assert wrong == []


@posix
def test_opening_what_promises_much_touches_little(tmp_path):
    """116 MB of norms and biases that are all a hole: 32 are looked at, and memory is asked for before it is touched."""
    path = sparse_model(tmp_path / "m.bin", dim=1 << 18, n_heads=1 << 10, n_kv_heads=1, head_dim=1024, n_layers=16, flags=6)
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import run; began = time.process_time()\n"
        "before = run.peak_rss(); m = run.Model(sys.argv[2], verbose=False); print(time.process_time() - began)\n"
        "run.total_memory = lambda: 1 << 30\n"
        "try: m.logits([1])\n"
        "except run.ModelError as e: print(e)\n"
        "print(run.peak_rss() - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, ROOT, path], capture_output=True, text=True)
    seconds, says, used = done.stdout.splitlines()
    assert float(seconds) < 1 and "this machine has" in says and int(used) < 300e6, done.stdout


# -- sources that would run something, or never end (X) ---------------------------------------------------------------------


def refused(source, capsys, out, *more):
    """The message of an export that must be refused, in one line, with nothing left behind."""
    began = time.perf_counter()
    assert export.main([str(source), "-o", str(out), *more]) == 1
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
    assert export.rebuild_tensor(raw, 0, (4, 4), (4, 1)).shape == (4, 4)
    for size, stride in (
        ((1 << 20, 1 << 20), (0, 0)),
        ((17,), (1,)),
        ((4, 5), (4, 1)),
        ((2,), (1, 1)),
        ((-1,), (1,)),
        ((2.0,), (1,)),
    ):
        with pytest.raises(run.ModelError, match="reaches past|no whole numbers"):
            export.rebuild_tensor(raw, 0, size, stride)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "..", "", "a/b", "\x1b[31m", 7, None, ["x"], {}])
def test_x5_shards_have_plain_names(name, tmp_path, capsys):
    index = {"weight_map": {"a": name}}
    path = folder(tmp_path / "hf", config__json=HUB, **{"model__safetensors__index__json": index})
    assert "\x1b" not in refused(path, capsys, tmp_path / "m.bin")


def test_x8_odd_widths_keep_their_type(tmp_path):
    """172 columns are no whole groups of 32: they are filled up with zeros, so no matrix needs another type."""
    path = make_model(tmp_path / "m.bin", "q8_0", ffn_dim=172)
    t = run.open_model(path).tensors["l0.down"]
    assert (t.dtype, t.shape, t.nbytes) == ("q8_0", (48, 172), 48 * 192)


@posix
def test_x12_two_exports_at_once_leave_one_whole_file(tmp_path):
    command = [sys.executable, ROOT / "export.py", "--random", "15M", "--overwrite", "-o", tmp_path / "m.bin", "--seed"]
    both = [subprocess.Popen([*command, str(seed)], stderr=subprocess.PIPE) for seed in (1, 2)]
    for p in both:
        assert b"Traceback" not in p.communicate()[1] and p.returncode == 0
    run.verify(run.open_model(tmp_path / "m.bin"))
    assert [p.name for p in tmp_path.iterdir()] == ["m.bin"]


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
    with pytest.raises(run.ModelError, match=says) as caught:
        export.compile_chat(template, {})
    assert time.perf_counter() - began < 35 and not (tmp_path / "owned").exists() and str(caught.value).isprintable()


def test_x14_an_engine_that_dies_is_a_message(tmp_path, capsys):
    """The tokenizers library is native code of others: it reads in a process of its own, and may die there."""
    for program, says in (
        ("import os; os.abort()", "died"),
        ("while 1: pass", "died|end"),
        ("x = b'x' * (1 << 40)", "MemoryError"),
    ):
        with pytest.raises(run.ModelError, match=says):
            export.bounded(program, {}, 1 << 30, 1)
    for raw, says in ((b"\n\x07\x0a\x05<unk>" + b"\xff" * 30, "protobuf"), (json_tokenizer(merges=[["a", "c"]]), "KeyError")):
        assert says in refused(written(tmp_path / "t", raw), capsys, tmp_path / "o.bin", "--tokenizer-only")


# -- surroundings (C, E) --------------------------------------------------------------------------------------------------


def test_c2_contexts_that_cannot_be(models, monkeypatch):
    done = call(models["f32"], "-p", "x", "-c", "201")
    assert done.returncode == 1 and b"context of 201 tokens, expected 1 to the 200" in done.stderr
    monkeypatch.setattr(run, "total_memory", lambda: 100_000)
    with pytest.raises(run.ModelError, match=r"takes [\d,]+ bytes, this machine has 100,000; choose a smaller -c"):
        run.Model(models["f32"], verbose=False).logits([1])


@posix
def test_e9_out_of_memory_is_a_message(tmp_path):
    """2 GB of keys and values where 1.5 GB may be had."""
    path = make_model(tmp_path / "m.bin", "q8_0", max_ctx=1 << 24, n_layers=1, vocab_size=263, tokenizer=byte_bpe(), embed=True)
    script = "import resource, sys, runpy; resource.setrlimit(resource.RLIMIT_AS, (1500 << 20,) * 2)\n"
    script += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", script, ROOT / "run.py", path, "-p", "x", "-t", "1"], capture_output=True, text=True
    )
    assert done.returncode == 1 and re.search(r"16777216 tokens takes [\d,]+ bytes", done.stderr), done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


@pytest.mark.parametrize("program", ["run.py", "export.py"])
@pytest.mark.parametrize(
    "broken, says", [("numpy", "numpy is not installed"), ("llvmlite", "numba cannot be imported"), ("old", "expected 3.10")]
)
def test_e10_packages_missing_or_too_old(program, broken, says, tiny):
    if (program, broken) == ("export.py", "llvmlite"):
        return  # exporting does without
    change = {"old": "import numpy; numpy.__version__ = '1.26.4'"}.get(broken, f"sys.modules[{broken!r}] = None")
    script = f"import sys, runpy; {change}; sys.argv = sys.argv[1:]; sys.path.insert(0, {str(ROOT)!r})\n"
    script += "runpy.run_path(sys.argv[0], run_name='__main__')"
    args = [tiny, "-p", "x"] if program == "run.py" else ["--random", "15M"]
    done = subprocess.run([sys.executable, "-c", script, ROOT / program, *args], capture_output=True, text=True)
    assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""


def damaged(path, how):
    """One kernel's file in the cache, in another state; the code in it is whole in the last four."""
    raw = path.read_bytes()
    if how == "a link":
        path.rename(path.with_name("elsewhere"))
        path.symlink_to("elsewhere")
    elif how == "a pipe":
        path.unlink()
        os.mkfifo(path)
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    elif how == "writable by others":
        path.chmod(0o620)
    elif how == "somebody else's":
        os.chown(path, 12345, -1)
    else:
        path.write_bytes(
            {"empty": b"", "cut": raw[:-9], "one bit": raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:], "noise": b"x" * 999}[how]
        )


STATES = ["empty", "cut", "one bit", "noise", "a pipe", "a folder", "a link", "writable by others", "somebody else's"]


@posix
def test_e5_kernels_that_others_may_have_written_are_compiled_again(tmp_path, monkeypatch):
    """The cache holds object code, which runs: a file that is damaged, or a link, or that others can write, is not loaded."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "c"))
    compiled, real, said = [], run.compile_kernel, []
    kept = real("sweep")
    monkeypatch.setattr(run, "compile_kernel", lambda name: compiled.append(name) or kept)
    run.Code(["sweep"], SILENT)
    (path,) = (p for p in (tmp_path / "c").rglob("sweep"))
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    run.Code(["sweep"], said.append)
    assert compiled == ["sweep"] and said == []
    for how in STATES:
        if how == "somebody else's" and os.getuid():
            continue  # only root can give files away
        compiled.clear(), said.clear()
        damaged(path, how)
        run.Code(["sweep"], said.append)
        assert compiled == ["sweep"] and "damaged or not ours" in said[0], how
        if how == "a folder":
            path.rmdir()
            run.Code(["sweep"], SILENT)
        compiled.clear()
        run.Code(["sweep"], SILENT)
        assert compiled == [], how


@posix
@pytest.mark.parametrize("how", ["group", "others", "owner", "link", "file", "relative"])
def test_e5_folders_that_others_can_write_are_not_used(how, tmp_path, monkeypatch):
    top, said = tmp_path / "twofile", []
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path) if how != "relative" else "cache")
    monkeypatch.chdir(tmp_path)
    assert (
        run._cache_folder(("isa", "cpu", ""), said.append) is None
        if how == "relative"
        else top in (run._cache_folder(("isa", "cpu", ""), said.append).parents)
    )
    (key,) = top.iterdir() if how != "relative" else [None]
    if how in ("group", "others"):
        (top if how == "group" else key).chmod(0o770 if how == "group" else 0o707)
    elif how == "owner":
        if os.getuid():
            pytest.skip("only root can give folders away")
        os.chown(key, 12345, -1)
    elif how == "link":
        top.rename(tmp_path / "mine")
        top.symlink_to(tmp_path / "mine")
    elif how == "file":
        key.rmdir()
        key.write_text("")
    assert run._cache_folder(("isa", "cpu", ""), said.append) is None and "kernels cannot be kept" in said[-1]


@posix
def test_e4_nowhere_to_keep_kernels(monkeypatch, tmp_path):
    said = []
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc/nowhere")
    assert run._cache_folder(("isa", "cpu", ""), said.append) is None and "set NUMBA_CACHE_DIR" in said[0]
    assert run._read_cached(None, "sweep", said.append) is None and run._write_cached(None, "sweep", None, said.append) is None


def test_e13_two_first_runs_share_a_cache(tmp_path):
    script = "import sys; sys.path.insert(0, sys.argv[1]); import run; print(run.Code(['sweep'], print).address['sweep'] > 0)"
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", script, ROOT], env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert [p.communicate()[0].splitlines()[-1] for p in both] == ["True", "True"]
    done = subprocess.run([sys.executable, "-c", script, ROOT], env=env, capture_output=True, text=True)
    assert done.stdout == "True\n"


def test_numbas_switches_for_debugging_change_nothing():
    """Kernels are made of words that are instructions and take addresses, not arrays: there is no Python to run in their place,
    and no index that numba could check. What stands in for both is below."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); import run; print(len(run.compile_kernel('sweep')[1]))"
    command, sizes = [sys.executable, "-c", script, ROOT], []
    switches = ({}, {"NUMBA_DISABLE_JIT": "1"}, {"NUMBA_BOUNDSCHECK": "1"})
    every = [subprocess.Popen(command, env={**os.environ, **on}, stdout=subprocess.PIPE, text=True) for on in switches]
    for process in every:
        sizes.append(int(process.communicate()[0]))
    assert sizes[0] == sizes[1] == sizes[2] > 500


# -- what keeps kernels inside their buffers ------------------------------------------------------------------------------

EVERY = (  # models that together have every kind of record
    dict(dtype="q8_0", temp_beta=0.1, temp_len=4.0, final_cap=3.0),
    dict(dtype="q4_0", head=False, vocab_size=16, flags=128),
    dict(dtype="f32", flags=512 | 128 | 2048 | 4096, norm=1, parallel=1, act=3),
    dict(dtype="bf16", flags=32768 | 64, qk_norm=1, act=1, head_dim=2, n_heads=3, n_kv_heads=1),
    dict(dtype="f16", flags=64, qk_norm=2, act=4, n_rope=2, rope_long=50),
    dict(dtype="q8_0", n_experts=3, top_k=2, expert_ffn=8, flags=16384, norm_topk=1),
    dict(dtype="q4_0", n_experts=5, top_k=3, expert_ffn=40, shared_ffn=76, flags=8192, act=2, dim=80),
    dict(dtype="f32", n_experts=2, top_k=1, expert_ffn=8, act=5, act_limit=7.0, act_alpha=1.7, bias=False),
    dict(dtype="bf16", n_experts=2, top_k=2, expert_ffn=16, bias=False, shared_ffn=24, flags=8192),
    dict(dtype="f16", n_experts=2, top_k=2, expert_ffn=24, act=0, bias=False),
    dict(dtype="q8_0", **SWITCHES["short convolutions"]),
    dict(dtype="f32", n_layers=2, kinds=kinds(1, 2), conv_len=2, delta_k_heads=2, delta_v_heads=4, delta_k_dim=8)
    | dict(delta_v_dim=20),
    dict(dtype="q4_0", **SWITCHES["delta layers, gated attention"]),
    dict(dtype="q8_0", **SWITCHES["two kinds of heads, shared keys"]),
    dict(dtype="bf16", **SWITCHES["embeddings of layers"]),
    dict(dtype="q4_0", **SWITCHES["norms behind the rotation"]),
)


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    place = tmp_path_factory.mktemp("every")
    return [make_model(place / f"{i}.bin", **{"seed": i, **sizes}) for i, sizes in enumerate(EVERY)]


@pytest.fixture
def unplayed(monkeypatch):
    """Forwards that are recorded and checked, and cannot run: what is refused here is refused before anything runs."""
    monkeypatch.setattr(run, "Code", lambda names, notice: None)
    monkeypatch.setattr(run.Forward, "_ready", lambda self: None)
    return lambda path, kv="f16": run.Forward(run.open_model(path), 100, 2, kv, 2, SILENT)


def kinds_of(kernel):
    return kernel.split("_")[0] if kernel.split("_")[-1] in ("gated", "plain", "add") or "_" not in kernel else kernel


def test_every_extent_of_every_kind_of_record_is_checked(every, unplayed, monkeypatch):
    """Each operand: enough room is enough, one byte less is refused."""
    seen = {}
    for path in every:
        for kv in ("f16", "f32"):
            forward = unplayed(path, kv)
            records = forward.records
            buffers = {b.address: b for b in forward.buffers}
            tensors = {t.data.ctypes.data: t for t in forward.model.tensors.values()}
            for kernel, row in records:
                forward.records = [(kernel, row)]
                for entry in list(forward.extents(kernel, row)):
                    field, address, nbytes, _writes = entry
                    if (kernel, field) in seen:
                        continue
                    monkeypatch.setattr(forward, "extents", lambda *_, entry=entry: [entry])  # others may share its buffer
                    start = max(a for a in (*buffers, *tensors) if a <= address)
                    place = buffers.get(start)
                    holder, was = (place, place.nbytes) if place else (None, tensors[start].nbytes)
                    for less in (0, 1):
                        size = address + nbytes - less - start
                        if holder:
                            holder.nbytes = size
                        else:
                            name = tensors[start].name
                            forward.model.tensors[name] = dataclasses.replace(tensors[start], nbytes=size)
                        if less:
                            with pytest.raises(run.ModelError, match=f"internal: field {field} of {kernel} reaches 1 bytes"):
                                forward.check_extents()
                        else:
                            forward.check_extents()
                    if holder:
                        holder.nbytes = was
                    else:
                        forward.model.tensors[name] = tensors[start]
                    seen[kernel, field] = 1
                    monkeypatch.delattr(forward, "extents")
            forward.records = records
            forward.check_extents()
    missing = {name for name in run.KERNELS if name not in ("play", "post", "serve", "pick", "sweep")} - {k for k, _ in seen}
    assert {name for name in missing if not re.search("_(gated|plain)$", name)} == set() and len(seen) > 140, missing


def test_records_that_lie_are_refused(every, unplayed):
    """Each number that a kernel multiplies by, and each address, as a slip of the pen would have it."""
    fields = [
        "OUT_STEP",
        "X_STEP",
        "ROWS",
        "COLS",
        "Q_STEP",
        "G_STEP",
        "A",
        "C",
        "D",
        "S",
        "OUT",
        "X",
        "W",
        "Q",
        "QS",
        "QC",
        "BIAS",
    ]
    caught = 0
    for path in every:
        forward = unplayed(path)
        records = forward.records
        for kernel, row in records[:60]:
            used = {field for field, *_ in forward.extents(kernel, row)}
            for name in fields:
                field = getattr(run, name)
                address = field in used
                if (
                    not row[field // 8]
                    or not address
                    and name not in ("OUT_STEP", "X_STEP", "ROWS", "COLS", "Q_STEP", "G_STEP")
                ):
                    continue
                lie = list(row)
                lie[field // 8] = row[field // 8] - 64 * 10**9 if address else 10**9 * row[field // 8]
                forward.records = [(kernel, lie)]
                if (kernel.split("_")[0], name) in (("embed", "ROWS"), ("rope", "COLS")):
                    continue  # rows are not counted there; more positions to a factor need fewer
                with pytest.raises(run.ModelError, match="internal"):
                    forward.check_extents()
                caught += 1
    assert caught > 500


def test_a_buffer_too_small_is_found_before_anything_runs(every, unplayed, monkeypatch):
    """Whichever of a model's buffers comes out 64 bytes short."""
    make, found, names = run.Forward.buffer, 0, set()
    for path in every:
        whole = len(unplayed(path).buffers)
        for short in range(whole):

            def buffer(self, nbytes, short=short):
                made = make(self, nbytes)
                if len(self.buffers) == short + 1:
                    made.nbytes = max(0, made.nbytes - 64)
                    names.add(short) if nbytes else None
                return made

            monkeypatch.setattr(run.Forward, "buffer", buffer)
            try:
                unplayed(path)
            except (run.ModelError, ValueError):  # the latter where it is written at once
                found += 1
            monkeypatch.setattr(run.Forward, "buffer", make)
    print(found)
    assert found > 200


def test_checking_is_quick(unplayed, tmp_path):
    """Every record of a model of 100 layers, in some milliseconds."""
    forward = unplayed(make_model(tmp_path / "m.bin", "q8_0", n_layers=100))
    began = time.process_time()
    forward.check_extents()
    assert time.process_time() - began < 0.1


GUARDED = """
import ctypes, dataclasses, mmap, sys
sys.path[:0] = sys.argv[1:2]
import numpy as np
import run

libc, keep, PAGE = ctypes.CDLL(None, use_errno=True), [], 4096


def fenced(nbytes, data=None):
    # bytes that end where a page begins that nobody may touch; nor may the page before them; read-only if there is data
    whole = run.padded(nbytes, PAGE)
    m = mmap.mmap(-1, whole + 2 * PAGE)
    raw = np.frombuffer(m, np.uint8)
    start = PAGE + whole - run.padded(nbytes, 64)
    if data is not None:
        raw[start : start + nbytes] = data
    base = raw.ctypes.data
    fences = ((base, PAGE, 0), (base + PAGE + whole, PAGE, 0), (base + PAGE, whole, 1))
    for first, size, how in fences[: 2 + (data is not None)]:
        assert libc.mprotect(ctypes.c_void_p(first), ctypes.c_size_t(size), how) == 0
    keep.append(m)
    return raw[start : start + nbytes]


class Buffer(run.Buffer):
    def __init__(self, nbytes):
        self.nbytes, self.raw = nbytes, fenced(nbytes + run.SPARE)
        self.address = self.raw.ctypes.data


run.Buffer = Buffer
if sys.argv[2] == "beyond":
    b = Buffer(1000)
    ctypes.memset(b.address, 0, 1000 + run.SPARE)
    print("inside", flush=True)
    ctypes.memset(b.address, 0, 1000 + run.SPARE + 64)
if sys.argv[2] == "writes":
    a = fenced(640, np.zeros(640, np.uint8))
    print("inside", a.sum(), flush=True)
    ctypes.memset(a.ctypes.data, 1, 1)
for path in sys.argv[2:]:
    model = run.open_model(path)
    model.tensors = {k: dataclasses.replace(t, data=fenced(t.nbytes, t.data)) for k, t in model.tensors.items()}
    c, rng = model.config, np.random.default_rng(0)
    for kv, threads in (("f16", 2), ("f32", 1)):
        forward = run.Forward(model, 150, 3, kv, threads, print)
        for n, first, wanted in ((64, 0, 16), (64, 64, 1), (1, 149, 1), (3, 128, 3), (7, 0, 0), (22, 128, 16)):
            ids = [0, c.vocab_size - 1, *rng.integers(0, c.vocab_size, n)][:n]
            slots = [2] * n if n > 3 else list(range(n))
            logits = forward(ids, range(first, first + n), slots, range(n - wanted, n))
            assert np.isfinite(logits).all()
        pick = run.Sampler(run.Sampling(temperature=1.0, top_k=7), c.vocab_size, run.Code(["pick"], print))
        assert 0 <= pick(fenced(4 * c.vocab_size, logits[0].view(np.uint8)).view(np.float32), [], 0.5) < c.vocab_size
        forward.close()
    print(path, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="fences are made with Linux's mprotect")
def test_no_kernel_leaves_its_buffers(every):
    """Each buffer ends, SPARE bytes behind its last, at a page that nobody may touch; each tensor at once, and is only read.
    A whole context of every model of EVERY: one byte too far would end the process. First, that it would."""
    check = lambda *args: subprocess.run([sys.executable, "-c", GUARDED, ROOT, *args], capture_output=True, text=True)
    for harm in ("beyond", "writes"):
        done = check(harm)
        assert done.returncode < 0 and "inside" in done.stdout
    done = check(*every)
    assert done.returncode == 0 and len(done.stdout.splitlines()) >= len(every), (done.stdout, done.stderr[-2000:])


def test_m13_every_matrix_lies_in_blocks(tmp_path):
    """A matrix of plain rows, all sizes fitting, would be read as blocks of 16: beyond its end."""
    c = run.Config("llama", **{**AWKWARD, "flags": 1})
    rows = [(name, dtype, shape, int(blocks and name != "head")) for name, dtype, shape, blocks in export.layout(c, "f32")]
    raw = export.metadata(c, rows, {}, b"")
    with pytest.raises(run.ModelError, match="'head'.*layout 0, 2 dims do not fit f32"):
        run.open_model(holes(tmp_path / "m.bin", raw, struct.unpack_from("<Q", raw, 16)[0]))


def test_marks_in_disorder_take_no_square_of_their_number():
    """A character with 100,000 accents, above and below by turns, in a model that normalises: minutes by unicodedata alone."""
    import unicodedata

    t = run.Tokenizer(byte_bpe(flags=run.NFC))
    rng = np.random.default_rng(0)
    marks = [
        "\u0301",
        "\u0316",
        "\u0344",
        "\u0327",
        "\u0345",
        "\u0f71",
        "\u0f73",
        "\u3099",
        "e",
        "é",
        "\u1100",
        "\u1161",
        "\u212b",
        " ",
    ]
    for _ in range(20):
        text = "".join(rng.choice(marks, 5000, p=[0.1] * 8 + [1 / 30] * 6))
        assert run.composed(text) == unicodedata.normalize("NFC", text)
    began = time.process_time()
    t.encode("a" + "\u0301\u0316" * 50_000)
    assert time.process_time() - began < 6
