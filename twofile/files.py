"""Files: opened with care, written whole or not at all."""

import codecs
import contextlib
import os
import stat
import threading

from .errors import EXPORTER, MissingFile, ModelError, WrongType, printable, shown

EXPORTED = ("a model.bin", "a tokenizer.bin")  # what export.py makes


def path_asked(path, what):
    """A path, a str or os.PathLike, as a str; what it should be of is for messages. Raises
    ModelError."""
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(name, str):
        wants = f"expected the path of {what}; give a str or a Path"
        raise WrongType(f"{shown(path)}: cannot be opened, for it is no path; {wants}")
    return name


def open_regular(path, what, pipes=False):
    """A read-only file descriptor of a regular file, and its size in bytes; never blocks on a FIFO.
    pipes: one is taken too, as a shell's <(command), of size 0; its writer is waited for; so is
    the null device, which is empty. what it should be is for messages. Raises ModelError."""
    name = printable(path_asked(path, what))
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        make = f", or make one with {EXPORTER}" if what in EXPORTED else ""
        found = f"{name}: not found; expected {what}; check the path{make}"
        raise MissingFile(found, os.fspath(path)) from None
    except (OSError, ValueError) as e:
        raise ModelError(
            f"{name}: cannot be opened ({e}); expected {what}; check the path and permissions"
        ) from None
    info = os.fstat(fd)
    if pipes and stat.S_ISFIFO(info.st_mode):
        waiting = os.open(path, os.O_RDONLY)
        os.close(fd)  # not before: its writer would have no reader
        return waiting, 0
    if pipes and is_null(info):
        return fd, 0
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        found = "a folder, not" if stat.S_ISDIR(info.st_mode) else "not"
        make = f", or make one of it with {EXPORTER}" if found != "not" and what in EXPORTED else ""
        raise ModelError(f"{name}: {found} a regular file; expected {what}; give the file{make}")
    return fd, info.st_size


def is_null(info):
    """Whether what os.fstat() told of is the null device, by whatever name."""
    device = stat.S_ISCHR(info.st_mode) and os.path.exists(os.devnull)
    return device and os.stat(os.devnull).st_rdev == info.st_rdev


def read_small(path, what, most):
    """The bytes of a regular file of at most so many; what it should be is for messages. Raises
    ModelError."""
    fd, size = open_regular(path, what)
    with os.fdopen(fd, "rb") as f:
        if size > most:
            found = f"{printable(str(path))}: {size:,} bytes"
            raise ModelError(f"{found}, expected {what} of at most {most:,}; give the right file")
        return f.read(most)


# What a text file of an editor or of PowerShell may begin with: the mark, its encoding.
MARKS_OF_ORDER = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Unmarked:
    """Bytes of a text, block by block, as UTF-8 without a mark of the order of bytes before it;
    what is marked as UTF-16 or 32 is decoded. Bytes without a mark stay as they are. name: of the
    file or flag, for messages. Raises ModelError for what is not in the encoding of its mark."""

    def __init__(self, name):
        self.name, self.begun, self.decoder, self.encoding = name, b"", None, None

    def __call__(self, block, final=False):
        """What there is now of the text; final: this is the end."""
        if self.encoding is None:
            block = self.begun = self.begun + block
            if not final and any(mark.startswith(block) for mark, _ in MARKS_OF_ORDER):
                return b""  # it may become a mark, or a longer one
            found = [pair for pair in MARKS_OF_ORDER if block.startswith(pair[0])]
            mark, self.encoding = found[0] if found else (b"", "utf-8")
            block = block[len(mark) :]
            if self.encoding != "utf-8":
                self.decoder = codecs.getincrementaldecoder(self.encoding)()
        if self.decoder is None:
            return block
        try:
            return self.decoder.decode(block, final).encode()
        except UnicodeError as e:
            found = f"{self.name}: begins as {self.encoding.upper()} and goes on otherwise ({e})"
            raise ModelError(f"{found}; expected text in one encoding; save it as UTF-8") from None


def mode_there(path):
    """The permissions of the regular file at path, through links; None if nothing is there. Raises
    ModelError for anything else, which a file must not take the place of; OSError, ValueError."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        found = "a folder, not" if stat.S_ISDIR(mode) else "not"
        wants = "expected a file, or a new name; choose another"
        raise ModelError(f"{printable(path)}: {found} a regular file; {wants}")
    return stat.S_IMODE(mode)


@contextlib.contextmanager
def replaced(path, mode=0o666):
    """A binary file to write, which becomes path when it is whole: when the block ends. If it ends
    with an error, nothing is left of it, and path is what it was. Raises OSError, ValueError."""
    temporary = f"{path}.{os.getpid()}.{threading.get_ident() % 100000}.tmp"
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as f:
            yield f
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError, ValueError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def replaced_as_named(path, mode=0o666):
    """The same at a path that the user names: a link stays one, and a file that is there keeps its
    permissions; mode: of a new one. Raises ModelError too, where no regular file is."""
    kept = mode_there(path)
    with replaced(os.path.realpath(path), mode if kept is None else 0o600) as f:
        if kept is not None:
            os.chmod(f.name, kept)
        yield f
