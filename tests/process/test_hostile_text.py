"""Hostile text, flags, pipes, locales: rows P, C and E of the table of bad inputs.

Row ids (P1 …) stand in the docstrings, here and in the other files."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import time
import tty
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers.models import damage, make_model
from helpers.places import ROOT
from helpers.process import call, measured, refused, start
from helpers.terminal import Terminal
from helpers.vocabularies import spm
from twofile.front.text import INVISIBLE, tame
from twofile.model import Model

ROWS = "P1 P2 P3 P4 P5 P6 P7 P8 P9 P10 C1 C3 C4 C5 E1 E2 E3 E6 E7 E8 E11 E12".split()


NAMED = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "tests" / "helpers").glob("*.py")]  # where rows are


def test_every_row_has_its_test():
    told = "".join(path.read_text() for path in NAMED).replace(" ".join(ROWS), "")
    assert [row for row in ROWS if not re.search(rf"\b{row}\b", told)] == []


# prompts
def test_an_empty_prompt(tiny, talker, tmp_path):
    """P1: the begin token alone, where there is one; else an error. An empty message is none."""
    refused(call(tiny, "-p", ""), "the prompt is empty", "give -p TEXT")
    refused(call(tiny, stdin=b""), "standard input is empty, expected a prompt", code=2)
    begins = make_model(tmp_path / "m.bin", "f32", vocab_size=268, tokenizer=spm(), embed=True)
    assert call(begins, "-p", "", "-n", "3").returncode == 0
    refused(call(talker, "-p", ""), "the prompt is empty, expected a message; give text", code=2)


def test_a_prompt_beyond_the_context(tiny, talker):
    """P2: both numbers, never cut; also a system message, a line of a batch, a message of a conversation."""
    refused(call(tiny, "-p", "x" * 300), "300 tokens, expected 1 to 200")
    refused(call(talker, "-p", "x", "-sys", "y" * 300), "tokens, expected 1 to 200")
    row = json.loads(call(tiny, "--batch", "-", stdin=b'"' + b"x" * 5000 + b'"').stdout)
    assert "5,000 characters, 834 tokens or more, expected 1 to 200" in row["error"]


def test_a_hundred_megabytes(tiny, tmp_path):
    """P3: refused by their length, before any of it becomes tokens; more than 128 MiB, and an endless pipe, before that."""
    path = tmp_path / "p"
    path.write_bytes(b"the fox and the hen\n" * 5_000_000)
    done, seconds, megabytes = measured(tiny, "-f", path)
    refused(done, "99,999,999 characters, 16,666,667 tokens or more, expected 1 to 200")
    assert seconds < 20 and megabytes < 600
    os.truncate(path, 1 << 40)  # a hole
    done, seconds, megabytes = measured(tiny, "-f", path)
    refused(done, "more than 134,217,728 bytes")
    with open("/dev/zero") as zeros:
        refused(measured(tiny, stdin=zeros)[0], "standard input: more than 134,217,728 bytes")
    with open("/dev/zero") as zeros:
        p = start(tiny, "--batch", "-", stdin=zeros)
        time.sleep(2)
        assert int(Path(f"/proc/{p.pid}/statm").read_text().split()[1]) * 4096 < 400 << 20
        p.kill()
        p.communicate()


def test_bytes_that_are_no_text(tiny, talker):
    """P4: from a pipe, in arguments, in a system prompt, in JSON: replaced, and it says so; NUL stays. (Also test_cli.)"""
    raw = b"a\xff\x00\xc3(b\xed\xa0\x80"
    want = "a\ufffd\x00\ufffd(b\ufffd\ufffd\ufffd".encode()
    done = call(tiny, "-n", "0", "--echo", stdin=raw)
    assert done.stdout == want + b"\n" and done.stderr.count(b"is not UTF-8") == 1
    done = call(tiny, "-n", "0", "--echo", "-p", os.fsdecode(raw.replace(b"\0", b"")))
    assert done.stdout == want.replace(b"\0", b"") + b"\n" and done.stderr.count(b"is not UTF-8") == 1
    assert b"the system prompt is not UTF-8" in call(talker, "-p", "x", "-n", "1", "-sys", "\udcff").stderr
    asked = [{"prompt": "\ud800x\udfff", "stop": "\udc80"}, {"prompt": "\x00", "id": "\u0000\ud800\x7f\u202e"}]
    done = call(tiny, "--batch", "-", "-n", "3", stdin="\n".join(map(json.dumps, asked)).encode() + b"\n\xff\xfe{\n")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (
        [r["id"] for r in rows] == [1, "\0\ud800\x7f\u202e", 3]
        and "error" in rows[2]
        and not re.search(b"[\x00\x7f]", done.stdout)
    )


def test_a_conversation_of_bytes_that_are_no_text(talker):
    """P4, P5: what is typed is as what is piped."""

    os.environ["LC_ALL"] = "C.UTF-8"
    try:
        t = Terminal(talker, "-n", "3")
    finally:
        del os.environ["LC_ALL"]
    t.until(r"> $")
    for typed, says in ((b"a\xff\xfeb", "the message is not UTF-8"), (b"x\xe2\x80\xae", "1 invisible characters"), (b"z", "")):
        os.write(t.fd, typed + b"\n")
        assert says in t.until(r"\n> $")
    os.write(t.fd, b"/exit\n")
    assert t.leave() == 0


BIDI = "\ufeffa\r\nb\u2028\u202ec\u2066\u200b\U000e0041\U000e007f❤\ufe0f\ufe01\u200d🔥"


def test_what_cannot_be_seen_is_counted_and_can_be_taken_out(tiny, talker):
    """P5: passed on unchanged, and counted; --clean takes it out. -q says nothing; in batches and conversations too."""
    done = call(tiny, "-n", "0", "--echo", "-p", BIDI)
    assert done.stdout == BIDI.encode() + b"\n"
    assert (
        b"8 invisible characters in the prompt (2 direction, 3 tag, 3 zero-width): the model reads them; --clean" in done.stderr
    )
    assert call(tiny, "-n", "0", "--echo", "-q", "-p", BIDI).stderr == b""
    done = call(tiny, "-n", "0", "--echo", "--clean", stdin=BIDI.encode())
    assert done.stdout == "a\r\nb\u2028c❤\ufe0f🔥\n".encode() and b"zero-width): taken out\n" in done.stderr
    ask = [{"prompt": BIDI, "id": 0}, {"messages": [{"role": "user", "content": BIDI}], "id": 1}]
    lines = "\n".join(map(json.dumps, ask)).encode()
    usage = lambda *more: [
        json.loads(x)["usage"]["prompt_tokens"] for x in call(*batch, *more, stdin=lines).stdout.splitlines()
    ]
    batch = (talker, "--batch", "-", "-n", "1")
    m = Model(talker, verbose=False)
    for clean in ([], ["--clean"]):
        text = INVISIBLE.sub("", BIDI) if clean else BIDI
        n = len(m.encode_chat([{"role": "user", "content": text}]))
        assert usage(*clean) == [n, n]
    assert call(*batch, stdin=lines).stderr.count(b"16 invisible characters") == 1
    done = call(talker, "-p", "x", "-n", "0", "-sys", "a\u200b", "--clean")
    assert b"1 invisible characters in the prompt (1 zero-width): taken out" in done.stderr


def on_terminal(*args, send=b"", **env):
    """What run.py shows on a terminal as stdout -> (bytes, exit code)."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    p = start(*args, stdout=theirs, stdin=subprocess.PIPE, env={**os.environ, **env})
    os.close(theirs)
    p.stdin.write(send)
    p.stdin.close()
    shown = b""
    with contextlib.suppress(OSError):  # the other side closes at the end
        while block := os.read(ours, 4096):
            shown += block
    os.close(ours)
    assert b"Traceback" not in p.stderr.read()
    return shown, p.wait(30)


OBEYED = "a\x1b]0;title\x07b\x1b[2J\x1bP+q\x1b\\\x9b31m\x00\x7f\x85\r\u202eevil\u2066\u200f\u2028\U000e0041\t\u3000é\n"


def test_a_terminal_is_not_driven(tiny, talker):
    """P10: C0 but line end and tab, DEL, C1, OSC, controls of direction, tags: as escapes on a terminal, as they are in a pipe.
    Of a model's own nonsense, of --echo, JSON, choices, best-of; test_repl has the conversation."""
    wild = ("-n", "150", "-s", "3", "--temp", "50", "--top-k", "0", "--top-p", "1", "--min-p", "0", "--ignore-eos", "-q")
    raw = call(tiny, "-p", "a", *wild).stdout
    assert re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", raw)
    shown, code = on_terminal(tiny, "-p", "a", *wild)
    assert code == 0 and shown.decode() == tame(raw.decode())
    echoed, _ = on_terminal(tiny, "-n", "0", "--echo", "-q", "--raw", send=OBEYED.encode())
    want = r"a\x1b]0;title\x07b\x1b[2J\x1bP+q\x1b\\x9b31m\x00\x7f\x85\r\u202eevil\u2066\u200f\u2028\U000e0041" + "\t\u3000é\n"
    assert echoed.decode() == want
    chosen, _ = on_terminal(tiny, "-p", "x", "--choices", "\x1b[31mred", "-q")
    assert chosen == b"\\x1b[31mred\n"
    for args in (["--json", "--echo"], ["--jsonl"], ["--best-of", "2"], ["--best-of", "2", "--json"]):
        shown, code = on_terminal(tiny, *wild, *args, send=OBEYED.encode()[:60])
        assert code == 0 and not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown.decode()), args
    shown, code = on_terminal(talker, "-p", OBEYED.replace("\0", ""), "--tokenize")
    assert code == 0 and not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown.decode())


# the command line
@pytest.mark.parametrize(
    "args, says",
    [
        (["--wat"], "--wat is no flag, expected one of --help"),
        (["--wat\x1b]0;x\x07\n"], r"--wat\x1b]0;x\x07\n is no flag"),
        (["--temp"], "--temp has no value, expected X behind it; give one"),
        (["--temp", "inf"], "temperature is inf, expected 0 to 100"),
        (["--temp", "1e9999"], "temperature is inf"),
        (["--min-p", "nan"], "min_p is nan"),
        (["--top-k", "1.5"], "--top-k is '1.5', expected a whole number; change it"),
        (["-n", "9" * 5000], "…, expected a whole number"),
        (["-s", "x"], "-s is 'x', expected a whole number"),
        (["-t", "9" * 5000], "expected a number of threads"),
        (["-t", "-1"], "expected a number of threads"),
        (["--repeat-last-n", "-2"], "repeat_last_n is -2"),
        (["--shard", "0/" + "9" * 5000, "--batch", "f"], "expected I/N"),
        (["--kv", "f8"], "--kv is 'f8', expected one of f16, f32, q8_0; change it"),
        (["--id", "xyz"], "--id is 'xyz', expected 16 to 64 hex digits"),
        (["--id", "abcdef0123456"], "expected 16 to 64 hex digits"),
    ],
)
def test_wrong_flags(tiny, args, says):
    """C1: exit code 2 and the range; more of them in test_cli and test_filter."""
    refused(call(tiny, "-p", "x", *args), says, code=2)


def test_a_huge_limit_is_no_limit(tiny):
    """C1: -n 10^12 ends with the context; -n 0 prints nothing (test_cli)."""
    done = call(tiny, "-p", "x", "-n", 10**12, "--ignore-eos")
    assert done.returncode == 0 and b"stop: context" in done.stderr


def test_threads(tiny):
    """C3: 0 and 10^6 are refused; more than there are cores are slow and right."""
    for n in ("0", "1000000"):
        refused(call(tiny, "-p", "x", "-t", n), "threads, expected 1 to 1024")
    want = call(tiny, "-p", "x", "-n", "8", "-s", "1", "-q", "-t", "1").stdout
    assert call(tiny, "-p", "x", "-n", "8", "-s", "1", "-q", "-t", "9").stdout == want


def test_any_seed(tiny):
    """C4: any whole number, the same modulo 2^64."""
    same = lambda seed: call(tiny, "-p", "x", "-n", "20", "-s", seed, "-q", "--temp", "3").stdout
    assert same(-3) == same(2**64 - 3) == same(10**30 // 2**64 * 2**64 + 2**64 - 3) != same(3)


def test_names_with_escapes(tiny, tmp_path):
    """C5: a path is shown, never obeyed."""
    bad = str(tmp_path / "no\n\x1b[31m\x9b\u202e.bin")
    for args in ([bad, "-p", "x"], [tiny, "-f", bad], [tiny, "-p", "x", "-z", bad], [tiny, "-p", "x", "-sysf", bad]):
        refused(call(*args), r"no\n\x1b[31m\x9b\u202e.bin: not found")
    refused(call(tiny, "-p", "the fox and", "-n", "0", "--prompt-cache", bad + "/x"), r"no\n\x1b[31m\x9b\u202e.bin")
    Path(bad).write_bytes(Path(tiny).read_bytes())
    done = call(bad, "--verify")
    assert done.returncode == 0 and b"\x1b" not in done.stdout and done.stdout.count(b"\n") == 1
    command = [sys.executable, ROOT / "export.py", bad, "--wat\x1b[31m", "-o", tmp_path / "m.bin"]
    for args in (command, [*command[:3], *command[4:]]):
        assert b"\x1b" not in subprocess.run(args, capture_output=True).stderr
    damage(bad, "l1.down")
    refused(call(bad, "--verify"), "checksum of l1.down")


# requests of strangers
def test_limits_of_a_request(tiny, tmp_path):
    """P3 in a batch: what would fill the memory or never end is an answer with an error, and the next line is answered."""
    lines = [
        json.dumps({"prompt": "x", "logprobs": 10**6}),
        json.dumps({"prompt": "x", "stop": ["a"] * 1000}),
        json.dumps({"prompt": "x", "seed": 1})[:-1] + "0" * 5000 + "}",
        "[" * 100_000,
        '"' + "x" * (17 << 20) + '"',
        '"x"' + " " * (17 << 20),
        json.dumps({"messages": [{"role": "tool" * 9999, "content": "x"}] * 999}),
        json.dumps({"x" * 10**6: 1}),
        json.dumps({"prompt": "x", "temperature": float("nan")}),
        json.dumps({"prompt": "x", "stop": "ab" * 10**6}),
        json.dumps({"prompt": [10**30]}),
        '"x"',
    ]
    (tmp_path / "in").write_text("\n".join(lines))
    done, seconds, megabytes = measured(tiny, "--batch", tmp_path / "in", "-n", "5")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1 and [r["id"] for r in rows] == list(range(1, 13)) and seconds < 20 and megabytes < 700
    assert ["error" in r for r in rows] == [True] * 9 + [False, True, False]
    assert all(len(r["error"]) < 2000 for r in rows if "error" in r and r["id"] != 7)
    assert (
        "1000 stop strings" in rows[1]["error"] and "expected at most 16,777,216 bytes" in rows[4]["error"] and rows[5]["error"]
    )


def test_a_batch_whose_input_cannot_be_read(tiny):
    """E11: a closed stdin is an empty one; what the shell closed is no file of ours under another name."""
    command = [sys.executable, str(ROOT / "run.py"), str(tiny), "--batch", "-", "-q"]
    done = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *command], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_stdin_of_every_sort(tiny):
    """E11: a terminal is usage, a closed one is empty, a program is bytes that are no text."""
    ours, theirs = pty.openpty()
    done = subprocess.run([sys.executable, ROOT / "run.py", tiny], stdin=theirs, capture_output=True)
    refused(done, "no prompt; give -p TEXT", code=2)
    os.close(ours)
    os.close(theirs)
    command = [sys.executable, str(ROOT / "run.py"), str(tiny)]
    done = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *command], capture_output=True, timeout=60)
    refused(done, "standard input is empty", code=2)
    done = call(tiny, "-n", "2", stdin=Path(sys.executable).read_bytes()[:150])
    assert done.returncode == 0 and b"is not UTF-8" in done.stderr


# pipes, locales, clocks
def test_readers_that_leave_early(tiny, tmp_path):
    """E6: silent, 141 or 0, in every mode that prints; test_cli has plain text."""
    (tmp_path / "in").write_text('"the fox"\n' * 3000)
    for args in (f"--batch {tmp_path}/in -n 1", "--tokenize -f -", "--info", "--help", "-p x -n 150 --jsonl --ignore-eos"):
        feed = "yes the fox | head -n 20000 |" if "-f -" in args else ""
        shell = f"{feed} '{sys.executable}' '{ROOT}/run.py' '{tiny}' {args} -q | head -c 9 > /dev/null; echo ${{PIPESTATUS[@]}}"
        done = subprocess.run(["bash", "-c", shell], capture_output=True, timeout=60)
        assert done.stdout.split()[-2] in (b"141", b"0") and done.stderr == b"", (args, done.stdout, done.stderr)


def test_any_locale(tiny):
    """E7: bytes are written as UTF-8 whatever the locale says."""
    for env in (
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "xx_YY"},
    ):
        for args in (["--tokenize", "-p", "né🙂"], ["-p", "x", "--choices", "é", "-q"], ["--info"], ["-f", "/no/é"]):
            done = call(tiny, *args, **env)
            assert done.returncode == ("-f" in args) and b"Error" not in done.stderr
        assert "é".encode() in call(tiny, "--choices", "é", "-p", "é", "-q", **env).stdout


def test_no_clock_that_can_jump():
    """E12: times are differences of perf_counter; time.time() dates an answer, and nothing else."""
    lines = [line for line in (ROOT / "run.py").read_text().splitlines() if "time.time()" in line]
    assert len(lines) == 1 and '"created"' in lines[0]


def test_many_processes_on_one_file(tiny):
    """As many as PROCESSES says (12; the figures in SECURITY.md are of 200): each right, each small."""
    count = int(os.environ.get("PROCESSES", 12))
    args = ("-p", "the", "-n", "1", "-s", "1", "-q", "-t", "1")
    want, began = call(tiny, *args).stdout, time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        found = list(pool.map(lambda _: measured(tiny, *args), range(count)))
    assert [(d.returncode, d.stdout, d.stderr) for d, _, _ in found] == [(0, want, b"")] * count
    most = max(megabytes for _, _, megabytes in found)
    print(f"{count} processes in {time.perf_counter() - began:.1f} s, the largest {most:.0f} MiB resident")
    assert most < 150
