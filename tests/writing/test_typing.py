"""docs/library.md runs as it stands, and a type checker finds nothing in it, what is wrong in other programs, and each type."""

import re

import pytest

from helpers.places import ROOT
from twofile import ChatCompletion, ChatCompletionChunk, ChatMessage, Completion, CompletionChunk, Message

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(), re.S)


def test_the_document_runs(tmp_path, monkeypatch, capsys):
    """Its snippets one after the other, as one program, in a folder with the bundled model."""
    pytest.importorskip("llguidance")
    for name in ("model.bin", "tokenizer.bin"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "library"}
    for block in BLOCKS:
        exec(compile(block, "docs/library.md", "exec"), names)
    told = capsys.readouterr()
    assert len(BLOCKS) > 10 and told.err == "" and "forecast {'days'" in told.out and told.out.count("\n") > 20
    assert (
        re.search(r"^(Ann|Bob)$", told.out, re.M) and names["talk"][-1]["role"] == "assistant" and (tmp_path / "cache").exists()
    )
    names["model"].close()


def test_frameworks_take_the_types():
    """pydantic, so FastAPI, before Python 3.12 takes no TypedDict of typing."""
    pydantic = pytest.importorskip("pydantic")
    for kind in (ChatCompletion, ChatCompletionChunk, Completion, CompletionChunk, ChatMessage, Message):
        assert "properties" in str(pydantic.TypeAdapter(kind).json_schema())
    message = {"role": "user", "content": "x"}
    assert pydantic.TypeAdapter(list[Message]).validate_python([message]) == [message]


TYPES = """
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from typing_extensions import assert_type

from twofile import AsyncStream, ChatMessage, CompletionChunk, Chunk, Memory, Model, ModelError, ObjectStream, Reader
from twofile import ChatCompletionChunk, Sampling, Stream, Tokenizer, ToolCall, Tools, open_model, verify

with Model("model.bin", kv="q8_0", n_ctx=None) as model:
    assert_type(model, Model)
assert_type(model.generate("x", temperature=0, top_k=5, logit_bias={5: -100}, stop={"a"}), str)
assert_type(model.stream([1, 2], 5, False), Stream)
assert_type(model.astream(np.array([1, 2])), AsyncStream)
assert_type([chunk.text for chunk in model.stream("x")], list[str])
assert_type(next(model.stream("x")).top, tuple[tuple[int, float], ...])
assert_type(model.batch(iter(["x", "y"]), 5, 2, 1, schema=True), list[str])
assert_type(model.best_of("x", 2, judge=len)[0].chunks, list[Chunk])
assert_type(model.best_of("x", 2)[0].error, ModelError | None)
whole = model("x", logprobs=2)
assert_type(whole["choices"][0]["finish_reason"], Literal["stop", "length", "tool_calls"])
assert_type(whole["usage"]["prompt_tokens_details"]["cached_tokens"], int)
assert_type(whole["timings"]["prompt_ms"], float)
assert_type(model.create_completion("x", stream=True), ObjectStream[CompletionChunk])
assert_type(model.create_completion("x", stream=True).__enter__().__next__()["choices"][0]["text"], str)
yes: bool = bool(whole)
either = model("x", stream=yes)
if isinstance(either, ObjectStream):
    assert_type(either, ObjectStream[CompletionChunk])
asked = [{"role": "user", "content": "x"}]
answer = model.create_chat_completion(asked, tools=[{"name": "f"}], tool_choice="auto", logprobs=True, memory=Memory("notes"))
assert_type(answer["choices"][0]["message"], ChatMessage)
assert_type(answer["choices"][0]["message"]["content"], str | None)
assert_type(answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], str)
assert_type(answer["sources"][0]["line"], int)
said: ChatMessage = {"role": "assistant", "content": "x"}  # as a user writes one
parts = model.create_chat_completion(asked, stream=True, stream_options={"include_usage": True})
assert_type(parts, ObjectStream[ChatCompletionChunk])
for part in parts:
    assert_type(part["choices"][0]["delta"].get("content"), str | None)
assert_type(model.logits("x"), np.ndarray[Any, np.dtype[np.float32]])
assert_type(model.score([1, 2])[1], np.ndarray[Any, np.dtype[np.bool_]])
assert_type(model.loglikelihood("x", "y"), tuple[float, bool])
assert_type(model.perplexity("x")["error"], float)
assert_type(model.embed("x", pooling="last"), np.ndarray[Any, np.dtype[np.float32]])
assert_type(model.tokenizer, Tokenizer | None)
assert_type(model.need_tokenizer().encode("x"), list[int])
assert_type(model.reader([{"name": "f"}]), Reader)
assert_type(model.reader(Tools([])).push("x", True), list[str | ToolCall])
assert_type(model.encode_chat(asked, begun="The"), list[int])
assert_type(model.config.dim, Any)
assert_type(model.ends, set[int])
assert_type(Sampling(temperature=0).top_k, int)
assert_type(Memory("notes", screen=str.strip).find("boat", 3)[0].heading, str)
assert_type(verify(open_model("model.bin")), None)


async def later() -> None:
    async with model.astream("x") as stream:
        assert_type(await stream.__anext__(), Chunk)
    assert_type(await model.aembed("x"), np.ndarray[Any, np.dtype[np.float32]])
"""

WRONG = """
from twofile import ChatMessage, Memory, Message, Model, Options, Sampling, Writer

model = Model("model.bin")
# wrong
Model(5)
Model("model.bin", kv="f8")
model.generate(3)
model.generate("x", temperature="hot")
model.generate("x", max_token=5)
model.generate("x", 5, 6)
model("x", max_token=5)
model("x", seed="7")
model.stream("x", stop=5)
model.batch("x", places="8")
model.create_chat_completion("x", stream=True)
model.create_chat_completion([], tool_choice="never")
model.create_chat_completion([], stream=True)["choices"]
model("x")["choice"]
model("x")["choices"][0]["text"] + 1
Writer(model, "x", logprobs="3")
Sampling(heat=1)
Memory(5)
options: Options = {"tempreature": 1}
message: Message = {"role": "nobody", "content": "x"}
model.embed("x", pooling="most")
"""


def test_what_a_type_checker_says(tmp_path, monkeypatch):
    """All in one run of mypy --strict: the document, each type, and programs that are wrong, line by line."""
    api = pytest.importorskip("mypy.api")
    (tmp_path / "document.py").write_text("\n\n".join(BLOCKS))
    (tmp_path / "types_of.py").write_text(TYPES)
    (tmp_path / "wrong.py").write_text(WRONG)
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    flags = ["--strict", f"--config-file={ROOT}/pyproject.toml", "--no-error-summary", f"--cache-dir={tmp_path}/cache"]
    said, err, _ = api.run([*flags, *(str(tmp_path / f"{name}.py") for name in ("document", "types_of", "wrong"))])
    errors = re.findall(r"/(\w+)\.py:(\d+): error: (.*)$", said, re.M)
    assert [error for error in errors if error[0] != "wrong"] == [] and err == ""
    lines = WRONG.splitlines()
    assert {int(n) for _, n, _ in errors} == {n for n, line in enumerate(lines, 1) if n > lines.index("# wrong") + 1}
