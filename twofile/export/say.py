"""What the exporter says, and what it asks for."""

import sys
import time

from ..errors import ModelError


def say(text):
    print(f"export.py: {text}", file=sys.stderr, flush=True)


def need(package):
    """Import an optional package, or say in a line how to get it."""
    try:
        return __import__(package, fromlist=["x"])
    except ImportError:
        name = package.split(".")[0]
        found = f"this source needs the Python package {name}, not installed"
        raise ModelError(f"{found}; pip install {name}") from None


class Progress:
    """After the first second: a bar with the time left on a terminal, else a line for every
    tenth."""

    def __init__(self, total):
        self.total, self.done, self.shown, self.began = max(total, 1), 0, 0, time.perf_counter()
        self.terminal = sys.stderr.isatty()

    def add(self, n):
        self.done += n
        share, spent = self.done / self.total, time.perf_counter() - self.began
        left = spent * (1 / share - 1)
        if spent < 1:
            return
        if self.terminal:
            text = f"\r[{'#' * int(30 * share):30}] {share:4.0%}, {left:.0f} s left "
            print(text, end="\n" if share >= 1 else "", file=sys.stderr, flush=True)
        elif int(share * 10) > self.shown:
            self.shown = int(share * 10)
            say(f"{self.shown}0 % written, {left:.0f} s left")
