"""The threads that play a program."""

import threading

import numpy as np

from ..errors import ModelError
from .passes import PASS_DONE, PASS_JOB, PASS_OWN, PASS_STOP, PROGRAM


class Workers:
    """The other threads. Each spins in compiled code for a moment after a pass, then sleeps until the next is posted."""

    def __init__(self, code, pas, threads):
        self.pas, self.words, self.code = pas, pas.view(np.int64, pas.nbytes // 8), code
        self.post_kernel, self.serve, self.play = (
            code.function(name) for name in ("post", "serve", "play")
        )
        self.wake, self.asleep, self.count = threading.Condition(), 0, threads
        self.threads = [
            threading.Thread(target=self._live, args=(t,), daemon=True) for t in range(1, threads)
        ]
        try:
            for thread in self.threads:
                thread.start()
        except RuntimeError as e:
            raise ModelError(
                f"{threads} threads: cannot be started ({e}), expected as many as cores; lower -t"
            ) from None

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
