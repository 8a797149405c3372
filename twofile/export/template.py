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
    chat_parts,
    tokenizer_chat,
)
from .damage import reading
from .sandbox import DATE, render
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
    user, assistant).

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
    if plain is None or long is None:
        raise ModelError("it refuses a plain conversation")

    def cut(text, *marks):
        parts = []
        for mark in marks:
            before, found, text = text.partition(mark)
            if not found or mark in text:
                raise ModelError("it leaves a message out, or writes it twice")
            parts.append(before)
        return [*parts, text]

    first, gen = cut(plain, talk[0])
    _, u2a, a2u, _ = cut(long, *talk[:3])
    pieces = {"first": first, "u2a": u2a, "a2u": a2u, "gen": gen}
    try:
        pieces["system"], pieces["after_system"], _ = cut(led or "", SYSTEM_MARK, talk[0])
    except ModelError:
        pass  # no place for a system message, or it is part of the user's
    strips = {
        role: strips_of(role, probes[3 * i : 3 * i + 3], "system" in pieces)
        for i, role in enumerate(ROLES)
    }
    check_chat(template, special, pieces, strips)
    return pieces, strips


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
    rows = [text.split("7qword", 1) for text in texts if text and "7qword" in text]
    if len(rows) < 3:
        raise ModelError(f"it loses what the {role} says")
    cuts = []
    for side in (0, 1):
        lines, spaces = (rows[0][side] == row[side] for row in rows[1:])
        cuts.append(1 if lines and spaces else 2 if lines else 0)
    return cuts[0] + 3 * cuts[1]


def check_chat(template, special, pieces, strips):
    """Raises ModelError if a random conversation reads otherwise when the template itself renders
    it."""
    rng = random.Random(0)
    words = ["fox", " ", "\n", "  shoe", "é", "🙂", "\n\n", "{{x}}", "'s", "7", "<b>", "\t", "end."]
    word, end = lambda: rng.choice(words), lambda: rng.choice(["x", "x ", "x\n"])
    text = lambda: "".join(word() for _ in range(rng.randint(0, 8))) + end()
    chats = []
    for _ in range(60):
        system = text() if "system" in pieces and rng.random() < 0.5 else None
        contents = [text() for _ in range(rng.choice([1, 1, 3, 3, 5]))]
        chats.append((conversation(contents, system), True))
    for (messages, _), want in zip(chats, render(template, special, chats)):
        if "".join(chat_parts(messages, pieces, strips)) != want:
            raise ModelError("fixed pieces cannot say what it does")


def add_chat(fields, template, special, prefix_first):
    """The fields of a tokenizer with its section "chat"; a template that cannot be compiled is said
    so and left out."""
    try:
        pieces, strips = compile_chat(template, special)
    except ModelError as e:
        found = f"no chat: the template cannot be compiled: {printable(str(e))}"
        say(f"{found}; the model completes text")
        return fields
    chat = pack_chat(pieces, strips, fields, prefix_first)
    after = tokenizer_chat(chat, np.array(fields["types"]))[0]["a2u"]
    ends = [value for kind, value in after if kind == CHAT_ID][:1]  # what an answer ends with
    return {**fields, "chat": chat, "stops": sorted({*fields.get("stops", ()), *ends})}


def pack_chat(pieces, strips, fields, prefix_first):
    """-> the section "chat" of tokenizer.bin: strips; then each piece as a count and items, a
    control token's id, or text."""
    kinds = enumerate(zip(fields["pieces"], fields["types"]))
    with reading():  # a file's texts and tokens may be no UTF-8
        controls = [(piece.decode(), i) for i, (piece, kind) in kinds if kind == CONTROL and piece]
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
        body += struct.pack("<I", NONE if text is None else len(items))
        for kind, value in items:
            raw = struct.pack("<I", value) if kind == CHAT_ID else value
            body += struct.pack("<II", kind, len(raw)) + raw
    return body
