"""How a chat template writes tools, calls of them, and what these gave."""

import json
import re
import struct
from typing import NamedTuple

from ..errors import ModelError, WrongValue
from .file import chat_items
from .talk import is_cut, trimmed, without_thoughts
from .tooltypes import python_typed, typescript_typed


class Seat:
    """Kinds of what stands in a conversation, a letter each: its start; the system's, the user's,
    the assistant's text; a tool as JSON; a call's name, arguments, id; of a result the tool's name,
    the call's id, and its text; where an answer begins; where the last call ends."""

    START, SYSTEM, ASKED, SAID, TOOL, NAME, ARGUMENTS, ID, OF, BY, RETURNED, ANSWER, END = (
        "^SUATNVIriRGE"
    )
    TOLD = "ndp"  # a tool's name, description, parameters
    LATE = "L"  # for ASKED: the user's last message


WRAPPED, IN_LIST, AS_PYTHON, INDENTS = 1, 2, 16, (None, 2, 4)  # how JSON is written; INDENTS << 2
BY_FIELDS = 255  # tools are told by Seat.TOLD
HOWS = (0, 4, 8)  # of arguments
OWN_WAYS = {32: typescript_typed, 33: python_typed}  # of families
TOLD_HOWS = (*range(12), AS_PYTHON, AS_PYTHON | WRAPPED, *OWN_WAYS, BY_FIELDS)
SHORT_ID = re.compile("[0-9A-Za-z]{9}")  # what some templates ask of an id


class ToolForm(NamedTuple):
    """A template's form for tools. between: {(kind, kind that follows): pieces, in whatever form};
    what begins a call where an answer begins is at (ANSWER, first kind of a call), what ends the
    last at (last kind of a call, END)."""

    place: str  # before what tools are told: SYSTEM, ASKED (the first), LATE
    told: int  # how a tool is written: WRAPPED and those beside it, OWN_WAYS, or BY_FIELDS
    written: int  # how arguments are
    quoted: bool  # whether a result is written as a JSON string
    strips: int  # what is cut off a result, see STRIPS
    keeps: bool  # whether thoughts behind the user's last message stay
    beside: bool  # whether text in front of a message's calls is written
    call: str  # the kinds of a call in their order
    back: str  # the kinds of a result
    between: dict

    @property
    def several(self):
        """Whether a message may have more calls than one."""
        return (self.call[-1], self.call[0]) in self.between

    @property
    def resumes(self):
        """Whether the user may speak behind a result."""
        return (self.back[-1], Seat.ASKED) in self.between


TOOL_HEAD = struct.Struct("<4sBBBBBB")


def read_tools(raw, types):
    """The end of the section "chat", bytes, as pack_tools() of export.py writes it -> ToolForm.
    Raises ModelError."""
    try:
        name, place, told, written, flags, strips, count = TOOL_HEAD.unpack_from(raw)
        ((_, orders),), at = chat_items(raw, TOOL_HEAD.size, types)
        between = {}
        for _ in range(count):
            kinds = raw[at : at + 2].decode()
            between[kinds[0], kinds[1]], at = chat_items(raw, at + 2, types)
        call, back = orders.split()
        good = set(call) <= set("NVI") and set(back) <= set("riR")
        good = good and all((call + back).count(kind) == 1 for kind in {*call, *back, *"NVR"})
        needs = [*zip(call, call[1:]), (call[-1], back[0]), (call[-1], Seat.END)]
        needs += [(Seat.ASKED, Seat.ANSWER), (back[-1], Seat.ANSWER)]
        good = good and None not in map(between.get, needs)
        flags = [bool(flags >> i & 1) for i in range(3)]
        form = ToolForm(
            chr(place), told, written, flags[0], strips, *flags[1:], call, back, between
        )
        opens = [between.get((kind, call[0])) for kind in (Seat.ANSWER, *[Seat.SAID] * form.beside)]
        good = good and callable_by([piece for piece in opens if piece is not None], form)
        good = good and chr(place) in (Seat.SYSTEM, Seat.ASKED, Seat.LATE) and strips <= 8
        good = good and written in HOWS
        if name != b"tool" or at != len(raw) or not good or told not in TOLD_HOWS:
            raise ValueError
    except (struct.error, ValueError, TypeError, IndexError, AttributeError):
        found = "the form of tools is not what export.py writes"
        raise ModelError(f"{found}; export it again") from None
    return form


def callable_by(opens, form):
    """Whether calls can be told from text: each begins with something, and ends with something if
    its last part is no JSON. opens: what begins one, pieces of items, or of text."""
    whole = lambda piece: any(isinstance(v, int) or v.strip() for _, v in piece)
    if form.beside and (Seat.SAID, form.call[0]) not in form.between:
        return False
    ends = form.call[-1] == Seat.ARGUMENTS or form.between[form.call[-1], Seat.END]
    return bool(opens) and all(map(whole, opens)) and bool(ends)


def json_text(value, how):
    """JSON as templates write it: how is a number of INDENTS << 2, and IN_LIST inside of a list;
    AS_PYTHON: as Python shows values."""
    if how & AS_PYTHON:
        return str(value)
    indent = INDENTS[how >> 2 & 3]
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return text.replace("\n", "\n" + " " * indent) if how & IN_LIST and indent else text


def tool_slots(tool, how):
    """A tool, {"name", "description", "parameters"} -> [(kind, text)]"""
    tool = {name: tool[name] for name in ("name", "description", "parameters")}
    if how == BY_FIELDS:
        texts = tool["name"], tool["description"], json_text(tool["parameters"], 0)
        return list(zip(Seat.TOLD, texts))
    if how in OWN_WAYS:
        return [(Seat.TOOL, OWN_WAYS[how](tool))]
    value = {"type": "function", "function": tool} if how & WRAPPED else tool
    return [(Seat.TOOL, json_text(value, how))]


def short_id(name):
    """An id as templates can write it: nine letters; another one becomes such, the same for the
    same."""
    if SHORT_ID.fullmatch(name):
        return name
    import hashlib

    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:9]


def has_calls(message):
    """Whether a message is a result, or has calls."""
    if not isinstance(message, dict):
        return False
    return message.get("role") == "tool" or bool(message.get("tool_calls"))


def call_slots(call, form):
    """A call of an assistant's message, in OpenAI's form -> [(kind, text)]"""
    name, arguments, number = call_of(call)
    texts = {
        Seat.NAME: name,
        Seat.ARGUMENTS: json_text(arguments, form.written),
        Seat.ID: short_id(number),
    }
    return [(kind, texts[kind]) for kind in form.call]


def call_of(call):
    """A call in OpenAI's form -> its name, arguments (an object), id. Raises ModelError."""
    inside = call.get("function") if isinstance(call, dict) else None
    try:
        arguments = inside["arguments"]
        arguments = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
        if isinstance(arguments, dict) and isinstance(inside["name"], str):
            json.dumps(arguments, allow_nan=False)
            return inside["name"], arguments, str(call.get("id") or "")
    except (TypeError, KeyError, ValueError, RecursionError):
        pass
    found = "messages: tool_calls has one that is none"
    raise WrongValue(f"{found}, expected a function's name and arguments, an object; mend it")


def result_slots(text, name, number, form):
    """What a call gave -> [(kind, text)]"""
    text = trimmed(text, form.strips)
    texts = {
        Seat.OF: name,
        Seat.BY: short_id(number),
        Seat.RETURNED: json_text(text, 0) if form.quoted else text,
    }
    return [(kind, texts[kind]) for kind in form.back]


def talk_slots(messages, tools, form, strips, thoughts):
    """A conversation with tools, [{"name", "description", "parameters"}], and calls -> [(kind,
    text)] from START to ANSWER. messages: as check_turns() has them. strips, thoughts: as of
    chat_parts()."""
    told = [slot for tool in tools for slot in tool_slots(tool, form.told)]
    users = [i for i, m in enumerate(messages) if m["role"] == "user"] or [0]
    last = max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=0)
    at = {Seat.ASKED: users[0], Seat.LATE: users[-1], Seat.SYSTEM: 0}[form.place]
    slots, waits = [(Seat.START, "")], []  # waits: calls whose results are to come
    for i, m in enumerate(messages):
        role, text, calls = m["role"], m["content"], m.get("tool_calls") or ()
        slots += told if i == at else []
        if role == "tool":
            name, number = waits.pop(0)
            slots += result_slots(text, name, number, form)
        elif role == "assistant":
            keeps = form.keeps and i > users[-1]
            n = strips[role]
            if thoughts and not keeps and is_cut(text, thoughts, i == last):
                text, n = without_thoughts(text, thoughts), thoughts[2]
            if not calls or text and form.beside:
                slots.append((Seat.SAID, trimmed(text, n)))
            for call in calls:
                slots += call_slots(call, form)
                name, _, number = call_of(call)
                waits.append((name, number))
        else:
            kind = {"system": Seat.SYSTEM, "user": Seat.ASKED}[role]
            slots.append((kind, trimmed(text, strips[role])))
    return [*slots, (Seat.ANSWER, "")]


def between_slots(slots, form, pieces, told):
    """What talk_slots() makes, as a template writes it: pieces and contents in turn, the first and
    the last are pieces, None where the form has none. pieces: of chats without tools (see CHAT),
    which there are if not told."""
    between = form.between
    if not told:
        plain = {
            "first": (Seat.START, Seat.ASKED),
            "system": (Seat.START, Seat.SYSTEM),
            "after_system": (Seat.SYSTEM, Seat.ASKED),
        }
        between = between | {kinds: pieces.get(name) for name, kinds in plain.items()}
    rows = [(between.get((a[0], b[0])), b[1]) for a, b in zip(slots, slots[1:])]
    return [part for row in rows for part in row][:-1]
