"""What was written, as OpenAI's objects."""

import itertools
import random
import time

from .chances import likeliest, log_softmax
from .tokenizer.stream import TextStream


def completion(w, echo=""):
    """What a Writer wrote as OpenAI's completion object, a dict, with llama-server's timings. echo:
    text to put before it."""
    began, first, last = w.clock
    reading, writing = first - began, last - first
    choice = {"text": echo + w.written, "index": 0, "logprobs": None}
    if w.logprobs is not None:
        choice["logprobs"] = logprob_lists(w)
    return {
        "id": f"cmpl-{random.getrandbits(64):016x}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": w.model_name,
        "choices": [
            {**choice, "finish_reason": "stop" if w.reason in ("eos", "stop") else "length"}
        ],
        "usage": {
            "prompt_tokens": w.n_prompt,
            "completion_tokens": w.count,
            "total_tokens": w.n_prompt + w.count,
        },
        "timings": {
            "prompt_n": w.n_prompt,
            "prompt_ms": 1000 * reading,
            "prompt_per_second": w.n_prompt / max(reading, 1e-9),
            "predicted_n": w.count,
            "predicted_ms": 1000 * writing,
            "predicted_per_second": w.count / max(writing, 1e-9),
        },
        "seed": w.seed,
        "stop_reason": w.reason,
    }


def logprob_lists(w):
    """OpenAI's legacy lists of the tokens that a Writer wrote."""
    name = w.tokenizer.name if w.tokenizer else str
    said = [c for c in w.chunks if c.token is not None]
    at = len(w.tokenizer.decode(w.ids[: w.n_prompt]))
    ends = itertools.accumulate((len(c.text) for c in said[:-1]), initial=at)
    return {
        "tokens": [name(c.token) for c in said],
        "token_logprobs": [c.logprob for c in said],
        "top_logprobs": [{name(i): chance for i, chance in c.top} for c in said],
        "text_offset": list(ends)[: len(said)],
    }


def put_prompt_first(lists, ids, logits, n_top, tokenizer):
    """Put the prompt's tokens before those of legacy lists. The first has nothing before it, so no
    chance. logits: float32 [len(ids), vocab or more], after each of ids."""
    name, chances = tokenizer.name, log_softmax(logits[:, : tokenizer.n_vocab])
    best = likeliest(chances, n_top)
    stream = TextStream(tokenizer, start=True)
    starts = itertools.accumulate((len(stream.push(i)) for i in ids[:-1]), initial=0)
    rows = [
        {name(i): float(row[i]) for i in order} for row, order in zip(chances[:-1], best.tolist())
    ]
    lists["tokens"][:0] = map(name, ids)
    lists["token_logprobs"][:0] = [None] + [float(row[i]) for row, i in zip(chances, ids[1:])]
    lists["top_logprobs"][:0] = [None] + rows
    lists["text_offset"][:0] = starts


def chat_completion(value):
    """A completion object as a chat completion object."""
    (choice,) = value["choices"]
    choice["message"] = {"role": "assistant", "content": choice.pop("text")}
    return value | {"object": "chat.completion"}
