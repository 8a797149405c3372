"""A pass is played by all threads; who waits for whom."""

import threading

import numpy as np

from ..errors import ModelError
from .buffers import Buffer
from .operands import (
    AHEAD,
    CHUNK,
    COUNT,
    IDS,
    N_RECORDS,
    PASS_DONE,
    PASS_JOB,
    PASS_OWN,
    PASS_SPINS,
    PASS_STOP,
    PROGRAM,
    SCRATCH,
    SCRATCH_STEP,
    WAIT,
)


class Player:
    """A made Program with its code, ready to be played on so many threads, Tuned.

    words: int64 of the pass, by its offsets div 8. ids: int64 [4, CHUNK], the rows of IDS.
    program: int64 [records, words].
    """

    def __init__(self, program, ids, code, tuned):
        self.threads = program.sizes.threads
        self.pas = Buffer(PASS_OWN + 64 * (self.threads + 1))
        self.words = self.pas.view(np.int64, self.pas.nbytes // 8)
        self.program = program.words(code.address)
        self.program[:, COUNT // 8] += self.pas.address
        self.program[:, AHEAD // 8] = tuned.ahead
        self.words[PASS_SPINS // 8] = tuned.spins
        self.at = self.program.ctypes.data
        self.ids = ids.view(np.int64, len(IDS), CHUNK)
        for row, field in enumerate(IDS):
            self.words[field // 8] = ids.address + 8 * CHUNK * row
        self.words[SCRATCH // 8] = program.scratch.address
        self.words[SCRATCH_STEP // 8] = program.scratch_step
        self.play = code.function("play")
        self.workers = Workers(code, self.pas, self.threads) if self.threads > 1 else None
        self.stop = self.workers.stop if self.workers else int

    def run(self, program=None):
        """Play records, int64 [n, words] that lie in one piece, or the whole program, on all
        threads; the pass is as it was set last. The last record must wait: then no thread is still
        at work when this returns."""
        at = self.at if program is None else program.ctypes.data
        program = self.program if program is None else program
        assert program[-1, WAIT // 8]
        self.words[PROGRAM // 8], self.words[N_RECORDS // 8] = at, len(program)
        if self.workers:
            self.workers.post()
        self.play(at, self.pas.address, 0, self.threads)

    def settle(self):
        """Play a pass that was posted and not played, because Ctrl-C came between the two: the
        other threads wait in it."""
        if self.workers:
            self.workers.settle()


class Workers:
    """The other threads. Each spins in compiled code for a moment after a pass, then sleeps until
    the next is posted."""

    def __init__(self, code, pas, threads):
        self.pas, self.words, self.code = pas, pas.view(np.int64, pas.nbytes // 8), code
        names = "post", "serve", "play"
        self.post_kernel, self.serve, self.play = (code.function(name) for name in names)
        self.wake, self.asleep, self.count = threading.Condition(), 0, threads
        self.threads = [
            threading.Thread(target=self._live, args=(t,), daemon=True) for t in range(1, threads)
        ]
        try:
            for thread in self.threads:
                thread.start()
        except RuntimeError as e:
            found = f"{threads} threads: cannot be started ({e})"
            raise ModelError(f"{found}, expected as many as cores; lower -t") from None

    def _live(self, t):
        play, job, seen = self.code.address["play"], PASS_JOB // 8, (PASS_OWN + 64 * t) // 8
        while not self.serve(play, self.pas.address, t, self.count):
            with self.wake:
                while self.words[job] == self.words[seen]:
                    self.asleep += 1
                    self.wake.wait()
                    self.asleep -= 1

    def post(self):
        with self.wake:
            self.post_kernel(self.pas.address, 0, 0, 0)
            if self.asleep:
                self.wake.notify_all()

    def settle(self):
        if self.words[PASS_DONE // 8] != self.words[PASS_JOB // 8]:
            with self.wake:
                self.wake.notify_all()
            self.play(int(self.words[PROGRAM // 8]), self.pas.address, 0, self.count)

    def stop(self):
        """End the threads; they are idle, since a pass ends on all threads at once."""
        self.settle()
        self.words[PASS_STOP // 8] = 1
        self.post()
        for thread in self.threads:
            thread.join()
