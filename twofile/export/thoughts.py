"""What a template takes off contents: their sides; of answers, thoughts."""

import re

from ..errors import ModelError
from ..tokenizer.file import BOTH, OPEN, SPANS
from ..tokenizer.talk import chat_parts
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
# answers with thoughts in every order: a start, an end, what is thought, what is said
FORMS = ("{0}{2}{1}{3}", "{0}\n{2}\n{1}\n\n{3}", "{3}{0}{2}{1} {3}\n", "{2}{1} {3} ", "{0}{2}\n{3}")
PLAIN = FORMS  # of those that think once
FORMS += ("{0}{2}{1}{3}{0}{2}{1}\n{3}", "{2}{1}{3}{1}\n{3}\n")


def find_thoughts(template, special, pieces, strips):
    """How a template leaves out of former answers what their writer thought -> thoughts as of
    chat_parts() or None, a word that it rewrites answers by or None, and the forms of answers that
    it is right for. Every word in it that might end a thought is tried, alone and with one that
    might begin it."""
    words = dict.fromkeys(word for _, word in QUOTED.findall(template) if set(word) & set("<>[]|"))
    ends = [word for word in words if "/" in word or "|" in word or "END" in word.upper()][:40]
    ends = [end for end in ends if not any(word in end for word in ends if word != end)]
    bare = lambda word: re.sub("end|start|begin|[^a-z]", "", word.lower())
    pairs = [("", end) for end in ends]
    pairs += [(w, end) for end in ends for w in words if w != end and bare(w) == bare(end)]
    talk = lambda *says: conversation(["a7q", says[0], "c7q", says[-1] + "7q", "e7q"])
    plain = [f"7qkept{start}7qthought{end}7qword" for start, end in pairs]
    talks = [talk(text) for text in plain]
    made = render(template, special, [(messages, True) for messages in talks])
    stays = ("".join(chat_parts(messages, pieces, strips)) for messages in talks)
    rows = zip(pairs, made, stays)
    rewritten = [p for p, whole, text in rows if not isinstance(whole, Refused) and whole != text]
    if not rewritten:
        return None, None, ()
    end = rewritten[0][1]
    start = next((start for start, other in [*rewritten, *pairs] if other == end and start), "")
    says = [form.format(start, end, "7qthought", "7qword") for form in FORMS]
    talks = [talk(*pair) for text in says for pair in ((text,), (text, "7qx"), ("7qx", text))]
    wants = render(template, special, [(messages, True) for messages in talks])
    for some in (FORMS, PLAIN):
        for rule in rules(start, end):
            rows = zip(talks[: 3 * len(some)], wants)
            if all("".join(chat_parts(m, pieces, strips, rule)) == want for m, want in rows):
                return rule, end, some
    return None, end, ()


def rules(start, end):
    """Every way that thoughts may be left out, the plainest first."""
    hows = [how for how in range(32) if start or not how & (OPEN | SPANS | BOTH)]
    for how in sorted(hows, key=int.bit_count):
        for cuts in range(9):
            yield start, end, cuts, how
