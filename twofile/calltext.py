"""Tools, calls, results as texts of messages, where a template has no form.

Calls stand as Hermes models write them (NousResearch's Hermes-Function-Calling), and Qwen:
<tool_call>, an object of name and arguments, </tool_call>; results as <tool_response>. All of it
is text, so that nothing of a tool can become a control token.
"""

import json

from .callform import TEXT_CLOSE, TEXT_OPEN
from .tokenizer.toolform import call_of
from .tokenizer.turns import check_turns

GAVE, GAVE_END = "<tool_response>", "</tool_response>"


def telling(tools):
    """What a model is told of tools [{"name", "description", "parameters"}]."""
    told = [{name: tool[name] for name in tool if name != "strict"} for tool in tools]
    lines = [json.dumps(tool, ensure_ascii=False) for tool in told]
    return (
        "# Tools\n\nThese functions can be called, one JSON object each:\n<tools>\n"
        + "\n".join(lines)
        + f"\n</tools>\n\nTo call one, write its name and arguments so:\n{TEXT_OPEN}\n"
        + '{"name": "the function", "arguments": {"its": "arguments"}}\n'
        + f"{TEXT_CLOSE}\nThe result comes back in {GAVE}. Call a function only if it helps."
    )


def as_texts(messages, tools, system):
    """A conversation in OpenAI's form as one of texts alone: calls and results stand in contents;
    of tools tells the system's message, or, where there can be none (system), the first. Raises
    ModelError."""
    messages, plain, results = check_turns(messages), [], []

    def add(*message):
        """Results are the beginning of a user's message, or one of their own."""
        if results:
            more = [m["content"] for m in message if m["role"] == "user"]
            plain.append({"role": "user", "content": "\n".join([*results, *more])})
            results.clear()
            message = () if more else message
        plain.extend(message)

    for m in messages:
        role, content = m["role"], m["content"]
        if role == "tool":
            results.append(f"{GAVE}\n{content}\n{GAVE_END}")
        elif role == "assistant" and m.get("tool_calls"):
            parts = [content] if content else []
            parts += [call_text(call) for call in m["tool_calls"]]
            add({"role": role, "content": "\n".join(parts)})
        else:
            add(m)
    add()
    if not tools or not plain:
        return plain
    first, told = plain[0], telling(tools)
    if first["role"] == "system":
        return [{**first, "content": f"{first['content']}\n\n{told}"}, *plain[1:]]
    if system:
        return [{"role": "system", "content": told}, *plain]
    return [{**first, "content": f"{told}\n\n{first['content']}"}, *plain[1:]]


def call_text(call):
    """A call of a message as it stands in a text."""
    name, arguments, _ = call_of(call)
    said = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"{TEXT_OPEN}\n{said}\n{TEXT_CLOSE}"
