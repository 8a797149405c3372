"""The types of what a program gives."""

from collections.abc import Collection, Mapping, Sequence
from os import PathLike
from typing import Any, Literal

import numpy as np

from .calls import Tools
from .told import ChatMessage
from .typeddicts import TypedDict

Prompt = str | Sequence[int] | np.ndarray[Any, np.dtype[Any]]  # a text, or ids
FilePath = str | PathLike[str]
Floats = np.ndarray[Any, np.dtype[np.float32]]
Bias = Mapping[int, float] | Mapping[str, float] | Sequence[Sequence[float]]  # see Writer
Schema = str | bool | Mapping[str, Any]  # JSON, True for any object, or an object


class InputNeeds(TypedDict):
    """What every message that is given has. content: a text, or parts {"type": "text", "text"}."""

    role: Literal["system", "developer", "user", "tool", "function"]
    content: str | list[dict[str, Any]]


class InputMessage(InputNeeds, total=False):
    """A message that is given. tool_call_id, name: of the call that a tool's message answers."""

    tool_call_id: str
    name: str


Message = InputMessage | ChatMessage
Messages = Sequence[Message] | Sequence[Mapping[str, Any]]
ToolChoice = Literal["auto", "none", "required"] | Mapping[str, Any]


class StreamOptions(TypedDict, total=False):
    """include_usage: whether a last chunk tells the numbers of tokens."""

    include_usage: bool


class Options(TypedDict, total=False):
    """The options of every method that writes, by name, but max_tokens; see Writer."""

    stop: str | Collection[str] | None
    seed: int | None
    ignore_eos: bool | None
    logprobs: int | None
    deadline: float | None
    logit_bias: Bias | None
    schema: Schema | None
    regex: str | None
    grammar: str | None
    response_format: Mapping[str, Any] | None
    tools: Tools | Sequence[Mapping[str, Any]] | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repeat_penalty: float | None
    repeat_last_n: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    top_n_sigma: float | None
    typical_p: float | None
    xtc_probability: float | None
    xtc_threshold: float | None
    mirostat: int | None
    mirostat_tau: float | None
    mirostat_eta: float | None


class StreamedOptions(Options, total=False):
    """Those of methods that answer as OpenAI does. model: not heeded."""

    stream_options: StreamOptions | None
    model: str | None


class ChatOptions(StreamedOptions, total=False):
    """Those of Model.create_chat_completion, which tells of them."""

    max_completion_tokens: int | None
    top_logprobs: int | None
    tool_choice: ToolChoice | None
    parallel_tool_calls: bool | None
    memory: Any
