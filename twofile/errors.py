"""What must be there first, and what goes wrong: four parts on one line."""

import contextlib
import errno
import os
import sys

RELEASE = "0.1.0"  # of this program
CALLED = "twofile" if __name__.startswith("twofile.") else "run.py"  # what it is called in messages
EXPORTER = "export.py" if CALLED == "run.py" else "twofile export"  # what makes a model.bin
STARTED = (  # run as a program, not imported by one
    __name__ == "__main__"
    or sys.argv[:1] == ["-m"]
    or [os.path.basename(path) for path in sys.argv[:1]] == ["twofile"]  # the script of pip install
)


def lacking(found):
    """End the program with what is missing, in one line; an import with an ImportError."""
    if not STARTED:
        raise ImportError(found)
    sys.exit(f"{CALLED}: error: {found}")


try:
    import numpy as np
except ImportError:
    lacking("the package numpy is not installed; expected numpy and numba; pip install numpy numba")
except KeyboardInterrupt:
    if not STARTED:
        raise
    sys.exit(130)
if sys.version_info < (3, 10) or int(np.__version__.split(".")[0]) < 2:
    lacking(
        f"Python {sys.version.split()[0]} with numpy {np.__version__}; "
        "expected 3.10 and 2.0, or newer; update them"
    )


class ModelError(Exception):
    """The file or the request is not one this program can serve; the message says why and what
    to do."""


class WrongValue(ModelError, ValueError):
    """An argument of the right kind, whose value cannot be taken."""


class WrongType(ModelError, TypeError):
    """An argument of another kind of object, or one that nobody knows."""


class MissingFile(ModelError, FileNotFoundError):
    """There is no such file: filename, if it is known; its errno is ENOENT."""

    def __init__(self, message, filename=None):
        super().__init__(message)
        self.errno, self.strerror = errno.ENOENT, os.strerror(errno.ENOENT)
        self.filename = filename

    def __str__(self):
        return self.args[0]

    def __reduce__(self):
        return type(self), (*self.args, self.filename)


class Busy(ModelError):
    """Too many wait for a place; later there may be one."""


BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")
BLANK |= set(map(chr, range(0xE0100, 0xE01F0)))  # Python calls them printable; nobody sees them


def printable(text):
    """text with everything that could drive a terminal, or hide in it, escaped."""
    is_seen = lambda ch: ch.isprintable() and ch not in BLANK
    return "".join(ch if is_seen(ch) else ch.encode("unicode_escape").decode() for ch in text)


def shown(value):
    """A value in a message."""
    try:
        text = printable(repr(value))
    except Exception:  # a number of thousands of digits, lists in lists, what cannot say what it is
        text = f"{type(value).__name__} that cannot be shown"
    return text if len(text) <= 40 else f"{text[:40]}…"


def say(text):
    """A notice on stderr, behind the program's name."""
    print(f"{CALLED}: {text}", file=sys.stderr, flush=True)


def log(text, level="INFO"):
    """A notice for those who listen to the logger "twofile"."""
    import logging  # 5 ms, which a command line need not wait

    logger = logging.getLogger("twofile")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.log(getattr(logging, level), text)


@contextlib.contextmanager
def hushed_numba():
    """While it compiles: numba's loggers, where nobody has set their level, tell no more than
    warnings; a root logger of DEBUG would get 100,000 lines."""
    logging = sys.modules.get("logging")
    if not logging:  # nobody listens
        yield
        return
    logger = logging.getLogger("numba")
    usual = logger.level
    logger.setLevel(usual or logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(usual)


FLAG_OF = {}  # {option: its flag}, where a command line sets them; main() fills it


def warn(text):
    """A warning: on stderr where there is a command line, or else for the logger."""
    if FLAG_OF:
        say(text)
    else:
        log(text, "WARNING")


def set_by(option, value=""):
    """How an option is set, for messages: by its flag where there is a command line, as -z FILE, or
    else by its name, as tokenizer=FILE."""
    return f"{FLAG_OF.get(option, option)}{value and (' ' if option in FLAG_OF else '=')}{value}"
