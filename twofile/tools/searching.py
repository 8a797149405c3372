"""The tool that finds words in the texts below one folder."""

import math
import re
import stat
import time
from collections import Counter

from ..errors import printable
from .folder import DEPTH_OF_FOLDERS
from .reading import text_lines, text_of
from .tool import Tool, ToolFailed, an_object

SECONDS_MAX, FILES_MAX, FOUND_MAX = 5.0, 10_000, 20
AROUND = 300  # characters of a line that are shown


class Search:
    """Words looked for below a HeldFolder, file after file until time or number is up; best first.

    A line must have one of the words; what it is worth are those that it or its path has, each
    the more the fewer lines have it.
    """

    def __init__(self, folder, words):
        self.folder, self.words = folder, set(words)
        self.until, self.files, self.lines = time.monotonic() + SECONDS_MAX, 0, 0
        self.found, self.having = [], Counter()  # lines, how many have a word
        self.left = ""  # why it ended early, or what it did not read

    def over(self):
        """Whether time or number is up."""
        is_late = time.monotonic() > self.until
        if is_late or self.files >= FILES_MAX:
            self.left = f"{SECONDS_MAX:g} seconds are up" if is_late else f"{FILES_MAX:,} files"
        return is_late or self.files >= FILES_MAX

    def below(self, path=""):
        """Look through a folder."""
        for name, info in self.folder.entries(path):
            inner = f"{path}/{name}" if path else name
            if self.over():
                return
            try:
                if stat.S_ISDIR(info.st_mode) and inner.count("/") < DEPTH_OF_FOLDERS - 1:
                    self.below(inner)
                elif stat.S_ISREG(info.st_mode):
                    self.files += 1
                    with self.folder.opened(inner) as (fd, now):
                        if stat.S_ISREG(now.st_mode):
                            self.through(inner, *text_of(fd, inner))
            except ToolFailed:
                continue  # no text, or not for us

    def through(self, path, text, more):
        """Look through a text; more: what is left out of it."""
        self.left = self.left or (more and f"of {printable(path)} {more}")
        lower = path.lower()
        in_path = {word for word in self.words if word in lower}
        for number, line in enumerate(text_lines(text), 1):
            self.lines += 1
            if number % 1000 == 0 and self.over():
                return
            lower = line.lower()
            in_line = {word for word in self.words if word in lower}
            self.having.update(in_line)
            if in_line:
                self.found.append((in_line | in_path, path, number, line))
            if len(self.found) > 50 * FOUND_MAX:
                self.found = self.best()

    def best(self):
        """What is worth most of what was found; of what is worth the same, what came first."""
        worth = {word: math.log(1 + self.lines / n) for word, n in self.having.items()}
        value = lambda line: -sum(worth.get(word, 0) for word in line[0])
        return sorted(self.found, key=value)[:FOUND_MAX]

    def told(self):
        lines = [f"{printable(path)}:{n}: {self.part(line)}" for _, path, n, line in self.best()]
        if self.left:
            lines.append(f"(not all was searched: {self.left}; there may be more)")
        return "\n".join(lines) or f"nothing found in {self.files} files"

    def part(self, line):
        """A line, or what of it is around the first of the words."""
        if len(line) <= AROUND:
            return line
        lower = line.lower()
        at = min(lower.find(word) for word in self.words if word in lower)
        begin = max(0, min(at - AROUND // 2, len(line) - AROUND))
        return f"…{line[begin : begin + AROUND]}…"


def search_tool(folder):
    """The tool, of a HeldFolder."""

    def search(given):
        words = re.findall(r"\w+", given["words"].lower())
        if not words or len(words) > 30:
            raise ToolFailed(f"{len(words)} words, expected 1 to 30")
        looking = Search(folder, words)
        looking.below()
        return looking.told()

    return Tool(
        "search",
        "Find words in the user's files. Returns the lines that have most of them.",
        an_object(words={"type": "string", "description": "what to look for, as: price apples"}),
        search,
        harmless=True,
        close=folder.close,
    )
