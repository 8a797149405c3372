"""The threads that play a pass."""

import threading

import numpy as np

from ..errors import ModelError, set_by
from ..machine import processors
from ..pace import Pace
from .buffers import Buffer
from .operands import (
    AHEAD,
    CHUNK,
    COUNT,
    IDS,
    IS_FREE,
    IS_NOT,
    N_RECORDS,
    PASS_AT,
    PASS_FOUND,
    PASS_HELD,
    PASS_OWN,
    PASS_SLEPT,
    PASS_SPINS,
    PASS_STOP,
    PASS_SYSTEM,
    PASS_TOOK,
    PASS_TRY,
    PASS_WORKERS,
    SCRATCH,
    SCRATCH_STEP,
    WAIT,
)
from .system import System


class Player:
    """A made Program with its code, ready to be played on so many threads, Tuned. adapts: whether
    fewer play while they are held up.

    words: int64 of the pass, by its offsets div 8. ids: int64 [4, CHUNK], the rows of IDS.
    program: int64 [records, words]. pace: a Pace, or None if all threads play every pass.
    """

    ANSWERS = {0: None, IS_FREE: True, IS_NOT: False}

    def __init__(self, program, ids, code, tuned, adapts=False):
        self.threads = program.sizes.threads
        self.pas = Buffer(PASS_OWN + 64 * (self.threads + 1))
        self.words = self.pas.view(np.int64, self.pas.nbytes // 8)
        self.told = memoryview(self.words)  # whose numbers are Python's, and soon there
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
        # more than there are processors would only take turns; so few shares cost little
        self.use = min(self.threads, processors())
        self.shares = min(self.threads, 2 * self.use)
        self.workers = Workers(code, self.pas, self.threads) if self.threads > 1 else None
        self.pace = Pace(self.threads) if adapts and self.workers else None
        self.stop = self.workers.stop if self.workers else int

    def run(self, program=None):
        """Play records, int64 [n, words] that lie in one piece, or the whole program; the pass is
        as it was set last. The last record must wait: then no thread is still at work when this
        returns."""
        at = self.at if program is None else program.ctypes.data
        program = self.program if program is None else program
        assert program[-1, WAIT // 8]
        self.words[N_RECORDS // 8], pace = len(program), self.pace
        if pace is None:
            self.play(at, self.pas.address, self.use, self.shares)
            return
        self.play(at, self.pas.address, pace.use, pace.use)
        told = self.told
        slept, held = told[PASS_SLEPT // 8], told[PASS_HELD // 8]
        if slept or held or pace.use != pace.most:
            free = self.ANSWERS[told[PASS_FOUND // 8]]
            t = pace.after(told[PASS_AT // 8], told[PASS_TOOK // 8], slept, held, free)
            if t:
                self.try_one(t)

    def try_one(self, t):
        """Ask a thread that rests whether its core is free; PASS_FOUND will tell."""
        self.words[PASS_FOUND // 8], self.words[PASS_TRY // 8] = 0, t
        self.workers.rouse(0, self.pas.address, 0, 0)


class Workers:
    """The other threads, which live in compiled code: they look for the next pass for a moment,
    then sleep until they are called."""

    def __init__(self, code, pas, threads, way=None):
        self.pas, self.words = pas, pas.view(np.int64, pas.nbytes // 8)
        self.system = System(way)
        first = PASS_SYSTEM // 8
        self.words[first : first + len(self.system.words)] = self.system.words
        self.words[PASS_WORKERS // 8] = threads - 1
        self.rouse, self.serve = code.function("rouse"), code.function("serve")
        self.threads = [
            threading.Thread(target=self._live, args=(t,), daemon=True) for t in range(1, threads)
        ]
        try:
            for thread in self.threads:
                thread.start()
        except RuntimeError as e:
            self.stop()
            found = f"{threads} threads: cannot be started ({e})"
            wants = f"expected as many as cores; lower {set_by('n_threads')}"
            raise ModelError(f"{found}, {wants}") from None

    def _live(self, t):
        self.serve(0, self.pas.address, t, 0)

    def stop(self):
        """End the threads; no pass is open, since none returns before its last group is done."""
        self.words[PASS_STOP // 8] = 1
        self.rouse(0, self.pas.address, 0, 0)
        for thread in self.threads:
            if thread.ident is not None:
                thread.join()
