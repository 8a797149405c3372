"""The tool that lists folders, reads files by lines, below one folder."""

import os
import stat

from ..errors import ModelError, printable
from ..files import Unmarked
from .folder import reasoned
from .tool import RESULT_MAX, Tool, ToolFailed, an_object

READ_MAX = 1 << 24  # bytes of a file, at most, that are read of it
LINE_SHOWN = 2000  # characters of a line that are shown
ENTRIES_MAX = 200  # of a folder that are shown


def text_of(fd, path):
    """The text of an open file -> (text, "" or that it was only begun). Raises ToolFailed if it is
    none."""
    with reasoned(path), os.fdopen(os.dup(fd), "rb") as f:
        raw = f.read(READ_MAX + 1)
    more = f"only its first {READ_MAX >> 20} MiB are read" if len(raw) > READ_MAX else ""
    try:
        raw = Unmarked(printable(path))(raw[:READ_MAX], final=not more)
    except ModelError as e:
        raise ToolFailed(str(e)) from None
    if b"\0" in raw[:4096]:
        raise ToolFailed(f"{printable(path)!r} is no text, expected a file of text")
    return raw.decode("utf-8", "replace"), more


def text_lines(text):
    """The lines of a text, as an editor numbers them."""
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def listed(folder, path):
    """The entries of a folder, a line each: files with their sizes, folders with a slash."""
    found = list(folder.entries(path))
    lines = []
    for name, info in found[:ENTRIES_MAX]:
        kind = stat.S_IFMT(info.st_mode)
        size = f"{info.st_size:,} bytes"
        more = {stat.S_IFREG: f"  {size}", stat.S_IFDIR: "/", stat.S_IFLNK: "  a link"}
        lines.append(printable(name) + more.get(kind, "  no file"))
    if len(found) > ENTRIES_MAX:
        lines.append(f"({ENTRIES_MAX} of {len(found):,} are shown)")
    return "\n".join(lines) or "(an empty folder)"


def shown_lines(path, text, more, first, last):
    """Lines of a text, from 1, as many as a result holds; it says which, and of how many."""
    lines = text_lines(text)
    last = len(lines) if last is None else last
    if last < first <= len(lines):
        found = f"first_line is {first}, last_line {last}"
        raise ToolFailed(f"{found}; expected lines from the first to the last")
    if first > max(len(lines), 1):
        raise ToolFailed(f"{printable(path)!r} has {len(lines)} lines, expected one of these")
    last, shown, size = min(last, len(lines)), [], 0
    for line in lines[first - 1 : last]:
        if len(line) > LINE_SHOWN:
            line = f"{line[:LINE_SHOWN]} (and {len(line) - LINE_SHOWN:,} characters)"
        size += len(line) + 1
        if shown and size > RESULT_MAX - 300:
            break
        shown.append(line)
    end = first + len(shown) - 1
    which = "all" if (first, end) == (1, len(lines)) else f"{first} to {end} of"
    head = f"{printable(path)}, {which} {len(lines):,} lines"
    head += f"; the next is first_line={end + 1}" if end < last else ""
    head += f"; {more}" if more else ""
    return "\n".join([f"{head}:", *shown])


def files_tool(folder):
    """The tool, of a HeldFolder."""

    def read(given):
        path = given.get("path", ".")
        with folder.opened(path) as (fd, info):
            if not stat.S_ISDIR(info.st_mode):
                first, last = given.get("first_line", 1), given.get("last_line")
                return shown_lines(path, *text_of(fd, path), first, last)
        return listed(folder, path)

    number = {"type": "integer", "minimum": 1, "maximum": 1 << 31}
    return Tool(
        "files",
        "List the folder of the user's files, or read one file of it.",
        an_object(
            path={
                "type": "string",
                "description": 'optional: of a file or folder, as "a.txt"; without it, the list',
            },
            first_line={**number, "description": "optional: where to begin, from 1"},
            last_line={**number, "description": "optional: where to end"},
        ),
        read,
        harmless=True,
        close=folder.close,
    )
