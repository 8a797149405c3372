"""Files below one folder; never outside, by any path or link."""

import contextlib
import os
import stat

from ..errors import ModelError, printable
from .tool import ToolFailed

DEPTH_OF_FOLDERS, SIBLINGS = 32, 20  # how many names are told where one is not found
OPEN_HOW = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class HeldFolder:
    """A folder, held open: it stays the one that it was, whatever its name comes to mean. A path
    is walked part by part, each opened in the one before, none through a link; so what is
    exchanged for a link meanwhile is not followed either. Raises ModelError, ToolFailed."""

    def __init__(self, path, flag):
        self.name = printable(path)
        if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
            found = f"{flag}: this system cannot open a path part by part"
            raise ModelError(f"{found}, expected Linux or macOS; leave it out")
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except (OSError, ValueError) as e:
            found = f"{flag}: {self.name or 'nothing'} cannot be opened ({e})"
            raise ModelError(f"{found}, expected a folder; name one, as in {flag}=notes") from None

    def close(self):
        os.close(self.fd)

    @contextlib.contextmanager
    def opened(self, path):
        """The file or folder at a path -> its descriptor, its os.stat_result; not a device, a pipe
        or a socket, which are not even opened."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if path.startswith("/") or ".." in parts or "\0" in path:
            wants = "expected a path below the folder, as notes/a.txt"
            raise ToolFailed(f"{printable(path[:200])!r} is outside; {wants}")
        if len(parts) > DEPTH_OF_FOLDERS:
            raise ToolFailed(f"{len(parts)} folders deep, expected at most {DEPTH_OF_FOLDERS}")
        fd = os.dup(self.fd)
        try:
            for n, part in enumerate(parts):
                inner = opened_in(fd, part, n < len(parts) - 1, "/".join(parts[: n + 1]))
                os.close(fd)
                fd = inner
            yield fd, os.fstat(fd)
        finally:
            os.close(fd)

    def entries(self, path):
        """Yield (name, os.stat_result) of what is in a folder, sorted; of links themselves."""
        with self.opened(path) as (fd, info):
            if not stat.S_ISDIR(info.st_mode):
                raise ToolFailed(f"{printable(path[:200])!r} is a file, expected a folder")
            with reasoned(path):
                names = sorted(os.listdir(fd))
            for name in names:
                try:
                    info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except OSError:
                    continue  # it is gone meanwhile
                yield name, info


def opened_in(fd, name, must_be_folder, path):
    """What stands by that name in a folder, opened. Raises ToolFailed."""
    with reasoned(path):
        try:
            kind = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            there = ", ".join(map(printable, sorted(os.listdir(fd))[:SIBLINGS])) or "nothing"
            raise ToolFailed(f"{printable(path[:200])!r} is not there; there is {there}") from None
        if stat.S_ISLNK(kind):
            raise ToolFailed(f"{printable(path)!r} is a link, and links are not followed")
        if must_be_folder and not stat.S_ISDIR(kind):
            raise ToolFailed(f"{printable(path)!r} is no folder")
        if stat.S_ISDIR(kind):
            return os.open(name, OPEN_HOW | os.O_DIRECTORY, dir_fd=fd)
        inner = os.open(name, OPEN_HOW, dir_fd=fd) if stat.S_ISREG(kind) else None
    if inner is not None and stat.S_ISREG(os.fstat(inner).st_mode):
        return inner
    if inner is not None:
        os.close(inner)
    raise ToolFailed(f"{printable(path)!r} is neither a file nor a folder")


@contextlib.contextmanager
def reasoned(path):
    """What the system says of a path, as a ToolFailed."""
    try:
        yield
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or str(e)
        raise ToolFailed(f"{printable(path[:200])!r} cannot be opened ({reason})") from None
