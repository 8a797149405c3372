"""Calls of tools, read in what is written."""

import json
import math
import random
import re
from typing import NamedTuple

from .callform import CallForm
from .errors import WrongType, shown
from .plain import is_list
from .tokenizer.toolform import Seat

OUTSIDE_STRINGS = re.compile(r'[^"{}\[\]]*')
INSIDE_STRING = re.compile(r'(?:[^"\\]|\\.)*', re.DOTALL)
LINE_ENDS = 16  # that are held back, since a call may follow


NOT_YET = (0, 0, False)  # of JSON: where it was looked at, how deep, whether inside of a string


class ToolCall(NamedTuple):
    """A call that a model wrote. arguments: JSON, an object."""

    name: str
    arguments: str
    id: str


class Reader:
    """Tells texts from calls in what is written, piece by piece. Line ends around a call are no
    text; nor is a call that was cut. form: a CallForm. names: of tools that there are."""

    def __init__(self, form: CallForm, names: list[str]) -> None:
        if not isinstance(form, CallForm):
            raise WrongType(f"form is {shown(form)}, expected a CallForm; give a Model's calls")
        if not is_list(names) or not all(isinstance(name, str) for name in names):
            raise WrongType(f"names is {shown(names)}, expected a list of tools' names; give one")
        self.names, self.held, self.behind = names, "", False
        self.begun, self.scanned = False, NOT_YET  # whether a call is read; how far its JSON was
        self.bare = form.bare  # until it is known whether the text begins so
        self.fresh = True  # whether nothing was told yet
        self.use(form)

    def use(self, form: CallForm) -> None:
        """Read calls of a CallForm."""
        self.form, self.opens, self.close = form, form.opens, form.text(form.close)
        self.more = None if form.more is None else form.text(form.more)
        self.between = [form.text(piece) for piece in form.between]

    def push(self, text: str, end: bool = False) -> list[str | ToolCall]:
        """-> [str or ToolCall] that are certain by now."""
        self.held += text
        found = []
        if self.bare and self.held:
            if self.bare.opens.startswith(self.held) and not end:
                return found
            if self.held.startswith(self.bare.opens):
                self.use(self.bare)
            self.bare = None
        while self.held:
            if not self.begun:
                at = self.place(self.opens)
                if at < 0:
                    self.say(found, self.certain(end))
                    break
                self.say(found, len(self.held[:at].rstrip("\n")))
                self.held = self.held[self.held.index(self.opens) + len(self.opens) :]
                self.begun, self.scanned = True, NOT_YET
            size = self.next_call(found, end)
            if size is None:
                if end and self.fresh and not self.form.lone:  # an answer in JSON, which begins so
                    found.append(self.opens + self.held)
                break  # more of it comes, or it was cut
            self.held, self.scanned, self.behind = self.held[size:], NOT_YET, True
        return found

    def next_call(self, found: list[str | ToolCall], end: bool) -> int | None:
        """Take the call that held begins with -> its size with what follows it; None if it is not
        whole yet."""
        at, parts = 0, {}
        for kind, behind in zip(self.form.order, [*self.between, None]):
            size = self.part(kind, at, behind)
            if size is None:
                return None
            parts[kind] = self.held[at : at + size]
            at += size + len(behind or "")
        rest = self.held[at:]
        # what is between two calls may begin as what ends the last
        again = self.more is not None and not self.more.endswith(self.opens)
        if again and self.more.startswith(rest) and rest != self.more and not end:
            return None
        goes_on = again and rest.startswith(self.more)
        if not goes_on and not rest.startswith(self.close):
            return None
        self.begun, self.fresh = goes_on, False
        call = self.read(parts)
        found += [call] if call else []
        return at + len(self.more if goes_on else self.close)

    def part(self, kind: str, at: int, behind: str | None) -> int | None:
        """The size of a call's part that begins at a place; behind: the text that ends it, None for
        what ends a call. None if it is not whole yet."""
        if kind == Seat.ARGUMENTS:
            end = self.json_end(at)
            return end - at if end >= 0 and self.held.startswith(behind or "", end) else None
        ends = (behind,) if behind is not None else (self.close, self.more or self.close)
        places = [n for n in (self.held.find(text, at) for text in ends) if n >= 0]
        return min(places) - at if places else None

    def place(self, begin: str) -> int:
        """Where a call begins so in what is held; -1 if none does. Where no text can be in front of
        one it is at the beginning, or behind another call."""
        if self.form.beside is not None:
            return self.held.find(begin)
        return 0 if (self.fresh or self.behind) and self.held.startswith(begin) else -1

    def json_end(self, at: int) -> int:
        """Where the JSON ends that begins at a place; -1 if it is not whole yet."""
        place, depth, inside = self.scanned if self.scanned[0] >= at else (at, 0, False)
        while True:
            place = (INSIDE_STRING if inside else OUTSIDE_STRINGS).match(self.held, place).end()
            if place >= len(self.held) or inside and self.held[place] != '"':
                self.scanned = (place, depth, inside)
                return -1
            c, place = self.held[place], place + 1
            inside ^= c == '"'
            depth += (c in "{[") - (c in "}]")
            if depth <= 0 and not inside and c != '"':
                self.scanned = NOT_YET
                return place

    def say(self, found: list[str | ToolCall], n: int) -> None:
        """The first n characters of what is held are text."""
        text, self.held = self.held[:n], self.held[n:]
        text = text.lstrip("\n") if self.behind else text
        text = "".join(c for c in text if not 0xD800 <= ord(c) < 0xE000)
        if text:
            found.append(text)
            self.behind = self.fresh = False

    def certain(self, end: bool) -> int:
        """How much of what is held is text: not what may begin a call, nor line ends before it. At
        the end, not what began one and was cut."""
        if end:
            at = self.place(self.form.mark)
            return len(self.held if at < 0 else self.held[:at].rstrip("\n"))
        if self.form.beside is None and not (self.fresh or self.behind):
            return len(self.held)
        sizes = range(min(len(self.opens) - 1, len(self.held)), 0, -1)
        n = next((n for n in sizes if self.held.endswith(self.opens[:n])), 0)
        rest = self.held[: len(self.held) - n]
        ends = len(rest) - len(rest.rstrip("\n"))
        return len(rest) - min(ends, LINE_ENDS)

    def read(self, parts: dict[str, str]) -> ToolCall | None:
        """A call, if it is one of a tool that there is: its arguments as they are written."""
        try:
            arguments = json.loads(parts[Seat.ARGUMENTS], parse_float=finite)
        except (ValueError, RecursionError):
            return None
        if parts[Seat.NAME] not in self.names or not isinstance(arguments, dict):
            return None
        number = parts.get(Seat.ID) or f"call_{random.getrandbits(96):024x}"
        return ToolCall(parts[Seat.NAME], parts[Seat.ARGUMENTS], number)


def finite(text):
    """A number that JSON may have in any program."""
    if math.isinf(value := float(text)):
        raise ValueError(f"{text} is too large")
    return value
