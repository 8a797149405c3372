"""Answers in a terminal, broken between words."""

import os
import re
import sys
import unicodedata

from .text import EMOJI, JOINER, tame

CODE_FENCE = re.compile(r"\s*(`{3,}|~{3,})([^`~]*)")  # its mark, what is said of the code
NARROWEST = 20  # columns; fewer are left to the terminal
SKIN_TONES = "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"  # of the emoji before
# The end of a text that may become one emoji with what comes next.
JOINING = re.compile(f"{EMOJI}\ufe0f?(?:{JOINER}{EMOJI}\ufe0f?)*{JOINER}?\\Z")
NEVER_FIRST = "、。，．！？：；）」』】》〉〕"  # of a line, where words have no spaces between them


def columns_of_terminal():
    """Columns of the terminal that stdout is; 0 if it is none, or one that does not say."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError, AttributeError):
        return 0


def columns_of(ch):
    """How many columns a character takes."""
    if unicodedata.category(ch) in ("Mn", "Me", "Cf") or ch in SKIN_TONES:
        return 0
    return 2 if unicodedata.east_asian_width(ch) in "WF" else 1


class Wrapped:
    """A text for a terminal of so many columns, piece by piece: called with what is new of it, it
    gives what can be shown by now, all but the word that is being written; rest() gives that.
    Words that are wider than a line are left to the terminal, and so is what stands in fences."""

    def __init__(self, columns):
        self.most = (
            columns - 1 if columns >= NARROWEST else 0
        )  # a full line folds in some terminals
        self.at, self.line, self.fence = 0, "", ""
        self.space, self.word, self.wide, self.held = "", "", 0, ""
        self.passing = False  # a word that is wider than a line is being shown
        self.after_wide = False

    def __call__(self, text):
        text = self.held + text
        end = JOINING.search(text)
        cut = end.start() if end else len(text)
        self.held = text[cut:]
        return self.broken(text[:cut])

    def rest(self):
        """What is still to be shown."""
        held, self.held = self.held, ""
        return self.broken(held) + self.flushed() + self.spaces()

    def broken(self, text):
        text = tame(text)
        return "".join(map(self.shown, text)) if self.most else text

    def shown(self, ch):
        """What can be shown now that this character has come."""
        if ch == "\n":
            out = self.flushed() + self.spaces() + ch
            self.fence = fence_after(self.fence, self.line)
            self.at, self.line, self.passing = 0, "", False
            return out
        self.line += ch if len(self.line) < 99 else ""
        if self.fence:
            return ch
        if ch in " \t":
            out, self.passing = self.flushed(), False
            self.space += ch
            return out
        wide = columns_of(ch)
        if self.passing:
            self.at = (self.at + wide) % (self.most + 1)
            return ch
        between = (wide == 2 or wide and self.after_wide) and self.word[-1:] != JOINER
        out = self.flushed() if between and ch not in NEVER_FIRST else ""
        self.word, self.wide = self.word + ch, self.wide + wide
        self.after_wide = wide == 2 or not wide and self.after_wide
        if self.wide > self.most:
            out, self.passing = out + self.flushed(), True
        return out

    def flushed(self):
        """The word that is being written, and what stands before it: a space, or a new line."""
        space, word, wide = self.space, self.word, self.wide
        if not word:
            return ""
        self.space, self.word, self.wide, self.after_wide = "", "", 0, False
        start = self.behind(space)
        if self.at and start + wide > self.most:
            space, start = "\n", 0
        self.at = start + wide
        return space + word

    def spaces(self):
        """The spaces at the end of a line, if the line has room for them."""
        space, self.space = self.space, ""
        return space if self.behind(space) <= self.most else ""

    def behind(self, space):
        """The column behind spaces and tabs."""
        at = self.at
        for ch in space:
            at += 8 - at % 8 if ch == "\t" else 1
        return at


def fence_after(fence, line):
    """The mark of the fence that is open behind a line, "" for none. fence: the one before it,
    which is closed by a mark of its kind, as long or longer, with nothing behind it."""
    found = CODE_FENCE.fullmatch(line)
    if not fence:
        return found[1] if found else ""
    closes = found and found[1].startswith(fence) and not found[2].strip()
    return "" if closes else fence
