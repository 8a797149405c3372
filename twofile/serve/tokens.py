"""Texts as ids, ids as texts, texts as vectors."""

import asyncio
import base64
import time

from ..logprobs import label
from .answers import answer, unless_gone
from .asked import asked
from .exchange import Exchange, together
from .fields import DETOKENIZE, EMBEDDINGS, OLLAMA_EMBED, OLLAMA_EMBEDDINGS, TOKENIZE
from .openai import several
from .refusals import Refused

AT_ONCE = 4  # texts of a request that are read together


async def tokenize(request):
    """POST /tokenize, of llama.cpp's fields, or of vLLM's: prompt, whose begin token is usual."""
    state = request.app.state
    body = await asked(request, TOKENIZE)
    given = [body[name] for name in ("content", "prompt") if name in body]
    if len(given) != 1:
        raise Refused(400, "expected content, or prompt; give one of them", "content")
    begin = body.get("add_special", body.get("add_special_tokens", "prompt" in body))
    async with Exchange(state, state.shelf.find(body.get("model"))) as exchange:
        model, (content,) = exchange.model, given

        def made():
            ids, t = model.tokenize(content, begin), model.tokenizer
            pieces = body.get("with_pieces")
            told = [{"id": i, "piece": label(t, i)} for i in ids] if pieces else ids
            return answer({"tokens": told})

        return await exchange.ask(made, len(content))


async def detokenize(request):
    """POST /detokenize"""
    state = request.app.state
    body = await asked(request, DETOKENIZE)
    async with Exchange(state, state.shelf.find(body.get("model"))) as exchange:
        text = await exchange.ask(
            lambda: exchange.model.detokenize(body["tokens"]), len(body["tokens"])
        )
    return answer({"content": text, "prompt": text})


async def tokenizer_info(request):
    """GET /tokenizer_info, by which lm-evaluation-harness sees that texts can be made ids here. It
    would ask for control tokens by their texts, which are nobody's to write."""
    return answer({"tokenizer_class": "twofile", "bos_token": None, "eos_token": None})


async def embeddings(request):
    """POST /v1/embeddings"""
    state = request.app.state
    body = await asked(request, EMBEDDINGS)
    entry = state.shelf.find(body.get("model"))
    asked_for, dim = body.get("dimensions"), entry.about["dim"]
    if asked_for not in (None, dim):
        found = f"dimensions is {asked_for}, expected the model's own, {dim}"
        raise Refused(400, f"{found}; leave it out", "dimensions")
    how = body.get("pooling", "mean"), body.get("normalize", True)
    async with Exchange(state, entry) as exchange:
        found, total = await unless_gone(
            request.receive, embedded(exchange, several(body["input"]), *how)
        )
    as64 = body.get("encoding_format") == "base64"
    shown = lambda v: base64.b64encode(v.astype("<f4").tobytes()).decode() if as64 else v.tolist()
    return answer(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": i, "embedding": shown(v)}
                for i, v in enumerate(found)
            ],
            "model": entry.name,
            "usage": {"prompt_tokens": total, "total_tokens": total},
        }
    )


async def embedded(exchange, texts, *how):
    """The vectors of texts (str or ids), and how many tokens they have. They wait for places as
    texts that are written do."""
    model, ids = exchange.model, []

    def made():
        for text in texts:
            ids.append(model.prompt(text))
            exchange.check(len(ids[-1]))

    await exchange.ask(made, sum(map(len, texts)))
    found, places = [None] * len(ids), asyncio.Semaphore(AT_ONCE)

    async def one(i):
        async with places:
            found[i] = await model.aembed(ids[i], *how)

    await together(*map(one, range(len(ids))))
    total = sum(map(len, ids))
    exchange.state.metrics.prompt.inc(total)
    return found, total


async def embed(request):
    """POST /api/embed"""
    body = await asked(request, OLLAMA_EMBED)
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    return await vectors(request, body, texts, "embeddings", True)


async def old_embed(request):
    """POST /api/embeddings"""
    body = await asked(request, OLLAMA_EMBEDDINGS)
    return await vectors(request, body, [body["prompt"]], "embedding", False)


async def vectors(request, body, texts, name, several):
    state, began = request.app.state, time.perf_counter()
    async with Exchange(state, state.shelf.find(body["model"])) as exchange:
        work = embedded(exchange, texts, "mean", several)
        found, count = await unless_gone(request.receive, work)
    found = [vector.tolist() for vector in found]
    if not several:
        return answer({name: found[0]})
    took = int((time.perf_counter() - began) * 10**9)
    more = {"total_duration": took, "load_duration": 0, "prompt_eval_count": count}
    return answer({"model": exchange.entry.name, name: found, **more})


TOKENS = (  # see app.py
    ("POST", "/v1/embeddings", embeddings, EMBEDDINGS, None),
    ("POST", "/tokenize", tokenize, TOKENIZE, None),
    ("POST", "/detokenize", detokenize, DETOKENIZE, None),
    ("POST", "/api/embed", embed, OLLAMA_EMBED, None),
    ("POST", "/api/embeddings", old_embed, OLLAMA_EMBEDDINGS, None),
    ("GET", "/tokenizer_info", tokenizer_info, None, None),
)
