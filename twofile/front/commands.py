"""The commands of a conversation, and what is said in one."""

import contextlib
import os
import re

from ..errors import ModelError, printable
from ..options import nearest
from .editor import editor_named, in_editor, usual_editor
from .keep import keep_talk, kept_talk
from .setting import SET_NAMES, Setting, bare
from .text import as_text, read_text, report, tame

CHAT_HELP = """\
/help, /?         this
/clear, /reset    begin again, with the same system message
/system TEXT      begin again with this system message; without TEXT: with none
/undo             take your last message and its answer back
/regen            another answer to your last message
/edit             write a message in $EDITOR, which begins with your last one
/file PATH TEXT   a text file and TEXT; without TEXT: before your next message
/set NAME VALUE   as the flag: /set temp 0.2; alone: what is set
/show             the model, the context, the system message, what is set
/save FILE        keep the conversation as JSON
/load FILE        go on with a kept one
/tools            what the model may call, and what you said of it
/context          what --memory paged in for your last message
/stats            tokens and speed so far
/exit, /bye       leave (also Ctrl-D)
A paste is one message, and so are lines between \"\"\" and \"\"\"; a line that ends
with \\ goes on in the next. A message that begins with a slash begins with two.
Ctrl-C stops an answer; Tab completes; the arrow keys find what was said.
"""
OTHER_NAMES = {"?": "help", "reset": "clear", "bye": "exit", "quit": "exit"}
TAKES = {"save": "a file", "load": "a file", "file": "a file"}  # what a command needs behind it
TAKES |= {"system": "", "set": "", "help": ""}  # may have
OF_LINES = ("system ", "file ", "set system ")  # what may have several lines behind it
ONE_MODEL = "a conversation has one model, which /show tells; begin another with another"
OTHERWISE = {"models": ONE_MODEL, "model": ONE_MODEL, "read": "a file is read by /file PATH"}


def path_of(text):
    """A path as it is typed: perhaps in quotes, ~ for the user's folder."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return os.path.expanduser(text[1:-1] if quoted else text)


def path_before(text):
    """A path and the text behind it: of a path with spaces, what is in quotes, or is there."""
    end = text.find(text[0], 1) + 1 if text[0] in "'\"" else 0
    if end:
        return path_of(text[:end]), text[end:].strip()
    line, newline, more = text.partition("\n")
    words = line.split(" ")
    ends = range(min(len(words), 40), 1, -1)
    n = next((n for n in ends if os.path.exists(path_of(" ".join(words[:n])))), 1)
    return path_of(" ".join(words[:n])), (" ".join(words[n:]) + newline + more).strip()


def paths_like(text):
    """What a path that is being typed may become."""
    folder, begun = os.path.split(text)
    with contextlib.suppress(OSError, ValueError):
        for entry in sorted(os.scandir(os.path.expanduser(folder) or "."), key=lambda e: e.name):
            hidden = entry.name.startswith(".") and not begun
            if entry.name.startswith(begun) and not hidden and printable(entry.name) == entry.name:
                yield os.path.join(folder, entry.name) + "/" * entry.is_dir()


class Commands:
    """What may be said in a Conversation, with the Settings of its command line: messages, and
    the commands of CHAT_HELP. show(text) tells the user. said: the last message, as it was sent.
    files: texts that go before the next."""

    def __init__(self, talk, args, show):
        self.talk, self.args, self.show = talk, args, show
        self.said, self.files, self.set = "", [], Setting(talk, args)
        self.names = [name[3:] for name in dir(self) if name.startswith("do_")]

    def command(self, line):
        """A line that begins with a slash; -> False to leave."""
        typed, rest = re.fullmatch(r"/(\S*)\s*(.*)", line.rstrip(), re.S).groups()
        name = OTHER_NAMES.get(typed.lower(), typed.lower())
        if name in OTHERWISE:
            raise ModelError(f"/{name} is no command here; {OTHERWISE[name]}")
        if name not in self.names:
            near = name and nearest(name, [*self.names, *OTHER_NAMES])
            near = f"set {name}" if bare(name) in SET_NAMES else near
            hint = f"did you mean /{near}? " if near and near != "help" else ""
            hint += "/help lists them"
            hint += "; // begins a message with a slash" if "/" in name else ""
            raise ModelError(f"/{printable(typed[:80])} is not a command; {hint}")
        if rest and name not in TAKES:
            raise ModelError(f"/{typed} takes nothing behind it")
        if TAKES.get(name) and not rest:
            raise ModelError(f"/{typed} needs {TAKES[name]} behind it")
        if "\n" in rest and not f"{name} {rest}".startswith(OF_LINES):
            raise ModelError(f"/{typed} takes one line; several may stand behind /system, /file")
        return getattr(self, f"do_{name}")(*[rest] * (name in TAKES)) is not False

    def mistaken(self, text):
        """What is told where a message of several lines begins like a command."""
        if "\n" not in text or not re.match(r"/(system|file)\s", text):
            return ""
        return (
            "(several lines at once are a message; those of a command end with \\, but the last)\n"
        )

    def message(self, text):
        """Say a text that was typed; files that wait go before it."""
        self.send("\n".join([*self.files, as_text(os.fsencode(text), "the message")]))

    def send(self, text):
        self.said = text
        text = self.args.screen(text)
        report(self.talk.model, self.args, text)
        self.talk.message(text)
        self.files = []

    def completions(self, line):
        """What a line that begins with a slash may become, whole lines."""
        name, space, rest = line.partition(" ")
        wanted = TAKES.get(name[1:])
        if not space:
            found = [f"/{n} " if n in TAKES else f"/{n}" for n in [*self.names, *OTHER_NAMES]]
        elif name == "/set":
            found = [f"/set {n} " for n in SET_NAMES if len(n) > 1]
        else:
            found = [f"{name} {path}" for path in paths_like(rest)] if wanted else []
        return sorted(whole for whole in found if whole.startswith(line))

    def do_help(self, _):
        self.show(CHAT_HELP)

    def do_exit(self):
        return False

    def do_clear(self):
        self.files = []
        self.talk.begin(self.talk.system)
        kept = ", with the same system message" if self.talk.system else ""
        self.show(f"begun again{kept}\n")

    def do_system(self, text):
        self.talk.begin(self.args.screen(as_text(os.fsencode(text), "the system message")))
        self.files = []
        self.show(f"begun again, with {'this' if text else 'no'} system message\n")

    def do_undo(self):
        if self.files:
            self.files = []
            self.show("took back what /file read\n")
            return
        text = " ".join(self.talk.undo().split())
        text = tame(text if len(text) <= 40 else f"{text[:40]}…")
        left = len(self.talk.messages)
        self.show(f'took back "{text}" and its answer; messages left: {left}\n')

    def do_regen(self):
        self.talk.again()

    def do_edit(self):
        text = in_editor(editor_named() or usual_editor(), self.said, "message.txt")
        if text is None or not text.strip():
            self.show("nothing was saved, nothing is sent\n")
            return
        self.show(f"sent what was saved: {len(text):,} characters\n")
        self.send(text)

    def do_file(self, rest):
        path, question = path_before(rest)
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise ModelError(f"{printable(path)} is not a regular file")  # it might never end
        text = as_text(read_text(f".{os.sep}-" if path == "-" else path), printable(path))
        if not text.strip() or "\0" in text:
            found = "holds no text" if text.strip() else "is empty"
            raise ModelError(f"{printable(path)} {found}")
        if question:
            self.files.append(text)
            try:
                self.message(question)
            finally:
                self.files = self.files[:-1]
            return
        self.talk.check_length("\n".join([*self.files, text]))
        self.files.append(text)
        self.show(f"{printable(path)}: {len(text):,} characters go before your next message\n")

    def do_set(self, rest):
        word, _, others = rest.partition(" ")
        if word == "system":
            self.do_system(others.strip())
        else:
            self.show(self.set(others.strip() if word == "parameter" else rest))

    def do_show(self):
        talk = self.talk
        rows = {
            "model": printable(talk.model.file.path),
            "context": f"{len(talk.model.fed)} of {talk.model.n_ctx} tokens",
            "messages": str(len(talk.messages)),
            "system": tame(talk.system or "none").replace("\n", "\n" + " " * 10),
            "set": self.set.changed() or "nothing",
        }
        self.show("".join(f"{name:9} {text}\n" for name, text in rows.items()))

    def do_tools(self):
        self.show(self.talk.usage.listed())

    def do_context(self):
        self.show(self.talk.recall.context())

    def do_stats(self):
        talk = self.talk
        written = f"{talk.new} written at {talk.new / max(talk.seconds, 1e-9):.1f} t/s"
        read = f"{len(talk.model.fed)} of {talk.model.n_ctx} tokens in the context"
        self.show(f"{read}, {written}, seed {talk.seed}\n")

    def do_save(self, rest):
        path = path_of(rest)
        instead = ", instead of what was there" if keep_talk(path, self.talk.messages) else ""
        n = len(self.talk.messages)
        self.show(f"saved {n} message{'s' * (n != 1)} to {printable(path)}{instead}\n")

    def do_load(self, rest):
        path = path_of(rest)
        name, messages = printable(path), kept_talk(path)
        try:
            self.talk.take(messages)
        except ModelError as e:
            raise ModelError(f"{name}: {e}") from None
        n = len(messages)
        self.show(f"loaded {n} message{'s' * (n != 1)} from {name}\n")
