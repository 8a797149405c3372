"""What a model says of given texts."""

import math

import numpy as np

from .errors import ModelError
from .program.operands import WANTED_MAX
from .prompts import whole_ids
from .sampler import chances_of, log_softmax


class Scores:
    """Log-probabilities (natural) of texts, read in a Session; texts become ids by Prompts.

    They are normalised as those of written tokens are: over the ids that can be written, not over
    rows that the model has beyond its tokenizer's tokens, which have no chance (-inf)."""

    def __init__(self, session, prompts):
        self.session, self.prompts = session, prompts

    def score(self, ids, first=1):
        """Of ids[first:], each after all those before it -> float64 array, bool array: was it the
        likeliest of all. Raises ModelError for ids that do not fit, and logits that are no
        numbers."""
        ids, chances, greedy = self.prompts.known(ids), [], []
        session, n = self.session, self.prompts.n_vocab
        self.prompts.check(ids[:-1] or ids)  # the last is never read
        with session.lock:
            session.ready(len(ids))
            for at in range(first, len(ids), WANTED_MAX):
                part = np.array(ids[at : at + WANTED_MAX])
                rows = session.step(ids, ids[: at + len(part) - 1], 0, len(part))[:, :n]
                if not np.isfinite(rows).all():
                    raise session.not_finite(at + int(np.isfinite(rows).all(1).argmin()))
                chances.append(chances_of(log_softmax(rows), part))
                greedy.append(rows.argmax(1) == part)
        none = np.zeros(0), np.zeros(0, bool)
        return np.concatenate(chances or none[:1]), np.concatenate(greedy or none[1:])

    def loglikelihood(self, context, continuation):
        """See Model.loglikelihood."""
        tokenize, begin = self.prompts.tokenize, self.prompts.begin
        if isinstance(context, str) and isinstance(continuation, str):
            text = context.rstrip()
            whole = tokenize(self.prompts.short(context + continuation))
            first = len(tokenize(text))
            if not text and not first:
                whole, first = [begin(), *whole], 1
            first = min(first, len(whole) - 1) if continuation or text != context else len(whole)
        else:
            context = whole_ids(context) or [begin()]
            whole, first = context + whole_ids(continuation), len(context)
        chances, greedy = self.score(whole, first)
        return float(chances.sum()), bool(greedy.all())

    def rolling(self, text, n_ctx):
        """Of a whole text (str or ids), in windows of n_ctx; see Model.loglikelihood_rolling."""
        ids, total = [self.prompts.begin()], 0
        read = lambda text: self.prompts.tokenize(text, add_bos=False)
        ids += read(text) if isinstance(text, str) else whole_ids(text)
        for end in range(n_ctx + 1, len(ids) + n_ctx, n_ctx):
            start, first = max(0, min(end, len(ids)) - n_ctx - 1), end - n_ctx
            total += float(self.score(ids[start:end], first - start)[0].sum())
        return total

    def perplexity(self, text, n, on_window):
        """In windows of n tokens; see Model.perplexity."""
        ids, t = self.prompts.tokenize(text), self.prompts.tokenizer
        if len(ids) < 2 * n:
            found = f"perplexity: {len(ids)} tokens, expected {2 * n} or more (two windows)"
            raise ModelError(f"{found}; give more text, or -c")
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
