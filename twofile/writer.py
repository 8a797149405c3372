"""One text in the making, and the objects that tell of it."""

import math
import os
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from .callform import CallForm
from .calls import Tools, tools_given
from .chunk import Chunk, before_stop
from .errors import ModelError, WrongValue
from .given import Bias, Floats, Prompt, Schema
from .objects import chat_completion, completion
from .options import (
    bias_asked,
    deadline_asked,
    likeliest_asked,
    seed_asked,
    stop_strings,
    token_limit,
    worth_asked,
    yes_or_no,
)
from .sampler import RULES, Sampling, likeliest, log_softmax, sampling_asked
from .structure import Structure, form_asked
from .tokenizer.stream import TextStream
from .told import ChatCompletion, Completion


class Writer:
    """One text in the making: choose() takes its next id from logits, push() turns ids into Chunks,
    which it keeps.

    model: a Model, which says what fits, and how it wants to be sampled. prompt: str or ids. All
    else are options, as of every method that writes; None of any is its default. Raises ModelError
    for a prompt that does not fit, and for a value that an option cannot have.

    - max_tokens: new tokens at most; None or -1 = until the end token or a full context.
    - stop: a text, or some (64 at most), that end the text and are not part of it.
    - seed: a whole number; None or -1 = a random one.
    - ignore_eos: whether it goes on where the model would end; default False.
    - logprobs: how many of the likeliest tokens are told for each, 0 to 100; None = no
      log-probabilities. They are normalised over the tokens that can be written.
    - deadline: seconds after which it ends as it is; None = never.
    - logit_bias: {id: what is added to its logit}, -100 (never) to 100.
    - schema, regex, grammar, response_format: the form that the text has, once it ends by itself;
      one of them. A JSON schema (an object, its JSON, or True for any JSON object); a regular
      expression; Lark or GBNF; or as OpenAI has it.
    - tools: Tools, or a list as OpenAI's, which the prompt tells of: calls are held to their
      schemas; what is written is for a Reader.
    - temperature: 0 to 100, 0 = always the likeliest; default the file's, or 0.8.
    - top_k: of so many of the likeliest, 0 = of all; default the file's, or 40.
    - top_p: of the likeliest that have this share together, 0 to 1; default the file's, or 0.95.
    - min_p: of those with this share of the best one's chance, 0 to 1; default 0.05.
    - repeat_penalty: what the logits of recent tokens are divided by, 0.001 to 1000; default 1.
    - repeat_last_n: how many tokens are recent, -1 = all; default 64.
    - presence_penalty, frequency_penalty: what is taken off the logit of a recent token, once, and
      for each time that it was there, -100 to 100; default 0.
    - top_n_sigma: at most so many standard deviations below the best logit, -1 = off; default -1.
    - typical_p: of the most typical that have this share together, 0 to 1; default 1, off.
    - xtc_probability, xtc_threshold: how often all likely tokens but the last are left out, 0 to 1,
      default 0, and what chance they have at least, default 0.1.
    - mirostat, mirostat_tau, mirostat_eta: 1 or 2 instead of top_k to min_p, default 0, off; the
      surprise that it aims at, in bits, 0 to 100, default 5; how fast it learns, 0 to 10, default
      0.1.
    """

    ids: list[int]  #: all so far
    n_prompt: int  #: of these the prompt's
    count: int  #: new ones
    limit: int  #: most new ones
    how: Sampling
    seed: int
    reason: str | None  #: why it ended, as in Chunk; None until then
    error: ModelError | None  #: if reason is "error"
    cached: int | None  #: ids of the prompt that were not read again; None before it begins
    chunks: list[Chunk]
    clock: list[float]  #: seconds at the start, the first token, the last
    stopped: str | None  #: the stop string that ended it
    due: float | None  #: when it is to end
    ends: set[int]  #: ids that end it
    structure: Structure | None
    tools: Tools | None
    calls: CallForm | None  #: of the tools
    worth: float | None  #: None until weigh()

    def __init__(
        self,
        model: Any,
        /,
        prompt: Prompt,
        max_tokens: int | None = None,
        *,
        stop: str | Collection[str] | None = None,
        seed: int | None = None,
        ignore_eos: bool | None = None,
        logprobs: int | None = None,
        deadline: float | None = None,
        logit_bias: Bias | None = None,
        schema: Schema | None = None,
        regex: str | None = None,
        grammar: str | None = None,
        response_format: Mapping[str, Any] | None = None,
        tools: Tools | Sequence[Mapping[str, Any]] | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repeat_penalty: float | None = None,
        repeat_last_n: int | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        top_n_sigma: float | None = None,
        typical_p: float | None = None,
        xtc_probability: float | None = None,
        xtc_threshold: float | None = None,
        mirostat: int | None = None,
        mirostat_tau: float | None = None,
        mirostat_eta: float | None = None,
    ) -> None:
        given = locals()
        self.how = sampling_asked(model, {rule.name: given[rule.name] for rule in RULES})
        self.stops, self.logprobs = stop_strings(stop), likeliest_asked(logprobs)
        max_tokens, seed = token_limit(max_tokens), seed_asked(seed)
        self.bias = bias_asked(logit_bias, model.prompts.n_vocab)
        form = form_asked(schema, regex, grammar, response_format)
        never = [i for i, by in self.bias.items() if by == -math.inf]
        names = self._hold(model, form, tools_given(tools), never)
        self._fit(model, model.prompt(prompt), max_tokens)
        self.reason = self.error = self.cached = self.stopped = self.worth = None
        self.seed = random.getrandbits(32) if seed is None else seed
        self.coin, self.clock = random.Random(self.seed % 2**64).random, [time.perf_counter()] * 3
        self.due = deadline_asked(deadline, self.clock[0])
        self.tokenizer, self.model_name = model.tokenizer, os.path.basename(model.file.path)
        self.ends = set() if yes_or_no("ignore_eos", ignore_eos) else model.ends
        self.may_end = [i for i in self.ends if i not in never]
        # what a model can only give or tell when it has run
        self.make_sampler, self.sampler, self.not_finite = model.sampler, None, model.not_finite
        blank = self.tokenizer and not any(map(self.tokenizer.piece, self.ids))
        start = blank and not self.structure  # of a form no space is dropped
        self.text, self.held = TextStream(self.tokenizer, start, names), ""
        self.begun, self.chunks, self.said = False, [], ()  # said: logprob, top of the last token

    def _hold(self, model, form, tools, never):
        """Hold it to a form of form_asked(), to Tools; ids of never are in none -> what ids print
        in calls, {id: text}."""
        self.tools, self.calls, names = tools, None, {}
        if tools:
            model.need_tokenizer()
            self.calls = model.calls._replace(lone=form is None)
            form, names = tools.form(self.calls, form), self.calls.names
        self.structure = model.forms.structure(form, never, names)
        return names

    def _fit(self, model, ids, max_tokens):
        """Go on from ids as far as the context has room. Raises ModelError if it has none."""
        self.ids, self.n_prompt, self.count = ids, len(ids), 0
        room = model.n_ctx - len(ids)
        if room < 1 and max_tokens != 0:
            found = f"prompt: {len(ids)} tokens leave no room in a context of {model.n_ctx}"
            raise WrongValue(f"{found}; {model.engine.shorter}")
        self.limit = room if max_tokens is None else min(max_tokens, room)
        self.at_limit = "length" if self.limit == max_tokens else "context"

    def take(self, logits: Floats) -> None:
        """Write what logits, as of choose(), make the next id, and what is certain to follow it."""
        self.clock[2] = time.perf_counter()
        if not self.count:
            self.clock[1] = self.clock[2]
        self.push(self.choose(logits) if self.limit else None)
        while self.reason is None and self.logprobs is None and self.forced[: self.left]:
            self.push(self.forced[0])
        if self.reason is None and (self.complete or not self.left):
            self.push(None)

    @property
    def left(self) -> int:
        """How many ids there may still be."""
        return self.limit - self.count

    @property
    def forced(self) -> list[int]:
        """The ids that are certain to come next, by the form that the text has."""
        return self.structure.forced if self.structure else []

    @property
    def complete(self) -> bool:
        """Whether its form has no room for more."""
        return self.structure is not None and self.structure.complete

    def choose(self, logits: Floats) -> int | None:
        """The next id, from float32 logits [vocab_size] of its model's last pass, or None if there
        can be none. Raises ModelError if one is not finite."""
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

    def push(self, token: int | None) -> Chunk:
        """The Chunk that a chosen id makes; None or an end token: the last Chunk."""
        if token is None or token in self.ends:
            return self.end("eos" if self.count < self.limit or self.complete else self.at_limit)
        self.ids.append(token)
        self.count += 1
        if self.structure:
            self.structure.commit(token)
        self.held += self.text.push(token) if self.tokenizer else ""
        size, self.stopped = before_stop(self.held, self.stops)
        ready, self.held = self.held[:size], self.held[size:]
        if self.stopped is not None:
            self.reason = "stop"
            return self._keep(Chunk(ready, None, "stop"))
        return self._keep(Chunk(ready, token, None, *self.said))

    def end(self, reason: str) -> Chunk:
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
    def written(self) -> str:
        """The text so far, without the prompt."""
        return "".join(chunk.text for chunk in self.chunks)

    def weigh(self, judge: Callable[[str], float] | None = None) -> None:
        """Set worth: what judge(text) says, or else the mean log-probability of its tokens, which
        needs logprobs."""
        said = [c.logprob for c in self.chunks if c.token is not None]
        mean = sum(said) / len(said) if said else -math.inf
        self.worth = worth_asked(judge(self.written)) if judge else mean

    def completion(self, echo: str = "") -> Completion:
        """What was written as OpenAI's completion object, with llama-server's timings. echo: text
        to put before it."""
        return completion(self, echo)

    def chat_completion(self) -> ChatCompletion:
        """What was written as OpenAI's chat completion object."""
        return chat_completion(self)
