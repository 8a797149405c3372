"""Conversations with tools that a chat template is tried with."""

import json
import random
import re

from ..errors import ModelError
from ..tokenizer.toolform import Seat
from .thoughts import PROBES

# calls in a content, where a template has no place for them: before, between, behind
AS_TEXT = (
    ("<|tool_call|>[", ", ", "]<|/tool_call|>"),
    ("<|tool_call|>[", ", ", "]"),
    ("<tool_call>\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>"),
)
KEYWORDS = ("xml_tools", "tools")  # names of what tools there are
MARKED = re.compile(r"<\S+?>")


class Feed:
    """How a template is given tools and calls. keyword: the name of its tools; None: they are JSON
    of the system's message. style: of AS_TEXT; None: calls are of the message."""

    def __init__(self, keyword="tools", style=None):
        self.keyword, self.style = keyword, style

    def __call__(self, messages, tools):
        """A conversation with tools, in OpenAI's form -> what render() takes."""
        messages, more = [self.message(m) for m in messages], {}
        told = [{"type": "function", "function": tool} for tool in tools]
        if tools and self.keyword:
            more[self.keyword] = told
        elif tools:
            first = messages[0] if messages[0]["role"] == "system" else None
            first = first or {"role": "system", "content": ""}
            rest = messages[1:] if messages[0]["role"] == "system" else messages
            messages = [{**first, "tools": json.dumps(tools, ensure_ascii=False)}, *rest]
        return messages, True, more

    def message(self, m):
        """A message as the template is given it."""
        if not (m.get("tool_calls") and self.style):
            return m
        before, between, behind = self.style
        row = lambda f: json.dumps({k: f[k] for k in ("name", "arguments")}, ensure_ascii=False)
        calls = between.join(row(call["function"]) for call in m["tool_calls"])
        return {"role": m["role"], "content": f"{m['content']}{before}{calls}{behind}"}


def feeds(template, marks):
    """The ways in which a template may take tools, the likeliest first. Raises ModelError for one
    that knows tools and tells nothing of them."""
    if "tool" not in template:
        return []
    bare = [rf"(?<!['\"\w.]){name}\b(?!['\"\w])" for name in KEYWORDS]
    names = [name for name, form in zip(KEYWORDS, bare) if re.search(form, template)]
    of = lambda style: MARKED.findall("".join(style))
    told = [style for style in AS_TEXT if all(mark in template for mark in of(style))]
    known = [style for style in AS_TEXT if all(m in template or m in marks for m in of(style))]
    styles = [None] if "tool_calls" in template else told or known
    if not names and not re.search("""['"]tools['"]""", template):
        raise ModelError("it does not tell what tools there are")
    if not styles:
        raise ModelError("it tells what tools there are, and has no place for calls")
    return [Feed(name, style) for name in names or [None] for style in styles]


def call(name, arguments, number):
    """A call in OpenAI's form."""
    function = {"name": name, "arguments": arguments}
    return {"id": number, "type": "function", "function": function}


# what is looked for in what a template writes: each once, but for names and ids of calls
TOOLS = [
    {
        "name": f"tool{i}7q",
        "description": f'Déscr "{i}7q"\nit',
        "parameters": {
            "type": "object",
            "properties": {f"z{i}7q": {"type": "string", "description": "é 7q"}, "a": {}},
            "required": [f"z{i}7q"],
        },
    }
    for i in range(2)
]
CALLS = [call(f"tool{i}7q", {f"z{i}7q": "é", "a": [i, True]}, f"id7q0000{i}") for i in range(3)]
SAYS = {
    Seat.ASKED: "Uuser{}7q",
    Seat.SAID: "Aassistant{}7q",
    Seat.RETURNED: 'Rés"ult{}7q',
    Seat.SYSTEM: "Ssystem7q",
}
ROLE_OF = {
    Seat.ASKED: "user",
    Seat.SAID: "assistant",
    Seat.RETURNED: "tool",
    Seat.SYSTEM: "system",
}


def probe(turns, tools, system=False):
    """A conversation of which all parts are known, and tools. turns: such as "U C0 R0 A U": the
    user, an assistant's call, its result, an answer, the user; A1: an answer with a call."""
    messages = [{"role": "system", "content": SAYS[Seat.SYSTEM]}] if system else []
    for i, turn in enumerate(turns.split()):
        says = lambda kind, n=i: {"role": ROLE_OF[kind], "content": SAYS[kind].format(n)}
        kind, calls = turn[0], [CALLS[int(n)] for n in turn[1:]]
        if kind == Seat.RETURNED:
            messages += [says(kind, f"{i}{c['id']}") | {"tool_call_id": c["id"]} for c in calls]
        else:
            row = says(Seat.ASKED if kind == Seat.ASKED else Seat.SAID)
            row |= {"content": ""} if kind == "C" else {}
            messages.append(row | ({"tool_calls": calls} if calls else {}))
    return messages, TOOLS[:tools]


# conversations that every template is asked for, and those that some refuse
NEEDED = [probe("U", 1), probe("U", 2), probe("U C0 R0", 1), probe("U A U", 2)]
NEEDED += [probe("U C0 R0 A U", 1), probe("U A U C0 R0", 2), probe("U C0 R0 C1 R1", 2)]
LED = [probe("U", 1, True), probe("U A U", 2, True)]
PARALLEL = [probe("U C01 R01", 2), probe("U A U C01 R01 A U", 2)]
BESIDE = [probe("U A0 R0", 1), probe("U A U A0 R0 A1 R1", 1)]
ONE, _ = probe("U C0 R0", 1)
RESULTS = [([*ONE[:-1], {**ONE[-1], "content": text}], TOOLS[:1]) for text in PROBES]


RESUMED = [probe("U C0 R0 U", 1), probe("U C0 R0 U A U", 2)]


def random_schema(rng, text):
    """A JSON schema of a parameter."""
    schema, plain = lambda: random_schema(rng, text), lambda: {"description": text()}
    kinds = [
        lambda: {"type": "string", **plain()},
        lambda: {"type": "string", **plain(), "enum": ["a", text()], "default": "a"},
        lambda: {"type": "number", **plain(), "default": rng.choice([1.5, -3])},
        lambda: {"type": rng.choice(["integer", "boolean"])},
        lambda: {"type": "array", "items": schema()},
        lambda: {"type": "object", "properties": {"a": schema(), "b": schema()}, "required": ["b"]},
        lambda: {"type": ["string", "integer"]},
    ]
    return rng.choice(kinds)()


def random_talks(chat):
    """Conversations [(messages, tools, what is special in it)], by which a form is judged."""
    pieces, _, thoughts = chat
    rng = random.Random(0)
    words = ["fox", " ", "\n", "  shoe", "é", "🙂", "\n\n", "{{x}}", '"', "7", "<b>", "\t", "end."]
    text = lambda: "x" + "".join(rng.choices(words, k=rng.randint(0, 8))) + rng.choice(["x", "x "])
    values = [text, lambda: rng.randint(-9, 10**12), lambda: rng.choice([None, True, 1.5, [], {}])]
    values.append(lambda: {text(): [text(), {"a": 1e-9}]})
    value = lambda: rng.choice(values)()
    name = lambda: "".join(rng.choices("abcXYZ_-09", k=rng.randint(1, 12)))
    number = lambda: "".join(rng.choices("abcXYZ09", k=9))
    schema = lambda: random_schema(rng, text)
    start, end, *_ = thoughts or ("", "")
    start = start or end.replace("/", "")
    thought = lambda: f"{start}\n{text().strip()}\n{end}\n\n{text().strip()}"
    talks = []
    for n in range(60):
        tools = [
            {
                "name": name(),
                "description": text(),
                "parameters": {
                    "type": "object",
                    "properties": {f"{name()}{i}": schema() for i in range(3)},
                    "required": [],
                },
            }
            for _ in range(rng.randint(1, 3) if n % 6 else 0)
        ]
        messages, tags, turns = [], set(), rng.randint(1, 3)
        if "system" in pieces and rng.random() < 0.5:
            messages.append({"role": "system", "content": text()})
        for turn in range(turns):
            messages.append({"role": "user", "content": text()})
            for _ in range(rng.randint(0, 2)):
                calls = [call(name(), {name(): value() for _ in "ab"}, number()) for _ in "ab"]
                calls = calls[: rng.choice([1, 1, 2])]
                said = rng.choice(["", "", text()])
                if said and thoughts and rng.random() < 0.5:
                    said = thought()
                    tags |= {"thoughts"} if turn == turns - 1 else set()
                tags |= {"several calls"} if len(calls) > 1 else set()
                tags |= {"text beside calls"} if said else set()
                messages.append({"role": "assistant", "content": said, "tool_calls": calls})
                for one in calls:
                    row = {"role": "tool", "content": text(), "tool_call_id": one["id"]}
                    messages.append(row)
            if messages[-1]["role"] == "tool" and rng.random() < 0.2:
                tags |= {"the user behind results"}
                messages.append({"role": "user", "content": text()})
            if turn < turns - 1:
                said = thought() if thoughts and rng.random() < 0.3 else text()
                messages.append({"role": "assistant", "content": said})
        talks.append((messages, tools, tags))
    return talks + odd_talks()


def odd_talks():
    """Conversations of what random ones never hold: nothing where something is usual, and more."""
    tool = lambda i: {"name": f"t{i}", "description": "", "parameters": {"type": "object"}}
    user = {"role": "user", "content": "x"}
    talks = []
    for count, tools, gave in ((1, 1, ""), (1, 5, '{"a": 1}'), (1, 2, "y" * 2000), (3, 2, "[1]")):
        calls = [call(f"t{i}", {}, f"abcdefgh{i}") for i in range(count)]
        said = {"role": "assistant", "content": "", "tool_calls": calls}
        back = [{"role": "tool", "content": gave, "tool_call_id": c["id"]} for c in calls]
        tags = {"several calls"} if count > 1 else set()
        talks.append(([user, said, *back], [tool(i) for i in range(tools)], tags))
    return talks
