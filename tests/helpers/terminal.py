"""run.py in a terminal, and shells."""

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

from helpers.places import ROOT


class Terminal:
    """run.py --chat with a terminal of its own."""

    def __init__(self, *args, program=ROOT / "run.py", cwd=None, columns=2000, **more):
        self.begin([sys.executable, program, *map(str, args), "--chat"], cwd, columns=columns, **more)

    def begin(self, command, cwd=None, env=os.environ, columns=2000, **more):  # no line is folded
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 50, columns, 0, 0))
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "close_fds": True}
        env = {**env, "TERM": "dumb", "PS1": "$ ", "TWOFILE_HISTORY": "", **more}
        self.process = subprocess.Popen(command, cwd=cwd, env=env, start_new_session=True, **streams)
        os.close(theirs)
        self.fd, self.seen, self.decoder = ours, "", codecs.getincrementaldecoder("utf-8")("replace")

    def until(self, pattern, seconds=120):
        """What came up to and with the first match of pattern."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen, re.S)):
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            try:
                block = os.read(self.fd, 65536) if ready else b""
            except OSError:  # the other side has closed
                block = b""
            assert block, f"waited for {pattern!r}, saw {self.seen!r}"
            self.seen = (self.seen + self.decoder.decode(block)).replace("\r\n", "\n")  # a block may end within either
        text, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return text

    def say(self, line):
        """Type a line -> what is shown up to the next prompt."""
        os.write(self.fd, line.encode() + b"\n")
        self.until(re.escape(line.split("\n")[-1]) + "\n")  # its echo
        return self.until(r"(?:^|(?<=\n))> $")[:-2]

    def leave(self):
        code = self.process.wait(60)
        os.close(self.fd)
        return code


class Shell(Terminal):
    """A shell of a user who has told it of the completions in a script."""

    def __init__(self, command, begin, folder):
        self.begin(command, folder)
        self.type(begin + "; echo rea''dy\n", "ready")

    def type(self, keys, pattern):
        """Press keys, and wait for what they should lead to -> what was shown."""
        os.write(self.fd, keys.encode())
        return self.until(pattern)

    def close(self):
        self.process.kill()
        self.leave()
