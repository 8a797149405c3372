"""A chat template is rendered here, once, and becomes fixed pieces."""

import random
import re
import struct

import numpy as np

from ..errors import ModelError, printable
from ..format.fields import NONE
from ..tokenizer.file import (
    CHAT,
    CHAT_DATE,
    CHAT_ID,
    CHAT_TEXT,
    CONTROL,
    MARK,
    USER,
    WOVEN,
    chat_parts,
    tokenizer_chat,
)
from .damage import reading
from .sandbox import DATE, Refused, render
from .say import say

ROLES = ("system", "user", "assistant")
SYSTEM_MARK, USER_MARK, ASSISTANT_MARK = "Ssystem7q", "Uuser%d7q", "Aassistant%d7q"


def conversation(contents, system=None):
    """[u0, a0, u1, …] -> messages."""
    roles = [
        {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)
    ]
    return ([] if system is None else [{"role": "system", "content": system}]) + roles


def compile_chat(template, special):
    """A Jinja template -> (the pieces of text between contents, by name of CHAT; strips of system,
    user, assistant; thoughts as of chat_parts()).

    Renders marked contents, cuts the result at the marks, and then compares 60 random conversations
    with the template's own rendering. Raises ModelError if pieces cannot say what it does.
    """
    talk = [(USER_MARK, ASSISTANT_MARK)[i % 2] % (i // 2) for i in range(5)]
    chats = [
        (conversation(talk[:1]), True),
        (conversation(talk[:1], SYSTEM_MARK), True),
        (conversation(talk[:3]), True),
    ]
    plain, led, long, *probes = render(
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
    thoughts = find_thoughts(template, special)
    if "system" in pieces:
        try:
            check_chat(template, special, pieces, strips, thoughts)
            return pieces, strips, thoughts
        except ModelError:  # some put it elsewhere than in front
            del pieces["system"], pieces["after_system"]
    check_chat(template, special, pieces, strips, thoughts)
    return pieces, strips, thoughts


def cut(text, *marks):
    """What lies between marks that stand in a text once each, and around them."""
    parts = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found or mark in text:
            raise ModelError("it leaves a message out, or writes it twice")
        parts.append(before)
    return [*parts, text]


def strip_probes(role):
    """Conversations whose content of that role is bare, between line ends, and between spaces."""
    chats = []
    for word in ("7qword", "\n7qword\n", " 7qword "):
        talk = ["a7q", "b7q", "c7q"]
        if role != "system":
            talk[ROLES.index(role) - 1] = word
        chats.append((conversation(talk, word if role == "system" else None), True))
    return chats


def strips_of(role, texts, has_system):
    """What the template cuts off a content of this role: a number as in STRIPS."""
    if role == "system" and not has_system:
        return 0
    there = [text for text in texts if not isinstance(text, Refused)]
    rows = [text.split("7qword", 1) for text in there if "7qword" in text]
    if len(rows) < 3:
        raise ModelError(f"it loses what the {role} says")
    cuts = []
    for side in (0, 1):
        lines, spaces = (rows[0][side] == row[side] for row in rows[1:])
        cuts.append(1 if lines and spaces else 2 if lines else 0)
    return cuts[0] + 3 * cuts[1]


QUOTED = re.compile(r"""(['"])([^'"\s\\]{3,40})\1""")  # words that a template writes or looks for


def find_thoughts(template, special):
    """How a template leaves out of former answers what their writer thought -> thoughts as of
    chat_parts(), or None. Every word in it that might end a thought is tried."""
    words = dict.fromkeys(word for _, word in QUOTED.findall(template) if set(word) & set("<>[]|"))
    talk = lambda text: (conversation(["a7q", text, "c7q"]), True)
    ends = [word for word in words if "/" in word or "|" in word or "END" in word.upper()][:40]
    whole = render(template, special, [talk(f"7qthought{end}7qword") for end in ends])
    lost = [e for e, text in zip(ends, whole) if "7qword" in text and f"t{e}7q" not in text]
    for end in lost:
        for start in ["", *(word for word in words if word != end)]:
            kept, thought = ("", start) if not start else ("7qkept", start)
            before = f"{kept}{thought}7qthought{end}"
            texts = [before + side for side in ("7qword", "\n7qword\n", " 7qword ")]
            made = render(template, special, [talk(text) for text in texts])
            if any(isinstance(text, Refused) or "7qthought" in text for text in made):
                continue
            if any(kept not in text or end + "7q" in text for text in made):
                continue
            return start, end, strips_of("assistant", made, True)
    if lost:
        found = f"chat: the template rewrites answers that hold {printable(lost[0])}"
        say(f"{found} in a way that is not known; here they stay as they are")
    return None


def check_chat(template, special, pieces, strips, thoughts):
    """Raises ModelError if a random conversation reads otherwise when the template itself renders
    it."""
    rng = random.Random(0)
    words = ["fox", " ", "\n", "  shoe", "é", "🙂", "\n\n", "{{x}}", "'s", "7", "<b>", "\t", "end."]
    word, end = lambda: rng.choice(words), lambda: rng.choice(["x", "x ", "x\n"])
    text = lambda: "".join(word() for _ in range(rng.randint(0, 8))) + end()
    thought = lambda: f"{thoughts[0]}{text()}{thoughts[1]}{rng.choice(['', word()])}"
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


def add_chat(fields, template, special, prefix_first, named=None):
    """The fields of a tokenizer with its section "chat". Where there is none, or the template
    cannot be compiled, that is said. named: which of several templates it is."""
    if not template:
        say("no chat: the source has no chat template; the model completes text")
        return fields
    try:
        pieces, strips, thoughts = compile_chat(template, special)
    except ModelError as e:
        found = f"no chat: the template cannot be compiled: {printable(str(e))}"
        say(f"{found}; the model completes text")
        return fields
    if named not in (None, "default"):
        say(f"chat: the template {printable(named)[:40]}")
    if "system" not in pieces:
        say("chat: the template has no place for a system message")
    fields = {**fields, "types": with_marks(fields, template + "".join(pieces.values()))}
    chat = pack_chat(pieces, strips, fields, prefix_first, thoughts)
    items = tokenizer_chat(chat, np.array(fields["types"]))[0]
    ends = [value for kind, value in items["a2u"] if kind == CHAT_ID][:1]
    if ends_part(items):
        ends = []
    return {**fields, "chat": chat, "stops": sorted({*fields.get("stops", ()), *ends})}


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


def ends_part(items):
    """Whether an answer's last mark ends but a part of it: if the model itself writes marks before
    what it says, as it does for each part, that do not stand around nothing."""
    gen, before = items["gen"], items["u2a"]
    more = before[len(gen) :] if before[: len(gen)] == gen else ()
    marks = [value for kind, value in more if kind == CHAT_ID]
    around = len(marks) == 2 and len(more) <= 4  # an empty thought
    return bool(marks) and not around


def pack_chat(pieces, strips, fields, prefix_first, thoughts=None):
    """-> the section "chat" of tokenizer.bin: strips; then each piece as a count and items, a
    control token's id, or text; then what is left out of answers, if anything is."""
    kinds = enumerate(zip(fields["pieces"], fields["types"]))
    with reading():  # a file's texts and tokens may be no UTF-8
        rows = ((piece, i) for i, (piece, kind) in kinds if kind & 15 in (CONTROL, MARK) and piece)
        controls = [(piece.decode(), i) for piece, i in rows]
        for text in pieces.values():
            (text or "").encode()
    forms = [re.escape(text) for text, _ in sorted(controls, key=lambda row: -len(row[0]))]
    pattern, ids = re.compile("|".join(forms + [f"{DATE}[^{DATE}]*{DATE}"])), dict(controls)
    body = bytes(strips[role] for role in ROLES) + bytes([prefix_first])
    for name in CHAT:
        items, at, text = [], 0, pieces.get(name)
        for m in pattern.finditer(text or ""):
            items += [(CHAT_TEXT, text[at : m.start()].encode())] if at < m.start() else []
            dated = m[0].startswith(DATE)
            items.append((CHAT_DATE, m[0].strip(DATE).encode()) if dated else (CHAT_ID, ids[m[0]]))
            at = m.end()
        items += [(CHAT_TEXT, text[at:].encode())] if at < len(text or "") else []
        body += pack_items(None if text is None else items)
    if thoughts:
        start, end, strip = thoughts
        body += bytes([strip])
        body += pack_items([(CHAT_TEXT, start.encode()), (CHAT_TEXT, end.encode())])
    return body


def pack_items(items):
    """A piece of the section "chat"; None = there is none."""
    body = struct.pack("<I", NONE if items is None else len(items))
    for kind, value in items or ():
        raw = struct.pack("<I", value) if kind == CHAT_ID else value
        body += struct.pack("<II", kind, len(raw)) + raw
    return body
