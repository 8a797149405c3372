"""Anthropic's messages."""

from ..prompts import plain_messages
from .answers import EVENTS, Flow, answer, event, unless_gone
from .asked import asked
from .exchange import Exchange, guarded
from .fields import COUNT, MESSAGE
from .refusals import told
from .talks import need_template, options, talk_ids

WHY = {"eos": "end_turn", "stop": "stop_sequence"}  # else max_tokens


def messages_of(body):
    """The conversation of a body: messages of one role that follow each other are one."""
    joined = []
    for m in plain_messages(body["messages"]):
        if joined and m["role"] == joined[-1]["role"]:
            joined[-1] = {**m, "content": f"{joined[-1]['content']}\n\n{m['content']}"}
        else:
            joined.append(m)
    return [{"role": "system", "content": body["system"]}, *joined] if "system" in body else joined


async def messages(request):
    """POST /v1/messages"""
    state = request.app.state
    body = await asked(request, MESSAGE)
    stream = body.get("stream", False)
    exchange = Exchange(state, state.shelf.find(body.get("model")))
    try:
        need_template(exchange.entry)
        await exchange.open()
        ids = await talk_ids(exchange, messages_of(body))
        how = options(body, state.settings, ("max_tokens",))
        await exchange.write([ids], 1, body.get("seed"), stop=body.get("stop_sequences"), **how)
        exchange.begin()
        if stream:
            exchange.flowing = True
            failed = lambda refused: event(told(refused, "/v1/messages"), "error")
            return Flow(guarded(events(exchange), exchange, failed), EVENTS, exchange)
        await unless_gone(request.receive, exchange.whole())
        return answer(message(exchange, True))
    finally:
        if not stream or not exchange.flowing:
            exchange.close()


def message(exchange, whole):
    """A message, whole or as it begins."""
    (w,) = exchange.writers
    why = WHY.get(w.reason, "max_tokens")
    return {
        "id": f"msg_{exchange.number}",
        "type": "message",
        "role": "assistant",
        "model": exchange.entry.name,
        "content": [{"type": "text", "text": w.written}] if whole else [],
        "stop_reason": why if whole else None,
        "stop_sequence": w.stopped if whole else None,
        "usage": {"input_tokens": w.n_prompt, "output_tokens": w.count if whole else 0},
    }


async def events(exchange):
    def sent(name, **more):
        return event({"type": name, **more}, name)

    yield sent("message_start", message=message(exchange, False))
    block = {"type": "text", "text": ""}
    yield sent("content_block_start", index=0, content_block=block)
    yield sent("ping")
    async for _, chunk in exchange.chunks():
        if chunk.text:
            delta = {"type": "text_delta", "text": chunk.text}
            yield sent("content_block_delta", index=0, delta=delta)
    yield sent("content_block_stop", index=0)
    whole = message(exchange, True)
    delta = {name: whole[name] for name in ("stop_reason", "stop_sequence")}
    yield sent("message_delta", delta=delta, usage=whole["usage"])
    yield sent("message_stop")


async def count_tokens(request):
    """POST /v1/messages/count_tokens"""
    state = request.app.state
    body = await asked(request, COUNT)
    entry = state.shelf.find(body.get("model"))
    need_template(entry)
    async with Exchange(state, entry) as exchange:
        return answer({"input_tokens": len(await talk_ids(exchange, messages_of(body)))})


ANTHROPIC = (  # see app.py
    ("POST", "/v1/messages", messages, MESSAGE, EVENTS),
    ("POST", "/v1/messages/count_tokens", count_tokens, COUNT, None),
)
