"""One text in the making."""

import itertools
import os
import random
import time
from dataclasses import dataclass

import numpy as np

from .errors import ModelError
from .sampler import Sampler, Sampling
from .tokenizer.stream import TextStream


@dataclass(frozen=True)
class Chunk:
    """A piece of generated text. The last one has finish_reason "eos", "stop", "length" or "context", and no token.

    Where asked for: logprob of the token (natural logarithm, before any sampling rule), and top, [(id, logprob)] of the
    likeliest, best first.
    """

    text: str
    token: int | None = None
    finish_reason: str | None = None
    logprob: float | None = None
    top: tuple = ()


def log_softmax(logits):
    """float32 logits [..., vocab] -> float64 log-probabilities."""
    x = logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def begun(text, stop):
    """How many characters at the end of text may be the beginning of stop."""
    return next(
        (n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0
    )


class Writer:
    """One text in the making: choose() takes its next id from logits, push() turns ids into Chunks, which it keeps.

    prompt: str or ids. max_tokens: None = until the end token or a full context. stop: strings that end the text and are not
    part of it. seed: int, None = random. logprobs: None, or how many of the likeliest tokens to tell. how: the fields of
    Sampling; what is left out is as the file says (Model.sampling), or else as there.
    Attributes: ids (all so far), n_prompt, count (new ones), limit (of those), seed, reason (None until it ends), chunks, clock
    (seconds at the start, the first token and the last). Raises ModelError for a prompt that does not fit.
    """

    def __init__(
        self,
        model,
        prompt,
        max_tokens=None,
        stop=(),
        seed=None,
        ignore_eos=False,
        logprobs=None,
        **how,
    ):
        self.how = Sampling(**{**model.sampling, **how})
        self.stops = [s for s in ([stop] if isinstance(stop, str) else stop) if s]
        if len(self.stops) > 64 or (logprobs or 0) > 100:
            found = f"{len(self.stops)} stop strings, {logprobs or 0} logprobs"
            raise ModelError(f"{found}; expected at most 64 and 100; ask for fewer")
        self.model, self.tokenizer, self.logprobs, self.sampler = (
            model,
            model.tokenizer,
            logprobs,
            None,
        )
        ids = self.ids = model._check(
            model.tokenize(model.short(prompt)) if isinstance(prompt, str) else prompt
        )
        self.n_prompt, self.count, self.reason, self.chunks, room = (
            len(ids),
            0,
            None,
            [],
            model.n_ctx - len(ids),
        )
        if room < 1 and max_tokens != 0:
            raise ModelError(
                f"prompt: {len(ids)} tokens leave no room in a context of {model.n_ctx}; shorten it, or raise -c"
            )
        self.limit = room if max_tokens is None else min(max_tokens, room)
        self.at_limit = "length" if self.limit == max_tokens else "context"
        self.seed = random.getrandbits(32) if seed is None else seed
        self.coin, self.clock = random.Random(self.seed % 2**64).random, [time.perf_counter()] * 3
        self.ends = (
            set()
            if ignore_eos
            else set(self.tokenizer.stops)
            if self.tokenizer
            else {model.config.eos}
        )
        self.text = TextStream(
            self.tokenizer, start=self.tokenizer and not any(map(self.tokenizer.piece, ids))
        )
        self.held = ""
        self.said = ()  # logprob and top of the token chosen last

    def choose(self, logits):
        """The next id, from float32 logits [vocab_size]."""
        self.clock[2] = time.perf_counter()
        if not self.count:
            self.clock[1] = self.clock[2]
        if not self.sampler:
            n = self.tokenizer.n_vocab if self.tokenizer else self.model.config.vocab_size
            self.sampler = Sampler(self.how, n, self.model.code)
        token = self.sampler(logits, self.ids, self.coin())
        if token < 0:
            raise self.model.not_finite(len(self.ids))
        if self.logprobs is not None:
            chances = log_softmax(logits[: self.sampler.n])
            best = (
                np.argsort(-chances, kind="stable")[: self.logprobs].tolist()
                if self.logprobs
                else []
            )
            self.said = float(chances[token]), tuple((i, float(chances[i])) for i in best)
        return token

    def push(self, token):
        """The Chunk that a chosen id makes; None or an end token: the last Chunk."""
        if token is None or token in self.ends:
            self.reason = "eos" if self.count < self.limit else self.at_limit
            self.held += self.text.flush() if self.tokenizer else ""
            return self._keep(Chunk(self.held, None, self.reason))
        self.ids.append(token)
        self.count += 1
        self.held += self.text.push(token) if self.tokenizer else ""
        cut = min((self.held.find(s) for s in self.stops if s in self.held), default=-1)
        if cut >= 0:
            self.reason = "stop"
            return self._keep(Chunk(self.held[:cut], None, "stop"))
        keep = max((begun(self.held, s) for s in self.stops), default=0)
        ready, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return self._keep(Chunk(ready, token, None, *self.said))

    def _keep(self, chunk):
        self.chunks.append(chunk)
        return chunk

    @property
    def written(self):
        """The text so far, without the prompt."""
        return "".join(chunk.text for chunk in self.chunks)

    def completion(self, echo=""):
        """What was written as OpenAI's completion object, with llama-server's timings. echo: text to put before it."""
        began, first, last = self.clock
        reading, writing, name = (
            first - began,
            last - first,
            self.tokenizer.name if self.tokenizer else str,
        )
        choice = {"text": echo + self.written, "index": 0, "logprobs": None}
        if self.logprobs is not None:
            said, at = (
                [c for c in self.chunks if c.token is not None],
                len(self.tokenizer.decode(self.ids[: self.n_prompt])),
            )
            choice["logprobs"] = {
                "tokens": [name(c.token) for c in said],
                "token_logprobs": [c.logprob for c in said],
                "top_logprobs": [{name(i): chance for i, chance in c.top} for c in said],
                "text_offset": [
                    at + n
                    for n in itertools.accumulate((len(c.text) for c in said[:-1]), initial=0)
                ][: len(said)],
            }
        return {
            "id": f"cmpl-{random.getrandbits(64):016x}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": os.path.basename(self.model.file.path),
            "choices": [
                {**choice, "finish_reason": "stop" if self.reason in ("eos", "stop") else "length"}
            ],
            "usage": {
                "prompt_tokens": self.n_prompt,
                "completion_tokens": self.count,
                "total_tokens": self.n_prompt + self.count,
            },
            "timings": {
                "prompt_n": self.n_prompt,
                "prompt_ms": 1000 * reading,
                "prompt_per_second": self.n_prompt / max(reading, 1e-9),
                "predicted_n": self.count,
                "predicted_ms": 1000 * writing,
                "predicted_per_second": self.count / max(writing, 1e-9),
            },
            "seed": self.seed,
            "stop_reason": self.reason,
        }
