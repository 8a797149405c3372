"""OpenAI's chunks of what is being written."""

import random
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from .calls import call_object, reader
from .errors import WrongType, WrongValue, shown
from .logprobs import by_name, chat_logprob, label
from .objects import finish, head_of, usage
from .streams import Stream


class Chunks:
    """Makes chunk objects: first(), of() each Chunk, last() where usage is asked for. writers: by
    number, n for each prompt. number: of the answer, hex digits. model: its name."""

    kind, prefix = "", ""

    def __init__(self, writers, n=1, number=None, model=None):
        self.writers, self.n = writers, n
        number = f"{self.prefix}-{number or f'{random.getrandbits(96):024x}'}"
        self.head = head_of(number, self.kind, model or writers[0].model_name)

    def last(self):
        """The chunk that tells of usage, and of one text its timings."""
        more = {}
        if len(self.writers) == 1:
            more["timings"] = self.writers[0].completion()["timings"]
        return self.head | {"choices": [], "usage": usage(self.writers, self.n)} | more

    def end(self, w, value):
        """The last chunk of a Writer, a value, with why it ended, and by which seed it was."""
        return value | {"stop_reason": w.reason, "seed": w.seed}


class CompletionChunks(Chunks):
    """Chunks as OpenAI's completion chunks. echo: the texts, by number, that are told first."""

    kind, prefix = "text_completion", "cmpl"

    def __init__(self, writers, echo=(), n=1, number=None, model=None):
        super().__init__(writers, n, number, model)
        self.echo, tells = echo, [w for w in writers if w.logprobs is not None]
        prompts = [w.tokenizer and w.tokenizer.decode(w.ids[: w.n_prompt]) for w in tells]
        self.at = [len(prompt or "") for prompt in prompts]

    def value(self, number, text, logprobs=None, finish=None):
        choice = {"text": text, "index": number, "logprobs": logprobs, "finish_reason": finish}
        return self.head | {"choices": [choice]}

    def first(self):
        """What is told before any Chunk."""
        for number, text in enumerate(self.echo):
            yield self.value(number, text)

    def of(self, number, w, chunk, said):
        """What a Chunk of a Writer says, by its number."""
        lists = None
        if w.logprobs is not None and chunk.token is not None:
            lists = {
                "tokens": [label(w.tokenizer, chunk.token)],
                "token_logprobs": [chunk.logprob],
                "top_logprobs": [by_name(w.tokenizer, chunk.top, chunk.token)],
                "text_offset": [self.at[number]],
            }
            self.at[number] += len(chunk.text)
        if chunk.text or lists:
            yield self.value(number, chunk.text, lists)
        if chunk.finish_reason:
            yield self.end(w, self.value(number, "", None, finish(chunk.finish_reason)))


class ChatChunks(Chunks):
    """Chunks as OpenAI's chat completion chunks. beside: what stands in the last of each."""

    kind, prefix = "chat.completion.chunk", "chatcmpl"

    def __init__(self, writers, beside=None, n=1, number=None, model=None):
        super().__init__(writers, n, number, model)
        self.beside, self.calls = beside or {}, [0] * len(writers)

    def value(self, number, delta, logprobs=None, finish=None):
        choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self.head | {"choices": [choice]}

    def first(self):
        """What is told before any Chunk."""
        for number in range(len(self.writers)):
            yield self.value(number, {"role": "assistant", "content": ""})

    def of(self, number, w, chunk, said):
        """What a Chunk of a Writer says, by its number. said: its texts, its calls."""
        told = None
        if w.logprobs is not None and chunk.token is not None:
            told = {"content": [chat_logprob(w.tokenizer, chunk)], "refusal": None}
        text = "".join(part for part in said if isinstance(part, str))
        if text or told:
            yield self.value(number, {"content": text}, told)
        for call in (part for part in said if not isinstance(part, str)):
            delta = {"index": self.calls[number], **call_object(call)}
            self.calls[number] += 1
            yield self.value(number, {"tool_calls": [delta]})
        if chunk.finish_reason:
            why = finish(chunk.finish_reason, self.calls[number])
            yield self.end(w, self.value(number, {}, None, why)) | self.beside


def made(stream, chunks, wants_usage):
    """Yield the chunk objects of a Stream that Chunks make."""
    w = stream.w
    calls = reader(w.calls, w.tools) if w.tools else None
    chunks.head |= {"usage": None} if wants_usage else {}  # until it is known
    yield from chunks.first()
    for chunk in stream:
        said = [chunk.text] if chunk.text else []
        if calls:
            said = calls.push(chunk.text, chunk.finish_reason is not None)
        yield from chunks.of(0, w, chunk, said)
    if wants_usage:
        yield chunks.last()


def usage_asked(options):
    """Whether OpenAI's stream_options, or None, want a last chunk with usage. Raises ModelError."""
    if options is None:
        return False
    wants = options.get("include_usage") if isinstance(options, Mapping) else 0
    if wants not in (None, True, False) or isinstance(wants, int) and type(wants) is not bool:
        found = f"stream_options is {shown(options)}"
        wrong = WrongValue if isinstance(options, Mapping) else WrongType
        raise wrong(f"{found}, expected an object with include_usage, a bool; give such")
    return bool(wants)


Told = TypeVar("Told")


class ObjectStream(Generic[Told]):
    """OpenAI's chunk objects of one text, as they are made: an iterator, for one thread at a time.
    The text waits for its place from the beginning. Closed, left in the middle of a `with`, or
    lost, it gives that back; cancel() may be called by any thread. Raises what ends the text."""

    def __init__(self, stream: Stream, chunks: Any, wants_usage: bool) -> None:
        stream.begin()
        self.stream = stream
        self.objects: Iterator[Told] = made(stream, chunks, wants_usage)

    def __iter__(self) -> "ObjectStream[Told]":
        return self

    def __next__(self) -> Told:
        return next(self.objects)

    def cancel(self) -> None:
        """End the text as it is; the chunks that were made still come."""
        self.stream.cancel()

    def close(self) -> None:
        """Nobody wants more of it."""
        self.objects = iter(())
        self.stream.close()

    def __enter__(self) -> "ObjectStream[Told]":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
