"""Transcripts of docs/transcripts: read, played again in one shell, compared, and written anew.

A block of the kind `console` has commands, `$ ` before them, and what they print. Lines with `> ` behind a command are the
rest of it; behind one with --chat they are typed in the terminal that it is given. An exit code that is not 0 stands under
the output. `env -i … bash` begins a shell in which the following commands are run, `exit` or a failure under `set -e` ends it.
"""

import contextlib
import difflib
import os
import re
import select
import shlex
import signal
import subprocess
import time
from typing import NamedTuple

from helpers.terminal import Terminal

ANY = "…"  # anything on a line; alone, one line or more
CODE = re.compile(r"\(exit code (\d+)\)")
BEGINS = re.compile(r"env -i .* bash$")  # a shell in the shell
# What a shell is told to do: run what comes on descriptor 3, and say behind each how it ended.
MARK = "<-- "
LOOP = f"printf '\\0{MARK}0\\0'; while IFS= read -r -d '' typed <&3; do eval \"$typed\"; printf '\\0{MARK}%d\\0' $?; done"
WILD = (  # what differs from run to run, where a transcript is written anew
    (r"[\d.]+ t/s", "… t/s"),
    (r"ttft [\d.]+ s", "ttft … s"),
    (r"\b[\d.]+ s\b(?= \|| req_)", "… s"),
    (r"(req|msg)_\w+", r"\1_…"),
    (r'("created_at": ?")[^"]*', r"\1…"),
    (r'("\w+_duration": ?)\d+', r"\1…"),
    (r"http://127\.0\.0\.1:\d+", "http://127.0.0.1:…"),
    (r"((?:chat)?cmpl-)\w+", r"\1…"),
    (r'("(?:created|cached_tokens)": ?)\d+', r"\1…"),
    (r'"timings": ?\{.*?\}', '"timings":{…}'),
)


class Step(NamedTuple):
    """A command of a transcript: the place of its first line and of the one behind its output, its text, what is typed in its
    terminal, the lines that it prints."""

    first: int
    last: int
    command: str
    typed: list
    output: list


def steps(text):
    """The Steps of a transcript, of its `console` blocks."""
    found, lines, inside, n = [], text.split("\n"), False, 0
    while n < len(lines):
        if lines[n].startswith("```"):
            inside = lines[n] == "```console"
        elif inside:
            assert lines[n].startswith("$ "), f"line {n + 1}: {lines[n]!r} is no command"
            end = n + 1
            while not lines[end].startswith(("$ ", "```")):
                end += 1
            command, output = lines[n][2:], lines[n + 1 : end]
            while "--chat" not in command.split() and re.match("> |>$", "".join(output[:1])):
                command += "\n" + output.pop(0)[2:]
            typed = [line[2:] for line in output if line.startswith("> ")] if "--chat" in command.split() else []
            found.append(Step(n, end, command, typed, output))
            n = end - 1
        n += 1
    return found


class Typed(Terminal):
    """A command in a terminal."""

    def __init__(self, command, folder, env):
        self.begin(command, folder, env)


class Shell:
    """A shell in a folder, with an environment: run(Step) -> the lines that the terminal would show."""

    def __init__(self, folder, env):
        self.folder, self.env, self.rest = folder, env, b""
        theirs, self.commands = os.pipe()
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-c", f"exec 3<&{theirs} {theirs}<&-; {LOOP}"],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs],
            start_new_session=True,
        )
        os.close(theirs)
        self.marked()

    def marked(self, seconds=120):
        """What came up to the next mark, and the exit code that it tells."""
        end, out = time.monotonic() + seconds, self.process.stdout.fileno()
        while not (found := re.search(rb"\0%s(\d+)\0" % MARK.encode(), self.rest)):
            ready, _, _ = select.select([out], [], [], max(0, end - time.monotonic()))
            block = os.read(out, 65536) if ready else b""
            assert block, f"the shell says no more, after {self.rest!r}"
            self.rest += block
        said, self.rest = self.rest[: found.start()], self.rest[found.end() :]
        return said.decode("utf-8", "replace"), int(found[1])

    def run(self, step):
        if "--chat" in step.command.split():
            return self.talk(step)
        command = step.command
        if BEGINS.search(command):
            command += f" --norc --noprofile -c {shlex.quote(LOOP)}"
        os.write(self.commands, command.encode() + b"\0")
        said, code = self.marked()
        lines = said.removesuffix("\n").split("\n") if said else []
        return lines + [f"(exit code {code})"] * (code != 0)

    def talk(self, step):
        """A command in a terminal of its own, in which lines are typed when it asks for them."""
        terminal = Typed(["bash", "--norc", "--noprofile", "-c", step.command], self.folder, self.env)
        shown = terminal.until(r"(?:^|\n)> $")[:-2]
        for line in step.typed:
            os.write(terminal.fd, line.encode() + b"\n")
            shown += "> " + terminal.until(re.escape(line) + "\n")
            if line != step.typed[-1]:
                shown += terminal.until(r"(?:^|(?<=\n))> $")[:-2]
        code = terminal.leave()
        return shown.removesuffix("\n").split("\n") + [f"(exit code {code})"] * (code != 0)

    def close(self):
        """It ends, and all that it has started."""
        os.close(self.commands)
        try:
            self.process.wait(10)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.stdout.close()


def pattern(line):
    """A line of a transcript as a regular expression."""
    return ".*".join(map(re.escape, line.split(ANY)))


def alike(want, got):
    """Whether lines are those of a transcript."""
    parts = [r"(?:[^\n]*\n)+" if line == ANY else pattern(line) + r"\n" for line in want]
    return re.fullmatch("".join(parts), "".join(line + "\n" for line in got)) is not None


def replayed(path, folder, env):
    """Play a transcript again -> (what differs, as a text of places and lines; the transcript as it would be now)."""
    text = path.read_text()
    lines, differs, shift = text.split("\n"), [], 0
    shell = Shell(folder, env)
    try:
        for step in steps(text):
            got = shell.run(step)
            if alike(step.output, got):
                continue
            told = difflib.unified_diff(step.output, got, "the transcript", "this run", lineterm="", n=1)
            differs.append("\n".join([f"{path.name}:{step.first + 1}: $ {step.command}", *told]))
            last = step.last + shift
            begin = last - len(step.output)
            lines[begin:last] = (now := anew(step.output, got))
            shift += len(now) - len(step.output)
    finally:
        shell.close()
    return "\n".join(differs), "\n".join(lines)


def anew(want, got):
    """Lines as a transcript has them: one that it had stays, what differs from run to run is left out."""
    kept = [line for line in want if ANY in line and line != ANY]
    found = []
    for line in got:
        old = next((old for old in kept if re.fullmatch(pattern(old), line)), None)
        for wild, plain in WILD if old is None else ():
            line = re.sub(wild, plain, line)
        found.append(old or line)
    return found
