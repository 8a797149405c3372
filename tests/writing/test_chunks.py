"""Answers in pieces, as OpenAI's chunk objects: together they are the whole object; a place is given back, whatever becomes of
them."""

import gc
import json

import pytest

from helpers.models import make_talker
from helpers.storm import settled
from twofile.errors import Busy, ModelError
from twofile.model import Model

ASK = [{"role": "user", "content": "the fox"}]
HOW = dict(max_tokens=40, seed=3, ignore_eos=True)
SAME = ("object", "created", "model", "id")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One with room for tools."""
    path = make_talker(tmp_path_factory.mktemp("talker") / "model.bin", max_ctx=1024)
    with Model(path, verbose=False, n_threads=1) as model:
        yield model


def taken(stream):
    """The chunks of a stream, which are of one answer."""
    chunks = list(stream)
    assert all({key: chunk[key] for key in SAME} == {key: chunks[0][key] for key in SAME} for chunk in chunks)
    return chunks


def choices(chunks):
    """Their choices, of which the last alone says why it ended."""
    found = [choice for chunk in chunks for choice in chunk["choices"]]
    assert {c["index"] for c in found} == {0} and [bool(c["finish_reason"]) for c in found] == [False] * (len(found) - 1) + [
        True
    ]
    return found


@pytest.mark.parametrize("prompt", ["the", [5, 6, 7]])
def test_completion_chunks_are_the_completion(prompt, model):
    whole = model(prompt, logprobs=2, **HOW)
    chunks = taken(model.create_completion(prompt, stream=True, logprobs=2, **HOW))
    (choice,), parts = whole["choices"], choices(chunks)
    assert "".join(c["text"] for c in parts) == choice["text"] and parts[-1]["finish_reason"] == choice["finish_reason"]
    for name, values in choice["logprobs"].items():
        assert [v for c in parts if c["logprobs"] for v in c["logprobs"][name]] == values
    assert chunks[0]["object"] == whole["object"] == "text_completion" and chunks[0]["model"] == whole["model"]
    assert (
        chunks[-1]["stop_reason"] == whole["stop_reason"]
        and chunks[-1]["seed"] == 3
        and not any("usage" in chunk for chunk in chunks)
    )
    echo = choices(model(prompt, echo=True, stream=True, **HOW))
    assert echo[0]["text"] == (prompt if isinstance(prompt, str) else model.detokenize(prompt))
    assert "".join(c["text"] for c in echo) == model(prompt, echo=True, **HOW)["choices"][0]["text"]


def test_chat_chunks_are_the_chat_completion(model):
    whole = model.create_chat_completion(ASK, logprobs=True, top_logprobs=2, **HOW)
    options = {"include_usage": True}
    how = dict(HOW, stream=True, stream_options=options, logprobs=True, top_logprobs=2, model="a")
    *chunks, last = taken(model.create_chat_completion(ASK, **how))
    (choice,), parts = whole["choices"], choices(chunks)
    assert parts[0]["delta"] == {"role": "assistant", "content": ""} and parts[-1]["delta"] == {}
    assert "".join(c["delta"].get("content", "") for c in parts) == choice["message"]["content"]
    assert [row for c in parts if c["logprobs"] for row in c["logprobs"]["content"]] == choice["logprobs"]["content"]
    assert parts[-1]["finish_reason"] == choice["finish_reason"] == "length"
    assert chunks[-1]["stop_reason"] == whole["stop_reason"] == "length" and chunks[-1]["seed"] == 3
    assert last["choices"] == [] and last["timings"]["predicted_n"] == 40 and last["object"] == "chat.completion.chunk"
    cached = {"prompt_tokens_details": {"cached_tokens": last["timings"]["cache_n"]}}  # which the second text has of the first
    assert last["usage"] == whole["usage"] | cached and {chunk["usage"] for chunk in chunks} == {None}


def test_calls_in_chunks(model):
    """Each whole, with its number."""
    pytest.importorskip("llguidance")
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    tools = [{"type": "function", "function": {"name": "add", "parameters": schema}}]
    how = dict(tools=tools, tool_choice="required", seed=1, parallel_tool_calls=False)
    (choice,) = model.create_chat_completion(ASK, **how)["choices"]
    parts = choices(model.create_chat_completion(ASK, stream=True, **how))
    (call,) = (call for c in parts for call in c["delta"].get("tool_calls", ()))
    assert call.pop("index") == 0 and call["function"] == choice["message"]["tool_calls"][0]["function"]
    assert json.loads(call["function"]["arguments"])["a"] in (1, 2) and call.keys() == {"id", "type", "function"}
    assert parts[-1]["finish_reason"] == choice["finish_reason"] == "tool_calls"
    asked = model.reader(tools)
    assert asked.names == ["add"] and model.encode_chat(ASK, tools)


def test_a_stream_that_nobody_wants(model):
    """Closed, left, lost or cancelled, before its first chunk too."""
    ways = [model, lambda prompt, **how: model.create_chat_completion(ASK, **how)]
    for way in ways:
        for n in (0, 1, 3):
            stream = way("the", stream=True, seed=1, ignore_eos=True)
            for _ in range(n):
                next(stream)
            assert stream.stream.joined
            stream.close()
            assert list(stream) == [] and stream.close() is None and settled(model)
            with way("the", stream=True, seed=1, ignore_eos=True) as stream:
                [next(stream) for _ in range(n)]
            assert settled(model)
            stream = way("the", stream=True, seed=1, ignore_eos=True)
            [next(stream) for _ in range(n)]
            gc.disable()  # it is lost at once, without a collector
            del stream
            assert settled(model)
            gc.enable()
        stream = way("the", stream=True, seed=1, ignore_eos=True)
        next(stream), next(stream)
        stream.cancel()
        assert list(stream)[-1]["choices"][0]["finish_reason"] == "length" and settled(model)


WRONG = [
    ({"temperature": -1}, "temperature is -1"),
    ({"stream_options": 5}, "stream_options is 5"),
    ({"stream_options": {"include_usage": 1}}, "stream_options is "),
    ({"max_tokens": "many"}, "max_tokens is 'many'"),
    ({"schema": {"type": "object"}, "regex": "a"}, "schema and regex"),
]


@pytest.mark.parametrize("how, says", WRONG)
def test_errors_are_raised_at_the_call(how, says, model):
    for call in (lambda: model("the", stream=True, **how), lambda: model.create_chat_completion(ASK, stream=True, **how)):
        with pytest.raises(ModelError, match=f"^{says}.*expected .*; "):
            call()
    assert settled(model)


def test_what_cannot_be_asked_together(model):
    with pytest.raises(ModelError, match="^echo with logprobs in a stream, expected two of the three; leave one out"):
        model("the", echo=True, logprobs=1, stream=True)
    for how in ({"max_tokens": 5, "max_completion_tokens": 6}, {"max_tokens": -1, "max_completion_tokens": 6}):
        with pytest.raises(ModelError, match="^max_tokens and max_completion_tokens: expected one limit; leave one out"):
            model.create_chat_completion(ASK, **how)
    for how in ({"max_completion_tokens": 5}, {"max_tokens": 5}, {"max_tokens": 5, "max_completion_tokens": 5}):
        assert model.create_chat_completion(ASK, seed=1, ignore_eos=True, **how)["usage"]["completion_tokens"] == 5
    for name in ("stream", "parallel_tool_calls"):
        with pytest.raises(ModelError, match=f"^{name} is 'no', expected True or False; give one"):
            model.create_chat_completion(ASK, **{name: "no"})
    for name in ("stream", "echo"):
        with pytest.raises(ModelError, match=f"^{name} is 'no', expected True or False; give one"):
            model("the", **{name: "no"})
    with pytest.raises(ModelError, match="^max_completion_tokens is 'x'"):
        model.create_chat_completion(ASK, max_completion_tokens="x")


def test_a_full_queue_is_told_at_the_call(talker):
    with Model(talker, verbose=False, n_threads=1, queue=1) as model:
        held = [model("the", stream=True, ignore_eos=True) for _ in range(17)]
        with pytest.raises(Busy):
            model("the", stream=True)
        held.pop().close()
        assert list(model("the", 2, stream=True))


def test_a_text_that_fails_in_the_middle_raises(model, monkeypatch):
    stream = model("the", stream=True, seed=1, ignore_eos=True)
    next(stream)
    stream.stream.w.not_finite = model.not_finite
    monkeypatch.setattr(stream.stream.w, "sampler", lambda *given: -1)
    with pytest.raises(ModelError):
        list(stream)
    assert settled(model)
