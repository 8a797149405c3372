"""A model that has run, in a forked child: the same bits by threads of its own; the parent goes on."""

import contextlib
import multiprocessing
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time

import pytest

from helpers.logits import some_ids
from helpers.models import make_model
from helpers.places import ROOT
from helpers.switches import HYBRIDS
from twofile.forks import BUILDING
from twofile.model import Model
from twofile.writer import Writer

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork"),
]
HOW = dict(max_tokens=30, seed=3, ignore_eos=True)


class Child:
    """A forked process that sends what function() gives."""

    def __init__(self, function):
        self.ours, theirs = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            with contextlib.suppress(BaseException):
                os.write(theirs, pickle.dumps(function()))
            os._exit(0)
        os.close(theirs)

    def result(self):
        """What it sent; it is killed if that takes a minute."""
        raw, end = b"", time.monotonic() + 60
        while select.select([self.ours], [], [], max(0, end - time.monotonic()))[0]:
            block = os.read(self.ours, 1 << 16)
            if not block:
                break
            raw += block
        else:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.ours)
        assert os.waitpid(self.pid, 0)[1] == 0 and raw, "the child hung or failed"
        return pickle.loads(raw)


@pytest.fixture(params=[1, 2, 3])
def model(request, tiny):
    return Model(tiny, n_threads=request.param, verbose=False)


def test_a_child_writes_what_its_parent_writes(model):
    """Also a second text, and the parent meanwhile and afterwards; nothing is read again."""
    want = model.generate("the fox", **HOW)
    other = model.generate("a hen", **HOW)
    fed = list(model.fed)
    child = Child(lambda: (model.fed == fed, model.generate("a hen", **HOW), model.generate("the fox", **HOW)))
    assert model.generate("the fox", **HOW) == want
    assert child.result() == (True, other, want)
    assert model.generate("a hen", **HOW) == other


def test_a_child_of_a_parent_that_never_ran(model):
    child = Child(lambda: model.generate("the fox", **HOW))
    assert child.result() == model.generate("the fox", **HOW)


def test_children_at_once_and_of_children(model):
    want = model.generate("the fox", **HOW)
    children = [Child(lambda: model.generate("the fox", **HOW)) for _ in range(3)]
    grandchild = Child(lambda: (model.generate("the fox", **HOW), Child(lambda: model.generate("the fox", **HOW)).result()))
    unused = Child(lambda: Child(lambda: model.generate("the fox", **HOW)).result())
    assert [child.result() for child in children] == [want] * 3
    assert grandchild.result() == (want, want) and unused.result() == want


def test_every_way_to_run_in_a_child(model):
    """Batches in Forwards that the parent used; scores, logits, threads, and a copy by pickle."""
    ways = [
        lambda: model.batch(["the", "a fox", "hen"], places=2, **HOW),
        lambda: [w.written for w in model.best_of("the", 3, **HOW)],
        lambda: model.score(model.tokenize("the fox and the hen"))[0].tolist(),
        lambda: model.logits(model.tokenize("the fox")).tolist(),
        lambda: pickle.loads(pickle.dumps(model)).generate("the", **HOW),
        lambda: together(model),
    ]
    want = [way() for way in ways]
    assert Child(lambda: [way() for way in ways]).result() == want
    assert [Child(way).result() for way in ways] == want and [way() for way in ways] == want


def together(model):
    found = {}

    def write(prompt):
        found[prompt] = model.generate(prompt, **HOW)

    threads = [threading.Thread(target=write, args=(p,)) for p in ("the", "a", "hen")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found.items())


def test_a_stream_goes_on_on_both_sides(model):
    """Of one text and of many, begun before the fork."""
    whole = model.generate("the fox", **HOW)
    stream = model.stream("the fox", **HOW)
    text = "".join(next(stream).text for _ in range(7))
    rest = lambda: text + "".join(chunk.text for chunk in stream)
    child = Child(rest)
    assert rest() == whole == child.result()
    writers = [Writer(model, p, **HOW) for p in ("the", "a fox", "hen")]
    many = model.together(iter(writers), 2)
    for _ in range(9):
        next(many)
    end = lambda: [list(many) and None, [w.written for w in writers]][1]
    child, want = Child(end), [model.generate(p, **HOW) for p in ("the", "a fox", "hen")]
    assert end() == want == child.result()


@pytest.mark.parametrize("kind", HYBRIDS)
def test_states_go_with_the_child(kind, tmp_path):
    """What layers keep that cannot be cut: as after the same texts in one process."""
    model = Model(make_model(tmp_path / "m.bin", "q8_0", **HYBRIDS[kind]), n_threads=2, verbose=False)
    ids = some_ids(60)
    write = lambda n: [c.token for c in model.stream(ids[:n], 20, temperature=0, ignore_eos=True)]
    want = {n: write(n) for n in (30, 31, 60, 12)}
    write(30)
    child = Child(lambda: {n: write(n) for n in (31, 30, 12, 60)})
    assert {n: write(n) for n in (60, 30)} == {n: want[n] for n in (60, 30)} and child.result() == want


def test_a_fork_while_others_write(tiny):
    """Whatever the parent's threads are at: what they hold is nobody's in the child."""
    model = Model(tiny, n_threads=2, verbose=False)
    want, going = {p: model.generate(p, **HOW) for p in ("the", "a fox", "hen")}, [True]
    wrong = []

    def work(prompt):
        while going:
            wrong.extend([prompt] * (model.generate(prompt, **HOW) != want[prompt]))

    threads = [threading.Thread(target=work, args=(p,)) for p in want]
    for thread in threads:
        thread.start()
    try:
        for n in range(12):
            time.sleep(0.003 * n)
            assert Child(lambda: {p: model.generate(p, **HOW) for p in want}).result() == want
    finally:
        going.clear()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_fork_waits_until_kernels_are_there(tiny):
    """Compilers hold locks of their own, which would stay locked in a child."""
    model, began = Model(tiny, n_threads=2, verbose=False), time.monotonic()
    building = threading.Event()

    def build():
        with BUILDING:
            building.set()
            time.sleep(0.5)

    thread = threading.Thread(target=build)
    thread.start()
    building.wait()
    child = Child(lambda: model.generate("the", **HOW))
    assert time.monotonic() - began >= 0.5 and child.result() == model.generate("the", **HOW)
    thread.join()


def test_multiprocessing(tiny):
    """Its default on Linux up to Python 3.13."""
    model = Model(tiny, n_threads=2, verbose=False)
    want = model.generate("the", **HOW)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(False)
    process = context.Process(target=lambda: theirs.send(model.generate("the", **HOW)), daemon=True)
    process.start()
    try:
        assert ours.poll(60) and ours.recv() == want
        process.join(20)
        assert process.exitcode == 0
    finally:
        process.kill()


@pytest.mark.parametrize("used", [0, 1])
def test_a_child_ends_as_programs_end(tiny, used):
    """Not by os._exit: what is done at the end waits for no thread that is not there."""
    code = (
        "import os, sys, twofile\n"
        f"m = twofile.Model({str(tiny)!r}, n_threads=2, verbose=False)\n"
        "m.generate('x', max_tokens=2)\n"
        "if os.fork() == 0:\n"
        f"    {'m.generate(chr(97), max_tokens=2)' if used else 'del m'}\n"
        "    sys.exit(5)\n"
        "code = os.waitstatus_to_exitcode(os.wait()[1])\n"
        "m.generate('x', max_tokens=2)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (5, b"") and b"Traceback" not in done.stderr
