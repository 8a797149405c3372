"""Files: opened with care, written whole or not at all."""

import contextlib
import os
import stat

from .errors import ModelError, printable

EXPORTED = ("a model.bin", "a tokenizer.bin")  # what export.py makes


def open_regular(path, what):
    """A read-only file descriptor of a regular file, and its size in bytes; never blocks on a FIFO.
    what it should be is for messages. Raises ModelError."""
    name = printable(str(path))
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        make = ", or make one with export.py" if what in EXPORTED else ""
        raise ModelError(f"{name}: not found; expected {what}; check the path{make}") from None
    except (OSError, ValueError) as e:
        raise ModelError(
            f"{name}: cannot be opened ({e}); expected {what}; check the path and permissions"
        ) from None
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        found = "a folder, not" if stat.S_ISDIR(info.st_mode) else "not"
        make = ", or make one of it with export.py" if found != "not" and what in EXPORTED else ""
        raise ModelError(f"{name}: {found} a regular file; expected {what}; give the file{make}")
    return fd, info.st_size


def read_small(path, what, most):
    """The bytes of a regular file of at most so many; what it should be is for messages. Raises
    ModelError."""
    fd, size = open_regular(path, what)
    with os.fdopen(fd, "rb") as f:
        if size > most:
            found = f"{printable(str(path))}: {size:,} bytes"
            raise ModelError(f"{found}, expected {what} of at most {most:,}; give the right file")
        return f.read(most)


@contextlib.contextmanager
def replaced(path, mode=0o666):
    """A binary file to write, which becomes path when it is whole: when the block ends. If it ends
    with an error, nothing is left of it, and path is what it was. Raises OSError, ValueError."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as f:
            yield f
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError, ValueError):
            os.unlink(temporary)
        raise
