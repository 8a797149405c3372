"""OpenAI's responses."""

import time

from ..calls import answered
from ..logprobs import chat_logprob
from ..objects import usage
from .answers import EVENTS, event
from .asked import asked, check
from .exchange import Exchange, reply
from .fields import RESPONSES, TEXT
from .refusals import Refused
from .talks import Talk, begin, options, schema_of, spoken, tools_of

TEXTS = "input_text", "output_text", "text"  # types of parts


def messages_of(body):
    """The conversation that an input is, in OpenAI's older form."""
    items = body["input"]
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    found = [{"role": "system", "content": body["instructions"]}] if "instructions" in body else []
    for i, item in enumerate(items):
        where, kind = f"input.{i}", item.get("type", "message")
        if kind == "function_call":
            if not found or found[-1]["role"] != "assistant":
                found.append({"role": "assistant", "content": None})
            found[-1].setdefault("tool_calls", []).append(
                {"id": item.get("call_id"), "function": item}
            )
        elif kind == "function_call_output":
            output = item.get("output")
            row = {"role": "tool", "content": plain_parts(output, where)}
            found.append(row | {"tool_call_id": item.get("call_id")})
        elif kind != "message":
            what = f"{where}: an item of type {str(kind)[:40]!r}"
            raise Refused(400, f"{what}, expected messages or calls; leave it out", "input")
        elif "role" not in item or item.get("content") is None:
            raise Refused(400, f"{where}: expected role and content; give both", "input")
        else:
            found.append({"role": item["role"], "content": plain_parts(item["content"], where)})
    return found


def plain_parts(content, where):
    """A content as chats have it."""
    if not isinstance(content, list):
        return content
    kinds = [part.get("type") if isinstance(part, dict) else None for part in content]
    odd = next((kind for kind in kinds if kind not in TEXTS), TEXTS)
    if odd is not TEXTS:
        found = f"{where}: content has a part of type {str(odd)[:40]!r}"
        raise Refused(400, f"{found}, expected text alone; leave it out", "input")
    return [{"type": "text", "text": part.get("text")} for part in content]


async def responses(request):
    """POST /v1/responses"""
    state = request.app.state
    body = await asked(request, RESPONSES)
    several, form = body.get("parallel_tool_calls", True), body.get("text", {}).get("format")
    check(body.get("text", {}), TEXT, "text.")
    talk = Talk(
        messages_of(body),
        options(body, state.settings, ("max_output_tokens",)),
        tools_of(body.get("tools"), body.get("tool_choice"), several),
        schema_of(form, "text.format"),
        seed=body.get("seed"),
        logprobs=body.get("top_logprobs"),
        field="text.format",
        memory=body.get("memory"),
    )
    exchange = Exchange(state, state.shelf.find(body.get("model")))

    async def whole():
        await exchange.whole()
        answering = Answering(exchange, body)
        text, calls = answered(exchange.writers[0])
        items = [answering.message(text)] if text or not calls else []
        return answering.whole(items + [call_item(call) for call in calls])

    def flow():
        answering = Answering(exchange, body)
        return answering.events(), answering.failed, EVENTS

    streams = flow if body.get("stream") else None
    return await reply(request, exchange, begin(exchange, talk), whole, streams)


def call_item(call, status="completed"):
    """A call as an item of output."""
    name, arguments, number = call
    return {
        "id": number.replace("call_", "fc_"),
        "type": "function_call",
        "status": status,
        "call_id": number,
        "name": name,
        "arguments": arguments,
    }


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
            "text": self.body.get("text") or {"format": {"type": "text"}},
            "tool_choice": self.body.get("tool_choice", "auto"),
            "tools": self.body.get("tools", []),
            "top_p": how.top_p,
            "truncation": "disabled",
            "metadata": self.body.get("metadata") or {},
            "usage": None,
            "seed": w.seed,
            **self.exchange.beside,
            **more,
        }

    def part(self, text):
        told = [chat_logprob(self.w.tokenizer, c) for c in self.w.chunks if c.token is not None]
        told = told if self.w.logprobs is not None and text else []
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": told}

    def message(self, text):
        """A text as an item of output; None while it is being written."""
        return {
            "id": self.item,
            "type": "message",
            "status": "in_progress" if text is None else "completed",
            "role": "assistant",
            "content": [] if text is None else [self.part(text)],
        }

    def whole(self, items):
        """The response, when its text is finished."""
        reason, tokens = self.w.reason, usage([self.w], 1)
        done = reason in ("eos", "stop")
        if not done and items and items[-1]["type"] == "message":
            items[-1]["status"] = "incomplete"
        return self.object(
            "completed" if done else "incomplete",
            items,
            incomplete_details=None if done else {"reason": "max_output_tokens"},
            stop_reason=reason,
            usage={
                "input_tokens": tokens["prompt_tokens"],
                "input_tokens_details": tokens["prompt_tokens_details"],
                "output_tokens": tokens["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": tokens["total_tokens"],
            },
        )

    def event(self, kind, **more):
        self.sent += 1
        return event({"type": kind, "sequence_number": self.sent - 1, **more}, kind)

    def failed(self, refused):
        error = {"code": refused.code or "server_error", "message": refused.message}
        failed = self.object("failed", [], error=error)
        return self.event("response.failed", response=failed)

    async def events(self):
        began, items, text = self.object("in_progress", []), [], None
        yield self.event("response.created", response=began)
        yield self.event("response.in_progress", response=began)
        at = {"item_id": self.item, "output_index": 0, "content_index": 0}
        async for _, chunk, said in spoken(self.exchange):
            told = []
            if self.w.logprobs is not None and chunk.token is not None:
                told = [chat_logprob(self.w.tokenizer, chunk)]
            for part in said:
                if not isinstance(part, str):
                    if text is not None:
                        for value in self.ended(text, items, at):
                            yield value
                        text = None
                    for value in self.called(part, items):
                        yield value
                    continue
                if text is None:
                    text, at = "", {**at, "output_index": len(items)}
                    for value in self.begun(at):
                        yield value
                text += part
                name = "response.output_text.delta"
                yield self.event(name, delta=part, logprobs=told, **at)
                told = []
        if text is None and not items:
            text = ""
            for value in self.begun(at):
                yield value
        if text is not None:
            for value in self.ended(text, items, at):
                yield value
        value = self.whole(items)
        yield self.event(f"response.{value['status']}", response=value)

    def begun(self, at):
        """The events with which a text begins."""
        item, place = self.message(None), at["output_index"]
        yield self.event("response.output_item.added", output_index=place, item=item)
        yield self.event("response.content_part.added", part=self.part(""), **at)

    def ended(self, text, items, at):
        """Those with which it ends; it is put among items."""
        items.append(item := self.message(text))
        (part,) = item["content"]
        told = part["logprobs"]
        yield self.event("response.output_text.done", text=text, logprobs=told, **at)
        yield self.event("response.content_part.done", part=part, **at)
        place = at["output_index"]
        yield self.event("response.output_item.done", output_index=place, item=item)

    def called(self, call, items):
        """Those of a call, which is put among items."""
        place, item = len(items), call_item(call)
        items.append(item)
        begins = {**call_item(call, "in_progress"), "arguments": ""}
        yield self.event("response.output_item.added", output_index=place, item=begins)
        at = {"item_id": item["id"], "output_index": place}
        name = "response.function_call_arguments"
        yield self.event(f"{name}.delta", delta=call[1], **at)
        yield self.event(f"{name}.done", arguments=call[1], name=call[0], **at)
        yield self.event("response.output_item.done", output_index=place, item=item)


RESPONDING = (  # see app.py
    ("POST", "/v1/responses", responses, RESPONSES, EVENTS),
)
