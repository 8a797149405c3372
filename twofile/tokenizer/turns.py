"""The order of a conversation's messages, with calls of tools in it."""

from ..errors import ModelError, printable
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
        if not fits.get(role) or not isinstance(m.get("content"), str) or waits and role != "tool":
            raise ModelError(f"messages[{i}]: role {printable(str(role))[:40]}; {wants}")
        if role == "tool":
            names = [number for _, number in waits]
            number = str(m.get("tool_call_id") or "")
            if number not in names and number and all(names):
                found = f"messages[{i}]: tool_call_id is {printable(number)[:60]}"
                raise ModelError(f"{found}, expected one of the calls before it; mend it")
            number = number if number in names else names[0]
            own = names.index(number)
            out[waits.pop(own)[0]] = m
        else:
            out.append(m)
            known = [call_of(call)[2] for call in calls]
            waits = [(len(out) + k, number) for k, number in enumerate(known)]
            out += [None] * len(calls)
        if len(calls) > 1 and not several:
            found = f"messages[{i}]: {len(calls)} calls"
            raise ModelError(f"{found}, expected one: this model's template has no place for more")
        before = role
    if waits or before not in ("user", "tool"):
        raise ModelError(f"messages: the last is of {before or 'nobody'}; {wants}, the user last")
    return out
