"""export.py as a process: killed, out of room, small in memory, two at once."""

import hashlib
import os
import resource
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

from helpers.checkpoints import convert, llama2c_file, weights
from helpers.hostile import posix
from helpers.places import ROOT
from helpers.process import FREED, SIGNALS
from twofile.export.main import main
from twofile.model import Model
from twofile.modelfile import open_model, verify


def test_x11_killed_exports_leave_nothing_half_written(tmp_path):
    """The old file stays; the next export sweeps up after the dead."""
    source, out = llama2c_file(tmp_path / "a.bin", weights()), tmp_path / "m.bin"
    assert convert(source, out) == 0
    before = out.read_bytes()
    for delay in (0.3, 0.6, 0.9):
        p = subprocess.Popen(
            [sys.executable, ROOT / "export.py", "--random", "15M", "-o", out, "--overwrite"], stderr=subprocess.DEVNULL
        )
        time.sleep(delay)
        p.send_signal(signal.SIGKILL)
        p.wait()
        verify(open_model(out))
        if out.read_bytes() != before:
            break  # it was quick enough to finish: then the new file is whole
    assert convert(source, out) == 0 and not list(tmp_path.glob("m.bin.tmp*"))


def test_memory_stays_small_whatever_the_size(tmp_path):
    """110M weights, made up as float32 rows, or read from a file of 438 MB (of zeros): the export stays under 300 MB."""
    dim, ffn, layers, vocab = 768, 2048, 12, 32000
    with open(tmp_path / "zeros.bin", "wb") as f:
        f.write(struct.pack("<7i", dim, ffn, layers, 12, 12, vocab, 512))
        f.truncate(28 + 4 * (vocab * dim + layers * (4 * dim * dim + 3 * dim * ffn + 2 * dim) + dim + 512 * 64))
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from twofile.export.main import main\nassert main(sys.argv[2:]) == 0\n"
    )
    script += "from twofile.machine import peak_rss\nprint(peak_rss())"
    peaks = {}
    for source, dtype in ((["--random", "110M"], "f16"), (["--random", "110M"], "q8_0"), ([tmp_path / "zeros.bin"], "q8_0")):
        command = [sys.executable, "-c", script, ROOT, *source, "-o", tmp_path / "r.bin", "--type", dtype, "--overwrite"]
        done = subprocess.run([*command, "--tokenizer", "none"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks[str(source[0]), dtype] = int(done.stdout) / 2**20
    print("peak MB", peaks)
    assert 0 < max(peaks.values()) < 300
    assert resource is not None
    for name in ("a", "b"):
        assert main(["--random", "15M", "-o", str(tmp_path / name), "--seed", "3"]) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    logits = Model(tmp_path / "a", verbose=False).logits([1, 2, 3])
    assert np.isfinite(logits).all() and logits.std() > 0.1


@posix
def test_x12_two_exports_at_once_leave_one_whole_file(tmp_path):
    command = [sys.executable, ROOT / "export.py", "--random", "15M", "--overwrite", "-o", tmp_path / "m.bin", "--seed"]
    both = [subprocess.Popen([*command, str(seed)], stderr=subprocess.PIPE) for seed in (1, 2)]
    for p in both:
        assert b"Traceback" not in p.communicate()[1] and p.returncode == 0
    verify(open_model(tmp_path / "m.bin"))
    assert [p.name for p in tmp_path.iterdir()] == ["m.bin"]


# kills, full disks, many at once
CHILD = """
import os, random, resource, signal, sys, time
sys.path[:0] = {paths!r}
from twofile.export.main import main
def child(*args):
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        before()
        os._exit(main(list(args)))
    return pid
before = lambda: None
"""


def forks(script, *args):
    """Run a script that has the exporter imported and can fork it; -> its output."""
    code = CHILD.format(paths=[str(ROOT), str(ROOT / "tests")]) + script
    done = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A llama2.c checkpoint of a few megabytes, and the two files that it can become."""

    folder = tmp_path_factory.mktemp("source")
    shape = dict(dim=192, ffn=512, layers=3, heads=4, kv=2, vocab=2000, ctx=64)
    path = llama2c_file(folder / "a.bin", weights(shape), shape=shape)
    kinds = ("q8_0", "f32")
    for kind in kinds:
        assert main([str(path), "-o", str(folder / kind), "--tokenizer", "none", "--type", kind]) == 0
    return path, {(folder / kind).read_bytes(): kind for kind in kinds}


def test_fifty_kills(source, tmp_path):
    """X11, E8: kill -9 at 50 moments leaves the old file or the new one; the next export takes away what the dead have left."""
    path, whole = source
    out = tmp_path / "m.bin"
    out.write_bytes(next(iter(whole)))
    shown = forks(
        """
path, out = sys.argv[1:]
rng, seen, spans = random.Random(1), 0, []
for _ in range(3):
    began = time.perf_counter()
    os.waitpid(child(path, "-o", out, "--tokenizer", "none", "--overwrite", "--type", "f32"), 0)
    spans.append(time.perf_counter() - began)
span = min(spans)
for i in range(50):
    pid = child(path, "-o", out, "--tokenizer", "none", "--overwrite", "--type", ("q8_0", "f32")[i % 2])
    time.sleep(1.1 * span * rng.random())
    os.kill(pid, signal.SIGKILL)
    killed = os.waitpid(pid, 0)[1] == signal.SIGKILL
    seen += killed
    import hashlib
    left = [n for n in os.listdir(os.path.dirname(out)) if ".tmp" in n]
    print(hashlib.sha256(open(out, "rb").read()).hexdigest(), len(left))
os.waitpid(child(path, "-o", out, "--tokenizer", "none", "--overwrite"), 0)
print(seen, *os.listdir(os.path.dirname(out)))
""",
        path,
        out,
    ).splitlines()
    known = {hashlib.sha256(raw).hexdigest() for raw in whole}
    assert {line.split()[0] for line in shown[:-1]} <= known and max(int(line.split()[1]) for line in shown[:-1]) <= 1
    killed, *names = shown[-1].split()
    assert int(killed) >= 20 and names == ["m.bin"] and verify(open_model(out)) is None


def test_a_dead_export_with_our_own_number(source, tmp_path):
    """X11: in a container each export may have the same process number as the one that was killed."""
    path, whole = source
    (tmp_path / f"m.bin.tmp{os.getpid()}").write_bytes(b"half")
    assert main([str(path), "-o", str(tmp_path / "m.bin"), "--tokenizer", "none"]) == 0
    assert os.listdir(tmp_path) == ["m.bin"]


def test_no_room_at_any_stage(source, tmp_path):
    """X10: files limited to 14 sizes: exit code 1 and words, the old file as it was, no other file."""
    path, whole = source
    out = tmp_path / "m.bin"
    old = next(iter(whole))
    out.write_bytes(old)
    size = len(max(whole, key=len))
    shown = forks(
        """
path, out, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
for i in range(14):
    limit = size * i // 14
    before = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    pid = child(path, "-o", out, "--tokenizer", "none", "--overwrite", "--type", "f32")
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""",
        path,
        out,
        size,
    )
    assert shown.split() == ["1"] * 14 and out.read_bytes() == old and os.listdir(tmp_path) == ["m.bin"]


def test_two_exports_at_once(source, tmp_path):
    """X12: the last one wins, both files are whole."""
    path, whole = source
    command = [sys.executable, ROOT / "export.py", path, "-o", tmp_path / "m.bin", "--tokenizer", "none", "--overwrite"]
    both = [subprocess.Popen([*command, "--type", t], stderr=subprocess.PIPE) for t in ("q8_0", "f32", "q8_0", "f32")]
    assert [p.communicate()[1] and p.returncode for p in both] == [0] * 4
    assert (tmp_path / "m.bin").read_bytes() in whole and os.listdir(tmp_path) == ["m.bin"]


@pytest.mark.parametrize("freed", [False, True])
@pytest.mark.parametrize("sig, code", SIGNALS)
def test_a_terminated_export_cleans_up(tmp_path, sig, code, freed):
    """E8: in the middle of an export that takes seconds (one of a fraction may end before the signal); also where
    Python swallows what a signal raises."""
    program = [sys.executable, *["-c", FREED] * freed, ROOT / "export.py", "--random", "1.1B", "-o", tmp_path / "m.bin"]
    p = subprocess.Popen(program, cwd=ROOT, env={**os.environ, "SENT": str(int(sig))}, stderr=subprocess.PIPE)
    while not list(tmp_path.glob("m.bin.tmp*")):
        time.sleep(0.01)
        assert p.poll() is None
    p.send_signal(signal.SIGUSR1 if freed else sig)
    _, err = p.communicate(timeout=60)
    assert p.returncode == code and b"Traceback" not in err and list(tmp_path.iterdir()) == []
