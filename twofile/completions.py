"""What a model answers, as OpenAI's objects."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from .calls import Tools, tools_asked
from .chunks import ChatChunks, CompletionChunks, ObjectStream, usage_asked
from .errors import WrongValue
from .given import (
    Bias,
    ChatOptions,
    Messages,
    Prompt,
    Schema,
    StreamedOptions,
    StreamOptions,
    ToolChoice,
)
from .logprobs import Likelihoods, put_prompt_first
from .options import likeliest_asked, token_limit, yes_or_no
from .prompts import paged_in
from .streams import read
from .texts import options_in
from .told import ChatCompletion, ChatCompletionChunk, Completion, CompletionChunk
from .writer import Writer

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Completions:
    """What a Model has of OpenAI's programs. Options are those of Writer; raises as generate()."""

    @overload
    def __call__(
        self,
        prompt: Prompt,
        max_tokens: int | None = None,
        echo: bool | None = None,
        *,
        stream: Literal[False] | None = None,
        **options: "Unpack[StreamedOptions]",
    ) -> Completion: ...
    @overload
    def __call__(
        self,
        prompt: Prompt,
        max_tokens: int | None = None,
        echo: bool | None = None,
        *,
        stream: Literal[True],
        **options: "Unpack[StreamedOptions]",
    ) -> ObjectStream[CompletionChunk]: ...
    @overload
    def __call__(
        self,
        prompt: Prompt,
        max_tokens: int | None = None,
        echo: bool | None = None,
        *,
        stream: bool | None,
        **options: "Unpack[StreamedOptions]",
    ) -> Completion | ObjectStream[CompletionChunk]: ...
    def __call__(
        self,
        prompt: Prompt,
        max_tokens: int | None = None,
        echo: bool | None = None,
        *,
        stream: bool | None = None,
        stream_options: StreamOptions | None = None,
        model: str | None = None,
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
    ) -> Completion | ObjectStream[CompletionChunk]:
        """As generate, but -> OpenAI's completion object, a dict; with logprobs=N its legacy lists,
        for the prompt's tokens too if echo, which puts the prompt before the text. stream: an
        ObjectStream of its chunks instead, as they are made. model: not heeded. Options:
        help(Writer)."""
        w = Writer(self, prompt, max_tokens, **options_in(locals()))
        echo = yes_or_no("echo", echo)
        if yes_or_no("stream", stream):
            if echo and w.logprobs is not None:
                found = "echo with logprobs in a stream, expected two of the three"
                raise WrongValue(f"{found}; leave one out")
            texts = [self._text_of(prompt, w)] if echo else []
            chunks = CompletionChunks([w], texts)
            return ObjectStream(self.write(w), chunks, usage_asked(stream_options))
        self.written(w)
        return self._echoed(w, prompt) if echo else w.completion()

    create_completion = __call__  # as llama-cpp-python has it

    def _text_of(self, prompt, w):
        """The text of a Writer's prompt, str or ids."""
        return prompt if isinstance(prompt, str) else self.detokenize(w.ids[: w.n_prompt])

    def _echoed(self, w, prompt):
        """What a Writer wrote as OpenAI's completion object, behind its prompt (str or ids)."""
        value = w.completion(self._text_of(prompt, w))
        if w.logprobs is not None:
            said = Likelihoods(w.ids[: w.n_prompt], w.logprobs, self.tokenizer.n_vocab)
            if len(said.ids) > 1:
                read(self.scheduler, said.ids[:-1], 0, said)
            put_prompt_first(value["choices"][0]["logprobs"], said, self.tokenizer)
        return value

    @overload
    def create_chat_completion(
        self,
        messages: Messages,
        max_tokens: int | None = None,
        *,
        stream: Literal[False] | None = None,
        **options: "Unpack[ChatOptions]",
    ) -> ChatCompletion: ...
    @overload
    def create_chat_completion(
        self,
        messages: Messages,
        max_tokens: int | None = None,
        *,
        stream: Literal[True],
        **options: "Unpack[ChatOptions]",
    ) -> ObjectStream[ChatCompletionChunk]: ...
    @overload
    def create_chat_completion(
        self,
        messages: Messages,
        max_tokens: int | None = None,
        *,
        stream: bool | None,
        **options: "Unpack[ChatOptions]",
    ) -> ChatCompletion | ObjectStream[ChatCompletionChunk]: ...
    def create_chat_completion(
        self,
        messages: Messages,
        max_tokens: int | None = None,
        *,
        stream: bool | None = None,
        stream_options: StreamOptions | None = None,
        model: str | None = None,
        max_completion_tokens: int | None = None,
        top_logprobs: int | None = None,
        tool_choice: ToolChoice | None = None,
        parallel_tool_calls: bool | None = None,
        memory: Any = None,
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
    ) -> ChatCompletion | ObjectStream[ChatCompletionChunk]:
        """The answer to a conversation, as OpenAI's chat completion object, a dict; stream: as in
        __call__. logprobs: true, with how many of the likeliest tokens in top_logprobs; or that.
        tools, tool_choice, parallel_tool_calls: as in OpenAI's requests. memory: a Memory, which
        gives the user's last message passages, and the object (the last chunk) their "sources".
        max_completion_tokens: max_tokens by its newer name. model: not heeded. Options:
        help(Writer)."""
        how, stream = options_in(locals()), yes_or_no("stream", stream)
        how |= {"logprobs": likeliest_asked(logprobs, top_logprobs)}
        limit = one_limit(max_tokens, max_completion_tokens)
        several = yes_or_no("parallel_tool_calls", parallel_tool_calls, True)
        tools = tools_asked(tools, tool_choice, several)
        messages, beside = paged_in(memory, self, messages, limit, tools)
        w = Writer(self, self.encode_chat(messages, tools), limit, **how | {"tools": tools})
        if stream:
            return ObjectStream(self.write(w), ChatChunks([w], beside), usage_asked(stream_options))
        self.written(w)
        return w.chat_completion() | beside


def one_limit(*given):
    """How many new tokens at most, as one of two options says. Raises ModelError if both do."""
    names = "max_tokens", "max_completion_tokens"
    limits = {token_limit(n, name) for n, name in zip(given, names) if n is not None}
    if len(limits) > 1:
        raise WrongValue(f"{' and '.join(names)}: expected one limit; leave one out")
    return limits.pop() if limits else None
