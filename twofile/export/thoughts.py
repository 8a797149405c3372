"""What a template takes off contents: their sides; of answers, thoughts."""

import re

from ..errors import ModelError
from ..tokenizer.file import BUT_LAST, OPEN
from .sandbox import Refused, render

ROLES = ("system", "user", "assistant")


def conversation(contents, system=None):
    """[u0, a0, u1, …] -> messages."""
    roles = [
        {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)
    ]
    return ([] if system is None else [{"role": "system", "content": system}]) + roles


PROBES = ("7qword", "\n7qword\n", " 7qword ")


def strip_probes(role):
    """Conversations whose content of that role is bare, between line ends, and between spaces."""
    chats = []
    for word in PROBES:
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
    chat_parts() or None, and a word that it rewrites answers by or None. Every word in it that
    might end a thought is tried, alone and with those that might begin one."""
    words = dict.fromkeys(word for _, word in QUOTED.findall(template) if set(word) & set("<>[]|"))
    ends = [word for word in words if "/" in word or "|" in word or "END" in word.upper()][:40]
    bare = lambda word: re.sub("end|start|begin|[^a-z]", "", word.lower())
    pairs = [("", end) for end in ends]
    pairs += [(w, end) for end in ends for w in words if w != end and bare(w) == bare(end)]
    talk = lambda text: (conversation(["a7q", text, "c7q", text + "7qlast", "e7q"]), True)
    plain = [f"7qkept{start}7qthought{end}7qword" for start, end in pairs]
    made = render(template, special, [talk(text) for text in plain])
    for (start, end), text, whole in zip(pairs, plain, made):
        if isinstance(whole, Refused) or whole.count(text) == 2:
            continue
        for rule in dict.fromkeys(("", start)):
            tell = ("7qkept" if rule else "") + f"{start}7qthought{end}"
            first = [f"{start}7qthought{end}" + side for side in PROBES]
            texts = [*first, tell + "7qword", f"7qkept{rule}7qthought7qword"]
            *rows, told, half = render(template, special, [talk(text) for text in texts])
            left = {row.count("7qthought") for row in (*rows, told)}
            if told.count("7qkept") == 2 * bool(rule) and left in ({0}, {1}):
                how = BUT_LAST * (left == {1}) | OPEN * (bool(rule) and half.count("7qword") < 2)
                first = [row.partition("c7q")[0] for row in rows]
                return (rule, end, strips_of("assistant", first, True), how), end
        return None, end
    return None, None
