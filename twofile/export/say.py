"""What the exporter says, and what it asks for."""

import os
import re
import sys
import time
from contextlib import contextmanager

from ..errors import ModelError, printable
from .damage import Tripped


def called():
    """What the exporter is called: by its file, or as a command of the installed program."""
    words = [os.path.basename(sys.argv[0]), *sys.argv[1:2]]
    return "twofile export" if words[0] != "export.py" and words[1:] == ["export"] else "export.py"


def say(text):
    print(f"{called()}: {text}", file=sys.stderr, flush=True)


def need(package):
    """Import an optional package, or say in a line how to get it."""
    name = package.split(".")[0]
    try:
        return __import__(package, fromlist=["x"])
    except ModuleNotFoundError as e:
        if e.name == name:
            raise lack([name]) from None
        broken = e
    except ImportError as e:
        broken = e
    found = f"the Python package {name} cannot be imported ({printable(str(broken))[:120]})"
    raise ModelError(f"{found}; expected it whole; pip install -U {name}")


def lack(names):
    """ModelError of packages that are not installed."""
    found = f"the Python package{'s' * (len(names) > 1)} {' and '.join(names)}"
    are = "which are not" if len(names) > 1 else "which is not"
    advice = f"pip install {' '.join(names)} (twofile[export] brings all)"
    return ModelError(f"this source needs {found}, {are} installed; {advice}")


AGAIN = re.compile(  # what run.py's own checks advise
    r"; (?:(?:copy|download) (?:it )?or )?export (?:it |the file )?again"
    r"(?: with this export\.py| or use a newer run\.py)?"
)


@contextmanager
def advising(advice):
    """Around run.py's checks of what is not written yet: to export it again is no advice."""
    try:
        yield
    except Tripped:
        raise
    except ModelError as e:
        text = str(e).replace("tokenizer in model.bin: ", "")
        raise ModelError(AGAIN.sub(f"; {advice}", text)) from None


@contextmanager
def named(name):
    """Around what does not know of which file it speaks."""
    try:
        yield
    except Tripped:
        raise
    except ModelError as e:
        raise ModelError(str(e) if str(e).startswith(name) else f"{name}: {e}") from None


class Progress:
    """After the first second: a bar with the time left on a terminal, else a line for every
    tenth. what: is done."""

    def __init__(self, total, what="written"):
        self.what = what
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
            say(f"{self.shown}0 % {self.what}, {left:.0f} s left")
