"""A chat template is rendered here, once, and becomes fixed pieces."""

import os
import random
import time

from ..errors import ModelError, printable
from ..tokenizer.file import (
    CHAT_DATE,
    CONTROL,
    MARK,
    USER,
    WOVEN,
)
from ..tokenizer.talk import chat_parts
from ..tokenizer.toolform import Seat, read_tools
from .packchat import date_items, marks_in, marks_of, pack_chat, pack_items, pack_tools
from .sandbox import DATE, Refused, render
from .say import say
from .thoughts import FORMS, ROLES, conversation, find_thoughts, strip_probes, strips_of
from .tooltemplate import compile_tools

WORDS = {CONTROL, MARK, USER, WOVEN}  # kinds of tokens that a template may write as such
SYSTEM_MARK, USER_MARK, ASSISTANT_MARK = "Ssystem7q", "Uuser%d7q", "Aassistant%d7q"


def compile_chat(template, special):
    """A Jinja template -> (the pieces of text between contents, by name of CHAT; strips of system,
    user, assistant; thoughts as of chat_parts(); what it writes behind a last answer).

    Renders marked contents, cuts the result at the marks, and then compares 60 random conversations
    with the template's own rendering. Raises ModelError if pieces cannot say what it does.
    """
    talk = [(USER_MARK, ASSISTANT_MARK)[i % 2] % (i // 2) for i in range(5)]
    chats = [
        (conversation(talk[:1]), True),
        (conversation(talk[:1], SYSTEM_MARK), True),
        (conversation(talk[:3]), True),
        (conversation(talk[:2]), False),
    ]
    plain, led, long, last, *probes = render(
        template, special, chats + [chat for role in ROLES for chat in strip_probes(role)]
    )
    for text in (plain, long):
        if isinstance(text, Refused):
            raise ModelError(f"it refuses a plain conversation ({printable(text)[:80]})")
    first, gen = cut(plain, talk[0])
    _, u2a, a2u, _ = cut(long, *talk[:3])
    pieces = {"first": first, "u2a": u2a, "a2u": a2u, "gen": gen}
    try:
        led = "" if isinstance(led, Refused) else led
        pieces["system"], pieces["after_system"], _ = cut(led, SYSTEM_MARK, talk[0])
    except ModelError:
        pass  # no place for a system message, or it is part of the user's
    strips = {
        role: strips_of(role, probes[3 * i : 3 * i + 3], "system" in pieces)
        for i, role in enumerate(ROLES)
    }
    thoughts, word, forms = find_thoughts(template, special, pieces, strips)
    bare = {key: text for key, text in pieces.items() if "system" not in key}
    tries = [(p, t) for p in (pieces, bare) for t in ([thoughts, None] if thoughts else [None])]
    for n, (some, rule) in enumerate(tries, 1):  # some put a system message elsewhere than in front
        try:
            check_chat(template, special, some, strips, rule, forms)
            break
        except ModelError:
            if n == len(tries):
                raise
    if "strftime_now" in template:
        check_dates(template, special, some, chats[: 2 if "system" in some else 1])
    if word and not rule:
        found = f"chat: the template rewrites answers that hold {printable(word)}"
        say(f"{found}, in a way that fixed pieces cannot; here they stay as they are")
    elif rule and forms != FORMS:
        say(f"chat: thoughts leave answers, but for those with more than one {printable(word)}")
    last = cut(last, *talk[:2])[-1] if last.count(talk[0]) == last.count(talk[1]) == 1 else ""
    return some, strips, rule, last


def cut(text, *marks):
    """What lies between marks that stand in a text once each, and around them."""
    parts = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found or mark in text:
            raise ModelError("it leaves a message out, or writes it twice")
        parts.append(before)
    return [*parts, text]


def check_chat(template, special, pieces, strips, thoughts, forms):
    """Raises ModelError if a random conversation reads otherwise when the template itself renders
    it. forms: of answers with thoughts that are tried."""
    rng = random.Random(0)
    words = ["fox", " ", "\n", "  shoe", "é", "🙂", "\n\n", "{{x}}", "'s", "7", "<b>", "\t", "end."]
    word, end = lambda: rng.choice(words), lambda: rng.choice(["x", "x ", "x\n"])
    text = lambda: "".join(word() for _ in range(rng.randint(0, 8))) + end()
    thought = lambda: rng.choice(forms).format(*thoughts[:2], text(), word())
    chats = []
    for _ in range(60):
        system = text() if "system" in pieces and rng.random() < 0.5 else None
        contents = [text() for _ in range(rng.choice([1, 1, 3, 3, 5]))]
        for i in range(1, len(contents), 2):
            contents[i] = (thought() if thoughts and rng.random() < 0.5 else "") + contents[i]
        chats.append((conversation(contents, system), True))
    for (messages, _), want in zip(chats, render(template, special, chats)):
        if "".join(chat_parts(messages, pieces, strips, thoughts)) != want:
            raise ModelError("fixed pieces cannot say what it does")


# two days of which nothing is the same, nor as long
DAYS = (2026, 1, 5, 7, 8, 9, 0, 5, 0), (2033, 12, 31, 23, 59, 58, 5, 365, 0)


def check_dates(template, special, pieces, chats):
    """Raises ModelError if a template does more with today's date than to write it."""
    plain = dict.fromkeys(ROLES, 0)
    for day in DAYS:
        for (messages, _), want in zip(chats, render(template, special, chats, day)):
            text = "".join(chat_parts(messages, pieces, plain))
            parts = [dated(p, day) if i % 2 else p for i, p in enumerate(text.split(DATE))]
            if "".join(parts) != want:
                raise ModelError("it does more with today's date than to write it")


def dated(form, day):
    """A format of today's date on a day, as run.py will write it."""
    rows = date_items(form)
    return "".join(time.strftime(v, day) if kind == CHAT_DATE else v for kind, v in rows)


def add_chat(fields, template, special, prefix_first, named=None, tool_template=None):
    """The fields of a tokenizer with its section "chat". Where there is none, or the template
    cannot be compiled, that is said. named: which of several templates it is; tool_template: the
    one of those that is for tools, if there is one."""
    if not template:
        say("no chat: the source has no chat template; the model completes text")
        return fields
    own = {f"{key}_token": fields.get(key) for key in ("bos", "eos", "unk")}
    name = lambda i: fields["pieces"][i].decode("utf-8", "replace")
    special = {key: name(i) for key, i in own.items() if i is not None} | special
    try:
        pieces, strips, thoughts, last = compile_chat(template, special)
    except ModelError as e:
        found = f"no chat: the template cannot be compiled: {printable(str(e))}"
        say(f"{found}; the model completes text")
        return fields
    if named not in (None, "default"):
        say(f"chat: the template {printable(named)[:40]}")
    if "system" not in pieces:
        say("chat: the template has no place for a system message")
    fields = {
        **fields,
        "types": with_marks(fields, template + "".join(pieces.values()) + (tool_template or "")),
    }
    stops = {*fields.get("stops", ()), *end_marks(fields, last, pieces["a2u"])}
    chat = pack_chat(pieces, strips, fields, prefix_first, thoughts)
    found = tool_form(fields, tool_template or template, special, (pieces, strips, thoughts), stops)
    if found:
        fields["types"], stops, packed = found
        chat += (b"" if thoughts else bytes(2) + pack_items(None)) + packed
    return {**fields, "chat": chat, "stops": sorted(stops)}


def tool_form(fields, template, special, chat, stops):
    """A template's form for tools -> (types, in which its words are marks; the ids that end a text;
    the form as the end of the section "chat"), or None, where there is none, which is said."""
    words = zip(fields["pieces"], fields["types"])
    words = {piece.decode("utf-8", "replace") for piece, kind in words if kind & 15 in WORDS}
    try:
        form = compile_tools(template, special, chat, words)
        if form is None:
            return None
        types = with_marks(fields, "".join(form.between.values()))
        form, stop = with_end({**fields, "types": types}, form, stops)
        packed = pack_tools(form, {**fields, "types": types})
        try:
            read_tools(packed, types)
        except ModelError:
            raise ModelError("its calls cannot be told from text") from None
        return types, stops | {stop} - {None}, packed
    except ModelError as e:
        found = f"chat: its form for tools cannot be compiled: {printable(str(e))}"
        say(f"{found}; tools are told as text")
        return None


def with_end(fields, form, stops):
    """A ToolForm with what ends a message's last call, and the id of the mark that is behind it."""
    last = form.call[-1]
    text = form.between[last, form.back[0]]
    marks = [(text.index(name), i) for name, i in marks_of(fields).items() if name in text]
    control = [row for row in marks if fields["types"][row[1]] & 15 == CONTROL]
    ends = [row for row in marks if row[1] in stops] or control or marks
    if not ends:
        return form._replace(between=form.between | {(last, Seat.END): text}), None
    at, stop = min(ends)
    return form._replace(between=form.between | {(last, Seat.END): text[:at]}), stop


def end_marks(fields, last, between):
    """The mark that ends an answer, in a list: the first behind a last one, or else behind one that
    goes on. If that comes again it ends a part, and the last one that both have ends the whole."""
    marks = marks_in(fields, last) or marks_in(fields, between)
    if marks.count(marks[0] if marks else None) > 1:
        return marks_in(fields, os.path.commonprefix([last, between]))[-1:] or marks[-1:]
    return marks[:1]


def with_marks(fields, text):
    """Types of tokens, in which those that a template writes as marks, in that text, are marks even
    if their file calls them words like others."""
    types = list(fields["types"])
    for i, (piece, kind) in enumerate(zip(fields["pieces"], types)):
        if kind & 15 in (USER, WOVEN):
            word = piece.decode("utf-8", "replace")
            if word in text and set(word) & set("<>[]{}|\uff5c") and word.strip():
                types[i] = MARK | kind & 0xF0
    return types
