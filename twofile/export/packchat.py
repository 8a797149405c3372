"""The section "chat" of a tokenizer.bin, from pieces of text."""

import re
import struct

from ..errors import ModelError, printable
from ..format.fields import NONE
from ..tokenizer.file import (
    CHAT,
    CHAT_DATE,
    CHAT_ID,
    CHAT_TEXT,
    CONTROL,
    DATE_FORM,
    MARK,
)
from ..tokenizer.toolform import TOOL_HEAD
from .damage import reading
from .sandbox import DATE
from .thoughts import ROLES


def marks_of(fields):
    """{text: id} of the tokens that may stand between contents."""
    rows = enumerate(zip(fields["pieces"], fields["types"]))
    with reading():  # a file's tokens may be no UTF-8
        found = {i: piece.decode() for i, (piece, kind) in rows if kind & 15 in (CONTROL, MARK)}
    return {text: i for i, text in found.items() if text}


def marks_in(fields, text):
    """The ids of the marks in a text."""
    ids = marks_of(fields)
    forms = [re.escape(name) for name in sorted(ids, key=len, reverse=True)]
    return [ids[name] for name in re.findall("|".join(forms), text)] if forms else []


def date_items(form):
    """A format of today's date as items of a piece."""
    items, known = [], "[%A-Za-z ,./-]"
    for part in re.findall(f"{known}+|(?:(?!{known}).)+", form, re.DOTALL):
        kind = CHAT_DATE if "%" in part else CHAT_TEXT
        if kind == CHAT_DATE and (part.endswith("%") or not DATE_FORM.fullmatch(part)):
            raise ModelError(f"it writes the date as {printable(form)[:40]}")
        items.append((kind, part))
    return items


def pack_chat(pieces, strips, fields, prefix_first, thoughts=None):
    """-> the section "chat" of tokenizer.bin: strips; then each piece as a count and items, a
    control token's id, or text; then what is left out of answers, if anything is."""
    body = bytes(strips[role] for role in ROLES) + bytes([prefix_first])
    for name in CHAT:
        text = pieces.get(name)
        body += pack_items(None if text is None else items_of(fields, text))
    if thoughts:
        start, end, strip, how = thoughts
        body += bytes([strip, how])
        body += pack_items([(CHAT_TEXT, start.encode()), (CHAT_TEXT, end.encode())])
    return body


def items_of(fields, text):
    """A piece of text as items: its marks as ids, today's date as its format."""
    ids, items, at = marks_of(fields), [], 0
    forms = [re.escape(name) for name in sorted(ids, key=len, reverse=True)]
    with reading():  # a file's texts may be no UTF-8
        text.encode()
    for m in re.finditer("|".join(forms + [f"{DATE}[^{DATE}]*{DATE}"]), text):
        items += [(CHAT_TEXT, text[at : m.start()].encode())] if at < m.start() else []
        if m[0].startswith(DATE):
            items += [(kind, part.encode()) for kind, part in date_items(m[0].strip(DATE))]
        else:
            items.append((CHAT_ID, ids[m[0]]))
        at = m.end()
    return items + ([(CHAT_TEXT, text[at:].encode())] if at < len(text) else [])


def pack_items(items):
    """A piece of the section "chat"; None = there is none."""
    body = struct.pack("<I", NONE if items is None else len(items))
    for kind, value in items or ():
        raw = struct.pack("<I", value) if kind == CHAT_ID else value
        body += struct.pack("<II", kind, len(raw)) + raw
    return body


def pack_tools(form, fields):
    """A ToolForm as the end of the section "chat": TOOL_HEAD, the orders of calls and results,
    then two kinds and the piece between them, for each."""
    flags = form.quoted | form.keeps << 1 | form.beside << 2
    rows = (form.told, form.written, flags, form.strips, len(form.between))
    body = TOOL_HEAD.pack(b"tool", ord(form.place), *rows)
    body += pack_items([(CHAT_TEXT, f"{form.call} {form.back}".encode())])
    for (before, behind), text in form.between.items():
        body += f"{before}{behind}".encode() + pack_items(items_of(fields, text))
    return body
