"""What a Model has for texts: one, in pieces, many, the best of many."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from .astreams import AsyncStream
from .calls import Tools
from .given import Bias, Prompt, Schema
from .options import (
    function_asked,
    iterable_asked,
    line_seed,
    places_asked,
    run_seed,
    whole_number,
)
from .streams import Stream, best_first
from .writer import Writer


def options_in(given: dict[str, Any]) -> dict[str, Any]:
    """Of a function's locals() those that are a Writer's options, but for max_tokens."""
    return {name: given[name] for name in Writer.__init__.__kwdefaults__}


class Texts:
    """What a Model has of texts that go on. Options are those of Writer, which tells of each; all
    raise ModelError for a prompt that does not fit, for a value that an option cannot have, at the
    call, and what ends a text before its end, where its pieces are taken."""

    def generate(
        self,
        prompt: Prompt,
        max_tokens: int | None = None,
        *,
        lookup: bool = True,
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
    ) -> str:
        """The text that follows prompt (str or ids), as one str. Options: help(Writer)."""
        w = Writer(self, prompt, max_tokens, **options_in(locals()))
        return self.written(w, lookup).written

    def stream(
        self,
        prompt: Prompt,
        max_tokens: int | None = None,
        lookup: bool = True,
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
    ) -> Stream:
        """-> the Stream of the text that follows prompt: its Chunks as they are made. Any number of
        them may be read by any threads: those that are being written share each pass. lookup: see
        write(). Options: help(Writer)."""
        return self.write(Writer(self, prompt, max_tokens, **options_in(locals())), lookup)

    def astream(
        self,
        prompt: Prompt,
        max_tokens: int | None = None,
        lookup: bool = True,
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
    ) -> AsyncStream:
        """As stream(), for async for: an AsyncStream."""
        return self.awrite(Writer(self, prompt, max_tokens, **options_in(locals())), lookup)

    def batch(
        self,
        prompts: Iterable[Prompt],
        max_tokens: int | None = None,
        places: int = 8,
        seed: int | None = None,
        *,
        stop: str | Collection[str] | None = None,
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
    ) -> list[str]:
        """The texts that follow prompts (str or ids each), in their order, written together, so
        many at once as there are places. The seed of each derives from seed and its number.
        Options: help(Writer)."""
        how, places, seed = options_in(locals()), places_asked(places), run_seed(seed)
        writers = [
            Writer(self, p, max_tokens, **how | {"seed": line_seed(seed, n)})
            for n, p in enumerate(iterable_asked("prompts", prompts))
        ]
        return [w.written for w in self.finished(writers, places)]

    def best_of(
        self,
        prompt: Prompt,
        n: int,
        judge: Callable[[str], float] | None = None,
        places: int = 8,
        seed: int | None = None,
        *,
        max_tokens: int | None = None,
        stop: str | Collection[str] | None = None,
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
    ) -> list[Writer]:
        """n texts that follow prompt, written together -> their finished Writers, best first, with
        .worth: what judge(text) says, or else the mean log-probability (natural) of its tokens.
        places: how many are written at once. Options: help(Writer)."""
        how = options_in(locals())
        if logprobs in (None, False):
            how["logprobs"] = 0
        n = whole_number("n", n, 1, "how many texts, 1 to 4096", 4096)
        places, seed, judge = places_asked(places), run_seed(seed), function_asked("judge", judge)
        seeds = [seed, *(line_seed(seed, i) for i in range(1, n))]
        prompt = self.prompt(prompt)
        writers = [Writer(self, prompt, max_tokens, **how | {"seed": own}) for own in seeds]
        return best_first(self.finished(writers, places), judge)
