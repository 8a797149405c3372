"""What the exporter says, and small files of settings read carefully."""

import json
import struct
import sys
import time
import zipfile
from dataclasses import replace

from ..errors import ModelError, printable
from ..files import _read_small

# bytes of a configuration, index or header; of a tokenizer 64 MiB (MOST_BYTES)
MOST_JSON = 10 << 20

# raised by odd settings, or odd files
DAMAGED = (
    KeyError,
    TypeError,
    ValueError,
    ArithmeticError,
    IndexError,
    AttributeError,
    struct.error,
)
DAMAGED += (RecursionError, EOFError, NotImplementedError, zipfile.BadZipFile)


def damaged(e):
    return ModelError(
        f"metadata: {printable(repr(e))[:80]}; expected the sizes of a model; is the file whole?"
    )


def loads(raw, share=8, **how):
    """json.loads of what is no more than a share-th brackets and commas: of those, a megabyte becomes thirty in memory."""
    if sum(map(raw.count, (b",", b"[", b"{"))) > len(raw) // share + 4096:
        raise ValueError("more brackets and commas than words")
    return json.loads(raw.decode(), **how)


def read_json(path):
    """A dict."""
    try:
        value = loads(_read_small(path, "a Hugging Face folder with it", MOST_JSON))
        if not isinstance(value, dict):
            raise ValueError("no object")
        return value
    except (ValueError, OSError, RecursionError) as e:
        raise ModelError(
            f"{printable(str(path))}: not readable JSON ({printable(str(e))[:80]})"
        ) from None


def sampled(c, temperature, top_p, top_k):
    """The Config with its makers' sampling, as far as they say and we can."""
    number = lambda x, most: x if isinstance(x, (int, float)) and 0 < x <= most else 0
    top_k = int(number(top_k, 1 << 30))
    return replace(
        c,
        sample_temperature=number(temperature, 100),
        sample_top_p=number(top_p, 1),
        sample_top_k=top_k,
    )


PICKLED = "whose loading can run code elsewhere, not here; expected safetensors; --allow-pickle if you trust where it is from"


def need(package):
    """Import an optional package, or say in a line how to get it."""
    try:
        return __import__(package, fromlist=["x"])
    except ImportError:
        name = package.split(".")[0]
        raise ModelError(
            f"this source needs the Python package {name}, not installed; pip install {name}"
        ) from None


def say(text):
    print(f"export.py: {text}", file=sys.stderr, flush=True)


class Progress:
    """After the first second: a bar with the time left on a terminal, else a line for every tenth."""

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
            bar = "#" * int(30 * share)
            print(
                f"\r[{bar:30}] {share:4.0%}, {left:.0f} s left ",
                end="\n" if share >= 1 else "",
                file=sys.stderr,
                flush=True,
            )
        elif int(share * 10) > self.shown:
            self.shown = int(share * 10)
            say(f"{self.shown}0 % written, {left:.0f} s left")
