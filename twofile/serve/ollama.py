"""ollama's chat, generate, tags, show, embed."""

import asyncio
import time

from ..errors import RELEASE
from .answers import LINES, Flow, answer, line, unless_gone
from .asked import asked, check
from .exchange import Exchange, guarded
from .fields import (
    OLLAMA_CHAT,
    OLLAMA_EMBED,
    OLLAMA_EMBEDDINGS,
    OLLAMA_GENERATE,
    OLLAMA_SHOW,
    OPTIONS,
)
from .refusals import Refused, told
from .talks import need_template, options, talk_ids

IDLE = frozenset(  # options that change no text, whatever they are
    "num_keep num_batch num_gpu main_gpu num_thread numa low_vram f16_kv use_mmap use_mlock "
    "vocab_only logits_all penalize_newline".split()
)


def now(seconds=None):
    """A time as ollama writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


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
        raise Refused(400, "think is true, expected false; leave it out", "think")
    how = options(given, settings, ("num_predict",))
    return {"seed": given.get("seed"), **how}


async def run(request, body, exchange, prompt_of, wrap):
    """Answer by what wrap(text) makes of texts. prompt_of(): a coroutine for the prompt; its None
    asks to open the model, or to close it."""
    state, entry = request.app.state, exchange.entry
    stream = body.get("stream", True)
    try:
        how = how_of(body, entry, state.settings)
        await exchange.open()
        prompt = await prompt_of()
        if prompt is None:
            exchange.close()
            if body.get("keep_alive") in (0, "0", "0s"):
                await state.shelf.close(entry)
            reason = "load" if entry.model else "unload"
            return answer({**said(exchange, wrap("")), "done": True, "done_reason": reason})
        await exchange.write([prompt], 1, how.pop("seed"), **how)
        exchange.begin()
        if stream:
            exchange.flowing = True
            failed = lambda refused: line(told(refused, "/api/"))
            return Flow(guarded(lines(exchange, wrap), exchange, failed), LINES, exchange)
        await unless_gone(request.receive, exchange.whole())
        return answer(last(exchange, wrap(exchange.writers[0].written)))
    finally:
        if not stream or not exchange.flowing:
            exchange.close()


def said(exchange, part):
    return {"model": exchange.entry.name, "created_at": now(), **part, "done": False}


async def lines(exchange, wrap):
    async for _, chunk in exchange.chunks():
        if chunk.text:
            yield line(said(exchange, wrap(chunk.text)))
    yield line(last(exchange, wrap("")))


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
    }


async def chat(request):
    """POST /api/chat"""
    body = await asked(request, OLLAMA_CHAT)
    exchange = Exchange(request.app.state, request.app.state.shelf.find(body["model"]))

    async def prompt():
        if not body.get("messages"):
            return None
        need_template(exchange.entry)
        return await talk_ids(exchange, [as_ours(m) for m in body["messages"]])

    wrap = lambda text: {"message": {"role": "assistant", "content": text}}
    return await run(request, body, exchange, prompt, wrap)


def as_ours(message):
    """A message without what ollama's clients leave empty."""
    if message.get("images"):
        raise Refused(400, "messages: images, expected text alone; leave them out", "messages")
    return {name: message[name] for name in message if name not in ("images", "thinking")}


async def generate(request):
    """POST /api/generate"""
    body = await asked(request, OLLAMA_GENERATE)
    exchange = Exchange(request.app.state, request.app.state.shelf.find(body["model"]))

    async def prompt():
        text, system = body.get("prompt", ""), body.get("system")
        if not text:
            return None
        if body.get("raw") or not (exchange.entry.chats or system):
            return text
        need_template(exchange.entry)
        told = [{"role": "system", "content": system}] if system else []
        return await talk_ids(exchange, [*told, {"role": "user", "content": text}])

    return await run(request, body, exchange, prompt, lambda text: {"response": text})


def details(entry):
    about = entry.about
    return {
        "parent_model": "",
        "format": "twofile",
        "family": about["architecture"],
        "families": [about["architecture"]],
        "parameter_size": f"{about['parameters'] / 1e6:.1f}M",
        "quantization_level": about["type"],
    }


def listed(entry):
    return {
        "name": entry.name,
        "model": entry.name,
        "modified_at": now(entry.created),
        "size": entry.size,
        "digest": entry.about["model_id"],
        "details": details(entry),
    }


async def tags(request):
    """GET /api/tags"""
    return answer({"models": [listed(e) for e in request.app.state.shelf.entries.values()]})


async def running(request):
    """GET /api/ps"""
    found = [e for e in request.app.state.shelf.entries.values() if e.model]
    return answer({"models": [listed(e) | {"size_vram": 0} for e in found]})


async def version(request):
    """GET /api/version"""
    return answer({"version": RELEASE})


async def show(request):
    """POST /api/show"""
    body = await asked(request, OLLAMA_SHOW)
    entry = request.app.state.shelf.find(body.get("model") or body.get("name"))
    about = entry.about
    form = about["chat"] or {}
    return answer(
        {
            "modelfile": f"FROM {entry.name}",
            "parameters": "\n".join(f"{k} {v}" for k, v in (about["sampling"] or {}).items()),
            "template": "".join(form.values()),
            "details": details(entry),
            "model_info": {
                "general.architecture": about["architecture"],
                "general.parameter_count": about["parameters"],
                f"{about['architecture']}.context_length": about["max_ctx"],
                f"{about['architecture']}.embedding_length": about["dim"],
                f"{about['architecture']}.block_count": about["layers"],
            },
            "capabilities": ["completion", "embedding"],
            "modified_at": now(entry.created),
        }
    )


async def embed(request):
    """POST /api/embed"""
    body = await asked(request, OLLAMA_EMBED)
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    return await vectors(request, body, texts, "embeddings", True)


async def embeddings(request):
    """POST /api/embeddings"""
    body = await asked(request, OLLAMA_EMBEDDINGS)
    return await vectors(request, body, [body["prompt"]], "embedding", False)


async def vectors(request, body, texts, name, several):
    state, began = request.app.state, time.perf_counter()
    async with Exchange(state, state.shelf.find(body["model"])) as exchange:

        async def made():
            ids = [exchange.model.prompt(text) for text in texts]
            one = lambda i: asyncio.to_thread(exchange.model.embed, i, "mean", several)
            return sum(map(len, ids)), [(await one(i)).tolist() for i in ids]

        count, found = await unless_gone(request.receive, made())
    if not several:
        return answer({name: found[0]})
    took = int((time.perf_counter() - began) * 10**9)
    more = {"total_duration": took, "load_duration": 0, "prompt_eval_count": count}
    return answer({"model": exchange.entry.name, name: found, **more})


OLLAMA = (  # see app.py
    ("GET", "/api/tags", tags, None, None),
    ("GET", "/api/ps", running, None, None),
    ("GET", "/api/version", version, None, None),
    ("POST", "/api/chat", chat, OLLAMA_CHAT, LINES),
    ("POST", "/api/generate", generate, OLLAMA_GENERATE, LINES),
    ("POST", "/api/show", show, OLLAMA_SHOW, None),
    ("POST", "/api/embed", embed, OLLAMA_EMBED, None),
    ("POST", "/api/embeddings", embeddings, OLLAMA_EMBEDDINGS, None),
)
