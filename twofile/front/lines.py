"""Lines of a file or pipe, of which a shard is taken."""

import os
import re

from ..errors import ModelError, printable

LINE_MAX = 1 << 24  # bytes


def parse_shard(text):
    """ "1/8" -> (1, 8); None: Slurm's array, or (0, 1). Raises ModelError."""
    if text is None:
        task, count, least = (
            os.environ.get(f"SLURM_ARRAY_TASK_{name}", "") for name in ("ID", "COUNT", "MIN")
        )
        if not re.fullmatch(r"\d{1,9}/\d{1,9}", f"{task}/{count}"):
            return 0, 1
        text = f"{int(task) - int(least or 0)}/{count}"
    parts = text.split("/")
    if not re.fullmatch(r"\d{1,9}/\d{1,9}", text) or not int(parts[0]) < int(parts[1]):
        found = f"--shard is {printable(text)}"
        raise ModelError(f"{found}, expected I/N with I from 0 to N - 1, such as 0/4")
    return int(parts[0]), int(parts[1])


def read_lines(fd, shard, put):
    """Put (number, line) of each line that is not empty and in shard (i, n), then None; a line that
    is too long is None. Runs in a thread, so that a slow pipe stops no text; reads the descriptor
    itself, since a thread that waits inside sys.stdin breaks the end of the program."""
    number, index, parts, size = 0, 0, [], 0
    while True:
        try:
            block = os.read(fd, 1 << 16)
        except OSError as e:
            found = f"--batch: cannot be read ({e.strerror})"
            return put(ModelError(f"{found}; expected lines of JSON; check the file or pipe"))
        *lines, rest = block.split(b"\n") if block else [b"", b""]
        for line in lines:
            whole = size + len(line) <= LINE_MAX
            line, parts, size = b"".join([*parts, line]) if whole else None, [], 0
            number += 1
            if line is None or line.strip():
                if index % shard[1] == shard[0]:
                    put((number, line))
                index += 1
        size += len(rest)
        if size <= LINE_MAX:  # the rest of a longer line is not kept
            parts.append(rest)
        if not block:
            return put(None)


def count_lines(fd, shard):
    """Lines of a shard of an open file."""
    n, block = 0, b"x"
    while block:
        block = os.read(fd, 1 << 20)
        n += block.count(b"\n")
    os.lseek(fd, 0, os.SEEK_SET)
    return -(-(n - shard[0]) // shard[1])
