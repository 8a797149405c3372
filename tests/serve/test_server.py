"""The server's answers: what the model alone would write, in the objects of each API; errors that name the field."""

import base64
import copy
import http.client
import json
import random
import re
import socket
import threading
import time

import numpy as np
import pytest

from helpers.places import ROOT
from helpers.server import ask, events, gauges, idle, serving, until
from twofile import Model

STORY = {"role": "user", "content": "Tell me a story about a fox"}
CHAT = {"messages": [STORY], "max_tokens": 12, "seed": 3}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    raw = tmp_path_factory.mktemp("raw") / "raw.bin"
    for path in (raw, raw.with_name("tokenizer.bin")):
        path.write_bytes((ROOT / path.name.replace("raw", "model")).read_bytes())
    with serving(ROOT / "model.bin", f"other={raw}", "--max-body", "100K") as server:
        yield server


@pytest.fixture(scope="module")
def alone():
    return Model(ROOT / "model.bin", verbose=False)


@pytest.fixture(scope="module")
def text(alone):
    """The answer to CHAT."""
    return alone.generate(alone.encode_chat([STORY]), 12, seed=3)


def test_a_chat(server, text, alone):
    status, headers, value = ask(server, "/v1/chat/completions", CHAT)
    (choice,) = value["choices"]
    assert status == 200 and value["object"] == "chat.completion" and value["model"] == "model"
    assert choice["message"]["content"] == text and choice["finish_reason"] == "length" and choice["logprobs"] is None
    n = len(alone.encode_chat([STORY]))
    tokens = {name: value["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    assert tokens == {"prompt_tokens": n, "completion_tokens": 12, "total_tokens": n + 12}
    parts = [{"type": "text", "text": STORY["content"]}]
    ways = [{"max_tokens": None, "max_completion_tokens": 12}, {"messages": [{"role": "user", "content": parts}]}]
    ways += [{"user": "me", "n": None, "stop": None, "tools": [], "response_format": {"type": "text"}, "model": "other"}]
    for way in ways:
        assert ask(server, "/v1/chat/completions", {**CHAT, **way})[2]["choices"][0]["message"]["content"] == text


def test_streams_say_the_same(server, text):
    """Of every API, the pieces are the whole."""
    asked = {**CHAT, "stream": True, "stream_options": {"include_usage": True}, "logprobs": True, "top_logprobs": 2}
    *chunks, last = events(server, "/v1/chat/completions", asked)
    deltas = [c["choices"][0] for c in chunks]
    assert "".join(d["delta"].get("content", "") for d in deltas) == text and deltas[-1]["finish_reason"] == "length"
    assert deltas[0]["delta"]["role"] == "assistant" and last["choices"] == [] and last["usage"]["completion_tokens"] == 12
    told = [d["logprobs"]["content"][0] for d in deltas if d["logprobs"]]
    assert len(told) == 12 and all(len(t["top_logprobs"]) == 2 for t in told)
    whole = ask(server, "/v1/chat/completions", {**asked, "stream": False, "stream_options": None})[2]
    assert whole["choices"][0]["logprobs"]["content"] == told
    message = {"messages": [STORY], "max_tokens": 12, "seed": 3}
    found = events(server, "/v1/messages", {**message, "stream": True})
    assert "".join(e["delta"].get("text", "") for e in found if e["type"] == "content_block_delta") == text
    names = [e["type"] for e in found if e["type"] not in ("content_block_delta", "ping")]
    assert names == ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
    assert ask(server, "/v1/messages", message)[2]["content"] == [{"type": "text", "text": text}]
    response = {"input": STORY["content"], "max_output_tokens": 12, "seed": 3}
    found = events(server, "/v1/responses", {**response, "stream": True})
    assert "".join(e["delta"] for e in found if e["type"] == "response.output_text.delta") == text
    assert [e["sequence_number"] for e in found] == list(range(len(found)))
    whole = ask(server, "/v1/responses", response)[2]
    assert whole["output"][0]["content"][0]["text"] == text == found[-1]["response"]["output"][0]["content"][0]["text"]
    assert whole["status"] == "incomplete" and whole["incomplete_details"] == {"reason": "max_output_tokens"}
    how = {"model": "model", "options": {"num_predict": 12, "seed": 3}}
    for path, more, name in (
        ("chat", {"messages": [STORY]}, "message"),
        ("generate", {"prompt": STORY["content"]}, "response"),
    ):
        found = events(server, f"/api/{path}", how | more)
        said = lambda e, name=name: e[name]["content"] if name == "message" else e[name]
        assert "".join(map(said, found)) == text and found[-1]["done"] and found[-1]["done_reason"] == "length"
        whole = ask(server, f"/api/{path}", how | more | {"stream": False})[2]
        assert said(whole) == text and whole["eval_count"] == 12 and whole["total_duration"] > 0


def test_completions(server, alone):
    """Several prompts, several texts of each; ids; echo; the best of some; log-probabilities."""
    ids = alone.tokenize("The hen")
    for prompt in ("The hen", ids, [ids], ["The hen"]):
        value = ask(server, "/v1/completions", {"prompt": prompt, "max_tokens": 5, "temperature": 0})[2]
        assert [c["text"] for c in value["choices"]] == [alone.generate("The hen", 5, temperature=0)]
    body = {"prompt": ["The hen", "A fox"], "n": 2, "max_tokens": 4, "seed": 1, "echo": True, "logprobs": 1}
    value = ask(server, "/v1/completions", body)[2]
    assert [c["index"] for c in value["choices"]] == [0, 1, 2, 3] and len({c["text"] for c in value["choices"]}) > 2
    assert [c["text"][:5] for c in value["choices"]] == ["The h"] * 2 + ["A fox"[:5]] * 2
    first = alone("The hen", 4, seed=1, echo=True, logprobs=1)["choices"][0]
    assert value["choices"][0]["text"] == first["text"] and value["choices"][0]["logprobs"] == first["logprobs"]
    chunks = events(server, "/v1/completions", {**body, "logprobs": None, "stream": True})
    for i, choice in enumerate(value["choices"]):
        parts = [c["choices"][0]["text"] for c in chunks if c["choices"][0]["index"] == i]
        assert "".join(parts) == choice["text"]
    best = ask(server, "/v1/completions", {"prompt": "The hen", "best_of": 4, "max_tokens": 5, "seed": 2})[2]
    want = alone.best_of("The hen", 4, max_tokens=5, seed=2)[0].written
    assert [c["text"] for c in best["choices"]] == [want] and best["usage"]["completion_tokens"] == 20
    many = ask(server, "/v1/completions", {"prompt": ["A fox"] * 40, "max_tokens": 3, "temperature": 0})[2]
    assert {c["text"] for c in many["choices"]} == {alone.generate("A fox", 3, temperature=0)} and len(many["choices"]) == 40
    zero = ask(server, "/v1/completions", {"prompt": "The hen", "max_tokens": 0, "echo": True, "logprobs": 0})[2]
    assert zero["choices"][0]["text"] == "The hen" and len(zero["choices"][0]["logprobs"]["tokens"]) == len(ids)


def test_embeddings(server, alone):
    """Normed, of all tokens or of the last one; floats or base64; of length one."""
    texts = ["A fox and a hen", "Rain"]
    value = ask(server, "/v1/embeddings", {"input": texts})[2]
    found = np.array([row["embedding"] for row in value["data"]], np.float32)
    assert np.array_equal(found, [alone.embed(text) for text in texts]) and np.allclose((found**2).sum(1), 1)
    packed = ask(server, "/v1/embeddings", {"input": texts[0], "encoding_format": "base64", "pooling": "last"})[2]
    raw = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    assert np.array_equal(raw, alone.embed(texts[0], "last")) and not np.array_equal(raw, found[0])
    assert value["usage"]["prompt_tokens"] == sum(len(alone.tokenize(text)) for text in texts)
    assert np.array_equal(ask(server, "/api/embed", {"model": "model", "input": texts})[2]["embeddings"], found)
    status, _, value = ask(server, "/v1/embeddings", {"input": "x", "dimensions": 5})
    assert status == 400 and value["error"]["param"] == "dimensions"


def test_tokens_models_health(server, alone):
    ids = alone.tokenize("A fox", add_bos=False)
    assert ask(server, "/tokenize", {"content": "A fox"})[2] == {"tokens": ids}
    assert ask(server, "/tokenize", {"content": "A fox", "add_special": True})[2] == {"tokens": alone.tokenize("A fox")}
    pieces = ask(server, "/tokenize", {"content": "A fox", "with_pieces": True})[2]["tokens"]
    assert [p["id"] for p in pieces] == ids and "".join(p["piece"] for p in pieces) == "A fox"
    assert ask(server, "/detokenize", {"tokens": ids})[2]["content"] == "A fox"
    listed = ask(server, "/v1/models")[2]["data"]
    assert [m["id"] for m in listed] == ["model", "other"] and all(m["chat"] for m in listed)
    assert ask(server, "/v1/models/other")[2]["id"] == "other" and ask(server, "/v1/models/none")[0] == 404
    assert ask(server, "/health")[2] == {"status": "ok"}
    assert [m["name"] for m in ask(server, "/api/tags")[2]["models"]] == ["model", "other"]
    assert ask(server, "/api/show", {"model": "model"})[2]["model_info"]["llama.context_length"] == alone.n_ctx
    assert ask(server, "/api/show", {"name": "model:latest"})[0] == 200


WRONG = [  # path, what is wrong in a body that would be right, the field that is to blame
    ("/v1/chat/completions", {"temperature": -1}, "temperature"),
    ("/v1/chat/completions", {"temperature": "hot"}, "temperature"),
    ("/v1/chat/completions", {"temperature": True}, "temperature"),
    ("/v1/chat/completions", {"messages": []}, "messages"),
    ("/v1/chat/completions", {"messages": "hello"}, "messages"),
    ("/v1/chat/completions", {"messages": [{"content": "x"}]}, "messages"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": 5}]}, "messages"),
    ("/v1/chat/completions", {"messages": [STORY, STORY]}, "messages"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages"),
    ("/v1/chat/completions", {"messages": None}, "messages"),
    ("/v1/chat/completions", {"frobnicate": 1}, "frobnicate"),
    ("/v1/chat/completions", {"n": 0}, "n"),
    ("/v1/chat/completions", {"n": 2.0}, "n"),
    ("/v1/completions", {"prompt": [1.0, 2.0]}, "prompt"),
    ("/v1/completions", {"prompt": "x", "best_of": 2.0}, "best_of"),
    ("/v1/completions", {"prompt": ["x"] * 2048, "n": 16}, "n"),
    ("/v1/chat/completions", {"stop": ["x" * 1001]}, "stop"),
    ("/v1/chat/completions", {"n": 17}, "n"),
    ("/v1/chat/completions", {"stop": ["x"] * 65}, "stop"),
    ("/v1/chat/completions", {"top_logprobs": 2}, "top_logprobs"),
    ("/v1/chat/completions", {"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ("/v1/chat/completions", {"max_tokens": -2}, "max_tokens"),
    ("/v1/chat/completions", {"stream_options": {"include_usage": "yes"}}, "stream_options"),
    ("/v1/chat/completions", {"seed": 1.5}, "seed"),
    ("/v1/chat/completions", {"modalities": ["audio"]}, "modalities"),
    ("/v1/completions", {"prompt": [[1, 2], "x"]}, "prompt"),
    ("/v1/completions", {"prompt": [1 << 30]}, "prompt"),
    ("/v1/completions", {"prompt": {}}, "prompt"),
    ("/v1/completions", {"prompt": "x", "best_of": 1, "n": 2}, "best_of"),
    ("/v1/completions", {"prompt": "x", "best_of": 3, "stream": True}, "best_of"),
    ("/v1/completions", {"prompt": "x", "suffix": "y"}, "suffix"),
    ("/v1/completions", {"prompt": "x", "logprobs": 101}, "logprobs"),
    ("/v1/responses", {"input": [{"type": "reasoning"}]}, "input"),
    ("/v1/responses", {"input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
    ("/v1/responses", {"input": "x", "text": {"format": {"type": "json_schema"}}}, "text.format"),
    ("/v1/embeddings", {"input": []}, "input"),
    ("/tokenize", {"content": 5}, "content"),
    ("/detokenize", {"tokens": [-1]}, "tokens"),
]


@pytest.mark.parametrize("path, wrong, field", WRONG, ids=[f"{p} {f}" for p, _, f in WRONG])
def test_what_cannot_be_done_names_the_field(server, path, wrong, field):
    body = {"messages": [STORY]} if path.endswith("chat/completions") else {}
    status, headers, value = ask(server, path, {**body, **wrong})
    error = value["error"]
    assert status == 400 and error["type"] == "invalid_request_error", value
    assert error["param"] == field and field in error["message"] and ("expected" in error["message"] or ";" in error["message"])
    assert headers["x-request-id"].startswith("req_")


def test_defaults_of_others_programs(server):
    """What clients send though it says nothing."""
    good = [
        ("/api/show", {"model": "model", "system": "", "template": ""}),
        (
            "/api/generate",
            {"model": "model", "prompt": "x", "template": "", "images": [], "context": [], "suffix": "", "stream": False}
            | {"options": {"num_predict": 2}},
        ),
        ("/v1/responses", {"input": "x", "include": [], "truncation": "disabled", "background": False, "max_output_tokens": 2}),
        ("/v1/messages", {"messages": [STORY], "max_tokens": 2, "thinking": {"type": "disabled"}}),
    ]
    assert [path for path, body in good if ask(server, path, body)[0] != 200] == []
    value = ask(server, "/api/generate", {"model": "model", "prompt": "x", "stream": False, "options": {"num_predict": -2}})[2]
    assert value["done_reason"] in ("stop", "length") and value["eval_count"] > 2
    status, _, value = ask(server, "/v1/messages", {"messages": [{"role": "system", "content": "x"}, STORY], "max_tokens": 2})
    assert status == 400 and "messages.0.role" in value["error"]["message"]
    assert ask(server, "/v1/messages", {"messages": [{"role": "user"}], "max_tokens": 2})[0] == 400
    odd = [{"role": "user", "content": "x", "results": True}, {"role": "tool", "content": "y"}]
    assert ask(server, "/v1/chat/completions", {"messages": odd})[0] == 400
    value = ask(server, "/v1/chat/completions", {**CHAT, "deadline": 0})[2]
    assert value["stop_reason"] == "deadline"


def test_a_long_list_holds_up_nobody(server):
    """A body that takes long to look at is looked at beside the others."""
    other, took = threading.Event(), []

    def watch():
        while not other.is_set():
            began = time.monotonic()
            assert ask(server, "/health")[0] == 200
            took.append(time.monotonic() - began)

    thread = threading.Thread(target=watch)
    thread.start()
    for last in (1, -1):
        status, _, value = ask(server, "/v1/completions", {"prompt": [1] * 30000 + [last], "max_tokens": 1})
        assert status == 400 and value["error"]["param"] == "prompt"
    other.set()
    thread.join()
    assert max(took) < 1


def test_errors_of_the_other_apis(server):
    status, _, value = ask(server, "/v1/messages", {"messages": [STORY]})
    assert (
        status == 400
        and value["error"]["type"] == "invalid_request_error"
        and "max_tokens: missing" in value["error"]["message"]
    )
    status, _, value = ask(server, "/v1/messages", {"messages": [STORY], "max_tokens": 5, "model": "x"})
    assert status == 404 and value["type"] == "error" and value["error"]["type"] == "not_found_error"
    status, _, value = ask(server, "/api/chat", {"model": "x", "messages": [STORY]})
    assert status == 404 and list(value) == ["error"] and "expected one of: model, other" in value["error"]
    for options in ({"num_ctx": 10**6}, {"mirostat": 3}, {"top_p": 7}, {"frobnicate": 1}):
        for path, given in (("chat", {"messages": [STORY]}), ("generate", {"prompt": "x"})):
            status, _, value = ask(server, f"/api/{path}", {"model": "model", "options": options, **given})
            assert status == 400 and f"{list(options)[0]}" in value["error"]


def test_bodies_that_are_none(server):
    """No JSON, another value, too deep, too long, half a character, numbers that are none."""

    def send(raw, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", "/v1/chat/completions", raw, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    for raw in (
        b"",
        b"{",
        b"[]",
        b"1",
        b"null",
        b"[" * 50000,
        b'{"temperature": NaN}',
        b"\xff\xfe",
        b'{"n": 1' + b"0" * 5000 + b"}",
    ):
        status, value = send(raw)
        assert status == 400 and value["error"]["type"] == "invalid_request_error", raw[:20]
    status, value = send(b" " * 110000)
    assert status == 413 and "expected fewer" in value["error"]["message"]
    status, value = send(iter([b" " * 60000] * 3))  # in chunks, of a length that nobody told
    assert status == 413
    good = json.dumps({"messages": [{"role": "user", "content": "\ud83d"}], "max_tokens": 3})
    status, value = send(good.encode())
    assert status in (200, 400), value
    assert ask(server, "/nowhere")[0] == 404 and ask(server, "/v1/chat/completions")[0] == 405
    long = {"messages": [{"role": "user", "content": "fox " * 3000}]}
    status, _, value = ask(server, "/v1/chat/completions", long)
    assert status == 400 and value["error"]["code"] == "context_length_exceeded"


def opened(server, body, path="/v1/chat/completions"):
    """A socket that has sent a request and reads nothing yet."""
    raw, s = json.dumps(body).encode(), socket.create_connection(("127.0.0.1", server.port))
    s.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw)
    return s


def test_who_goes_away_frees_the_place(server):
    """In a stream, before its first token, and while a whole answer is awaited."""
    long = {"messages": [STORY], "ignore_eos": True, "seed": 1}
    count = lambda: float(re.search(r"^twofile_generated_tokens_total (\S+)$", ask(server, "/metrics")[2], re.M)[1])
    idle(server)
    before = count()
    for _ in range(3):
        opened(server, {"input": ["fox " * 300] * 40}, "/v1/embeddings").close()
    for more in ({"stream": True}, {}, {"stream": True, "n": 5}):
        for wait in (0, 0.01, 0.05):
            s = opened(server, {**long, **more})
            time.sleep(wait)
            s.close()
    idle(server)
    assert count() - before < 3 * (1 + 1 + 5) * 480 / 2  # of those that there would have been


def test_many_at_once(server, alone):
    """Forty clients, each gets its own text."""
    want = [alone.generate(alone.encode_chat([STORY]), 30, seed=n) for n in range(8)]
    got = [None] * 40

    def client(n):
        body = {"messages": [STORY], "max_tokens": 30, "seed": n % 8}
        got[n] = ask(server, "/v1/chat/completions", body)[2]["choices"][0]["message"]["content"]

    threads = [threading.Thread(target=client, args=(n,)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert got == want * 5


def test_a_deadline(server):
    value = ask(server, "/v1/chat/completions", {**CHAT, "max_tokens": 400, "ignore_eos": True, "deadline": 0.01})[2]
    assert value["choices"][0]["finish_reason"] == "length" and value["stop_reason"] == "deadline"


def test_metrics(server):
    assert ask(server, "/v1/completions", {"prompt": "x", "max_tokens": 2})[0] == 200
    text = ask(server, "/metrics")[2]
    for name in (
        "requests_total",
        "prompt_tokens_total",
        "generated_tokens_total",
        "request_seconds_bucket",
        "first_token_seconds_bucket",
        "token_seconds_bucket",
        "texts_active",
        "pages_free",
    ):
        assert f"\ntwofile_{name}" in text
    assert gauges(server)["pages"] >= gauges(server)["pages_free"] > 0
    idle(server)
    assert gauges(server)["pages_held"] == 0


def test_nothing_of_a_request_is_in_the_log(server):
    secret = "xyzzy-the-password"
    ask(server, "/v1/chat/completions", {"messages": [{"role": "user", "content": secret}], "max_tokens": 2})
    ask(server, "/v1/chat/completions", {"messages": [{"role": secret, "content": secret}]})
    ask(server, f"/{secret}?{secret}=1")
    ask(server, "/v1/models", **{"X-Request-Id": "mine-1"})
    until(lambda: "mine-1" in server.log())
    log = server.log()
    assert secret not in log and "POST /v1/chat/completions 200" in log and log.count("mine-1") == 1


BODIES = {
    "/v1/chat/completions": {
        **CHAT,
        "temperature": 1,
        "n": 1,
        "stop": ["x"],
        "logit_bias": {"5": 1},
        "tools": [],
        "logprobs": True,
    },
    "/v1/completions": {"prompt": ["x", "y"], "max_tokens": 2, "best_of": 1, "echo": True, "logprobs": 1, "stream_options": {}},
    "/v1/responses": {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}], "max_output_tokens": 2},
    "/v1/messages": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
        "max_tokens": 2,
        "tool_choice": {},
    },
    "/v1/messages/count_tokens": {"messages": [STORY], "system": None},
    "/v1/embeddings": {"input": ["x"], "encoding_format": "float"},
    "/api/chat": {"model": "model", "messages": [STORY], "options": {"num_predict": 2}, "stream": False, "format": ""},
    "/api/generate": {"model": "model", "prompt": "x", "options": {"num_predict": 2, "seed": 1}, "raw": True},
    "/api/show": {"model": "model"},
    "/api/embed": {"model": "model", "input": ["x"]},
    "/tokenize": {"content": "x", "with_pieces": True},
    "/detokenize": {"tokens": [5, 6]},
}
ODD = [None, True, 0, -1, 1.5, 10**30, "", "x", "\ud800", [], {}, [None], [[]], [{}], ["x"], {"type": "text"}, {"x": 1}]


@pytest.mark.parametrize("path", BODIES)
def test_bodies_with_something_odd_in_them(server, path):
    """Anything at any place of a good body: an answer, or what is wrong in words; never a failure."""
    rng = random.Random(path)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for _ in range(120):
        body = copy.deepcopy(BODIES[path])
        for _ in range(rng.randrange(1, 3)):
            places, left = [], [body]
            while left:
                inside = left.pop()
                keys = list(inside) if isinstance(inside, dict) else range(len(inside))
                places += [(inside, key) for key in keys]
                left += [inside[key] for key in keys if isinstance(inside[key], (dict, list))]
            if places:
                inside, key = rng.choice(places)
                inside[key] = copy.deepcopy(rng.choice(ODD))
        connection.request("POST", path, json.dumps(body))
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status in (200, 400, 404), (body, text)
        if response.status != 200:
            error = json.loads(text)["error"]
            message = error if isinstance(error, str) else error["message"]
            assert "expected" in message or ";" in message, (body, message)
