"""What keeps kernels inside their buffers."""

import dataclasses
import re
import subprocess
import sys
import time

import pytest

from helpers.logits import SILENT
from helpers.models import make_model
from helpers.places import ROOT
from helpers.records import EVERY
from helpers.rooms import patch
from twofile.compiler.kernel import KERNELS
from twofile.errors import ModelError
from twofile.forward import Forward
from twofile.modelfile import open_model
from twofile.program import passes


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    place = tmp_path_factory.mktemp("every")
    return [make_model(place / f"{i}.bin", **{"seed": i, **sizes}) for i, sizes in enumerate(EVERY)]


@pytest.fixture
def unplayed(monkeypatch):
    """Forwards that are recorded and checked, and cannot run: what is refused here is refused before anything runs."""
    patch(monkeypatch, "Code", lambda names, notice: None)
    monkeypatch.setattr(Forward, "_ready", lambda self: None)
    return lambda path, kv="f16": Forward(open_model(path), 100, 2, kv, 2, SILENT)


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
                            with pytest.raises(ModelError, match=f"internal: field {field} of {kernel} reaches 1 bytes"):
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
    missing = {name for name in KERNELS if name not in ("play", "post", "serve", "pick", "sweep")} - {k for k, _ in seen}
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
                field = getattr(passes, name)
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
                with pytest.raises(ModelError, match="internal"):
                    forward.check_extents()
                caught += 1
    assert caught > 500


def test_a_buffer_too_small_is_found_before_anything_runs(every, unplayed, monkeypatch):
    """Whichever of a model's buffers comes out 64 bytes short."""
    make, found, names = Forward.buffer, 0, set()
    for path in every:
        whole = len(unplayed(path).buffers)
        for short in range(whole):

            def buffer(self, nbytes, short=short):
                made = make(self, nbytes)
                if len(self.buffers) == short + 1:
                    made.nbytes = max(0, made.nbytes - 64)
                    names.add(short) if nbytes else None
                return made

            monkeypatch.setattr(Forward, "buffer", buffer)
            try:
                unplayed(path)
            except (ModelError, ValueError):  # the latter where it is written at once
                found += 1
            monkeypatch.setattr(Forward, "buffer", make)
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
