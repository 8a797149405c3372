"""ollama's chat, ollama's generate."""

import json
import math
import re
import time

from ..calls import answered
from ..errors import shown
from ..structure import ANY_OBJECT
from .answers import LINES, line
from .asked import asked, check
from .exchange import Exchange, reply
from .fields import OLLAMA_CHAT, OLLAMA_GENERATE, OPTIONS
from .listing import now
from .refusals import Refused, told
from .talks import Talk, begin, options, spoken, tools_of

IDLE = frozenset(  # options that change no text, whatever they are
    "num_keep num_batch num_gpu main_gpu num_thread numa low_vram f16_kv use_mmap use_mlock "
    "vocab_only logits_all penalize_newline".split()
)


def how_of(body, entry, settings):
    """The options of a Writer."""
    given = {k: v for k, v in body.get("options", {}).items() if v is not None and k not in IDLE}
    check(given, OPTIONS, "options.")
    if given.get("num_ctx", 0) > entry.context():
        found = f"options.num_ctx is {given['num_ctx']}"
        raise Refused(
            400, f"{found}, expected at most {entry.context()}; ask for less", "options.num_ctx"
        )
    if body.get("think"):
        found = f"think is {shown(body['think'])}"
        raise Refused(400, f"{found}, expected false; leave it out", "think")
    if "keep_alive" in body:
        entry.idle = seconds_of(body["keep_alive"])
    how = options(given, settings, ("num_predict",))
    return {"seed": given.get("seed"), **how}


def seconds_of(keep):
    """How long a model stays open, as ollama says it: 300, "5m", "1h30m", -1 for ever. Raises
    Refused."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    found = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", str(keep))
    if str(keep).startswith("-"):
        return math.inf
    if not isinstance(keep, str) or keep.isdecimal():
        return float(keep)
    if "".join(map("".join, found)) != keep or not keep:
        wants = "seconds, or a text such as 5m, or -1 for ever"
        raise Refused(
            400, f"keep_alive is {shown(keep)}, expected {wants}; change it", "keep_alive"
        )
    return sum(float(number) * units[unit] for number, unit in found)


def schema_of_format(body):
    """What the answer must be, or None."""
    given = body.get("format")
    return ANY_OBJECT if given == "json" else given or None


async def run(request, body, exchange, begun, wrap):
    """Answer by what wrap(texts, calls) makes of them. begun(how): a coroutine that begins to
    write. Without a prompt the model is only opened, or closed."""
    state, entry = request.app.state, exchange.entry
    failed = lambda refused: line(told(refused, "/api/"))
    writes = bool(body.get("messages") or body.get("prompt"))

    async def begins():
        how = how_of(body, entry, state.settings)
        await (begun(how) if writes else exchange.open())

    async def whole():
        if not writes:
            exchange.close()
            if entry.idle == 0:
                await state.shelf.close(entry)
            reason = "load" if entry.model else "unload"
            return {**said(exchange, wrap("", [])), "done": True, "done_reason": reason}
        await exchange.whole()
        text, calls = answered(exchange.writers[0])
        return last(exchange, wrap(text or "", calls))

    streams = (lambda: (lines(exchange, wrap), failed, LINES)) if body.get("stream", True) else None
    return await reply(request, exchange, begins(), whole, streams if writes else None)


def said(exchange, part):
    return {"model": exchange.entry.name, "created_at": now(), **part, "done": False}


async def lines(exchange, wrap):
    async for _, _, parts in spoken(exchange):
        for part in parts:
            pair = (part, []) if isinstance(part, str) else ("", [part])
            yield line(said(exchange, wrap(*pair)))
    yield line(last(exchange, wrap("", [])))


def last(exchange, part):
    """The last object, with what the text took, in nanoseconds."""
    (w,), nano = exchange.writers, 10**9
    began, first, end = w.clock
    return {
        **said(exchange, part),
        "done": True,
        "done_reason": "stop" if w.reason in ("eos", "stop") else "length",
        "total_duration": int((time.perf_counter() - exchange.began) * nano),
        "load_duration": int((began - exchange.began) * nano),
        "prompt_eval_count": w.n_prompt,
        "prompt_eval_duration": int((first - began) * nano),
        "eval_count": w.count,
        "eval_duration": int((end - first) * nano),
        **exchange.beside,
    }


async def chat(request):
    """POST /api/chat"""
    body = await asked(request, OLLAMA_CHAT)
    exchange = Exchange(request.app.state, request.app.state.shelf.find(body["model"]))

    async def begun(how):
        messages, seed = [as_ours(m) for m in body["messages"]], how.pop("seed")
        tools = tools_of(body.get("tools"), None)
        more = {"seed": seed, "field": "format", "memory": body.get("memory")}
        await begin(exchange, Talk(messages, how, tools, schema_of_format(body), **more))

    def wrap(text, calls):
        message = {"role": "assistant", "content": text}
        if calls:
            message["tool_calls"] = [called(call) for call in calls]
        return {"message": message}

    return await run(request, body, exchange, begun, wrap)


def called(call):
    """A call as ollama tells it."""
    return {"function": {"name": call[0], "arguments": json.loads(call[1])}}


def as_ours(message):
    """A message without what ollama's clients leave empty."""
    if message.get("images"):
        raise Refused(400, "messages: images, expected text alone; leave them out", "messages")
    ours = {name: message[name] for name in message if name not in ("images", "thinking")}
    return ours | ({"name": ours.pop("tool_name")} if "tool_name" in ours else {})


async def generate(request):
    """POST /api/generate"""
    body = await asked(request, OLLAMA_GENERATE)
    exchange = Exchange(request.app.state, request.app.state.shelf.find(body["model"]))

    async def begun(how):
        text, system, seed = body["prompt"], body.get("system"), how.pop("seed")
        schema = schema_of_format(body)
        if not body.get("raw") and (exchange.entry.chats or system):
            told = [{"role": "system", "content": system}] if system else []
            told.append({"role": "user", "content": text})
            more = {"seed": seed, "field": "format", "memory": body.get("memory")}
            return await begin(exchange, Talk(told, how, schema=schema, **more))
        await exchange.open()
        how |= {} if schema is None else {"schema": schema}
        await exchange.write([text], 1, seed, **how)
        exchange.begin()

    return await run(request, body, exchange, begun, lambda text, calls: {"response": text})


OLLAMA = (  # see app.py
    ("POST", "/api/chat", chat, OLLAMA_CHAT, LINES),
    ("POST", "/api/generate", generate, OLLAMA_GENERATE, LINES),
)
