"""How many threads play, on machines that are made up: with programs beside, with none, with bad luck."""

import random

import pytest

from twofile.pace import LATEST, Pace

MS = 1_000_000


class Made:
    """A machine of so many cores, each with a busy loop or none, that plays passes of so long a work.

    A thread with a busy loop beside it is stopped for half of the time, 3 ms in each 6, and the others wait for it. A trial
    takes 10 ms, or until it is stopped.
    """

    def __init__(self, cores, busy, work=7 * MS, seed=0):
        self.cores, self.busy, self.work, self.rng = cores, busy, work, random.Random(seed)
        self.at, self.trial, self.tried = 10**12, None, 0
        self.pace = Pace(cores)

    def try_one(self, t):
        self.tried += 1
        free = t < self.cores - self.busy  # threads go where nobody is
        self.trial = self.at + (10 if free else 3) * MS, free

    def held(self, use):
        """What a pass loses, in nanoseconds; of crowded threads the one with the worst luck counts."""
        crowded = max(0, use - (self.cores - self.busy))
        turns = [self.work / use / (3 * MS) + self.rng.random() for _ in range(crowded)]
        return 3 * MS * int(max(turns, default=0))

    def play(self, passes):
        """-> [threads of each pass]"""
        used = []
        for _ in range(passes):
            use = self.pace.use
            used.append(use)
            held = self.held(use)
            took = int(self.work / use) + held
            self.at += took + MS // 10
            free = None
            if self.trial and self.at >= self.trial[0]:
                free = self.trial[1]
            t = self.pace.after(self.at, took, held if use > 1 else 0, held, free)
            if t:
                self.try_one(t)
            if not self.pace.trying:
                self.trial = None
        return used


@pytest.mark.parametrize("work", [MS // 3, 7 * MS, 900 * MS])
def test_nobody_beside_nothing_changes(work):
    machine = Made(2, 0, work)
    assert set(machine.play(1000)) == {2} and machine.tried == 0


def test_a_hiccup_changes_nothing():
    pace = Pace(2)
    for n in range(100):
        pace.after(10**12 + n * 100 * MS, 8 * MS, 4 * MS, 4 * MS, None)
    assert pace.use == 2 and pace.given_up == 0


@pytest.mark.parametrize("work", [MS, 7 * MS, 200 * MS])
@pytest.mark.parametrize("seed", range(5))
def test_one_busy_loop_on_two_cores(work, seed):
    """Soon one thread plays, and is left alone: trials fail, and become rare."""
    machine = Made(2, 1, work, seed)
    used = machine.play(max(60, 400 * MS // work))
    assert used.index(1) * work / 2 <= max(100 * MS, 4 * work)
    began, tried = machine.at, machine.tried
    used = machine.play(10_000 * MS // work)
    assert set(used) == {1} and machine.tried - tried <= 12 and machine.at - began >= 9_000 * MS


@pytest.mark.parametrize("seed", range(5))
def test_busy_loops_that_end(seed):
    """All threads are back at the latest when the rarest trial is due."""
    machine = Made(2, 1, seed=seed)
    machine.play(2000)
    machine.busy, began = 0, machine.at
    while machine.pace.use == 1:
        machine.play(1)
    assert machine.at - began <= LATEST + 50 * MS
    assert set(machine.play(500)) == {2} and machine.pace.taken_back >= 1


@pytest.mark.parametrize("busy", [2, 3])
def test_busy_loops_on_all_cores(busy):
    """Whoever plays alone is stopped too: all play, and seldom is it tried otherwise."""
    machine = Made(2, busy)
    machine.held = lambda use: 6 * MS
    machine.play(100)
    used = machine.play(4000)
    assert used.count(2) > 0.9 * len(used)


def test_some_of_many_cores():
    """One thread after the other is given up, until none is held up; and they come back."""
    machine = Made(8, 2, 40 * MS)
    machine.play(400)
    assert 4 <= machine.pace.use <= 6
    machine.busy = 0
    machine.play(4000)
    assert machine.pace.use == 8


def test_a_trial_that_tells_nothing_is_not_believed():
    """The core was free, and its thread is held up all the same: the next trial is later."""
    machine = Made(2, 1)
    machine.play(100)
    machine.try_one = lambda t: setattr(machine, "trial", (machine.at + 10 * MS, True))
    used = machine.play(20_000)
    assert used.count(1) > 0.9 * len(used)


def test_threads_on_one_core():
    """Each sleeps while the other works, and none is stopped: one alone does as much."""
    pace = Pace(2)
    for n in range(20):
        pace.after(10**12 + n * 8 * MS, 8 * MS, 8 * MS, 0, None)
    assert pace.use == 1


def test_shares_that_are_not_equal_are_no_hold_up():
    """Three heads for two threads: one sleeps for a third of the time, with nobody stopped."""
    pace = Pace(2)
    for n in range(1000):
        pace.after(10**12 + n * 9 * MS, 9 * MS, 4 * MS, 0, None)
    assert pace.use == 2 and pace.given_up == 0


def test_threads_that_do_less_than_one():
    """Programs on all cores, and passes so short that all together do less than a thread that is stopped half of the time."""
    machine = Made(2, 2)
    machine.held = lambda use: 14 * MS if use == 2 else 7 * MS
    machine.play(300)
    used = machine.play(4000)
    assert used.count(1) > 0.8 * len(used)
