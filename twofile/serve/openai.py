"""OpenAI's completions and chat completions."""

import time

from ..calls import call_object
from ..logprobs import by_name, chat_logprob, label
from ..options import likeliest_asked
from ..streams import best_first
from .answers import EVENTS, event
from .asked import asked
from .echoes import echoed
from .exchange import Exchange, reply
from .fields import CHAT, COMPLETION
from .refusals import Refused, told
from .talks import Talk, begin, options, schema_of, spoken, tools_of

DONE = event(b"[DONE]")


def several(prompt):
    """A prompt, or a list of prompts -> list of them (str or ids)."""
    one = isinstance(prompt, str) or type(prompt[0]) is int
    return [prompt] if one else prompt


async def completions(request):
    """POST /v1/completions"""
    state = request.app.state
    body = await asked(request, COMPLETION)
    n, best, stream = body.get("n", 1), body.get("best_of"), body.get("stream", False)
    best = n if best is None else best
    top, echo = completion_logprobs(body), body.get("echo", False)
    if best < n:
        raise Refused(400, f"best_of is {best}, expected n, {n}, or more; change it", "best_of")
    if stream and best > n:
        raise Refused(400, f"best_of is {best} in a stream, expected n; leave one out", "best_of")
    if stream and echo and top is not None:
        found = "echo with logprobs in a stream"
        raise Refused(400, f"{found}, expected two of the three; leave one out", "echo")
    prompts = several(body["prompt"])
    exchange = Exchange(state, state.shelf.find(body.get("model")))
    how = options(body, state.settings) | {"logprobs": 0 if top is None and best > n else top}
    schema = schema_of(body.get("response_format"), "response_format")
    how |= {} if schema is None else {"schema": schema}

    async def begun():
        await exchange.open()
        await exchange.write(prompts, best, body.get("seed"), **how)
        exchange.begin()

    whole = lambda: completion_object(exchange, prompts, n, best, echo, top)
    chunks = lambda: CompletionChunks(exchange, prompts if echo else None, n)
    streams = (lambda: flow(exchange, body, chunks())) if stream else None
    return await reply(request, exchange, begun(), whole, streams)


def completion_logprobs(body):
    """How many of the likeliest tokens are told, or None."""
    if body.get("logprobs") is True:
        raise Refused(400, "logprobs is true, expected a number with a prompt; give it", "logprobs")
    return likeliest_asked(body.get("logprobs"))


async def completion_object(exchange, prompts, n, best, echo, top):
    await exchange.whole()
    writers, choices, parts = exchange.writers, [], []
    for i, prompt in enumerate(prompts):
        own = writers[i * best : (i + 1) * best]
        for w in best_first(own, None)[:n] if best > n else own:
            w.logprobs = top
            parts.append(await echoed(exchange.model, w, prompt) if echo else w.completion())
            choices.append(parts[-1]["choices"][0] | {"index": len(choices)})
    return whole_object(parts, choices, exchange, best)


def whole_object(parts, choices, exchange, n):
    """The object of all choices, from those of each."""
    value = {**parts[0], "model": exchange.entry.name, "choices": choices}
    value["usage"] = usage(exchange.writers, n)
    if len(parts) > 1:
        del value["timings"]
    return value


def usage(writers, n):
    """Tokens of a request; those of a prompt count once, for its n texts."""
    prompt, new = sum(w.n_prompt for w in writers[::n]), sum(w.count for w in writers)
    cached = sum(w.cached or 0 for w in writers[::n])
    return {
        "prompt_tokens": prompt,
        "completion_tokens": new,
        "total_tokens": prompt + new,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def flow(exchange, body, chunks):
    """What reply() streams of the chunks of an Exchange."""
    wants = (body.get("stream_options") or {}).get("include_usage", False)
    failed = lambda refused: event(told(refused, "/v1/"))
    return events(exchange, chunks, wants), failed, EVENTS


async def events(exchange, chunks, wants_usage):
    without = {"usage": None} if wants_usage else {}  # as OpenAI's have it until it is known
    for value in chunks.first():
        yield event(value | without)
    async for number, chunk, said in spoken(exchange):
        for value in chunks.of(number, exchange.writers[number], chunk, said):
            yield event(value | without)
    if wants_usage:
        value = exchange.writers[0].completion()
        more = {"timings": value["timings"]} if len(exchange.writers) == 1 else {}
        value = chunks.head | {"choices": [], "usage": usage(exchange.writers, chunks.n)}
        yield event(value | more)
    yield DONE


class CompletionChunks:
    """Chunks as OpenAI's completion chunks. echo: the prompts, if they are told first."""

    def __init__(self, exchange, echo, n):
        self.exchange, self.echo, self.n = exchange, echo, n
        self.head = head(exchange, "text_completion", "cmpl")
        tells = [w for w in exchange.writers if w.logprobs is not None]
        prompts = [w.tokenizer and w.tokenizer.decode(w.ids[: w.n_prompt]) for w in tells]
        self.at = [len(prompt or "") for prompt in prompts]

    def value(self, number, text, logprobs=None, finish=None):
        choice = {"text": text, "index": number, "logprobs": logprobs, "finish_reason": finish}
        return self.head | {"choices": [choice]}

    def first(self):
        for i, prompt in enumerate(self.echo or ()):
            text = prompt if isinstance(prompt, str) else self.exchange.model.detokenize(prompt)
            for j in range(self.n):
                yield self.value(i * self.n + j, text)

    def of(self, number, w, chunk, said):
        lists = None
        if w.logprobs is not None and chunk.token is not None:
            lists = {
                "tokens": [label(w.tokenizer, chunk.token)],
                "token_logprobs": [chunk.logprob],
                "top_logprobs": [by_name(w.tokenizer, chunk.top, chunk.token)],
                "text_offset": [self.at[number]],
            }
            self.at[number] += len(chunk.text)
        if chunk.text or lists:
            yield self.value(number, chunk.text, lists)
        if chunk.finish_reason:
            yield self.value(number, "", None, finish(chunk.finish_reason)) | {
                "stop_reason": chunk.finish_reason
            }


def finish(reason, calls=False):
    """OpenAI's word for why a text ended, in which there were calls or not."""
    if reason not in ("eos", "stop"):
        return "length"
    return "tool_calls" if calls else "stop"


def head(exchange, kind, prefix):
    """What all chunks of an answer have."""
    return {
        "id": f"{prefix}-{exchange.number}",
        "object": kind,
        "created": int(time.time()),
        "model": exchange.entry.name,
    }


async def chat_completions(request):
    """POST /v1/chat/completions"""
    state = request.app.state
    body = await asked(request, CHAT)
    stream, tools = body.get("stream", False), body.get("tools")
    talk = Talk(
        body["messages"],
        options(body, state.settings),
        tools_of(tools, body.get("tool_choice"), body.get("parallel_tool_calls", True)),
        schema_of(body.get("response_format"), "response_format"),
        body.get("n", 1),
        body.get("seed"),
        likeliest_asked(body.get("logprobs"), body.get("top_logprobs")),
        memory=body.get("memory"),
    )
    exchange = Exchange(state, state.shelf.find(body.get("model")))
    whole = lambda: chat_object(exchange, talk.n)
    streams = (lambda: flow(exchange, body, ChatChunks(exchange, talk.n))) if stream else None
    return await reply(request, exchange, begin(exchange, talk), whole, streams)


async def chat_object(exchange, n):
    await exchange.whole()
    parts = [w.chat_completion() for w in exchange.writers]
    choices = [part["choices"][0] | {"index": i} for i, part in enumerate(parts)]
    return whole_object(parts, choices, exchange, n) | exchange.beside


class ChatChunks:
    """Chunks as OpenAI's chat completion chunks."""

    def __init__(self, exchange, n):
        self.n, self.head = n, head(exchange, "chat.completion.chunk", "chatcmpl")
        self.calls, self.beside = [0] * n, exchange.beside

    def value(self, number, delta, logprobs=None, finish=None):
        choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self.head | {"choices": [choice]}

    def first(self):
        for number in range(self.n):
            yield self.value(number, {"role": "assistant", "content": ""})

    def of(self, number, w, chunk, said):
        told = None
        if w.logprobs is not None and chunk.token is not None:
            told = {"content": [chat_logprob(w.tokenizer, chunk)], "refusal": None}
        text = "".join(part for part in said if isinstance(part, str))
        if text or told:
            yield self.value(number, {"content": text}, told)
        for call in (part for part in said if not isinstance(part, str)):
            delta = {"index": self.calls[number], **call_object(call)}
            self.calls[number] += 1
            yield self.value(number, {"tool_calls": [delta]})
        if chunk.finish_reason:
            why = finish(chunk.finish_reason, self.calls[number])
            yield self.value(number, {}, None, why) | self.beside


OPENAI = (  # see app.py
    ("POST", "/v1/completions", completions, COMPLETION, EVENTS),
    ("POST", "/v1/chat/completions", chat_completions, CHAT, EVENTS),
)
