"""Tools that a model may call: told, held to their schemas, read back.

Calls stand in the text as Hermes models write them (NousResearch's Hermes-Function-Calling), and
Qwen: <tool_call>, an object of name and arguments, </tool_call>; results as <tool_response>. All of
it is text of messages, so that nothing of a tool can become a control token.
"""

import json
import math
import random
from dataclasses import dataclass

from ..options import shown
from ..prompts import plain_messages
from ..structure import STYLE
from .refusals import Refused

OPEN, CLOSE = "<tool_call>", "</tool_call>"
END = f"}}\n{CLOSE}"
GUIDE = "x-guidance"  # llguidance's own word in a schema
RESULT, RESULT_END = "<tool_response>", "</tool_response>"


@dataclass
class Tools:
    """What may be called. tools: [{"name", "description", "parameters", "strict"}]. must: a call is
    asked for, of the tool named only, if one is. several: whether there may be more than one."""

    tools: list
    must: bool = False
    only: str | None = None
    several: bool = True

    def telling(self):
        """What the model is told of them."""
        told = [{name: tool[name] for name in tool if name != "strict"} for tool in self.tools]
        lines = [json.dumps(tool, ensure_ascii=False) for tool in told]
        return (
            "# Tools\n\nThese functions can be called, one JSON object each:\n<tools>\n"
            + "\n".join(lines)
            + f"\n</tools>\n\nTo call one, write its name and arguments so:\n{OPEN}\n"
            + '{"name": "the function", "arguments": {"its": "arguments"}}\n'
            + f"{CLOSE}\nThe result comes back in {RESULT}. Call a function only if it helps."
        )

    def grammar(self, schema=None):
        """What may be written, in llguidance's Lark: text (or JSON, as schema says), or text and
        then calls, each as its tool's schema says."""
        some = [tool for tool in self.tools if self.only in (None, tool["name"])]
        calls = "call" + ' ("\\n" call)*' * self.several
        lines = ["call: " + " | ".join(f"call_{i}" for i in range(len(some)))]
        for i, tool in enumerate(some):  # a schema stands alone: it may refer to its own parts
            begin = f'{OPEN}\n{{"name": {json.dumps(tool["name"])}, "arguments": '
            lines.append(f"call_{i}: {json.dumps(begin)} of_{i} {json.dumps(END)}")
            style = STYLE | {"lenient": not tool["strict"]}
            lines.append(f"of_{i}: %json {json.dumps({**tool['parameters'], GUIDE: style})}")
        if self.must:
            return "\n".join([f"start: {calls}", *lines])
        if schema is None:
            lines.append(f"TEXT: /(?s:.*)/ & ~/(?s:.*){OPEN}(?s:.*)/")
            return "\n".join([f"start: TEXT ({calls})?", *lines])
        lines.append(f"json: %json {json.dumps({**schema, GUIDE: STYLE})}")
        return "\n".join([f"start: json | {calls}", *lines])


def tools_of(given, choice, several=True):
    """The Tools of a request in OpenAI's form, or None. choice: auto, none, required, or the
    function's object. Raises Refused."""
    tools = [checked_tool(tool, i) for i, tool in enumerate(given or ())]
    names = [tool["name"] for tool in tools]
    if len(set(names)) < len(names):
        raise Refused(400, "tools: two of one name, expected one each; rename one", "tools")
    if isinstance(choice, dict):
        inside = choice.get("function", choice)
        only = inside.get("name") if isinstance(inside, dict) else None
        if only not in names:
            found = f"tool_choice names {shown(only)}"
            raise Refused(400, f"{found}, expected one of the tools; name one", "tool_choice")
        return Tools(tools, True, only, False)
    if choice not in (None, "auto", "none", "required"):
        found = f"tool_choice is {shown(choice)}"
        raise Refused(
            400, f"{found}, expected auto, none, required or a function; change it", "tool_choice"
        )
    if choice == "required" and not tools:
        raise Refused(400, "tool_choice is required, expected tools; give some", "tool_choice")
    return Tools(tools, choice == "required", None, several) if tools and choice != "none" else None


def checked_tool(tool, number):
    """A tool's name, description and parameters."""
    where = f"tools.{number}"
    kind = tool.get("type", "function") if isinstance(tool, dict) else None
    if kind not in ("function", "custom") or kind == "custom" and "input_schema" not in tool:
        raise Refused(400, f"{where}: {shown(tool)}, expected type function; leave it out", "tools")
    inside = tool.get("function", tool)
    name = inside.get("name") if isinstance(inside, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= 128:
        raise Refused(400, f"{where}: expected a function with a name; give it one", "tools")
    parameters = inside.get("parameters") or inside.get("input_schema") or {"type": "object"}
    if not isinstance(parameters, dict):
        found = f"{where}: parameters is {shown(parameters)}"
        raise Refused(400, f"{found}, expected a JSON schema; give one", "tools")
    about = inside.get("description") or ""
    strict = bool(inside.get("strict"))
    return {"name": name, "description": str(about), "parameters": parameters, "strict": strict}


def told(messages, tools, system):
    """A conversation in OpenAI's form as one of texts alone: calls and results stand in contents;
    of Tools tells the system's message, or, where there can be none (system), the first. Raises
    Refused."""
    plain, results = [], []

    def add(*message):
        """Results are the beginning of a user's message, or one of their own."""
        if results:
            more = [text_of(m.get("content")) for m in message if m.get("role") == "user"]
            plain.append({"role": "user", "content": "\n".join([*results, *more])})
            results.clear()
            message = () if more else message
        plain.extend(message)

    for m in messages:
        role, content = m.get("role"), m.get("content")
        if role in ("tool", "function"):
            results.append(f"{RESULT}\n{text_of(content)}\n{RESULT_END}")
        elif role == "assistant" and m.get("tool_calls"):
            parts = [text_of(content)] if content else []
            parts += [said_call(call) for call in m["tool_calls"]]
            add({"role": role, "content": "\n".join(parts)})
        else:
            add(m)
    add()
    if not tools:
        return plain
    first, telling = plain[0], tools.telling()
    if first.get("role") in ("system", "developer"):
        telling = f"{text_of(first.get('content'))}\n\n{telling}"
        return [{**first, "content": telling}, *plain[1:]]
    if system:
        return [{"role": "system", "content": telling}, *plain]
    return [{**first, "content": f"{telling}\n\n{text_of(first.get('content'))}"}, *plain[1:]]


def text_of(content):
    """A message's content as one text."""
    if isinstance(content, list):
        content = plain_messages([{"role": "user", "content": content}])[0]["content"]
    return content if isinstance(content, str) else "" if content is None else json.dumps(content)


def said_call(call):
    """A call of a message as it stands in a text."""
    inside = call.get("function") if isinstance(call, dict) else None
    try:
        arguments = inside["arguments"]
        arguments = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
        value = {"name": inside["name"], "arguments": arguments}
        said = json.dumps(value, ensure_ascii=False)
    except (TypeError, KeyError, ValueError, RecursionError):
        found = f"messages: tool_calls has {shown(call)}"
        raise Refused(
            400, f"{found}, expected a function's name and arguments; mend it", "messages"
        ) from None
    return f"{OPEN}\n{said}\n{CLOSE}"


class Reader:
    """Tells texts from calls in what is written, piece by piece. Line ends around a call are no
    text; nor is a call that was cut. names: of tools that there are."""

    def __init__(self, names):
        self.names, self.held, self.behind = names, "", False  # behind: a call came last
        self.looked = 0  # where the next end of a call may be

    def push(self, text, end=False):
        """-> [str or (name, arguments as JSON, id)] that are certain by now."""
        self.held += text
        found = []
        while self.held:
            at = self.held.find(OPEN)
            if at < 0:
                self.say(found, len(self.held) - (0 if end else begun(self.held)))
                break
            self.say(found, len(self.held[:at].rstrip("\n")))
            call = self.next_call()
            if not call:
                break  # more of it comes, or it was cut
            found.append(call)
        return found

    def next_call(self):
        """A call that is held whole, taken out; None if there is none yet. Its arguments may say
        what ends a call."""
        at = self.held.find(OPEN)
        while (close := self.held.find(CLOSE, max(at, self.looked))) >= 0:
            call = self.read(self.held[at + len(OPEN) : close])
            self.looked = close + len(CLOSE)
            if call:
                self.held, self.looked, self.behind = self.held[self.looked :], 0, True
                return call
        return None

    def say(self, found, n):
        """The first n characters of what is held are text."""
        text, self.held = self.held[:n], self.held[n:]
        self.looked = max(0, self.looked - n)
        text = text.lstrip("\n") if self.behind else text
        if text:
            found.append(text)
            self.behind = False

    def read(self, inside):
        """A call, if it is one of a tool that there is: its arguments as they are written."""
        try:
            value = json.loads(inside, parse_float=finite)
            name, arguments = value["name"], value["arguments"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if name not in self.names or not isinstance(arguments, dict):
            return None
        written = inside[inside.index('"arguments": ') + len('"arguments": ') :].rstrip()[:-1]
        return name, written, f"call_{random.getrandbits(96):024x}"


def finite(text):
    """A number that JSON may have in any program."""
    if math.isinf(value := float(text)):
        raise ValueError(f"{text} is too large")
    return value


def begun(text):
    """How many characters at the end of a text may begin a call; white space before one too."""
    marks = (OPEN[:n] for n in range(len(OPEN) - 1, 0, -1))
    n = next((len(mark) for mark in marks if text.endswith(mark)), 0)
    rest = text[: len(text) - n]
    return n + len(rest) - len(rest.rstrip("\n"))


def split(text, tools):
    """A whole text -> (its text or None, [calls])."""
    parts = Reader([tool["name"] for tool in tools.tools]).push(text, True)
    said = "".join(part for part in parts if isinstance(part, str))
    return said or None, [part for part in parts if not isinstance(part, str)]
