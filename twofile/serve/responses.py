"""OpenAI's responses."""

import time

from ..logprobs import chat_logprob
from .answers import EVENTS, Flow, answer, event, unless_gone
from .asked import asked, check
from .exchange import Exchange, guarded
from .fields import RESPONSES, thing
from .openai import usage
from .refusals import Refused
from .talks import need_template, options, talk_ids

FORMAT = thing("an object with a type", {"type": {"enum": ["text"], "description": "text"}})
TEXTS = "input_text", "output_text", "text"  # types of parts


def messages_of(body):
    """The conversation that an input is."""
    items = body["input"]
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    told = [{"role": "system", "content": body["instructions"]}] if "instructions" in body else []
    for i, item in enumerate(items):
        where, kind = f"input.{i}", item.get("type", "message")
        if kind != "message":
            found = f"{where}: an item of type {str(kind)[:40]!r}"
            raise Refused(400, f"{found}, expected messages; leave it out", "input")
        if "role" not in item or item.get("content") is None:
            raise Refused(400, f"{where}: expected role and content; give both", "input")
        content = item["content"]
        if isinstance(content, list):
            content = [plain_part(part, where) for part in content]
        told.append({"role": item["role"], "content": content})
    return told


def plain_part(part, where):
    """A part of a content as chats have it."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in TEXTS:
        found = f"{where}: content has a part of type {str(kind)[:40]!r}"
        raise Refused(400, f"{found}, expected text alone; leave it out", "input")
    return {"type": "text", "text": part.get("text")}


async def responses(request):
    """POST /v1/responses"""
    state = request.app.state
    body = await asked(request, RESPONSES)
    if body.get("text"):
        form = {name: v for name, v in body["text"].items() if name != "verbosity"}
        check(form.get("format", {}), FORMAT, "text.format.")
    stream = body.get("stream", False)
    exchange = Exchange(state, state.shelf.find(body.get("model")))
    try:
        need_template(exchange.entry)
        await exchange.open()
        ids = await talk_ids(exchange, messages_of(body))
        how = options(body, state.settings, ("max_output_tokens",))
        await exchange.write([ids], 1, body.get("seed"), logprobs=body.get("top_logprobs"), **how)
        exchange.begin()
        answering = Answering(exchange, body)
        if stream:
            exchange.flowing = True
            pieces = guarded(answering.events(), exchange, answering.failed)
            return Flow(pieces, EVENTS, exchange)
        await unless_gone(request.receive, exchange.whole())
        return answer(answering.whole())
    finally:
        if not stream or not exchange.flowing:
            exchange.close()


class Answering:
    """A response in the making."""

    def __init__(self, exchange, body):
        self.exchange, self.body, self.w = exchange, body, exchange.writers[0]
        self.id, self.item = f"resp_{exchange.number}", f"msg_{exchange.number}"
        self.created, self.sent = int(time.time()), 0

    def object(self, status, output, **more):
        how, w = self.w.how, self.w
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": self.body.get("instructions"),
            "max_output_tokens": self.body.get("max_output_tokens"),
            "model": self.exchange.entry.name,
            "output": output,
            "parallel_tool_calls": self.body.get("parallel_tool_calls", True),
            "previous_response_id": None,
            "temperature": how.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": how.top_p,
            "truncation": "disabled",
            "metadata": self.body.get("metadata") or {},
            "usage": None,
            "seed": w.seed,
            **more,
        }

    def part(self, text):
        told = [chat_logprob(self.w.tokenizer, c) for c in self.w.chunks if c.token is not None]
        told = told if self.w.logprobs is not None and text else []
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": told}

    def message(self, status, parts):
        return {
            "id": self.item,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": parts,
        }

    def whole(self):
        """The response, when its text is finished."""
        reason, tokens = self.w.reason, usage([self.w], 1)
        done = reason in ("eos", "stop")
        status = "completed" if done else "incomplete"
        why = None if done else {"reason": "max_output_tokens"}
        return self.object(
            status,
            [self.message(status, [self.part(self.w.written)])],
            incomplete_details=why,
            stop_reason=reason,
            usage={
                "input_tokens": tokens["prompt_tokens"],
                "input_tokens_details": tokens["prompt_tokens_details"],
                "output_tokens": tokens["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": tokens["total_tokens"],
            },
        )

    def event(self, name, **more):
        self.sent += 1
        return event({"type": name, "sequence_number": self.sent - 1, **more}, name)

    def failed(self, refused):
        error = {"code": refused.code or "server_error", "message": refused.message}
        failed = self.object("failed", [], error=error)
        return self.event("response.failed", response=failed)

    async def events(self):
        at = {"item_id": self.item, "output_index": 0, "content_index": 0}
        began = self.object("in_progress", [])
        yield self.event("response.created", response=began)
        yield self.event("response.in_progress", response=began)
        empty = self.message("in_progress", [])
        yield self.event("response.output_item.added", output_index=0, item=empty)
        yield self.event("response.content_part.added", part=self.part(""), **at)
        async for _, chunk in self.exchange.chunks():
            told = []
            if self.w.logprobs is not None and chunk.token is not None:
                told = [chat_logprob(self.w.tokenizer, chunk)]
            if chunk.text or told:
                name = "response.output_text.delta"
                yield self.event(name, delta=chunk.text, logprobs=told, **at)
        value = self.whole()
        (item,) = value["output"]
        (part,) = item["content"]
        text, told = part["text"], part["logprobs"]
        yield self.event("response.output_text.done", text=text, logprobs=told, **at)
        yield self.event("response.content_part.done", part=part, **at)
        yield self.event("response.output_item.done", output_index=0, item=item)
        yield self.event(f"response.{value['status']}", response=value)


RESPONDING = (  # see app.py
    ("POST", "/v1/responses", responses, RESPONSES, EVENTS),
)
