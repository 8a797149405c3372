"""Answers in a terminal, broken between words."""

import os
import re
import sys
import unicodedata

from .text import tame

CODE_FENCE = re.compile(r"\s*(```[^`]*|~~~.*)")
NARROWEST = 20  # columns; fewer are left to the terminal
NEVER_FIRST = "、。，．！？：；）」』】》〉〕"  # of a line, where words have no spaces between them


def columns_of_terminal():
    """Columns of the terminal that stdout is; 0 if it is none, or one that does not say."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError, AttributeError):
        return 0


def columns_of(ch):
    """How many columns a character takes."""
    if unicodedata.category(ch) in ("Mn", "Me", "Cf"):
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
        self.at, self.line, self.fenced = 0, "", False
        self.space, self.word, self.wide = "", "", 0
        self.passing = False  # a word that is wider than a line is being shown
        self.after_wide = False

    def __call__(self, text):
        text = tame(text)
        return "".join(map(self.shown, text)) if self.most else text

    def shown(self, ch):
        """What can be shown now that this character has come."""
        if ch == "\n":
            out = self.rest() + ch
            self.fenced ^= bool(CODE_FENCE.fullmatch(self.line))
            self.at, self.line, self.passing = 0, "", False
            return out
        self.line += ch if len(self.line) < 99 else ""
        if self.fenced:
            return ch
        if ch in " \t":
            out, self.passing = self.rest(), False
            self.space += ch
            return out
        wide = columns_of(ch)
        if self.passing:
            self.at = (self.at + wide) % (self.most + 1)
            return ch
        between = wide == 2 or wide and self.after_wide
        out = self.rest() if between and ch not in NEVER_FIRST else ""
        self.word, self.wide = self.word + ch, self.wide + wide
        self.after_wide = wide == 2 or not wide and self.after_wide
        if self.wide > self.most:
            out, self.passing = out + self.rest(), True
        return out

    def rest(self):
        """The word that is being written, and what stands before it: a space, or a new line."""
        space, word, wide = self.space, self.word, self.wide
        if not word:
            return ""
        self.space, self.word, self.wide, self.after_wide = "", "", 0, False
        start = self.at
        for ch in space:
            start += 8 - start % 8 if ch == "\t" else 1
        if self.at and start + wide > self.most:
            space, start = "\n", 0
        self.at = start + wide
        return space + word
