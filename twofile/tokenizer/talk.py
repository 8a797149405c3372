"""A conversation in its pieces, as a chat template writes it."""

import re

import numpy as np

from ..errors import WrongValue, printable
from .file import BOTH, BUT_LAST, FIRST_END, MARK, OPEN, SPANS

# what a template cuts off a content's side: nothing, white space, line ends; left + 3 * right
STRIPS = ("", None, "\n")


def chat_parts(messages, pieces, strips, thoughts=None):
    """A conversation as a chat template writes it: pieces (by name of CHAT, in whatever form) and
    contents in turn.

    strips: by role, what the template cuts off a content, as in STRIPS. thoughts: what it leaves
    out of answers, (start, end, strips, how), see is_cut() and without_thoughts(); or None. Raises
    ModelError for another order of roles.
    """
    roles = [
        m.get("role") if isinstance(m, dict) and isinstance(m.get("content"), str) else None
        for m in messages
    ]
    system = roles[:1] == ["system"]
    turns = [("user", "assistant")[i % 2] for i in range(len(roles) - system)]
    if roles[system:] != turns or roles[-1:] != ["user"]:
        found = ", ".join(map(str, roles[:9])) or "none"
        wants = "expected an optional system, then user and assistant in turn, the user last"
        raise WrongValue(f"messages: roles {printable(found)}; {wants}")
    if system and pieces.get("system") is None:
        found = "messages: this model's template has no system message"
        raise WrongValue(f"{found}; expected none; put it into the user's")
    out = [pieces["system" if system else "first"]]
    for i, m in enumerate(messages):
        after = {"system": "after_system", "assistant": "a2u", "user": "u2a"}[m["role"]]
        text, cuts = m["content"], strips[m["role"]]
        if thoughts and m["role"] == "assistant" and is_cut(text, thoughts, i == len(messages) - 2):
            text, cuts = without_thoughts(text, thoughts), thoughts[2]
        text = trimmed(text, cuts)
        out += [text, pieces["gen" if i == len(messages) - 1 else after]]
    return out


def trimmed(text, cuts):
    """A content without what a template cuts off its sides; cuts: as in STRIPS."""
    right, left = divmod(cuts, 3)
    return text.lstrip(STRIPS[left]).rstrip(STRIPS[right])


def is_cut(text, thoughts, last):
    """Whether thoughts are left out of an answer. BUT_LAST: not of the last one; BOTH: if there is
    a start too; OPEN: if there is a start alone."""
    start, end, _, how = thoughts
    if last and how & BUT_LAST:
        return False
    begun = bool(start) and start in text
    whole = end in text and (begun or not how & BOTH)
    return whole or bool(how & OPEN) and begun


def without_thoughts(text, thoughts):
    """An answer without what its writer thought: what is behind the last end, or (FIRST_END) the
    first; or (SPANS) without each part from a start to the next end."""
    start, end, _, how = thoughts
    if how & SPANS:
        return "".join(part.partition(start)[0] for part in text.split(end))
    cut = text.partition if how & FIRST_END else text.rpartition
    return cut(end)[2]


def thinking(file):
    """{text: id} of the marks of a TokenizerFile between which a model thinks: in its own answers
    they are what they were."""
    marks = np.flatnonzero((file.types & 15) == MARK).tolist()
    names = {file.pieces[i].decode("utf-8", "replace"): i for i in marks}
    return {name: i for name, i in names.items() if "think" in name.lower()}


def at_marks(text, marks):
    """text -> [what is between, id of a mark, …]"""
    parts = re.split(f"({'|'.join(map(re.escape, marks))})", text) if marks else [text]
    return [marks.get(part, part) for part in parts if part]
