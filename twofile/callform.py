"""How calls of tools are written: in a template's form, or as text."""

import json
import re
from typing import NamedTuple

from .tokenizer.file import CHAT_ID, CONTROL
from .tokenizer.toolform import Seat

TEXT_OPEN, TEXT_CLOSE = "<tool_call>", "</tool_call>"  # of plain text


class CallForm(NamedTuple):
    """A call in an answer. Pieces are lists of texts and ids. first: what begins one where an
    answer begins, None if none can stand there; beside: behind text, None if none can; order: the
    kinds of its parts, with between in between; more: what is between calls, None if there may be
    but one; close: what ends the last. names: what ids print in a Reader's text. lone: whether a
    call without its mark is one, see bare."""

    first: list | None
    beside: list | None
    order: str
    between: list
    more: list | None
    close: list
    names: dict
    lone: bool = True

    def text(self, piece):
        """A piece as a Reader sees it."""
        return "".join(self.names.get(part, part) for part in piece)

    @property
    def opens(self):
        """What begins a call, as a Reader sees it, without line ends in front."""
        return self.text(self.beside if self.first is None else self.first).lstrip("\n")

    @property
    def mark(self):
        """The beginning of what begins a call, as a Reader sees it: its first token, if that is a
        mark, or its first line."""
        piece = self.beside if self.first is None else self.first
        first = next(part for part in piece if isinstance(part, int) or part.strip("\n"))
        if isinstance(first, int):
            return self.names[first]
        return first.lstrip("\n").split("\n")[0]

    @property
    def head(self):
        """What no text may hold, where a call can follow it, or begin with, where none can; empty
        if it is a control token, which none holds."""
        return "" if self.mark in CODES else self.mark

    @property
    def bare(self):
        """The form of a call alone in an answer, without the mark that stands before it, which
        models leave out at times; None if there is no such mark."""
        whole = self.order == Seat.NAME + Seat.ARGUMENTS and self.text(self.close)[:1] == "}"
        marked = self.opens.endswith(BARE) and self.opens != BARE
        if not (self.lone and whole and marked):
            return None
        return CallForm([BARE], None, self.order, self.between, None, ["}"], {})


BARE = '{"name": "'
CODES = "".join(map(chr, range(0xD800, 0xDC00)))  # no text that was decoded has these

# as models of the family Hermes and many after them write calls, all of it plain text
TEXT_CALLS = CallForm(
    [f'{TEXT_OPEN}\n{{"name": "'],
    [f'\n{TEXT_OPEN}\n{{"name": "'],
    Seat.NAME + Seat.ARGUMENTS,
    [['", "arguments": ']],
    [f'}}\n{TEXT_CLOSE}\n{TEXT_OPEN}\n{{"name": "'],
    [f"}}\n{TEXT_CLOSE}"],
    {},
)


def call_form(tokenizer):
    """The CallForm of a Tokenizer."""
    form = tokenizer.tools
    if form is None:
        return TEXT_CALLS
    order, rows = form.call, form.between
    pieces = [
        rows.get((Seat.ANSWER, order[0])),
        rows.get((Seat.SAID, order[0])) if form.beside else None,
    ]
    inner = [rows[a, b] for a, b in zip(order, order[1:])]
    pieces += [rows.get((order[-1], order[0])), rows[order[-1], Seat.END]]
    ids = {v for piece in [*pieces, *inner] for kind, v in piece or () if kind == CHAT_ID}
    control = sorted(i for i in ids if tokenizer.types[i] & 15 == CONTROL)
    names = {i: tokenizer.name(i) for i in ids} | dict(zip(control, CODES))
    plain = lambda piece: None if piece is None else [v for kind, v in piece if kind <= CHAT_ID]
    first, beside, more, close = map(plain, pieces)
    return CallForm(first, beside, order, [*map(plain, inner)], more, close, names)


def grammar(form, tools, must=False, several=True, schema=None, style=None):
    """What an answer may be, in llguidance's Lark: text (or JSON, as schema says), or text and then
    calls of tools [{"name", "parameters", "strict"}], each as its schema says. must: there is a
    call. style: how JSON is written."""
    rows = ["call: " + " | ".join(f"call_{i}" for i in range(len(tools)))]
    for i, tool in enumerate(tools):  # a schema stands alone: it may refer to its own parts
        parts = {Seat.NAME: json.dumps(tool["name"]), Seat.ARGUMENTS: f"of_{i}", Seat.ID: "ID"}
        pieces = [said(piece) for piece in form.between]
        row = [parts[form.order[0]]]
        for piece, kind in zip(pieces, form.order[1:]):
            row += [piece, parts[kind]]
        rows.append(f"call_{i}: {' '.join(row)}")
        how = style | {"lenient": not tool["strict"]}
        asked = {"type": "object", **tool["parameters"], GUIDE: how}
        rows.append(f"of_{i}: %json {json.dumps(asked)}")
    if Seat.ID in form.order:
        rows.append("ID: /[0-9A-Za-z]{9}/")
    more = f" ({said(form.more)} call)*" if several and form.more is not None else ""
    rows.append(f"calls: call{more} {said(form.close)}")
    first = [f"{said(form.first)} calls"] if form.first is not None else []
    if form.bare:
        first.append(f"{said(form.bare.first)} call {said(form.bare.close)}")
    beside = [f"TEXT {said(form.beside)} calls"] if form.beside is not None else []
    rows.append(f"TEXT: {free_text(form)}")
    if must:
        ways = first[:1] or beside
    elif schema is not None:
        ways = ["json", *(first[:1] or beside)]
        rows.append(f"json: %json {json.dumps({**schema, GUIDE: style})}")
    else:
        ways = ["TEXT", *first, *beside]
    return "\n".join([f"start: {' | '.join(ways)}", *rows])


GUIDE = "x-guidance"  # llguidance's own word in a schema


def free_text(form):
    """The expression of text that is no call."""
    starts = [form.head] if form.beside is None else []
    starts += [BARE] if form.bare else []
    rows = [f"{escaped(text)}(?s:.*)" for text in starts if text]
    rows += [f"(?s:.*){escaped(form.head)}(?s:.*)"] if form.beside is not None and form.head else []
    return " & ".join(["/(?s:.*)/", *(f"~/{row}/" for row in rows)])


def escaped(text):
    """A text in an expression of a grammar."""
    return re.escape(text).replace("/", "\\/").replace("\n", "\\n")


def said(piece):
    """A piece in a grammar."""
    return " ".join(f"<[{v}]>" if isinstance(v, int) else json.dumps(v) for v in piece)
