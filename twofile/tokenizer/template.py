"""A conversation as a chat template writes it."""

from ..errors import ModelError, printable

# what a template cuts off a content's side: nothing, white space, line ends; left + 3 * right
STRIPS = ("", None, "\n")


def chat_parts(messages, pieces, strips):
    """A conversation as a chat template writes it: pieces (by name of CHAT, in whatever form) and
    contents in turn.

    strips: by role, what the template cuts off a content, as in STRIPS. Raises ModelError for
    another order of roles.
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
        raise ModelError(f"messages: roles {printable(found)}; {wants}")
    if system and pieces.get("system") is None:
        found = "messages: this model's template has no system message"
        raise ModelError(f"{found}; expected none; put it into the user's")
    out = [pieces["system" if system else "first"]]
    for i, m in enumerate(messages):
        right, left = divmod(strips[m["role"]], 3)
        after = {"system": "after_system", "assistant": "a2u", "user": "u2a"}[m["role"]]
        text = m["content"].lstrip(STRIPS[left]).rstrip(STRIPS[right])
        out += [text, pieces["gen" if i == len(messages) - 1 else after]]
    return out
