"""Text from outside, text for a terminal; the prompt."""

import os
import re
import sys
from collections import Counter

from ..errors import ModelError, printable, say
from ..files import Unmarked, open_regular
from ..format.foreign import SOUND, refuse_foreign
from ..unseen import INVISIBLE, counted, unseen_in

UNSEEN = re.compile(
    "[\x7f-\x9f\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)


def dump(value):
    """One line of JSON as bytes; what could drive a terminal is escaped, to JSON the same."""
    import json

    escaped = lambda m: "\\u007f" if m[0] == "\x7f" else json.dumps(m[0])[1:-1]
    return UNSEEN.sub(escaped, json.dumps(value, ensure_ascii=False)).encode() + b"\n"


TEXT_MAX = 1 << 27  # bytes of a prompt


class Textless(ModelError):
    """A prompt was to be read, and there is none: wrong usage."""


ESCAPED = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([nrt\\'\"]))")
MEANING = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def unescaped(text):
    """A word of a command line with what llama.cpp's -e knows, as \\n or \\x41, put in its place;
    other backslashes stay."""
    means = lambda m: bytes.fromhex(m[1].decode()) if m[1] else MEANING.get(m[2], m[2])
    return os.fsdecode(ESCAPED.sub(means, os.fsencode(text)))


def ended(text):
    """What is still to be written so that a text which is there ends with a newline."""
    return "\n" if text and text[-1] != "\n" else ""


def read_text(path):
    """The bytes of a file, - = stdin, as UTF-8, without a newline at the end and a byte order mark
    at the beginning."""
    name = "standard input" if path == "-" else printable(path)
    if path == "-":
        raw = sys.stdin.buffer.read(TEXT_MAX + 1) if sys.stdin else b""
    else:
        fd, _ = open_regular(path, "a text file", pipes=True)
        with os.fdopen(fd, "rb") as f:
            raw = f.read(TEXT_MAX + 1)
    refuse_binary(raw, path, "a text")
    if len(raw) > TEXT_MAX:
        raise ModelError(
            f"{name}: more than {TEXT_MAX:,} bytes, expected a prompt of less; give a part of it"
        )
    raw = Unmarked(name)(raw, final=True)
    return raw.removesuffix(b"\n").removesuffix(b"\r") if raw.endswith(b"\n") else raw


def refuse_binary(raw, path, wants):
    """ModelError for the beginning of a known file that is none of text."""
    if b"\0" in raw[:4096]:
        where = "standard input: " if path == "-" else f"{printable(path)}: "
        refuse_foreign(raw[:4096], wants, dict.fromkeys(SOUND, "give a file of text"), where)


def as_text(raw, what):
    """bytes -> str: what is not UTF-8 becomes U+FFFD, and it says so."""
    text = raw.decode("utf-8", "replace")
    if "\ufffd" in text and text.encode() != raw:
        say(f"{what} is not UTF-8; bytes that are not were replaced by U+FFFD")
    return text


class Screen:
    """Finds invisible characters in texts, with clean takes them out; report() tells of them."""

    def __init__(self, clean=False):
        self.clean, self.unseen, self.told = clean, Counter(), set()

    def __call__(self, text):
        """text, with clean without its invisible characters."""
        if text.isascii():
            return text
        self.unseen.update(unseen_in(text))
        return INVISIBLE.sub("", text) if self.clean else text

    def report(self, notice, text="", marks=(), where="the prompt"):
        """Say what was found since the last time, and once each which marks stand in text; where
        that is, is for messages."""
        if self.unseen:
            done = "taken out" if self.clean else "the model reads them; --clean takes them out"
            notice(f"{counted(self.unseen, where)}: {done}")
            self.unseen.clear()
        for mark in (m for m in marks if m in text and m not in self.told):
            self.told.add(mark)
            notice(
                f"{where} has {printable(mark)!r}, plain text in this model's template too: "
                "it may pass for a turn"
            )


SHOWN = (  # spaces of all widths
    "\n\t\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)


# Letters that emoji are made of, and what joins two to one; elsewhere nobody would see it.
EMOJI, JOINER = "[\u2190-\u21ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff]", "\u200d"
JOINED = re.compile(f"(?:(?<={EMOJI})|(?<={EMOJI}\ufe0f)){JOINER}(?={EMOJI})")


def tame(text):
    """Text for a terminal, which what a model writes must not drive."""
    plain = lambda part: "".join(ch if ch in SHOWN else printable(ch) for ch in part)
    return JOINER.join(map(plain, JOINED.split(text)))


def read_prompt(model, args):
    """The prompt as text: a file's or a pipe's, with -p behind it. Raises Textless for an empty
    one: what was to fill it has failed."""
    path = "-" if args.prompt is None and args.file is None else args.file
    raw = b"" if path is None else read_text(path)
    if path is not None and not raw:
        name = "standard input" if path == "-" else printable(path)
        raise Textless(f"{name} is empty, expected a prompt; give text, or -p TEXT alone")
    if args.prompt is not None:
        raw += b"\n" * (path is not None) + os.fsencode(args.prompt)
    text = args.screen(as_text(raw, "the prompt"))
    report(model, args, text)
    return text


def read_system(args):
    """What the model is told first, from its flag or file, or None."""
    if args.system_file is not None:
        text = as_text(read_text(args.system_file), "the system prompt")
    elif args.system is not None:
        text = as_text(os.fsencode(args.system), "the system prompt")
    else:
        return None
    return args.screen(text)


def report(model, args, text):
    """Say what was found in a prompt, also which marks of the model's template stand in it."""
    marks = model.tokenizer.markers() if model.tokenizer and not args.raw else ()
    args.screen.report(model.notice, text, marks)


def prompt_ids(model, args, prompt, recall=None, raw=False):
    """A prompt (str, or ids) -> ids: as a user's message if the model has a chat template, or else,
    and where it is asked for raw, as it is; behind it what its answer begins with.
    recall(messages): what they become, if that is given."""
    if isinstance(prompt, list):
        return prompt
    tokenizer = model.need_tokenizer()
    if raw or args.raw or not (tokenizer.chat or args.mode.template or args.system or recall):
        return tokenizer.encode(model.short(prompt + args.begun))
    if not prompt:
        raise Textless("the prompt is empty, expected a message; give text")
    system = [{"role": "system", "content": args.system}] if args.system else []
    messages = [*system, {"role": "user", "content": prompt}]
    return model.encode_chat(recall(messages) if recall else messages, begun=args.begun)
