"""Kernels of the exporter, kept beside those of the program."""

import functools
import hashlib
import threading
from pathlib import Path

from ..compiler.code import Code

HERE = Path(__file__).parent
ONE_AT_A_TIME = threading.Lock()  # compiles


@functools.cache
def version():
    """Digits that change with the rooms of the exporter that have kernels or words: the folder in
    which they are kept goes by the program's rooms alone."""
    texts = [path.read_bytes() for path in sorted(HERE.rglob("*.py"))]
    texts = [t for t in texts if b"compiler.kernel" in t or b"words.word" in t]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:12]


def compiled(kernel, notice=lambda text: None):
    """A Kernel as a function of four ints."""
    kept = kernel._replace(name=f"{kernel.name}_{version()}")
    return Code([kept], notice).function(kept.name)


def once(make):
    """make, whose results are kept: of threads that ask for the same kernel one has it compiled."""
    kept = functools.cache(make)

    def asked(*given):
        with ONE_AT_A_TIME:
            return kept(*given)

    return asked
