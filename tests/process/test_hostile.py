"""Hostile files and poor surroundings: rows M, T, X and some of C and E of the list of harms, and what a refusal may cost."""

import json
import re
import struct
import subprocess
import sys

import pytest

from helpers.hostile import HUB, folder, gguf_head, holes, json_tokenizer, posix, text, torch_zip, written
from helpers.models import AWKWARD, make_model, mend
from helpers.places import ROOT
from helpers.vocabularies import byte_bpe
from twofile.export.write import layout, metadata
from twofile.format.config import Config
from twofile.format.table import ENDIAN, HEADER, MAGIC, PAGE, RECORD, RECORD_FIELDS
from twofile.format.types import Q8_0
from twofile.modelfile import open_model
from twofile.tokenizer.file import EXPLICIT, TOKENIZER_MAGIC

ROWS = [f"M{i}" for i in range(1, 26)] + [f"T{i}" for i in range(1, 11)] + [f"X{i}" for i in range(1, 15)]
ROWS += ["C2", "E4", "E5", "E9", "E10", "E13"]


NAMED = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "tests" / "helpers").glob("*.py")]  # where rows are


def test_every_row_is_named_by_a_test():
    text = "\n".join(path.read_text() for path in NAMED)
    text = text.replace("ROWS", "")
    assert [row for row in ROWS if not re.search(rf"[\"' (]{row}\b[^\"]|test_{row.lower()}_", text)] == []


def sparse_model(path, change=None, **sizes):
    """A model.bin whose data is a hole, of any size; change(raw): of its description."""
    c = Config("llama", **{**AWKWARD, "flags": 1, **sizes})
    rows = layout(c, Q8_0)
    raw = bytearray(metadata(c, rows, {}, b""))
    raw = mend(change(raw)) if change else raw
    return holes(path, raw, struct.unpack_from("<Q", raw, 16)[0])


def many_records(raw):
    """65536 records, each good by itself, of which the config calls for none."""
    at = PAGE + 65536 * RECORD
    table, off = bytearray(), at
    for i in range(65536):
        fields = (b"x%d" % i, 1, 1, 1, 0, 0, 0, off, 4, 0, 0, bytes(32))
        table += RECORD_FIELDS.pack(*fields).ljust(RECORD, b"\0")
        off += 64
    head = HEADER.pack(MAGIC, 1, ENDIAN, off, 65536, RECORD, PAGE, at, at, 0, bytes(32))
    return bytearray(head + raw[0x60:PAGE] + table)


DOUBLED = b")" + b"q\x00h\x00\x86" * 60  # a tuple of twice a tuple of twice …
GGUF_ARRAY = gguf_head(text(b"general.name") + struct.pack("<IIQ", 9, 0, 1 << 40))
NEO = {
    **HUB,
    "architectures": ["GPTNeoForCausalLM"],
    "attention_types": [[[], 10**18], [["local"] * 99, 10**18]],
    "vocab_size": 9,
}


def huge_folder(path, name, **files):
    return holes(folder(path, **files) / name, struct.pack("<Q", 1 << 39), 1 << 40).parent


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
    "T1 a tokenizer of a terabyte": ("tokenizer", lambda p: holes(p, TOKENIZER_MAGIC, 1 << 40), "at most 67,108,864"),
    "T3 a million classes": ("tokenizer", lambda p: written(p, byte_bpe(classes=[(0, 0x10FFFF, 1)] * 90000)), "overlap"),
    "T3 stops": ("tokenizer", lambda p: written(p, byte_bpe(stops=[1] * 100000)), "section stops"),
    "T6 merges": (
        "tokenizer",
        lambda p: written(p, byte_bpe(flags=EXPLICIT, merges=[(1, 1)] * (1 << 21))),
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
    t = open_model(path).tensors["window"]
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
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
from twofile import ModelError, Tokenizer, open_model
from twofile.export.convert import export
from twofile.export.main import parser
from twofile.export.tokenizers.any import lone_tokenizer
from helpers.rooms import replace
flags = ["-o", sys.argv[2] + ".out", "--tokenizer", "none", "--allow-pickle"]
ways = {
    "run": open_model, "tokenizer": Tokenizer, "export": lambda p: export(parser().parse_args([p, *flags])),
    "tokenizer.model": lambda p: lone_tokenizer(Path(p)),
}
replace("say", lambda text: None)
for way, path in json.load(sys.stdin):
    r, w = os.pipe()
    if not os.fork():
        before, began, said = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), "accepted"
        try:
            ways[way](path)
        except ModelError as e:
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
