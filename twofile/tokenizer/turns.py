"""The order of a conversation's messages, with calls of tools in it."""

from ..errors import WrongValue, printable
from .toolform import call_of


def check_turns(messages, several=True, resumes=True):
    """Messages in the order that a template with tools can say -> them, results in their calls'
    order. several, resumes: as of ToolForm. Raises ModelError."""
    wants = "expected a system, then user and assistant in turn, a result for each call behind it"
    waits, before, out = [], None, []
    for i, m in enumerate(messages):
        role = m.get("role") if isinstance(m, dict) else None
        role = role if isinstance(role, str) else None
        calls = role == "assistant" and m.get("tool_calls") or []
        fits = {
            "system": i == 0,
            "user": before in (None, "system", "assistant", *["tool"] * resumes),
            "assistant": before in ("user", "tool"),
            "tool": bool(waits),
        }
        if waits and role != "tool":
            found = f"messages[{i}]: role {printable(str(role))[:40]}, where a call has no result"
            raise WrongValue(f"{found}; expected one for each call behind it; add it")
        if not fits.get(role):
            raise WrongValue(f"messages[{i}]: role {printable(str(role))[:40]}; {wants}")
        if not isinstance(m.get("content"), str):
            found = f"messages[{i}]: content is {type(m.get('content')).__name__}"
            raise WrongValue(f"{found}, expected a text; give one")
        if role == "tool":
            out[waits.pop(result_of_call(m, waits, i))[0]] = m
        else:
            out.append(m)
            waits = [(len(out) + k, call_of(call)) for k, call in enumerate(calls)]
            out += [None] * len(calls)
        if len(calls) > 1 and not several:
            found = f"messages[{i}]: {len(calls)} calls"
            raise WrongValue(f"{found}, expected one: this model's template has no place for more")
        before = role
    if waits:
        found = "messages: a call has no result"
        raise WrongValue(f"{found}; expected one for each call behind it; add it")
    if before not in ("user", "tool"):
        raise WrongValue(f"messages: the last is of {before or 'nobody'}; {wants}, the user last")
    return out


def result_of_call(m, waits, i):
    """Which of the calls that wait, [(place, (name, arguments, id))], a result is of: by its id, or
    else its tool's name, or else the first -> its number. Raises ModelError."""
    for key, at in (("tool_call_id", 2), ("name", 0)):
        given, there = str(m.get(key) or ""), [call[at] for _, call in waits]
        if given and given in there:
            return there.index(given)
        if given and all(there):
            found = f"messages[{i}]: {key} is {printable(given)[:60]}"
            raise WrongValue(f"{found}, expected one of the calls before it; mend it")
    return 0
