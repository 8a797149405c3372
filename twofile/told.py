"""The types of what a program gets back: OpenAI's objects."""

from typing import Literal

from .typeddicts import TypedDict

Finish = Literal["stop", "length", "tool_calls"]


class CallFunction(TypedDict):
    """What a call calls. arguments: JSON, an object."""

    name: str
    arguments: str


class CallObject(TypedDict):
    """A call of a tool, in OpenAI's form."""

    id: str
    type: Literal["function"]
    function: CallFunction


class CallDelta(CallObject):
    """A call of a tool in a stream, whole. index: which it is, from 0."""

    index: int


class ChatNeeds(TypedDict):
    """What every message of a model has. content: None where there are calls alone."""

    role: Literal["assistant"]
    content: str | None


class ChatMessage(ChatNeeds, total=False):
    """A message that a model wrote; given back it is a part of the conversation."""

    refusal: None
    tool_calls: list[CallObject]


class Logprobs(TypedDict):
    """OpenAI's legacy lists, as long as there are tokens. The first of a prompt has None."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class LikelyToken(TypedDict):
    """A token that might have stood there. logprob: natural; bytes: None without a tokenizer."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(LikelyToken):
    """A token that was written, with the likeliest in its place, best first."""

    top_logprobs: list[LikelyToken]


class ChatLogprobs(TypedDict):
    """The tokens of a chat's answer."""

    content: list[TokenLogprob]
    refusal: None


class CachedTokens(TypedDict):
    """Of a prompt's tokens those that were not read again."""

    cached_tokens: int


class CompletionUsage(TypedDict):
    """Numbers of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class Timings(TypedDict):
    """llama-server's numbers: tokens, milliseconds, tokens a second. cache_n: of the prompt's
    tokens those that were not read again."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_second: float


class Source(TypedDict):
    """A passage that a question was read with. line: where it begins in its file, from 1."""

    number: int
    file: str
    line: int
    heading: str
    text: str


class CompletionChoice(TypedDict):
    """A text."""

    text: str
    index: int
    logprobs: Logprobs | None
    finish_reason: Finish


class Completion(TypedDict):
    """OpenAI's completion object. created: seconds since 1970; seed, stop_reason: the Writer's."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage
    timings: Timings
    seed: int
    stop_reason: str


class ChatChoice(TypedDict):
    """An answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class ChatNumbers(TypedDict):
    """What every chat completion object has."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: CompletionUsage
    timings: Timings
    seed: int
    stop_reason: str


class ChatCompletion(ChatNumbers, total=False):
    """OpenAI's chat completion object. sources: where there was a memory."""

    sources: list[Source]


class ChunkChoice(TypedDict):
    """A piece of a text. finish_reason: None but in the last."""

    text: str
    index: int
    logprobs: Logprobs | None
    finish_reason: Finish | None


class ChunkHead(TypedDict):
    """What every chunk of a stream has."""

    id: str
    created: int
    model: str


class ChunkEnd(TypedDict, total=False):
    """What the last chunks have: why it ended, its seed, where there was a memory its sources, and
    usage, None in the others, and timings where they were asked for."""

    stop_reason: str
    seed: int
    sources: list[Source]
    usage: CompletionUsage | None
    timings: Timings


class CompletionChunk(ChunkHead, ChunkEnd):
    """OpenAI's completion chunk. choices: one, none where it tells of usage."""

    object: Literal["text_completion"]
    choices: list[ChunkChoice]


class Delta(TypedDict, total=False):
    """What is new in an answer."""

    role: Literal["assistant"]
    content: str
    tool_calls: list[CallDelta]


class ChatChunkChoice(TypedDict):
    """A piece of an answer. finish_reason: None but in the last."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: Finish | None


class ChatCompletionChunk(ChunkHead, ChunkEnd):
    """OpenAI's chat completion chunk. choices: one, none where it tells of usage."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
