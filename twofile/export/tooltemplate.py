"""What a chat template writes of tools becomes fixed pieces."""

from ..errors import ModelError, printable
from ..tokenizer.toolform import (
    HOWS,
    TOLD_HOWS,
    Seat,
    ToolForm,
    between_slots,
    json_text,
    talk_slots,
    tool_slots,
)
from .sandbox import Refused, render
from .thoughts import strips_of
from .toolprobes import (
    BESIDE,
    CALLS,
    LED,
    NEEDED,
    PARALLEL,
    RESULTS,
    RESUMED,
    TOOLS,
    feeds,
    random_talks,
)

# orders in which a call's and a result's parts may stand, see toolform.py
ORDERS = ("NV", "NVI", "NIV", "INV", "IVN", "VN", "VNI", "VIN")
BACKS = ("R", "rR", "iR", "riR", "irR", "Rr", "Ri", "rRi", "iRr", "Rri", "Rir")


def compile_tools(template, special, chat, marks=()):
    """The ToolForm of a template, between pieces of text. chat: (pieces, strips, thoughts) of
    compile_chat(). marks: words that are tokens. Raises ModelError where pieces cannot say what it
    does; None for one that knows no tools."""
    ways = feeds(template, marks)
    for n, feed in enumerate(ways, 1):
        try:
            return compile_fed(template, special, chat, feed)
        except ModelError:
            if n == len(ways):
                raise
    return None


def compile_fed(template, special, chat, feed):
    """As compile_tools(), of a template that is given tools in one way."""
    led = LED if "system" in chat[0] else []
    groups = NEEDED + led, PARALLEL, BESIDE, RESUMED, RESULTS, random_talks(chat)
    asked = [one for group in groups for one in group]
    texts = iter(render(template, special, [feed(*one[:2]) for one in asked]))
    rows = [[(*one, next(texts)) for one in group] for group in groups]
    needed, parallel, beside, resumed, results, tried = rows
    for *_, text in needed:
        if isinstance(text, Refused):
            raise ModelError(f"it refuses calls ({printable(text)[:80]})")
    plain, found = plain_form(needed, results), "fixed pieces cannot say what it does"
    for place in (Seat.SYSTEM, Seat.ASKED, Seat.LATE):
        for order in ORDERS:
            for back in BACKS:
                form = plain._replace(place=place, call=order, back=back, between={})
                if not learnt(form, needed, chat):
                    continue
                form = with_more(with_more(form, parallel, chat), resumed, chat)
                whole = with_more(form._replace(beside=True), beside, chat)
                tries = [(f, keeps) for f in (whole, form) for keeps in (False, True)]
                for form, keeps in tries:
                    form = begun(form._replace(keeps=keeps))
                    wrong = difference(form, tried, chat) if form else "where an answer begins"
                    if not wrong:
                        return form
                found = f"fixed pieces cannot say what it does with {wrong}"
    raise ModelError(found)


def plain_form(needed, results):
    """How a template writes the values of tools, calls, results: a ToolForm without pieces."""
    (*_, two), (messages, _, called) = needed[1:3]
    shows = lambda how: all(text in two for tool in TOOLS for _, text in tool_slots(tool, how))
    told = next(filter(shows, TOLD_HOWS), None)
    if told is None:
        raise ModelError("it tells what tools there are in a form of its own, or not at all")
    arguments = CALLS[0]["function"]["arguments"]
    written = next((how for how in HOWS if json_text(arguments, how) in called), None)
    if written is None:
        raise ModelError("it writes arguments in a form of its own, or leaves calls out")
    quoted = messages[-1]["content"] not in called
    if quoted and json_text(messages[-1]["content"], 0) not in called:
        raise ModelError("it writes results in a form of its own, or leaves them out")
    strips = 0 if quoted else strips_of("tool", [text for *_, text in results], True)
    return ToolForm(Seat.SYSTEM, told, written, quoted, strips, False, False, "", "", {})


def learnt(form, rows, chat):
    """Whether conversations as a template writes them can be of a form; then what is between their
    contents is put into it."""
    _, strips, thoughts = chat
    for messages, tools, text in rows:
        if isinstance(text, Refused):
            return False
        at, before = 0, Seat.START
        for kind, value in talk_slots(messages, tools, form, strips, thoughts)[1:]:
            start = text.find(value, at) if value else len(text)
            piece = text[at:start]
            if start < 0 or form.between.setdefault((before, kind), piece) != piece:
                return False
            at, before = start + len(value), kind
    return True


def with_more(form, rows, chat):
    """A form that can say these conversations too, if they are of its kind."""
    more = form._replace(between=dict(form.between))
    return more if learnt(more, rows, chat) else form._replace(beside=False)


def begun(form):
    """A form with what begins a call where an answer begins; or, where answers begin otherwise,
    only behind text; None if there is no such text."""
    first, between = form.call[0], form.between
    rows = [
        (between[kind, first], between[kind, Seat.ANSWER]) for kind in (Seat.ASKED, form.back[-1])
    ]
    opens = {call.removeprefix(gen) for call, gen in rows if call.startswith(gen)}
    if len(opens) == 1:
        return form._replace(between=between | {(Seat.ANSWER, first): opens.pop()})
    return form if form.beside else None


def difference(form, talks, chat):
    """What is special in the first of conversations that a template writes otherwise, or None."""
    pieces, strips, thoughts = chat
    for messages, tools, tags, want in talks:
        if not tools and isinstance(want, Refused):
            continue  # one beside another, for conversations with tools alone
        if "several calls" in tags and not form.several:
            continue
        if "text beside calls" in tags and not form.beside:
            continue
        if "the user behind results" in tags and not form.resumes:
            continue
        slots = talk_slots(messages, tools, form, strips, thoughts)
        parts = between_slots(slots, form, pieces, bool(tools))
        if None in parts or "".join(parts) != want:
            return " and ".join(sorted(tags)) or "a conversation"
    return None
