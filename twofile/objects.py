"""OpenAI's objects of what was written."""

import random
import time

from .calls import answered, call_object
from .logprobs import chat_logprobs, logprob_lists


def finish(reason, calls=False):
    """OpenAI's word for why a text ended, in which there were calls or not."""
    if reason not in ("eos", "stop"):
        return "length"
    return "tool_calls" if calls else "stop"


def head_of(number, kind, model):
    """What every such object begins with."""
    return {"id": number, "object": kind, "created": int(time.time()), "model": model}


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


def completion(w, echo="", lists=logprob_lists):
    """What a Writer wrote as OpenAI's completion object, a dict, with llama-server's timings. echo:
    text to put before it. lists(w) tells its log-probabilities."""
    began, first, last = w.clock
    reading, writing = first - began, last - first
    choice = {"text": echo + w.written, "index": 0, "logprobs": None}
    if w.logprobs is not None:
        choice["logprobs"] = lists(w)
    return {
        **head_of(f"cmpl-{random.getrandbits(64):016x}", "text_completion", w.model_name),
        "choices": [{**choice, "finish_reason": finish(w.reason)}],
        "usage": usage([w], 1),
        "timings": {
            "cache_n": w.cached or 0,
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


def chat_completion(w):
    """What a Writer wrote as OpenAI's chat completion object, a dict."""
    value = completion(w, lists=chat_logprobs)
    (choice,) = value["choices"]
    message = {"role": "assistant", "content": choice.pop("text")}
    message["content"], calls = answered(w)
    message["refusal"] = None
    if calls:
        message["tool_calls"] = [call_object(call) for call in calls]
        choice["finish_reason"] = finish(w.reason, calls)
    value["choices"] = [{"index": choice.pop("index"), "message": message, **choice}]
    return value | {"id": f"chat{value['id']}", "object": "chat.completion"}
