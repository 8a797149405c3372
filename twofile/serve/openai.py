"""OpenAI's completions and chat completions."""

from ..chunks import ChatChunks, CompletionChunks
from ..objects import usage
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
    chunks = lambda: CompletionChunks(
        exchange.writers, echoes(exchange.model, prompts, n) if echo else (), n, *named(exchange)
    )
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


def named(exchange):
    """The number of an answer, the name of its model."""
    return exchange.number, exchange.entry.name


def echoes(model, prompts, n):
    """The texts of prompts (str or ids), by the number of a text."""
    told = [p if isinstance(p, str) else model.detokenize(p) for p in prompts]
    return [text for text in told for _ in range(n)]


def flow(exchange, body, chunks):
    """What reply() streams of the chunks of an Exchange."""
    wants = (body.get("stream_options") or {}).get("include_usage", False)
    failed = lambda refused: event(told(refused, "/v1/"))
    return events(exchange, chunks, wants), failed, EVENTS


async def events(exchange, chunks, wants_usage):
    chunks.head |= {"usage": None} if wants_usage else {}  # until it is known
    for value in chunks.first():
        yield event(value)
    async for number, chunk, said in spoken(exchange):
        for value in chunks.of(number, exchange.writers[number], chunk, said):
            yield event(value)
    if wants_usage:
        yield event(chunks.last())
    yield DONE


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
    chunks = lambda: ChatChunks(exchange.writers, exchange.beside, talk.n, *named(exchange))
    streams = (lambda: flow(exchange, body, chunks())) if stream else None
    return await reply(request, exchange, begin(exchange, talk), whole, streams)


async def chat_object(exchange, n):
    await exchange.whole()
    parts = [w.chat_completion() for w in exchange.writers]
    choices = [part["choices"][0] | {"index": i} for i, part in enumerate(parts)]
    return whole_object(parts, choices, exchange, n) | exchange.beside


OPENAI = (  # see app.py
    ("POST", "/v1/completions", completions, COMPLETION, EVENTS),
    ("POST", "/v1/chat/completions", chat_completions, CHAT, EVENTS),
)
