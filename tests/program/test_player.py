"""Who plays what, whoever is stopped or never comes; sleep, calls, and the end."""

import ctypes
import os
import random
import signal
import sys
import time

import numpy as np
import pytest

from helpers.logits import SILENT
from twofile.compiler.code import Code
from twofile.compiler.kernel import kernel
from twofile.kernels.play import after, piece, play, rest, rouse, serve, share, taken
from twofile.machine import processors
from twofile.program.buffers import Place
from twofile.program.operands import (
    CHUNK,
    IDS,
    N_RECORDS,
    PASS_HELD,
    PASS_RESTING,
    PASS_SLEEPERS,
    PASS_STOP,
    PASS_TOOK,
    TAKEN,
    Flat,
    Number,
    operands,
)
from twofile.program.player import Player, Workers
from twofile.program.program import Program, Sizes
from twofile.program.system import CONDITION, FUTEX, NO_WAY, System
from twofile.tuned import Tuned
from twofile.words.memory import call_c, peek, poke

LONG, STEPS = 96, 14  # numbers of a row, records
ROW = operands(
    "out [n] = x [n] backwards + 1, in shares or in pieces; by chance a thread is stopped meanwhile.",
    x=Flat(lambda r: 8 * r.n),
    out=Flat(lambda r: 8 * r.n, writes=True),
    chance=Flat(lambda r: 8, writes=True),
    n=Number("numbers"),
    pieces=Number("1 = in pieces"),
    stop=Number("the address of usleep"),
    often=Number("of so many shares one is stopped; 0 = none"),
)


@kernel(ROW)
def turn(record, pas, t, threads):
    n, x, out = peek(record + ROW.n), peek(record + ROW.x), peek(record + ROW.out)
    often = peek(record + ROW.often)
    if often > 0:
        at = peek(record + ROW.chance)
        state = (peek(at) * 1103515245 + 12345 + t) & 0x7FFFFFFF  # a race only makes it more random
        poke(at, state)
        if (state >> 8) % often == 0:
            call_c(peek(record + ROW.stop), 50 + (state >> 12) % 300, 0, 0, 0, 0)
    if peek(record + ROW.pieces) != 0:
        many = piece(n, threads)
        i, last = taken(record, many, n)
        while i < last:
            poke(out + 8 * i, peek(x + 8 * (n - 1 - i)) + 1)
            i, last = after(record, i, last, many, n)
    else:
        first, last = share(n, t, threads)
        for i in range(first, last):
            poke(out + 8 * i, peek(x + 8 * (n - 1 - i)) + 1)
    return 0


class Bench:
    """A Player of so many threads that sleep in that way, and a program in which every number depends on all before."""

    def __init__(self, threads, way=None, often=0, adapts=False):
        program = self.program = Program(Sizes(1, 1, threads, 1, 0, 0))
        rows = [program.room(f"row {i}", 8 * LONG) for i in range(2)]
        chance, ids = program.room("chance", 8), program.room("ids", 8 * CHUNK * len(IDS))
        stop = ctypes.cast(ctypes.CDLL(None).usleep, ctypes.c_void_p).value
        for i in range(STEPS):
            x, out = Place(rows[i % 2]), Place(rows[1 - i % 2])
            given = {"x": x, "out": out, "chance": Place(chance), "n": LONG, "stop": stop, "often": often}
            program.add(turn, **given, pieces=i % 3 == 1)
        program.make(1 << 30)
        self.code = Code([turn, play, rest, rouse, serve], SILENT)
        self.player = Player(program, ids, self.code, Tuned(), adapts)
        if way is not None and threads > 1:
            self.player.stop()
            self.player.words[PASS_STOP // 8] = 0
            self.player.workers = Workers(self.code, self.player.pas, threads, way)
            self.player.stop = self.player.workers.stop
        self.row = rows[0].view(np.int64, LONG)
        self.at, self.threads = self.player.at, threads

    def play(self, use=None, tickets=None):
        """A pass -> whether all its numbers are right."""
        want = self.row[:: -1 if STEPS % 2 else 1] + STEPS
        use = self.threads if use is None else use
        self.player.words[N_RECORDS // 8] = len(self.player.program)
        self.player.play(self.at, self.player.pas.address, use, tickets or use)
        return np.array_equal(self.row, want) and not self.player.program[:, TAKEN // 8].any()

    def resting(self):
        """Wait until all its threads sleep."""
        end = time.monotonic() + 20
        while self.player.words[PASS_RESTING // 8] < self.threads - 1:
            assert time.monotonic() < end
            time.sleep(0.005)


@pytest.fixture
def made():
    """Makes Benches, and ends them."""
    benches = []

    def make(*given, **more):
        benches.append(Bench(*given, **more))
        return benches[-1]

    yield make
    for bench in benches:
        bench.player.stop()


WAYS = [FUTEX, CONDITION, NO_WAY] if sys.platform == "linux" else [None]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_numbers_are_right_whoever_is_stopped(made, threads, way):
    """One share of eight sleeps for a while; the others wait for it, and for nobody else."""
    bench = made(threads, way, often=8)
    bench.row[:] = np.random.default_rng(0).integers(0, 1000, LONG)
    assert all(bench.play() for _ in range(60))


@pytest.mark.parametrize("way", WAYS)
def test_thousands_of_passes_of_changing_numbers_of_threads(made, way):
    bench, rng = made(5, way), random.Random(0)
    bench.row[:] = range(LONG)
    for n in range(4000):
        tickets = rng.randint(1, 5)
        assert bench.play(rng.randint(1, tickets), tickets), n
        if n % 500 == 0:
            bench.resting()  # all are called again


def test_threads_that_never_come_hold_up_nobody(made):
    bench = made(4)
    bench.player.stop()
    began = time.monotonic()
    assert all(bench.play() for _ in range(500)) and time.monotonic() - began < 5


def test_a_stopped_thread_is_told_as_a_hold_up(made):
    """Of two threads one sleeps in its share, about so long; who plays alone is held up by its own sleep."""
    bench = made(2, often=1)
    found = []
    for use in (2, 2, 2, 1, 1):
        assert bench.play(use)
        found.append(bench.player.words[PASS_HELD // 8] / bench.player.words[PASS_TOOK // 8])
    assert max(found[:3]) > 0.1 and all(x > 0.5 for x in found[3:]), found
    quiet = made(2)
    for _ in range(50):
        quiet.play()
    assert sum(quiet.play() and quiet.player.words[PASS_HELD // 8] == 0 for _ in range(50)) >= 25


@pytest.mark.parametrize("way", [w for w in WAYS if w != NO_WAY])
def test_idle_threads_take_no_time_and_end_when_told(made, way):
    bench = made(3, way)
    for _ in range(20):
        assert bench.play()
        bench.resting()
    spent = time.process_time()
    time.sleep(1)
    assert time.process_time() - spent < 0.05
    threads = bench.player.workers.threads
    bench.player.stop()
    assert not any(thread.is_alive() for thread in threads)
    assert bench.player.words[PASS_RESTING // 8] == bench.player.words[PASS_SLEEPERS // 8] == 0


def test_ctrl_c_at_any_moment(made):
    """Whenever it comes: a pass is played or it is not, and the next is as if nothing had been."""
    bench, rng, caught = made(3, often=20), random.Random(0), 0

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(60):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0002, 0.004))
                while True:
                    bench.player.run()
            except KeyboardInterrupt:
                caught += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert bench.play()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert caught == 60


def test_more_threads_than_processors_take_turns(made):
    """Some more shares, done by as many threads as there are processors."""
    bench = made(3 * processors())
    assert (bench.player.use, bench.player.shares) == (processors(), 2 * processors())
    for _ in range(20):
        bench.player.run()
    assert bench.play()


def test_a_pass_adapts(made):
    """A thread is stopped in every pass: soon fewer play. Nobody is any more: all play again."""
    bench = made(2, often=2, adapts=True)
    pace, end = bench.player.pace, time.monotonic() + 20
    while pace.use == 2 and time.monotonic() < end:
        bench.player.run()
    assert pace.use == 1 and pace.given_up == 1
    bench.player.program[:, ROW.often // 8] = 0
    end = time.monotonic() + 60  # where others are at work, no core is free
    while pace.use == 1 and time.monotonic() < end:
        bench.player.run()
    if pace.use == 1 and hasattr(os, "getloadavg") and os.getloadavg()[0] > 1.5:
        pytest.skip("other programs are at work, which leave it no core")
    assert pace.use == 2 and pace.taken_back >= 1


def test_a_system_without_a_way_to_sleep(monkeypatch):
    def lacks(self):
        raise AttributeError("WaitOnAddress")

    monkeypatch.setattr(System, "futex", lacks)
    monkeypatch.setattr(System, "condition", lacks)
    words = System().words
    assert words[0] == NO_WAY and words[1:7] == [0] * 6 and words[7] > 0
