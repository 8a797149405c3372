"""Which files below a folder are texts: found, read with care, never outside."""

import os
import stat
from collections import defaultdict
from typing import NamedTuple

from ..errors import MissingFile, ModelError, WrongValue, printable, set_by
from ..files import Unmarked, path_asked

LARGEST = 1 << 26  # of a file
MOST_IN_ALL = 1 << 30  # bytes of all texts
MOST_FILES = 100_000
NO_DISKS = ("/proc", "/sys")  # whose files are made when they are read, and may never end
ODD = 16  # of so many bytes one may be no UTF-8: else it is no text


class Stamp(NamedTuple):
    """By what a file is known to be as it was: bytes, and times in nanoseconds."""

    size: int
    changed: int
    status: int


class Folder:
    """A folder of texts. Links are not followed, hidden files and folders not looked at. left_out:
    {why: [names]} of what the last look, or reading, did not take. Raises ModelError for what is no
    folder."""

    def __init__(self, path):
        self.given, self.left_out = path_asked(path, "a folder of texts"), defaultdict(list)
        missing = False
        try:
            self.path = os.path.realpath(self.given)
            found = None if stat.S_ISDIR(os.stat(self.path).st_mode) else "is no folder"
            found = found if os.fspath(self.given) else "names no folder"
            if found is None:
                os.scandir(self.path).close()
        except (OSError, ValueError) as e:
            found = f"cannot be read ({getattr(e, 'strerror', None) or e})"
            missing = isinstance(e, FileNotFoundError)
        if found:
            name = f"{set_by('memory')} {printable(str(self.given)) or repr('')}"
            found = f"{name}: {found}, expected a folder of texts; name one"
            raise MissingFile(found, self.given) if missing else WrongValue(found)

    def look(self):
        """{name: Stamp} of the files there now; a name has slashes, from the folder on."""
        self.left_out.clear()
        found, total, places = {}, 0, [""]
        unreal = {os.stat(path).st_dev for path in NO_DISKS if os.path.ismount(path)}
        while places:
            place = places.pop()
            for name, entry in self.entries(place):
                try:
                    about = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # it is gone
                if not name.isprintable() and any("\ud800" <= ch <= "\udfff" for ch in name):
                    self.left_out["names that are no text"].append(name)
                elif stat.S_ISLNK(about.st_mode):
                    self.left_out["links"].append(name)
                elif about.st_dev in unreal:
                    self.left_out["on no disk"].append(name)
                elif stat.S_ISDIR(about.st_mode):
                    places.append(name)
                elif not stat.S_ISREG(about.st_mode):
                    self.left_out["no files"].append(name)
                elif about.st_size > LARGEST:
                    self.left_out[f"over {LARGEST >> 20} MiB"].append(name)
                elif len(found) == MOST_FILES or total + about.st_size > MOST_IN_ALL:
                    room = f"{MOST_FILES:,} files or {MOST_IN_ALL >> 20} MiB in all"
                    self.left_out[f"beyond {room}"].append(name)
                else:
                    total += about.st_size
                    found[name] = Stamp(about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        return found

    def entries(self, place):
        """[(name, entry)] of a folder below, sorted, without what is hidden."""
        try:
            with os.scandir(os.path.join(self.path, place)) as entries:
                some = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError:
            self.left_out["unreadable"].append(place)
            return []
        some.sort(key=lambda entry: entry.name)
        return [(f"{place}/{entry.name}".lstrip("/"), entry) for entry in some]

    def read(self, name):
        """The bytes of a file, as many as it has, and its Stamp from before they were read; None if
        it cannot be read now, says it is empty and is not, or is none of the folder's."""
        path = os.path.join(self.path, *name.split("/"))
        flags = [getattr(os, f"O_{x}", 0) for x in ("NOFOLLOW", "NONBLOCK", "BINARY")]
        try:
            if os.path.realpath(path) != path:  # a folder on the way became a link
                raise OSError
            fd = os.open(path, os.O_RDONLY | sum(flags))
            with os.fdopen(fd, "rb") as f:
                about = os.fstat(fd)
                if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST:
                    raise OSError
                raw = f.read(about.st_size or 1)
                if raw is None or len(raw) > about.st_size:  # it is made while it is read
                    raise OSError
        except (OSError, ValueError):
            self.left_out["unreadable"].append(name)
            return None
        return raw, Stamp(about.st_size, about.st_mtime_ns, about.st_ctime_ns)

    def told(self):
        """What was left out, in a line; "" if nothing was."""
        some = lambda names: ", ".join(printable(name)[:60] for name in names[:3])
        more = lambda names: f" and {len(names) - 3} more" if len(names) > 3 else ""
        parts = [f"{some(n)}{more(n)} ({why})" for why, n in sorted(self.left_out.items())]
        return "; ".join(parts)


def text_of_file(raw):
    """Bytes of a file -> (its text, how many bytes of it were no UTF-8); None for what is no text.
    A mark of the order of bytes is heeded, as it is in prompts."""
    try:
        plain = Unmarked("a file")(raw, final=True)
    except ModelError:
        return None
    if b"\0" in plain:
        return None
    text = plain.decode("utf-8", "replace")
    odd = text.count("\ufffd") - plain.count("\ufffd".encode())
    return None if odd * ODD > len(plain) else (text, odd)
