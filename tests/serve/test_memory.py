"""The server's memory: in every API the sources stand beside the answer, in a stream at its end; one field leaves it out."""

import time

import pytest

from helpers.models import make_talker
from helpers.server import ask, events, serving

QUESTION = "When does the ferry leave?"
CHAT = {"messages": [{"role": "user", "content": QUESTION}]}
BODIES = {
    "/v1/chat/completions": {**CHAT, "max_tokens": 6},
    "/v1/responses": {"input": QUESTION, "max_output_tokens": 6},
    "/v1/messages": {**CHAT, "max_tokens": 6},
    "/api/chat": {**CHAT, "model": "model", "options": {"num_predict": 6}},
    "/api/generate": {"prompt": QUESTION, "model": "model", "options": {"num_predict": 6}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "boats.md").write_text("# Boats\n\nThe fer\u200bry, a ferry, leaves at nine.")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_talker(tmp_path_factory.mktemp("wide") / "model.bin", max_ctx=8000)


@pytest.fixture(scope="module")
def server(model, folder):
    with serving(model, "--memory", folder) as server:
        yield server


def prompt_tokens(value):
    usage = value.get("usage") or {"prompt_tokens": value.get("prompt_eval_count")}
    return usage.get("prompt_tokens", usage.get("input_tokens"))


@pytest.mark.parametrize("path", BODIES)
def test_sources_stand_beside_the_answer(server, path):
    status, _, value = ask(server, path, {**BODIES[path], "stream": False})
    text = "# Boats\n\nThe fer\u200bry, a ferry, leaves at nine."
    source = {"number": 1, "file": "boats.md", "line": 1, "heading": "Boats", "text": text, "invisible": 1}
    assert status == 200 and value["sources"] == [source]
    told = events(server, path, {**BODIES[path], "stream": True})
    last = [e for e in told if e.get("type") != "message_stop"][-1]
    assert (last["response"] if path == "/v1/responses" else last)["sources"] == [source]
    assert path == "/v1/responses" or sum("sources" in e for e in told) == 1
    status, _, without = ask(server, path, {**BODIES[path], "stream": False, "memory": False})
    assert status == 200 and "sources" not in without and prompt_tokens(without) < prompt_tokens(value) - 100
    told = events(server, path, {**BODIES[path], "stream": True, "memory": False})
    assert not any("sources" in e or "sources" in str(e.get("response")) for e in told)


def test_what_is_counted_is_what_is_read(server):
    count = lambda **more: ask(server, "/v1/messages/count_tokens", {**CHAT, **more})[2]["input_tokens"]
    assert count() == prompt_tokens(ask(server, "/v1/messages", BODIES["/v1/messages"])[2]) > count(memory=False) + 100


def test_what_cannot_fit_is_refused_at_once(server):
    began = time.perf_counter()
    status, _, value = ask(server, "/v1/chat/completions", {"messages": [{"role": "user", "content": "a" * 1_000_000}]})
    assert status == 400 and "prompt: 1,000,000 characters" in value["error"]["message"] and time.perf_counter() - began < 4


def test_plain_prompts_have_none(server):
    status, _, value = ask(server, "/v1/completions", {"prompt": QUESTION, "max_tokens": 4})
    assert status == 200 and "sources" not in value
    status, _, value = ask(server, "/api/generate", {**BODIES["/api/generate"], "raw": True, "stream": False})
    assert status == 200 and "sources" not in value


def test_after_a_tool_the_question_is_still_the_users(server):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    talk = [*CHAT["messages"], {"role": "assistant", "content": None, "tool_calls": [call]}]
    talk.append({"role": "tool", "tool_call_id": "c", "content": "zebra"})
    status, _, value = ask(server, "/v1/chat/completions", {"messages": talk, "max_tokens": 4})
    assert status == 200 and [s["file"] for s in value["sources"]] == ["boats.md"]


def test_what_changes_is_seen(server, folder):
    (folder / "rafts.md").write_text("A raft is slow.")
    body = {"messages": [{"role": "user", "content": "How slow is the raft today?"}], "max_tokens": 4}
    assert [s["file"] for s in ask(server, "/v1/chat/completions", body)[2]["sources"]] == ["rafts.md"]
    (folder / "rafts.md").unlink()
    assert ask(server, "/v1/chat/completions", body)[2]["sources"] == []


@pytest.mark.parametrize("content", ['"', "AND OR NOT NEAR(", "\0ferry\0", "", "ferry " * 100])
def test_odd_questions(server, content):
    status, _, value = ask(
        server, "/v1/chat/completions", {"messages": [{"role": "user", "content": content}], "max_tokens": 2}
    )
    assert status == 200 and {s["file"] for s in value["sources"]} <= {"boats.md"}


def test_wrong_fields_and_folders(model, folder):
    with serving(model) as server:
        status, _, value = ask(server, "/v1/chat/completions", {**BODIES["/v1/chat/completions"], "memory": True})
        assert (
            status == 400
            and value["error"]["param"] == "memory"
            and "expected a server with --memory" in value["error"]["message"]
        )
        status, _, value = ask(server, "/v1/chat/completions", {**BODIES["/v1/chat/completions"], "memory": False})
        assert status == 200 and "sources" not in value
        assert ask(server, "/v1/chat/completions", {**BODIES["/v1/chat/completions"], "memory": "yes"})[0] == 400
    with pytest.raises(AssertionError, match="--memory .*cannot be read.*expected a folder of texts; name one"):
        with serving(model, "--memory", folder / "none"):
            pass
