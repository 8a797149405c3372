"""The keyboard of a conversation: lines, pastes, messages in quotes."""

import contextlib
import os
import select
import sys

from ..errors import ModelError

QUOTES = '"""'  # around a message of several lines
RECALLED_MOST = 1000  # messages that the arrow keys find


def line_editor():
    """The module readline, or None."""
    try:
        import readline
    except ImportError:
        return None
    return readline


def as_bytes(text):
    """A text as readline takes it in any locale, also where the locale has only ASCII."""
    return os.fsencode(text).decode("ascii", "surrogateescape")


def is_waiting():
    """Whether more has been typed, or pasted, than the line that was read."""
    try:
        import termios

        fd = sys.stdin.fileno()
        state, bare = termios.tcgetattr(fd), termios.tcgetattr(fd)
        bare[3] &= ~termios.ICANON  # a line that has not ended counts
        termios.tcsetattr(fd, termios.TCSANOW, bare)
        try:
            return bool(select.select([fd], [], [], 0.02)[0])
        finally:
            termios.tcsetattr(fd, termios.TCSANOW, state)
    except (ImportError, OSError, ValueError, termios.error):
        return False


class Keyboard:
    """What is typed. history: a History. Attribute completions(line): what a line that begins with
    a slash may become, whole lines."""

    def __init__(self, history):
        self.history, self.completions, self.found = history, lambda line: [], []
        self.editor, self.last = line_editor(), ""
        self.is_gnu = self.editor is not None and "libedit" not in (self.editor.__doc__ or "")
        if self.editor:
            self.editor.set_auto_history(False)  # a message of several lines is one entry
            self.editor.set_completer_delims(" /")
            self.editor.set_completer(self.complete)
            dumb = os.environ.get("TERM", "dumb") in ("dumb", "")
            asked = ["tab: complete", *["set enable-bracketed-paste on"] * (not dumb)]
            for line in asked if self.is_gnu else ["bind ^I rl_complete"]:
                self.editor.parse_and_bind(line)
            for text in history.texts():
                self.recall(text)

    def line(self, prompt):
        """A line of the terminal, or the lines of a paste."""
        line = input(prompt)
        while not self.is_gnu and is_waiting():
            line += "\n" + input()  # it knows no pastes: what comes at once is one
        return line.rstrip("\n")

    def message(self):
        """What the user says -> (its text, whether it may be a command): what several lines were
        pasted of, or what stands in quotes, is never one. Raises EOFError at the end of it all."""
        typed = line = self.line("> ")
        plain, begun = "\n" not in line, False
        try:
            if plain and line.startswith(QUOTES):
                typed, line, plain = *self.quoted(line), False
            while plain and line.endswith("\\"):
                begun = True
                line = line[:-1] + "\n" + self.line(". ")
        except EOFError:
            raise ModelError("\nthe message is given up; Ctrl-D once more leaves") from None
        if not begun or not line.startswith("/"):
            self.keep(line if begun else typed)
        return line, plain

    def quoted(self, line):
        """A message in quotes, of which there is a line -> (what gives it once more, its text)"""
        text = line[len(QUOTES) :]
        while not text.rstrip().endswith(QUOTES):
            text += "\n" + self.line(". ")
        text = text.rstrip()[: -len(QUOTES)]
        text = text.removeprefix("\n").removesuffix("\n")
        return (text if "\n" in text else f"{QUOTES}{text}{QUOTES}"), text

    def keep(self, text):
        """Put what was typed where the arrow keys find it, now and in later conversations."""
        if text.strip() and text != self.last:
            self.recall(text)
            self.history.add(text)

    def recall(self, text):
        """Put a text where the arrow keys find it."""
        if self.editor and text[:1] != " ":
            while self.editor.get_current_history_length() >= RECALLED_MOST:
                self.editor.remove_history_item(0)
            with contextlib.suppress(ValueError):  # letters that the locale has not
                self.editor.add_history(as_bytes(text))
            self.last = text

    def complete(self, text, number):
        """readline's completer: text is the end of the line, behind a space or a slash."""
        if not number:
            line = self.editor.get_line_buffer()[: self.editor.get_endidx()]
            begin = len(line) - len(text)
            found = self.completions(line) if line.startswith("/") else [line + "\t"]
            self.found = [whole[begin:] for whole in found]
        return self.found[number] if number < len(self.found) else None

    def ask(self, prompt, text=""):
        """A line that is no message; text stands in it, where there is readline to edit it."""
        if not self.editor:
            return input(prompt)
        self.editor.set_startup_hook(lambda: self.editor.insert_text(as_bytes(text)))
        try:
            return input(prompt)
        finally:
            self.editor.set_startup_hook()
