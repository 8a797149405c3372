"""Many texts at once: in order, whatever a line holds, and after a kill."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from helpers.models import PROMPTS
from helpers.places import ROOT
from helpers.process import call, start
from twofile.guess import line_seed
from twofile.model import Model


def lines(*values):
    return b"".join(v if isinstance(v, bytes) else json.dumps(v).encode() + b"\n" for v in values)


def test_every_line_has_its_answer_in_order(tiny):
    asked = lines(
        "the fox",
        b"\n",
        {"prompt": "a", "id": "second", "max_tokens": 3, "temperature": 0},
        b"this is no JSON \x1b[31m\n",
        {"prompt": "a", "messages": []},
        {"prompt": "x" * 300, "id": 5},
        {"prompt": "the", "frobnicate": 1},
        {"prompt": 7},
        {"prompt": ["a"]},
        {"prompt": [5, 6, 99999]},
        {"prompt": "the", "temperature": -1},
        {"prompt": "the", "max_tokens": "many"},
        {"prompt": "the", "seed": True},
        [1, 2],
        {"custom_id": "r1", "url": "/v1/completions", "body": {"model": "m", "prompt": "the", "max_tokens": 2}},
        {"custom_id": "r2", "method": "POST", "url": "/v1/completions", "body": 3},
        {"prompt": [5, 6, 7], "seed": 11, "stop": "e", "logprobs": 1, "id": "\ud800"},
    )
    done = call(tiny, "--batch", "-", "-n", "8", "-s", "3", "-np", "3", "--ignore-eos", stdin=asked)
    got = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1 and len(got) == 16 and b"16 lines (12 failed)" in done.stderr
    ids = [g.get("id", g.get("custom_id")) for g in got]
    assert ids == [1, "second", 4, 5, 5, *range(7, 15), "r1", "r2", "\ud800"]
    failed = [i for i, g in enumerate(got) if g.get("error")]
    assert failed == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14]
    for i, says in ((2, "line 4: 'this is no JSON \\x1b[31m'"), (4, "300 tokens"), (5, "frobnicate"), (9, "temperature is -1")):
        assert says in got[i]["error"]
    assert b"\x1b" not in done.stdout and got[14]["response"] is None and "object" in got[14]["error"]["message"]
    m = Model(tiny, verbose=False)
    for row, prompt, how in (
        (got[0], "the fox", dict(max_tokens=8)),
        (got[1], "a", dict(max_tokens=3, temperature=0)),
        (got[13]["response"]["body"], "the", dict(max_tokens=2)),
        (got[15], [5, 6, 7], dict(max_tokens=8, stop="e", logprobs=1)),
    ):
        whole = m(prompt, seed=row["seed"], ignore_eos=True, **how)
        text = row["text"] if "text" in row else row["choices"][0]["text"]
        assert text == whole["choices"][0]["text"] and row["usage"] == whole["usage"]
    assert got[0]["seed"] == line_seed(3, 1) and got[15]["seed"] == 11
    assert got[15]["logprobs"]["token_logprobs"] == whole["choices"][0]["logprobs"]["token_logprobs"]


def test_a_line_alone_gives_the_same_text(tiny, tmp_path):
    """The seed that an answer reports reproduces it on the command line; order, number at once and threads do not matter."""
    (tmp_path / "in").write_bytes(lines(*[p for p in PROMPTS if p]))
    one, *others = (
        call(tiny, "--batch", tmp_path / "in", "-n", "12", "-s", "5", *more).stdout
        for more in (["-np", "1"], ["-np", "5"], ["-np", "16", "-t", "1"])
    )
    assert others == [one, one]
    for prompt, row in list(zip([p for p in PROMPTS if p], map(json.loads, one.splitlines())))[:3]:
        assert call(tiny, "-p", prompt, "-n", "12", "-s", row["seed"], "-q").stdout.decode() == row["text"]


def test_messages(talker):
    ask = [{"role": "user", "content": "the fox"}]
    body = {"custom_id": "x", "body": {"messages": ask, "max_tokens": 9, "seed": 2}}
    asked = lines({"messages": ask, "max_tokens": 9, "seed": 2}, {"messages": []}, body, "the fox")
    done = call(talker, "--batch", "-", stdin=asked)
    got = [json.loads(line) for line in done.stdout.splitlines()]
    m = Model(talker, verbose=False)
    want = m.generate(m.encode_chat(ask), 9, seed=2)
    assert got[0]["text"] == want == got[2]["response"]["body"]["choices"][0]["text"] and "roles none" in got[1]["error"]
    assert got[3]["text"] == m.generate(m.encode_chat(ask), seed=got[3]["seed"])


def test_shards_are_a_partition(tiny, tmp_path):
    (tmp_path / "in").write_bytes(lines(*("the fox " + str(i) for i in range(10))))
    run_it = lambda *args, **env: call(tiny, "--batch", tmp_path / "in", "-n", "4", "-s", "1", *args, **env).stdout.splitlines()
    whole, parts = run_it(), [run_it("--shard", f"{i}/3") for i in range(3)]
    assert [len(p) for p in parts] == [4, 3, 3]
    assert whole == [parts[n % 3][n // 3] for n in range(10)]
    slurm = dict(SLURM_ARRAY_TASK_ID="5", SLURM_ARRAY_TASK_COUNT="3", SLURM_ARRAY_TASK_MIN="4")
    assert run_it(**slurm) == parts[1] and run_it("--shard", "0/1", **slurm) == whole


def test_output_and_resume(tiny, tmp_path):
    """The final name appears when the work is done; what a kill has left is gone on with, to the same bytes."""
    source, out = tmp_path / "in", tmp_path / "out.jsonl"
    source.write_bytes(lines(*("the fox " + str(i) for i in range(40))))
    args = (tiny, "--batch", source, "-n", "30", "-s", "1", "--ignore-eos")
    want = call(*args).stdout
    done = call(*args, "-o", out)
    assert done.returncode == 0 and done.stdout == b"" and out.read_bytes() == want
    done = call(*args, "-o", out)
    assert done.returncode == 1 and b"exists" in done.stderr and out.read_bytes() == want
    assert b"nothing to do" in call(*args, "-o", out, "--resume").stderr
    out.unlink()
    part = tmp_path / "out.jsonl.part"
    for kept in (0, 100, want.index(b"\n") + 1, len(want) - 1):
        part.write_bytes(want[:kept])
        assert call(*args, "-o", out).returncode == 1  # it asks for --resume
        assert call(*args, "-o", out, "--resume").returncode == 0 and out.read_bytes() == want and not part.exists()
        out.unlink()


def test_killed_and_resumed(tiny, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.write_bytes(lines(*("the fox " + str(i) for i in range(300))))
    args = (tiny, "--batch", source, "-n", "60", "-s", "1", "--ignore-eos", "-o", out, "-q")
    p = start(*args)
    while not (tmp_path / "out.part").exists() or (tmp_path / "out.part").stat().st_size < 2000:
        time.sleep(0.01)
        assert p.poll() is None
    p.send_signal(signal.SIGSTOP)
    assert call(*args, "--resume").returncode == 1  # the other one is at it
    p.send_signal(signal.SIGKILL)
    p.communicate()
    assert call(*args, "--resume").returncode == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["id"] for r in rows] == list(range(1, 301)) and {r["usage"]["completion_tokens"] for r in rows} == {60}


def test_a_conversation_over_a_pipe(tiny):
    """One line in, its answer out, before the next line is there."""
    p = start(tiny, "--batch", "-", "-n", "5", "-q", stdin=subprocess.PIPE)
    for i in range(3):
        p.stdin.write(lines({"prompt": "the", "id": i}))
        p.stdin.flush()
        assert json.loads(p.stdout.readline())["id"] == i
    p.stdin.close()
    assert p.wait(30) == 0 and p.stderr.read() == b""


@pytest.mark.parametrize("sig, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(tiny, sig, code):
    p = start(tiny, "--batch", "-", "-n", "5", "-q", stdin=subprocess.PIPE)
    p.stdin.write(lines("the"))
    p.stdin.flush()
    assert p.stdout.readline()
    p.send_signal(sig)
    _, err = p.communicate(timeout=30)
    assert p.returncode == code and err == b""


def test_no_such_file_and_no_folder(tiny, tmp_path):
    done = call(tiny, "--batch", tmp_path / "none")
    assert done.returncode == 1 and b"not found" in done.stderr
    done = call(tiny, "--batch", "-", "-o", tmp_path / "no" / "folder", stdin=lines("a"))
    assert done.returncode == 1 and b"cannot be written" in done.stderr
    assert call(tiny, "--batch", "-", stdin=b"").returncode == 0
    done = call(tiny, "--batch", "-", "-np", "17", stdin=lines("a"))
    assert done.returncode == 2 and b"expected 1 to 16" in done.stderr


def test_a_full_disk(tiny):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "wb") as full:
        command = [sys.executable, ROOT / "run.py", tiny, "--batch", "-", "-q"]
        done = subprocess.run(command, input=lines("the"), stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and b"cannot be written" in done.stderr and b"Traceback" not in done.stderr


def test_progress_on_a_terminal(tiny, tmp_path):
    """Lines written, of how many, and the time left; in a pipe nothing but the last line."""
    (tmp_path / "in.jsonl").write_bytes(lines(*["the fox"] * 200))
    options = ["--batch", tmp_path / "in.jsonl", "-n", "190", "--ignore-eos", "-t", "1", "-np", "4", "-s", "1"]
    ours, theirs = pty.openpty()
    with start(tiny, *options, stderr=theirs, stdout=subprocess.DEVNULL) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # the other side closes at the end
            while block := os.read(ours, 4096):
                seen += block
        assert process.wait() == 0
    os.close(ours)
    assert re.search(rb"\r\d+ lines of 200, \d+ s left", seen) and re.search(rb"\r200 lines \(0 failed\)", seen)
    assert call(tiny, *options).stderr.count(b"\n") == 1
