"""What was typed in conversations, kept between them, for the user alone."""

import contextlib
import os
import re
import stat

from ..files import replaced

HISTORY_PLACE = "TWOFILE_HISTORY"  # of the environment: the file; empty for none
ENTRIES_MOST = 1000
ENTRY_MOST = 1 << 14  # bytes; longer ones are not kept


def history_path():
    """Where the history lies; None where there is to be none."""
    named = os.environ.get(HISTORY_PLACE)
    if named is not None:
        return os.path.expanduser(named) or None
    state = os.environ.get("XDG_STATE_HOME", "")
    state = state if os.path.isabs(state) else os.path.expanduser("~/.local/state")
    return os.path.join(state, "twofile", "history") if os.path.isabs(state) else None


def as_entry(text):
    """A text as a line of the file: what is no letter as \\xHH."""
    raw = text.encode("utf-8", "surrogateescape")
    return re.sub(rb"[\x00-\x1f\x7f\\]", lambda m: b"\\x%02x" % m[0][0], raw) + b"\n"


def of_entry(line):
    """The text of a line of the file."""
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes.fromhex(m[1].decode()), line)
    return raw.decode("utf-8", "surrogateescape")


def make_private(folder):
    """A folder, and those above it, that nobody else can read, unless they are there."""
    if folder and not os.path.isdir(folder):
        make_private(os.path.dirname(folder))
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)


def open_private(path, flags):
    """A file descriptor of a regular file of this user's own; no link is followed. Raises
    OSError."""
    more = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    fd = os.open(path, flags | more, 0o600)
    info, user = os.fstat(fd), getattr(os, "geteuid", lambda: None)()
    if not stat.S_ISREG(info.st_mode) or user not in (None, info.st_uid):
        os.close(fd)
        raise OSError(f"{path} is no file of this user's")
    return fd


class History:
    """Texts in a file of that path, None for no file: a line each, the youngest last. Whatever is
    wrong with the file, it is then as if there were none."""

    def __init__(self, path):
        self.path, self.shortened = path, False

    def texts(self):
        """What is kept, the oldest first."""
        with contextlib.suppress(OSError, ValueError):
            if self.path:
                fd = open_private(self.path, os.O_RDONLY)
                with os.fdopen(fd, "rb") as f:
                    return [of_entry(line) for line in self.lines(f)]
        return []

    def lines(self, f):
        """The last lines of an open file."""
        size = os.fstat(f.fileno()).st_size
        begin = max(0, size - ENTRIES_MOST * ENTRY_MOST)
        f.seek(begin)
        *whole, _ = f.read().split(b"\n")
        return whole[begin > 0 :][-ENTRIES_MOST:]

    def add(self, text):
        """Keep a text, unless it begins with a space, or is very long."""
        entry = as_entry(text)
        if self.path and text[:1] != " " and len(entry) <= ENTRY_MOST:
            with contextlib.suppress(OSError, ValueError):
                make_private(os.path.dirname(self.path))
                with self.opened() as f:
                    self.append(f, entry)

    def append(self, f, entry):
        """Put an entry behind the others, whole or not at all; once, take off the oldest ones."""
        info = os.fstat(f.fileno())
        if info.st_mode & 0o077:
            os.chmod(self.path, 0o600)
        f.seek(max(0, info.st_size - 1))
        entry = entry if f.read(1) in (b"", b"\n") else b"\n" + entry  # somebody has edited it
        if os.write(f.fileno(), entry) < len(entry):
            os.ftruncate(f.fileno(), info.st_size)
        if not self.shortened:
            self.shortened = True
            whole = b"".join(line + b"\n" for line in self.lines(f))
            if len(whole) < os.fstat(f.fileno()).st_size:
                with replaced(self.path, 0o600) as short:
                    short.write(whole)

    @contextlib.contextmanager
    def opened(self):
        """The file, to read and to append to; other conversations wait for that. Raises OSError."""
        while True:
            fd = open_private(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            with os.fdopen(fd, "rb", buffering=0) as f:
                with contextlib.suppress(ImportError):
                    import fcntl

                    fcntl.flock(fd, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(fd), os.lstat(self.path)):
                    yield f
                    return  # the file was not replaced meanwhile
