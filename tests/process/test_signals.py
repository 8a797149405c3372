"""Signals at every moment: the right code, no traceback, no hang. Row E8 of the table of bad inputs."""

import contextlib
import hashlib
import json
import os
import pty
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.models import make_model
from helpers.places import ROOT
from helpers.process import FREED, SIGNALS, start
from helpers.vocabularies import byte_bpe
from twofile.model import Model


# signals
def mapped(p, path, seconds=30):
    """Wait until a process has mapped a file."""
    end = time.monotonic() + seconds
    there = lambda: b"run.py\0" in Path(f"/proc/{p.pid}/cmdline").read_bytes()  # before, it is a copy of this process
    while not there() or str(path) not in Path(f"/proc/{p.pid}/maps").read_text():
        assert p.poll() is None and time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.parametrize("sig, code", SIGNALS)
def test_a_signal_that_comes_while_something_is_freed(tiny, sig, code):
    """E8: Python swallows what a signal raises there; it comes again."""
    command = [sys.executable, "-c", FREED, str(ROOT / "run.py"), str(tiny), "--batch", "-", "-q"]
    env, pipe = {**os.environ, "SENT": str(int(sig))}, subprocess.PIPE
    p = subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=pipe)
    mapped(p, tiny)
    time.sleep(0.5)  # it waits for a line
    p.send_signal(signal.SIGUSR1)
    p.wait(30)
    _, err = p.communicate()
    assert p.returncode == code and err == b""


@pytest.mark.parametrize("sig, code", SIGNALS)
def test_signals_at_any_moment(tiny, sig, code):
    """E8: 8 moments between the opening of the file and the end, two threads: the right code, no traceback, no hang."""
    Model(tiny, verbose=False).generate("x", 1)
    rng, done = random.Random(sig), []
    for _ in range(8):
        p = start(tiny, "-p", "the", "-n", "190", "--ignore-eos", "-q", "-t", "2")
        mapped(p, tiny)
        time.sleep(0.25 * rng.random())
        p.send_signal(sig)
        began = time.perf_counter()
        _, err = p.communicate(timeout=30)
        assert p.returncode in (code, 0) and err == b"" and time.perf_counter() - began < 10, (p.returncode, err)
        done.append(p.returncode)
    assert code in done


@pytest.mark.parametrize("sig, code", SIGNALS)
def test_signals_in_a_long_prompt(tmp_path, sig, code):
    """E8: within a pass of 64 tokens; and with -o nothing but whole lines is left."""
    path = make_model(tmp_path / "m.bin", "q8_0", vocab_size=263, tokenizer=byte_bpe(), embed=True, max_ctx=1 << 17)
    (tmp_path / "p").write_text("the fox and " * 9000)
    Model(path, verbose=False).generate("x", 1)
    p = start(path, "-f", tmp_path / "p", "-n", "1", "-q")
    mapped(p, path)
    time.sleep(0.7)
    p.send_signal(sig)
    began = time.perf_counter()
    out, err = p.communicate(timeout=30)
    assert (p.returncode, out, err) == (code, b"", b"") and time.perf_counter() - began < 5


@pytest.mark.parametrize("sig, code", SIGNALS)
def test_signals_while_kernels_are_compiled(tiny, sig, code, tmp_path):
    """E8: within one kernel, about a second; the kernels kept so far are whole."""
    p = start(tiny, "-p", "x", env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)})
    assert b"compiling" in p.stderr.readline()
    time.sleep(1.5)
    p.send_signal(sig)
    began = time.perf_counter()
    _, err = p.communicate(timeout=60)
    assert p.returncode == code and err == b"" and time.perf_counter() - began < 20, err
    for path in (p for p in tmp_path.rglob("*") if p.is_file() and p.suffix == ""):
        raw = path.read_bytes()
        assert hashlib.sha256(raw[32:]).digest() == raw[:32]


@pytest.mark.parametrize("sig, code", SIGNALS)
def test_signals_in_a_batch_and_on_a_terminal(tiny, sig, code, tmp_path):
    """E8: whole lines in FILE.part; on a terminal the line is ended. (A conversation: test_repl, tests/soak.py.)"""
    (tmp_path / "in").write_text('"the fox"\n' * 5000)
    p = start(tiny, "--batch", tmp_path / "in", "-o", tmp_path / "out", "-q", "-n", "30")
    part = tmp_path / "out.part"
    while not part.exists() or part.stat().st_size < 3000:
        time.sleep(0.01)
        assert p.poll() is None
    p.send_signal(sig)
    _, err = p.communicate(timeout=30)
    assert p.returncode == code and err == b"" and not (tmp_path / "out").exists()
    assert part.read_bytes().endswith(b"}\n") and all(map(json.loads, part.read_text().splitlines()))
    ours, theirs = pty.openpty()
    p = start(tiny, "-p", "the", "-n", "190", "--ignore-eos", "-q", "--temp", "0", stdout=theirs)
    os.close(theirs)
    shown = os.read(ours, 10)
    p.send_signal(sig)
    with contextlib.suppress(OSError):
        while block := os.read(ours, 4096):
            shown += block
    os.close(ours)
    assert p.wait(30) in (code, 0) and (shown.endswith(b"\n") or sig == signal.SIGTERM) and p.stderr.read() == b""
