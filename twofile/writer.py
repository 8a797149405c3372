"""One text in the making, and the objects that tell of it."""

import math
import os
import random
import time
from dataclasses import dataclass

from .calls import tools_given
from .errors import WrongValue, set_by
from .objects import chat_completion, completion
from .options import (
    bias_asked,
    deadline_asked,
    likeliest_asked,
    seed_asked,
    stop_strings,
    token_limit,
    yes_or_no,
)
from .sampler import likeliest, log_softmax, sampling_asked
from .structure import form_asked
from .tokenizer.stream import TextStream


@dataclass(frozen=True)
class Chunk:
    """A piece of generated text. The last one has finish_reason "eos", "stop", "length",
    "context", "deadline", "cancelled", "closed" or "error", and no token.

    Where asked for: logprob of the token (natural logarithm, before any sampling rule), and top,
    [(id, logprob)] of the likeliest, best first.
    """

    text: str
    token: int | None = None
    finish_reason: str | None = None
    logprob: float | None = None
    top: tuple = ()


def begun(text, stop):
    """How many characters at the end of text may be the beginning of stop."""
    return next(
        (n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0
    )


class Writer:
    """One text in the making: choose() takes its next id from logits, push() turns ids into Chunks,
    which it keeps.

    model: a Model, which says what fits, and how it wants to be sampled. prompt: str or ids.
    max_tokens: None or -1 = until the end token or a full context. stop: strings that end the text
    and are not part of it. seed: int, None or -1 = random. logprobs: None, or how many of the
    likeliest tokens to tell; all are normalised over the tokens that can be written.
    deadline: seconds after which it ends as it is, None = never. logit_bias: {id: what is added to
    its logit}, -100 = it is never chosen. schema (an object, JSON, or True for any JSON object),
    regex, grammar (Lark, GBNF), response_format (OpenAI's): the form that the text has, once it
    ends by itself. tools: Tools, or a list as OpenAI's, which the prompt tells of: calls are held
    to their schemas; what is written is for a Reader. how: the fields of Sampling; what is left out
    or None is as the file says (Model.sampling), or else as there; and what other programs'
    requests may have, where it changes nothing.
    Attributes: ids (all so far), n_prompt, count (new ones), limit (of those), seed, reason (None
    until it ends), error (a ModelError, if reason is "error"), cached (how many ids of the prompt
    were not read again; None before it begins), chunks, clock (seconds at the start, the first
    token and the last), stopped (the stop string that ended it), due (when it is to end), ends (ids
    that end it), structure (or None), tools, calls (the CallForm of those), worth (None until
    weigh()). Raises ModelError for a prompt that does not fit.
    """

    def __init__(
        self,
        model,
        /,  # OpenAI's requests have a field of that name
        prompt,
        max_tokens=None,
        stop=(),
        seed=None,
        ignore_eos=False,
        logprobs=None,
        deadline=None,
        logit_bias=None,
        schema=None,
        regex=None,
        grammar=None,
        response_format=None,
        tools=None,
        **how,
    ):
        self.how = sampling_asked(model.sampling, how)
        self.stops, logprobs = stop_strings(stop), likeliest_asked(logprobs)
        max_tokens, seed = token_limit(max_tokens), seed_asked(seed)
        self.bias = bias_asked(logit_bias, model.prompts.n_vocab)
        form = form_asked(schema, regex, grammar, response_format)
        never = [i for i, by in self.bias.items() if by == -math.inf]
        self.tools = tools_given(tools)
        self.calls, names = None, {}
        if self.tools:
            model.need_tokenizer()
            self.calls = model.calls._replace(lone=form is None)
            form, names = self.tools.form(self.calls, form), self.calls.names
        self.structure = model.forms.structure(form, never, names)
        ids = self.ids = model.prompt(prompt)
        room = model.n_ctx - len(ids)
        if room < 1 and max_tokens != 0:
            found = f"prompt: {len(ids)} tokens leave no room in a context of {model.n_ctx}"
            raise WrongValue(f"{found}; shorten it, or raise {set_by('n_ctx')}")
        self.limit = room if max_tokens is None else min(max_tokens, room)
        self.at_limit = "length" if self.limit == max_tokens else "context"
        self.n_prompt, self.count, self.reason, self.worth = len(ids), 0, None, None
        self.error = self.cached = self.stopped = None
        self.seed = random.getrandbits(32) if seed is None else seed
        self.coin, self.clock = random.Random(self.seed % 2**64).random, [time.perf_counter()] * 3
        self.due = deadline_asked(deadline, self.clock[0])
        self.tokenizer = model.tokenizer
        self.ends = set() if yes_or_no("ignore_eos", ignore_eos) else model.ends
        self.may_end = [i for i in self.ends if i not in never]
        # what a model can only give or tell when it has run
        self.make_sampler, self.sampler = model.sampler, None
        self.not_finite = model.not_finite
        self.model_name = os.path.basename(model.file.path)
        blank = self.tokenizer and not any(map(self.tokenizer.piece, ids))
        start = blank and not self.structure  # of a form no space is dropped
        self.text, self.held = TextStream(self.tokenizer, start, names), ""
        self.logprobs, self.said = logprobs, ()  # said: logprob and top of the token chosen last
        self.chunks = []

    def take(self, logits):
        """Write what logits, as of choose(), make the next id, and what is certain to follow it."""
        self.push(self.choose(logits) if self.limit else None)
        while self.reason is None and self.logprobs is None and self.forced[: self.left]:
            self.push(self.forced[0])
        if self.reason is None and (self.complete or not self.left):
            self.push(None)

    @property
    def left(self):
        """How many ids there may still be."""
        return self.limit - self.count

    @property
    def forced(self):
        """The ids that are certain to come next, by the form that the text has."""
        return self.structure.forced if self.structure else []

    @property
    def complete(self):
        """Whether its form has no room for more."""
        return self.structure is not None and self.structure.complete

    def choose(self, logits):
        """The next id, from float32 logits [vocab_size] of its model's last pass, or None if there
        can be none. Raises ModelError if one is not finite."""
        self.clock[2] = time.perf_counter()
        if not self.count:
            self.clock[1] = self.clock[2]
        if not self.sampler:
            self.sampler = self.make_sampler(self.how, self.bias)
        allowed = self.structure.allowed(self.may_end) if self.structure else None
        if allowed is not None and not len(allowed):
            return None
        if self.forced:  # no coin: with or without logprobs the text is the same
            token = self.forced[0]
        else:
            token = self.sampler(logits, self.ids, self.coin(), allowed)
        if token < 0:
            raise self.not_finite(len(self.ids))
        if self.logprobs is not None:
            chances = log_softmax(logits[: self.sampler.n])
            best = likeliest(chances, self.logprobs).tolist()
            self.said = float(chances[token]), tuple((i, float(chances[i])) for i in best)
        return token

    def push(self, token):
        """The Chunk that a chosen id makes; None or an end token: the last Chunk."""
        if token is None or token in self.ends:
            return self.end("eos" if self.count < self.limit or self.complete else self.at_limit)
        self.ids.append(token)
        self.count += 1
        if self.structure:
            self.structure.commit(token)
        self.held += self.text.push(token) if self.tokenizer else ""
        found = ((self.held.find(s), s) for s in self.stops if s in self.held)
        end, self.stopped = min(found, default=(-1, None))
        if end >= 0:
            self.reason = "stop"
            return self._keep(Chunk(self.held[:end], None, "stop"))
        keep = max((begun(self.held, s) for s in self.stops), default=0)
        ready, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return self._keep(Chunk(ready, token, None, *self.said))

    def end(self, reason):
        """The last Chunk, whatever is missing."""
        self.reason = reason
        self.held += self.text.flush() if self.tokenizer else ""
        return self._keep(Chunk(self.held, None, reason))

    def _keep(self, chunk):
        self.chunks.append(chunk)
        if chunk.finish_reason:
            self.structure = None  # which may take megabytes
        return chunk

    @property
    def written(self):
        """The text so far, without the prompt."""
        return "".join(chunk.text for chunk in self.chunks)

    def weigh(self, judge=None):
        """Set worth: what judge(text) says, or else the mean log-probability of its tokens, which
        needs logprobs."""
        said = [c.logprob for c in self.chunks if c.token is not None]
        if judge:
            self.worth = judge(self.written)
        else:
            self.worth = sum(said) / len(said) if said else -math.inf

    def completion(self, echo=""):
        """What was written as OpenAI's completion object, with llama-server's timings. echo: text
        to put before it."""
        return completion(self, echo)

    def chat_completion(self):
        """What was written as OpenAI's chat completion object."""
        return chat_completion(self)
