"""What a model says of given texts."""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from .astreams import aread
from .errors import WrongType, WrongValue, set_by, shown
from .given import Floats, Prompt
from .options import whole_number
from .prompts import whole_ids
from .sampler import chances_of, log_softmax
from .streams import read
from .vectors import Summed

Doubles = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


class Scores:
    """Log-probabilities (natural) of texts, read by a Scheduler for an Engine; texts become ids by
    Prompts.

    They are normalised as those of written tokens are: over the ids that can be written, not over
    rows that the model has beyond its tokenizer's tokens, which have no chance (-inf)."""

    def __init__(self, engine, scheduler, prompts):
        self.engine, self.scheduler, self.prompts = engine, scheduler, prompts

    def logits(self, ids: Prompt) -> Floats:
        """float32 [len(ids), vocab_size]: row i is the model's opinion of what follows ids[: i + 1]
        (str or ids)."""
        ids, out = self.prompts.prompt(ids), []
        read(self.scheduler, ids, 0, lambda at, rows: out.append(rows.copy()))
        return np.concatenate(out)

    def score(self, ids: Prompt, first: int = 1) -> tuple[Doubles, Bools]:
        """Log-probabilities (natural) of ids[first:] (str or ids), each after all those before it,
        so from the second on -> float64 array, bool array: was it the likeliest of all. As those
        that Writers tell: normalised over the tokens that can be written. Raises ModelError for ids
        that do not fit, and logits that are no numbers."""
        ids, chances, greedy = self.prompts.ids(ids), [], []
        first = whole_number("first", first, 1, "how many ids are not scored, 1 or more")
        engine, n = self.engine, self.prompts.n_vocab
        self.prompts.check(ids[:-1] or ids)  # the last is never read

        def take(at, rows):
            part, rows = np.array(ids[at + 1 : at + 1 + len(rows)]), rows[:, :n]
            if not np.isfinite(rows).all():
                raise engine.not_finite(at + 1 + int(np.isfinite(rows).all(1).argmin()))
            chances.append(chances_of(log_softmax(rows), part))
            greedy.append(rows.argmax(1) == part)

        if first < len(ids):
            read(self.scheduler, ids[:-1], first - 1, take)
        none = np.zeros(0), np.zeros(0, bool)
        return np.concatenate(chances or none[:1]), np.concatenate(greedy or none[1:])

    def loglikelihood(self, context: Prompt, continuation: Prompt) -> tuple[float, bool]:
        """-> (log-probability of continuation after context, whether greedy sampling would write
        it). str or ids both. White space at the end of context counts to the continuation, as in
        lm-evaluation-harness."""
        tokenize, begin = self.prompts.tokenize, self.prompts.begin
        if isinstance(context, str) and isinstance(continuation, str):
            text = context.rstrip()
            whole = tokenize(self.prompts.short(context + continuation))
            first = min(len(tokenize(text)), len(whole) - 1)
            first = first if continuation or text != context else len(whole)
            if not first:  # nothing is before it, or it is one token with that
                whole, first = [begin(), *whole], 1
        else:
            wants = "token ids, or texts both; give lists, or two str"
            if isinstance(context, str):
                found = f"continuation is {shown(continuation)}"
                raise WrongType(f"{found}, expected a text, as context is; give two str")
            context = whole_ids(context, "context", wants) or [begin()]
            whole = context + whole_ids(continuation, "continuation", wants)
            first = len(context)
        chances, greedy = self.score(whole, first)
        return float(chances.sum()), bool(greedy.all())

    def loglikelihood_rolling(self, text: Prompt) -> float:
        """Log-probability of a whole text (str or ids, of any length), each token once, in windows
        of the context, the last one full too, as in lm-evaluation-harness."""
        ids, total, n_ctx = [self.prompts.begin()], 0, self.engine.n_ctx
        read = lambda text: self.prompts.tokenize(text, add_bos=False)
        ids += read(text) if isinstance(text, str) else whole_ids(text, "text")
        for end in range(n_ctx + 1, len(ids) + n_ctx, n_ctx):
            start, first = max(0, min(end, len(ids)) - n_ctx - 1), end - n_ctx
            total += float(self.score(ids[start:end], first - start)[0].sum())
        return total

    def embed(
        self, text: Prompt, pooling: Literal["mean", "last"] = "mean", normalise: bool = True
    ) -> Floats:
        """What the model makes of a text (str or ids), as float32 [dim]: the normed stream behind
        the last layer, of all tokens ("mean") or of the "last" one; of length 1 if normalise."""
        ids = self.prompts.prompt(text)
        summed = Summed(self.engine, len(ids), pooling, normalise)
        read(self.scheduler, ids, summed.first, summed, inside=True)
        return summed.vector()

    async def aembed(
        self, text: Prompt, pooling: Literal["mean", "last"] = "mean", normalise: bool = True
    ) -> Floats:
        """As embed(), for `await`."""
        ids = self.prompts.prompt(text)
        summed = Summed(self.engine, len(ids), pooling, normalise)
        await aread(self.scheduler, ids, summed.first, summed, inside=True)
        return summed.vector()

    def perplexity(
        self,
        text: str,
        n_ctx: int = 512,
        on_window: Callable[[int, int, float], object] = lambda done, windows, ppl: None,
    ) -> dict[str, float]:
        """As llama.cpp's llama-perplexity: windows of n_ctx tokens side by side, the second half of
        each scored -> dict of perplexity, error (its standard error), bits_per_byte, tokens
        (scored), windows, n_ctx."""
        n = whole_number("n_ctx", n_ctx, 2, "a number of tokens, 2 or more")
        n = min(n, self.engine.n_ctx)
        ids, t = self.prompts.tokenize(text), self.prompts.tokenizer
        if len(ids) < 2 * n:
            found = f"perplexity: {len(ids)} tokens, expected {2 * n} or more (two windows)"
            raise WrongValue(f"{found}; give more text, or {set_by('n_ctx')}")
        nats, n_bytes, windows = [], 0, len(ids) // n
        for i in range(windows):
            part = ids[i * n : (i + 1) * n]
            if t.begins:
                part[0] = t.begins[0]
            nats += (-self.score(part, n // 2 + 1)[0]).tolist()
            n_bytes += sum(len(t.piece(token)) for token in part[n // 2 + 1 :])
            on_window(i + 1, windows, math.exp(np.mean(nats)))
        mean, count = np.mean(nats), len(nats)
        error = math.sqrt(max(0.0, (np.mean(np.square(nats)) - mean**2) / (count - 1)))
        return {
            "perplexity": math.exp(mean),
            "error": error * math.exp(mean),
            "tokens": count,
            "windows": windows,
            "n_ctx": n,
            "bits_per_byte": sum(nats) / math.log(2) / n_bytes,
        }
