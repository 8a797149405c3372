"""Kernels of the exporter, kept beside those of the program."""

import functools
import hashlib
from pathlib import Path

from ..compiler.code import Code

HERE = Path(__file__).parent


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
