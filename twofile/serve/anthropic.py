"""Anthropic's messages."""

import json

from ..calls import answered
from ..errors import shown
from ..prompts import part_text
from .answers import EVENTS, answer, event
from .asked import asked
from .exchange import Exchange, reply
from .fields import COUNT, MESSAGE
from .refusals import Refused, told
from .talks import Talk, begin, options, spoken, talk_ids, tools_of

WHY = {"eos": "end_turn", "stop": "stop_sequence"}  # else max_tokens
UNENDED = {"stop_reason": None, "stop_sequence": None}
CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def text_of(content):
    """A content, a text or a list of parts, as one text."""
    return content if isinstance(content, str) else "\n".join(map(part_text, content))


def gave(block):
    """What a tool gave, as a model is told it."""
    return "error: " * bool(block.get("is_error")) + text_of(block.get("content") or "")


def messages_of(body):
    """The conversation of a body in OpenAI's form; messages of one role that follow each other are
    one."""
    found, parts = [], []  # parts: of the last message's text

    def close():
        if found and parts:
            found[-1]["content"] = "\n\n".join(parts)
        parts.clear()

    if "system" in body:
        found.append({"role": "system", "content": text_of(body["system"])})
    for m in body["messages"]:
        blocks = m["content"]
        blocks = [{"type": "text", "text": blocks}] if isinstance(blocks, str) else blocks
        texts = [b for b in blocks if b.get("type") not in ("tool_use", "tool_result")]
        calls = [
            {"id": b.get("id"), "function": {"name": b.get("name"), "arguments": b.get("input")}}
            for b in blocks
            if b.get("type") == "tool_use"
        ]
        results = [b for b in blocks if b.get("type") == "tool_result"]
        if results:
            close()
            rows = [(b.get("tool_use_id"), gave(b)) for b in results]
            found += [{"role": "tool", "tool_call_id": i, "content": c} for i, c in rows]
        if not texts and not calls and results:
            continue
        if not found or found[-1]["role"] != m["role"]:
            close()
            found.append({"role": m["role"], "content": "", "tool_calls": []})
        found[-1]["tool_calls"] += calls
        if texts:
            parts.append(text_of(texts))
    close()
    return found


def choice_of(given):
    """A tool_choice as OpenAI's, and whether several calls are allowed. Raises Refused."""
    if given is None:
        return None, True
    kind, several = given.get("type"), not given.get("disable_parallel_tool_use")
    if kind == "tool":
        return {"name": given.get("name")}, several
    if kind not in CHOICES:
        wants = "type auto, any, tool or none"
        found = f"tool_choice is {shown(given)}"
        raise Refused(400, f"{found}, expected {wants}; change it", "tool_choice")
    return CHOICES[kind], several


def talk_of(body, settings):
    """The Talk that a body asks for."""
    how = options(body, settings, ("max_tokens",)) if "max_tokens" in body else {}
    if "stop_sequences" in body:
        how["stop"] = body["stop_sequences"]
    tools = tools_of(body.get("tools"), *choice_of(body.get("tool_choice")))
    memory = body.get("memory")
    return Talk(messages_of(body), how, tools, seed=body.get("seed"), memory=memory)


async def messages(request):
    """POST /v1/messages"""
    state = request.app.state
    body = await asked(request, MESSAGE)
    exchange = Exchange(state, state.shelf.find(body.get("model")))
    failed = lambda refused: event(told(refused, "/v1/messages"), "error")

    async def whole():
        await exchange.whole()
        text, calls = answered(exchange.writers[0])
        blocks = [{"type": "text", "text": text}] if text or not calls else []
        return message(exchange, blocks + [block(call) for call in calls], calls)

    streams = (lambda: (events(exchange), failed, EVENTS)) if body.get("stream") else None
    return await reply(request, exchange, begun(exchange, body), whole, streams)


async def begun(exchange, body):
    await begin(exchange, talk_of(body, exchange.state.settings))


def block(call):
    """A call as a block of content."""
    name, arguments, number = call
    number = number.replace("call_", "toolu_")
    return {"type": "tool_use", "id": number, "name": name, "input": json.loads(arguments)}


def message(exchange, content, calls=False):
    """A message; while it is being written, without its end."""
    (w,) = exchange.writers
    why = WHY.get(w.reason, "max_tokens")
    why = "tool_use" if calls and why == "end_turn" else why
    return {
        "id": f"msg_{exchange.number}",
        "type": "message",
        "role": "assistant",
        "model": exchange.entry.name,
        "content": content,
        "stop_reason": why if w.reason else None,
        "stop_sequence": w.stopped,
        "usage": {"input_tokens": w.n_prompt, "output_tokens": w.count},
        **(exchange.beside if w.reason else {}),
    }


async def events(exchange):
    def sent(name, **more):
        return event({"type": name, **more}, name)

    def begins(content):
        return sent("content_block_start", index=index, content_block=content)

    index = calls = 0
    yield sent("message_start", message=message(exchange, []) | UNENDED)
    yield begins({"type": "text", "text": ""})
    yield sent("ping")
    async for _, _, said in spoken(exchange):
        for part in said:
            if isinstance(part, str):
                delta = {"type": "text_delta", "text": part}
                yield sent("content_block_delta", index=index, delta=delta)
                continue
            yield sent("content_block_stop", index=index)
            index, calls, whole = index + 1, calls + 1, block(part)
            yield begins({**whole, "input": {}})
            delta = {"type": "input_json_delta", "partial_json": part[1]}
            yield sent("content_block_delta", index=index, delta=delta)
    yield sent("content_block_stop", index=index)
    whole = message(exchange, [], calls)
    delta = {name: whole[name] for name in ("stop_reason", "stop_sequence")}
    yield sent("message_delta", delta=delta, usage=whole["usage"], **exchange.beside)
    yield sent("message_stop")


async def count_tokens(request):
    """POST /v1/messages/count_tokens"""
    state = request.app.state
    body = await asked(request, COUNT)
    entry, talk = state.shelf.find(body.get("model")), talk_of(body, state.settings)
    async with Exchange(state, entry) as exchange:
        return answer({"input_tokens": len(await talk_ids(exchange, talk))})


ANTHROPIC = (  # see app.py
    ("POST", "/v1/messages", messages, MESSAGE, EVENTS),
    ("POST", "/v1/messages/count_tokens", count_tokens, COUNT, None),
)
