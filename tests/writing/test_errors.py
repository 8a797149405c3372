"""What is no argument is a ValueError or a TypeError, when it is called; notices go to a logger."""

import asyncio
import errno
import inspect
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.places import ROOT
from twofile.callreader import Reader
from twofile.calls import Tools
from twofile.errors import Busy, MissingFile, ModelError, WrongType, WrongValue
from twofile.memory.memory import Memory
from twofile.model import Model
from twofile.modelfile import open_model, verify
from twofile.sampler import Sampling
from twofile.tokenizer.tokenizer import Tokenizer
from twofile.writer import Writer


@pytest.fixture(scope="module")
def model(talker):
    return Model(talker, n_threads=1)


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notes")
    (folder / "a.md").write_text("The ferry leaves at nine.\n")
    with Memory(folder) as memory:
        yield memory


ASK = [{"role": "user", "content": "the fox"}]
F = {"type": "function", "function": {"name": "f"}}
DEEP = []
for _ in range(9999):
    DEEP = [DEEP]
VALUES = {  # of the right kind
    "prompt": lambda m: m.generate(""),
    "an id": lambda m: m.generate([266]),
    "less than an id": lambda m: m.logits([-1]),
    "a large id": lambda m: m.score([5, 10**30]),
    "no ids": lambda m: m.logits([]),
    "a long prompt": lambda m: m.generate("fox " * 999),
    "a full context": lambda m: m([5] * 200),
    "max_tokens": lambda m: m.generate("the", -2),
    "max_completion_tokens": lambda m: m.create_chat_completion(ASK, max_completion_tokens=-2),
    "two limits": lambda m: m.create_chat_completion(ASK, 2, max_completion_tokens=3),
    "temperature": lambda m: m.generate("the", temperature=-0.1),
    "NaN": lambda m: m.generate("the", temperature=float("nan")),
    "inf": lambda m: m.generate("the", min_p=np.float32("inf")),
    "top_k": lambda m: m.generate("the", top_k=-1),
    "top_p": lambda m: m.generate("the", top_p=-0.1),
    "Sampling": lambda m: Sampling(mirostat=3),
    "seed": lambda m: m.batch(["the"], seed=10**5000),
    "stop": lambda m: m.generate("the", stop=["a"] * 65),
    "logprobs": lambda m: m.generate("the", logprobs=101),
    "top_logprobs": lambda m: m.create_chat_completion(ASK, logprobs=True, top_logprobs=10**5000),
    "top_logprobs alone": lambda m: m.create_chat_completion(ASK, top_logprobs=2),
    "a bias": lambda m: m.generate("the", logit_bias={5: 101}),
    "a bias of no token": lambda m: m.generate("the", logit_bias={266: 1}),
    "all are banned": lambda m: m.generate("the", logit_bias=dict.fromkeys(range(266), -100)),
    "deadline": lambda m: m.generate("the", deadline=-1),
    "a late deadline": lambda m: m.generate("the", deadline=10**400),
    "schema": lambda m: m.generate("the", schema="{"),
    "a deep schema": lambda m: m.generate("the", schema={"type": DEEP}),
    "regex": lambda m: m.generate("the", regex=""),
    "two forms": lambda m: m.generate("the", regex="a", grammar="start: x"),
    "response_format": lambda m: m.generate("the", response_format={"type": "xml"}),
    "tools": lambda m: m.encode_chat(ASK, [{"function": {"name": "a b"}}]),
    "two tools": lambda m: m.encode_chat(ASK, [F, F]),
    "tool_choice": lambda m: m.create_chat_completion(ASK, tools=[F], tool_choice="g"),
    "no such tool": lambda m: m.create_chat_completion(ASK, tools=[F], tool_choice={"function": {"name": "g"}}),
    "roles": lambda m: m.encode_chat([ASK[0], ASK[0]]),
    "no messages": lambda m: m.create_chat_completion([]),
    "a part of a content": lambda m: m.encode_chat([{"role": "user", "content": [{"type": "image_url"}]}]),
    "stream_options": lambda m: m("the", 2, stream=True, stream_options={"include_usage": 5}),
    "echo with logprobs in a stream": lambda m: m("the", 2, stream=True, echo=True, logprobs=1),
    "places": lambda m: m.together([], 0),
    "n": lambda m: m.best_of("the", 10**9),
    "first": lambda m: m.score([1, 2], -1),
    "n_ctx of a window": lambda m: m.perplexity("the fox", 1),
    "a text of no two windows": lambda m: m.perplexity("the fox"),
    "pooling": lambda m: m.embed("the", "max"),
    "n of a cache": lambda m: m.save_cache("x", -1),
    "n_ctx": lambda m: Model(m.file.path, n_ctx=10**5000),
    "n_threads": lambda m: Model(m.file.path, n_threads=0),
    "kv": lambda m: Model(m.file.path, kv="f8"),
    "id": lambda m: Model(m.file.path, id="xyz"),
    "cache_size": lambda m: Model(m.file.path, cache_size=5),
    "cache_dir": lambda m: Model(m.file.path, cache_dir=""),
    "queue": lambda m: Model(m.file.path, queue=0),
    "a memory's folder": lambda m: Memory(""),
    "a cache_dir that is a file": lambda m: Model(m.file.path, cache_dir=m.file.path),
    "no ids before": lambda m: m.score([1, 2], 0),
    "an id of no token": lambda m: m.detokenize([10**6]),
    "a Writer that was written": lambda m: m.write(written(m)),
    "a Writer with two streams": lambda m: list(m.together([w := Writer(m, "the", 2), w])),
    "an ended Writer among many": lambda m: list(m.together([written(m)])),
    "two Tools": lambda m: Tools([F, F]),
    "Tools of no such name": lambda m: Tools([F], only="g"),
    "Tools that must, of none": lambda m: Tools([], True),
    "a name of Tools": lambda m: Tools([{"name": "a b"}]),
    "a worth that is no number": lambda m: m.best_of("the", 2, lambda text: float("nan"), max_tokens=1),
}


def written(model):
    return model.written(Writer(model, "the", 2))


KINDS = {  # of no kind that could be one
    "prompt": lambda m: m.generate(b"the"),
    "a path as a prompt": lambda m: m.generate(Path("the")),
    "bytes": lambda m: m.stream(bytearray(b"the")),
    "floats": lambda m: m.logits([1.0, 2.0]),
    "an array of floats": lambda m: m.score(np.array([1.0, 2.0])),
    "an array of two dimensions": lambda m: m.logits(np.zeros((2, 2), int)),
    "bools": lambda m: m.generate([True, False]),
    "a set": lambda m: m.generate({5, 6}),
    "lists in lists": lambda m: m.generate(DEEP),
    "a number": lambda m: m(5),
    "max_tokens": lambda m: m.generate("the", 3.0),
    "max_tokens, a bool": lambda m: m.generate("the", True),
    "max_tokens, a str": lambda m: m.generate("the", "3"),
    "temperature": lambda m: m.generate("the", temperature="0.5"),
    "temperature, a bool": lambda m: m.generate("the", temperature=True),
    "top_k": lambda m: m.generate("the", top_k=3.0),
    "a misspelt option": lambda m: m.generate("the", max_token=5),
    "seed": lambda m: m.generate("the", seed=1.5),
    "stop": lambda m: m.generate("the", stop=5),
    "stops": lambda m: m.generate("the", stop=["a", b"b"]),
    "ignore_eos": lambda m: m.generate("the", ignore_eos="no"),
    "logprobs": lambda m: m("the", logprobs=[1]),
    "logit_bias": lambda m: m.generate("the", logit_bias=5),
    "a bias": lambda m: m.generate("the", logit_bias={5: "1"}),
    "a key of a bias": lambda m: m.generate("the", logit_bias={"x": 1}),
    "deadline": lambda m: m.generate("the", deadline="5"),
    "schema": lambda m: m.generate("the", schema=5),
    "regex": lambda m: m.generate("the", regex=b"a"),
    "response_format": lambda m: m.generate("the", response_format="json"),
    "tools": lambda m: m.encode_chat(ASK, "f"),
    "tool_choice": lambda m: m.create_chat_completion(ASK, tools=[F], tool_choice=np.array([1, 2])),
    "messages": lambda m: m.create_chat_completion("the fox"),
    "a message": lambda m: m.create_chat_completion(ASK[0]),
    "messages of texts": lambda m: m.encode_chat(["the fox"]),
    "a content": lambda m: m.encode_chat([{"role": "user", "content": b"x"}]),
    "begun": lambda m: m.encode_chat(ASK, begun=5),
    "stream_options": lambda m: m("the", 2, stream=True, stream_options=5),
    "echo": lambda m: m("the", 2, echo="yes"),
    "memory": lambda m: m.create_chat_completion(ASK, memory="notes"),
    "lookup": lambda m: m.stream("the", 2, lookup="no"),
    "prompts": lambda m: m.batch("the fox"),
    "a dict of prompts": lambda m: m.batch({"the": 1}),
    "one of prompts": lambda m: m.batch(["the", 5]),
    "places": lambda m: m.batch(["the"], places=2.0),
    "n": lambda m: m.best_of("the", "2"),
    "judge": lambda m: m.best_of("the", 2, judge="long"),
    "writers": lambda m: m.together(5),
    "a Writer": lambda m: m.write("the"),
    "an awaited Writer": lambda m: m.awrite(None),
    "context": lambda m: m.loglikelihood("the", b" fox"),
    "a text and ids": lambda m: m.loglikelihood([1, 2], "the"),
    "a text": lambda m: m.loglikelihood_rolling(5),
    "a text of windows": lambda m: m.perplexity([5] * 99),
    "first": lambda m: m.score([1, 2], "1"),
    "normalise": lambda m: m.embed("the", normalise="no"),
    "pooling": lambda m: m.embed("the", np.array([1, 2])),
    "text": lambda m: m.tokenize(b"the"),
    "add_bos": lambda m: m.tokenize("the", "no"),
    "ids": lambda m: m.detokenize("the"),
    "ids of a cache": lambda m: m.load_cache("x", "the"),
    "the path of a cache": lambda m: m.save_cache(5),
    "how": lambda m: m.sampler({"temperature": 1}),
    "path": lambda m: Model(b"model.bin"),
    "tokenizer": lambda m: Model(m.file.path, tokenizer=5),
    "n_ctx": lambda m: Model(m.file.path, n_ctx="512"),
    "n_threads": lambda m: Model(m.file.path, n_threads=1.0),
    "kv": lambda m: Model(m.file.path, kv=16),
    "id": lambda m: Model(m.file.path, id=b"x" * 16),
    "cache_size": lambda m: Model(m.file.path, cache_size="1G"),
    "cache_dir": lambda m: Model(m.file.path, cache_dir=5),
    "what is verified": lambda m: verify("model.bin"),
    "what is opened": lambda m: open_model(None),
    "source": lambda m: Tokenizer(5),
    "a memory's folder": lambda m: Memory(5),
    "notice": lambda m: Memory(".", notice="x"),
    "a schema of bytes": lambda m: m.generate("the", schema=b"{}"),
    "tools of Tools": lambda m: Tools(5),
    "must": lambda m: Tools([F], "yes"),
    "model": lambda m: Writer("model.bin", "the"),
    "form": lambda m: Reader(None, ["f"]),
    "names": lambda m: Reader(m.calls, "f"),
    "a worth": lambda m: m.best_of("the", 1, lambda text: None, max_tokens=1),
    "a worth as a text": lambda m: m.best_of("the", 1, str, max_tokens=1),
    "a text for ids": lambda m: m.detokenize("ab"),
    "a continuation": lambda m: m.loglikelihood("a", None),
    "bytes of a tokenizer": lambda m: Model(m.file.path, tokenizer=b"x"),
}


@pytest.mark.parametrize("table, kind", [(VALUES, ValueError), (KINDS, TypeError)], ids=["values", "kinds"])
def test_what_is_no_argument(table, kind, model):
    """Each refused at the call, in one line, as what Python people expect; those that we find are ModelErrors too."""
    for name, call in table.items():
        with pytest.raises(kind) as found:
            call(model)
            pytest.fail(f"{name} was taken")
        ours = isinstance(found.value, ModelError)
        assert ours or name == "a misspelt option", (name, repr(found.value))
        assert "\n" not in str(found.value) and not isinstance(found.value, OSError), name
        if ours:
            assert type(found.value) is {ValueError: WrongValue, TypeError: WrongType}[kind], name


def test_what_a_memory_is_asked(memory, model):
    assert len(memory.find("When does the ferry leave?", np.int64(1))) == 1
    for kind, call in (
        (TypeError, lambda: memory.find(b"ferry")),
        (TypeError, lambda: memory.find("ferry", 1.0)),
        (ValueError, lambda: memory.find("ferry", 2**70)),
        (TypeError, lambda: memory.page("model", ASK)),
        (TypeError, lambda: memory.page(model, "the fox")),
        (TypeError, lambda: memory.page(model, ASK, "9")),
    ):
        with pytest.raises(kind) as found:
            call()
        assert isinstance(found.value, ModelError)


def test_files_are_model_errors(tmp_path, model):
    """One that is not there is what open() would raise too."""
    for call in (Model, open_model, Tokenizer, lambda path: Model(model.file.path, tokenizer=path)):
        with pytest.raises(FileNotFoundError, match="no.bin: not found; expected a .*; check the path") as found:
            call(tmp_path / "no.bin")
        assert type(found.value) is MissingFile and isinstance(found.value, ModelError)
        assert (found.value.errno, found.value.filename) == (errno.ENOENT, str(tmp_path / "no.bin"))
        assert found.value.strerror == os.strerror(errno.ENOENT)
    (tmp_path / "m.bin").write_bytes(b"x" * 9000)
    for path in (tmp_path, tmp_path / "m.bin", "a\0b"):
        with pytest.raises(ModelError) as found:
            Model(path)
        assert type(found.value) is ModelError
    for call in (lambda: Memory(tmp_path / "no"), lambda: model.save_cache(tmp_path / "no" / "x")):
        with pytest.raises(MissingFile, match="no.*: .*; (name one|choose another)$") as found:
            call()
        assert found.value.errno == errno.ENOENT
    for error in (WrongValue("x"), WrongType("x"), MissingFile("x"), MissingFile("x", "y"), Busy("x")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and str(again) == "x"
        assert getattr(again, "filename", None) == getattr(error, "filename", None)


def test_refused_when_called(model):
    """Not when the first piece is asked for."""
    ways = {
        "generate": lambda **how: model.generate("the", **how),
        "stream": lambda **how: model.stream("the", **how),
        "__call__": lambda **how: model("the", **how),
        "streamed": lambda **how: model("the", stream=True, **how),
        "chat": lambda **how: model.create_chat_completion(ASK, **how),
        "streamed chat": lambda **how: model.create_chat_completion(ASK, stream=True, **how),
        "batch": lambda **how: model.batch(["the"], **how),
        "best_of": lambda **how: model.best_of("the", 1, **how),
        "astream": lambda **how: model.astream("the", **how),
    }
    for name, way in ways.items():
        for option, wrong, kind in (("max_tokens", -5, ValueError), ("stop", 5, TypeError), ("top_p", "x", TypeError)):
            with pytest.raises(kind, match=f"^{option} is "):
                way(**{option: wrong})
                pytest.fail(name)

    async def awaited():
        with pytest.raises(TypeError, match="^lookup is 'no'"):
            model.astream("the", 2, lookup="no")
        return [chunk.text async for chunk in model.astream("the", 2, lookup=None)]

    assert asyncio.run(awaited())
    with pytest.raises(TypeError, match="^a text to write is 'the', expected a Writer"):
        list(model.together([Writer(model, "the", 2), "the"]))


OPTIONS = [name for name in inspect.signature(Writer.__init__).parameters if name not in ("self", "model", "prompt")]


@pytest.mark.parametrize("way", ["generate", "stream", "__call__", "batch", "best_of", "create_chat_completion"])
def test_every_option_may_be_none(way, model):
    """That is its default, for all that a Writer has, and a way its own."""
    call, given = getattr(model, way), {"create_chat_completion": (ASK,), "batch": (["the"],), "best_of": ("the", 2)}
    given = given.get(way, ("the",))
    assert len(OPTIONS) > 25
    for name in OPTIONS:
        assert call(*given, **{"max_tokens": 1, name: None, **({"seed": 1} if name == "max_tokens" else {})}) is not None
    own = [p.name for p in inspect.signature(call).parameters.values() if p.kind is p.KEYWORD_ONLY or p.default is None]
    assert call(*given, **{**dict.fromkeys(own), "max_tokens": 2}) is not None


# notices


def test_a_library_prints_nothing(tiny):
    """By default; who listens to the logger hears it, who says so has it on stderr."""
    script = """import logging, sys, twofile
if LISTENS: logging.basicConfig(level="INFO", stream=sys.stdout)
m = twofile.Model(PATH, n_ctx=64)
m.notice("100 % said")
twofile.errors.warn("%s warned")"""

    def printed(listens):
        code = script.replace("PATH", repr(str(tiny))).replace("LISTENS", str(listens))
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
        return (done.stdout + done.stderr).splitlines()

    assert printed(False) == []
    assert printed(True) == ["INFO:twofile:100 % said", "WARNING:twofile:%s warned"]


def test_notices(model, caplog, capsys):
    with caplog.at_level("INFO", "twofile"):
        model.notice("it is larger than memory")
    assert caplog.record_tuples == [("twofile", logging.INFO, "it is larger than memory")]
    Model(model.file.path, verbose=True).notice("compiling")
    assert capsys.readouterr() == ("", "twofile: compiling\n") and len(caplog.records) == 1
