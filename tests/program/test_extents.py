"""What keeps kernels inside their rooms."""

import subprocess
import sys
import time

import pytest

from helpers.models import make_model
from helpers.places import ROOT
from helpers.programs import every_kernel, recorded
from helpers.records import EVERY
from twofile.errors import ModelError
from twofile.kernels.cache import CACHE_NAMES
from twofile.modelfile import open_model
from twofile.program.operands import Flat, Number, Rows


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    place = tmp_path_factory.mktemp("every")
    return [make_model(place / f"{i}.bin", **{"seed": i, **sizes}) for i, sizes in enumerate(EVERY)]


def programs(every):
    """A made Program of each model and type of cache: nothing is compiled, nothing runs."""
    for path in every:
        for kv in CACHE_NAMES:
            yield recorded(open_model(path), 100, 2, kv)


class Sized:
    """A room that says it has another size."""

    def __init__(self, room, nbytes):
        self.room, self.nbytes, self.writable = room, nbytes, room.writable


def test_every_extent_of_every_kind_of_record_is_checked(every):
    """Each operand: enough room is enough, one byte less is refused."""
    seen = set()
    for program in programs(every):
        records = program.records
        for record in records:
            kernel = record.kernel.name
            for name, place, nbytes, _writes in list(program.reaches(record)):
                if (kernel, name) in seen:
                    continue
                seen.add((kernel, name))
                if place is None:
                    was, program.scratch_step, program.records = program.scratch_step, nbytes, [record]
                    program.check()
                    program.scratch_step = nbytes - 1
                    with pytest.raises(ModelError, match=f"internal: {name} of {kernel} in .* reaches 1 bytes"):
                        program.check()
                    program.scratch_step = was
                    continue
                for less in (0, 1):
                    room = Sized(place.room, place.at + nbytes - less)
                    program.records = [record._replace(given={**record.given, name: place._replace(room=room)})]
                    if less:
                        with pytest.raises(ModelError, match=f"internal: {name} of {kernel} in .* reaches 1 bytes"):
                            program.check()
                    else:
                        program.check()
        program.records = records
        program.check()
    missing = {n for n, k in every_kernel().items() if k.operands is not None and n != "sweep"} - {k for k, _ in seen}
    assert {name for name in missing if not name.endswith(("_gated", "_plain"))} == set() and len(seen) > 140, missing


def test_what_is_optional_is_there_in_one_record_and_absent_in_another(every):
    """So that no reach goes untried: of every operand that its kernel can do without."""
    with_, without = set(), set()
    for program in programs(every):
        for record in program.records:
            for name, operand in record.kernel.operands.declared.items():
                if isinstance(operand, (Rows, Flat)) and operand.optional:
                    (without if record.given[name] is None else with_).add((record.kernel.operands.about, name))
    rare = {name for _, name in with_ ^ without}  # where a result goes, of kernels that only one type of weights follows here
    assert len(with_ & without) > 20 and rare <= {"out", "q", "qs", "qc", "qm", "qh", "biases"}, rare


def test_records_that_lie_are_refused(every):
    """Each number that a kernel multiplies by, and each address, as a slip of the pen would have it."""
    caught = 0
    for path in every:
        program = recorded(open_model(path), 100, 2, "f16")
        for record in program.records[:60]:
            kernel, given = record.kernel.name, record.given
            for name, operand in record.kernel.operands.declared.items():
                value, lies = given.get(name), []
                if isinstance(operand, (Rows, Flat)) and value is not None:
                    lies.append(value._replace(at=value.at - 64 * 10**9))
                    if isinstance(operand, Rows) and value.step:
                        lies.append(value._replace(step=10**9 * value.step))
                elif isinstance(operand, Number) and name in ("n_rows", "cols") and value:
                    lies.append(10**9 * value)
                for lie in lies:
                    program.records = [record._replace(given={**given, name: lie})]
                    with pytest.raises(ModelError, match="internal"):
                        program.check()
                        print(kernel, name, lie)
                    caught += 1
    assert caught > 500


def test_a_buffer_too_small_is_found_before_anything_runs(every):
    """Whichever of a model's rooms comes out 64 bytes short."""
    found, tried = 0, 0
    for path in every:
        program = recorded(open_model(path), 100, 2, "f16")
        for room in program.rooms:
            if room.nbytes:
                tried, room.nbytes = tried + 1, max(0, room.nbytes - 64)
                try:
                    program.check()
                except ModelError:
                    found += 1
                room.nbytes += 64
    print(found, "of", tried)
    assert found > 200


def test_checking_is_quick(tmp_path):
    """Every record of a model of 100 layers, in some milliseconds."""
    program = recorded(open_model(make_model(tmp_path / "m.bin", "q8_0", n_layers=100)), 100, 2, "f16")
    began = time.process_time()
    program.check()
    assert time.process_time() - began < 0.1


GUARDED = """
import ctypes, mmap, sys
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
    model = model._replace(tensors={k: t._replace(data=fenced(t.nbytes, t.data)) for k, t in model.tensors.items()})
    c, rng = model.config, np.random.default_rng(0)
    for kv, threads in (("f16", 2), ("f32", 1), ("q8_0", 2)):
        forward = run.Forward(model, 150, 3, kv, threads, print)
        for n, first, wanted in ((64, 0, 16), (64, 64, 1), (1, 149, 1), (3, 128, 3), (7, 0, 0), (22, 128, 16)):
            ids = [0, c.vocab_size - 1, *rng.integers(0, c.vocab_size, n)][:n]
            slots = [2] * n if n > 3 else list(range(n))
            logits = forward(ids, range(first, first + n), slots, range(n - wanted, n))
            assert np.isfinite(logits).all()
        pick = run.Sampler(run.Sampling(temperature=1.0, top_k=7), c.vocab_size, run.Code([run.pick], print))
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
