"""What a command line is made of: flags, their groups in --help, modes."""

import argparse
import math
import os
import sys

from ..errors import ModelError, printable, say

SET_BY = {  # options of the library, and what messages name on a command line in their place
    **{"tokenizer": "-z", "n_ctx": "-c", "n_threads": "-t", "id": "--id"},
    **{"cache_size": "--cache-size", "cache_dir": "--cache-dir", "load_cache()": "--prompt-cache"},
    **{"verify()": "--verify", "info": "--info"},
    **{"memory": "--memory", "tools": "--tools", "mcp": "--mcp"},
}


def unwritten_text(e):
    """Say that standard output takes no more, unless its reader has gone; -> exit code. e: the
    OSError."""
    code = 141 if isinstance(e, BrokenPipeError) else 1  # run.py … | head is no error
    if code == 1:
        found = f"standard output cannot be written ({e.strerror})"
        say(f"error: {found}; expected room for the text; free some")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


class Parser(argparse.ArgumentParser):
    """argparse's, whose complaints cannot drive a terminal, and whose help is not lost unsaid."""

    def error(self, message):
        super().error(printable(message))

    def _print_message(self, message, file=None):
        try:
            print(message, end="", file=file or sys.stderr, flush=True)
        except OSError as e:
            sys.exit(unwritten_text(e))


class Flag:
    """A flag: its names, and in how what argparse is told of it.

    some: it goes with some modes only, those that name it in flags or fits.
    dashed: its value may begin with a dash.
    numeric: its value is a number, though argparse is told of no type.
    least, most, means: of a number, and how the range is said.
    needs: flags of which one must be there too. lacks: what is said if none is.
    """

    def __init__(
        self,
        *names,
        some=False,
        dashed=False,
        least=-math.inf,
        most=math.inf,
        means="",
        needs=(),
        lacks="",
        numeric=False,
        **how,
    ):
        self.names, self.how, self.some, self.dashed = names, how, some, dashed
        self.least, self.most, self.means = least, most, means
        self.needs, self.lacks = needs, lacks
        self.long = next((name for name in names if name.startswith("--")), names[0])
        self.numeric = numeric or "type" in how
        self.takes = how.get("action") in (None, "append")  # a value
        self.several = how.get("nargs") == "+"
        self.field = how.get("dest") or self.long.lstrip("-").replace("-", "_")

    def lacking(self, text):
        """What is expected where text is no value of it, or None."""
        choices, kind = self.how.get("choices"), self.how.get("type", str)
        if choices and text not in choices:
            return f"one of {', '.join(choices)}"
        try:
            kind(text)
        except argparse.ArgumentTypeError as e:
            return str(e)
        except ValueError:
            return {int: "a whole number", float: "a number"}[kind]
        return None

    def value(self, given):
        """What argparse found for it."""
        return getattr(given, self.field)

    def is_given(self, given):
        """Whether the command line has it; a number may be 0, which is equal to False."""
        return self.value(given) is not None and self.value(given) is not False


class Group:
    """Flags under a title of --help, in its order; ... stands for those of the group's modes."""

    def __init__(self, title, *flags):
        self.title, self.flags = title, flags

    def members(self, modes):
        """The flags of the group, with those of modes in their place -> [Flag]"""
        theirs = [flag for mode in modes if mode.group is self for flag in mode.flags]
        return [f for flag in self.flags for f in (theirs if flag is ... else [flag])]


class Mode:
    """A thing that the program does, one at a time.

    run(model, settings) does it; -> exit code, or None for 0.
    flags: its own, as --help lists them in group; the first one asks for the mode.
    fits: of the common flags that go with some modes only, those that go with this one.
    check(settings) raises a ModelError for what it cannot begin with.
    template: it talks through the model's chat template, or not at all.
    line: it has a command line of its own: line(argv, usual model) -> exit code, instead of run
    and check.
    """

    def __init__(
        self, run=None, group=None, flags=(), fits=(), check=None, template=False, line=None
    ):
        self.run, self.group, self.flags, self.fits = run, group, flags, fits
        self.check, self.template, self.line = check or prompted, template, line

    @property
    def name(self):
        return self.flags[0].long if self.flags else "plain text"

    def is_asked_for(self, given):
        return bool(self.flags) and self.flags[0].is_given(given)

    def takes(self, flag):
        return not flag.some or flag in self.flags or flag in self.fits


def prompted(settings):
    """The check of a mode that reads a prompt: it is there, or a file or pipe to read it from."""
    if settings.promptless:
        raise ModelError("no prompt; give -p TEXT, -f FILE, or a pipe")


def unprompted(settings):
    """The check of a mode that reads no prompt, and would leave one unread."""
    given = {"-p": settings.prompt, "-f": settings.file}
    for name, value in given.items():
        if value is not None:
            raise ModelError(f"{name} does nothing with {settings.mode.name}; leave it out")
