"""Tools: told to the model, calls held to their schemas, read back, in the objects of each API; answers that have a form."""

import json

import pytest

from helpers.places import ROOT
from helpers.server import ask, events, serving

jsonschema = pytest.importorskip("jsonschema")

ADD = {"type": "object", "properties": {"a": {"enum": [1, 2, 3]}}, "required": ["a"], "additionalProperties": False}
SAY = {"type": "object", "properties": {"w": {"enum": ["fox", "hen"]}}, "required": ["w"], "additionalProperties": False}
SCHEMAS = {"add": ADD, "say": SAY}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMAS[name]}} for name in SCHEMAS]
FLAT = [{"type": "function", "name": name, "parameters": SCHEMAS[name]} for name in SCHEMAS]
THEIRS = [{"name": name, "input_schema": SCHEMAS[name]} for name in SCHEMAS]
ASKED = [{"role": "user", "content": "Add 1"}]
CALLED = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


@pytest.fixture(scope="module")
def server():
    with serving(ROOT / "model.bin") as server:
        yield server


def good(name, arguments):
    jsonschema.validate(json.loads(arguments) if isinstance(arguments, str) else arguments, SCHEMAS[name])
    return True


def test_schemas_may_refer_to_their_parts(server):
    """As those that pydantic makes of nested classes."""
    place = {"type": "object", "properties": {"x": {"enum": [7]}}, "required": ["x"], "additionalProperties": False}
    schema = {"type": "object", "properties": {"p": {"$ref": "#/$defs/P"}}, "required": ["p"], "additionalProperties": False}
    tool = {"type": "function", "function": {"name": "go", "parameters": {**schema, "$defs": {"P": place}}}}
    body = {"messages": ASKED, "tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}
    (call,) = ask(server, "/v1/chat/completions", body)[2]["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"p": {"x": 7}}


WRONG = [
    ({"tools": [{"type": "web_search"}]}, "tools"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools"),
    ({"tools": [*TOOLS, TOOLS[0]]}, "tools"),
    ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "none"}}}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": "x"}}]}, "tools"),
    ({"messages": [*ASKED, {"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}, *ASKED]}, "messages"),
    ({"messages": [*ASKED, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]}, "messages"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"response_format": {"type": "json_object", "schema": "abc"}, "tools": TOOLS}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "frog"}}}}, "response_format"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "frog"}}}]}, "tools"),
    ({"tools": TOOLS, "grammar": "start: /x/"}, "grammar"),
    (
        {"messages": [*ASKED, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[" * 5000}}]}]},
        "messages",
    ),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
]


@pytest.mark.parametrize("wrong, field", WRONG)
def test_what_cannot_be_done_names_the_field(server, wrong, field):
    status, _, value = ask(server, "/v1/chat/completions", {"messages": ASKED, "max_tokens": 5, **wrong})
    assert status == 400 and value["error"]["param"] == field, value


# at the server


@pytest.mark.parametrize("choice, only", [("required", None), ({"type": "function", "function": {"name": "say"}}, "say")])
def test_chats(server, choice, only):
    """Whole and in a stream, the calls are the same, and as the schemas say."""
    body = {"messages": ASKED, "tools": TOOLS, "tool_choice": choice, "parallel_tool_calls": False, "seed": 4}
    (whole,) = ask(server, "/v1/chat/completions", body)[2]["choices"]
    (call,) = whole["message"]["tool_calls"]
    assert whole["finish_reason"] == "tool_calls" and whole["message"]["content"] is None
    assert call["type"] == "function" and call["id"] and good(**call["function"])
    assert only in (None, call["function"]["name"])
    chunks = [c["choices"][0] for c in events(server, "/v1/chat/completions", {**body, "stream": True})]
    (delta,) = [d for c in chunks for d in c["delta"].get("tool_calls", ())]
    assert delta["function"] == call["function"] and delta["index"] == 0 and chunks[-1]["finish_reason"] == "tool_calls"
    answered = [*ASKED, whole["message"], {"role": "tool", "tool_call_id": call["id"], "content": "2"}]
    assert ask(server, "/v1/chat/completions", {**body, "messages": answered, "tool_choice": "none"})[0] == 200


def test_the_other_apis(server):
    how = {"model": "model", "seed": 4}
    body = {**how, "input": "Add 1", "tools": FLAT, "tool_choice": {"type": "function", "name": "add"}}
    (item,) = ask(server, "/v1/responses", body)[2]["output"]
    assert item["type"] == "function_call" and item["name"] == "add" and good("add", item["arguments"])
    found = events(server, "/v1/responses", {**body, "stream": True})
    assert found[-1]["type"] == "response.completed"
    (streamed,) = found[-1]["response"]["output"]
    assert streamed["arguments"] == item["arguments"] == "".join(e["delta"] for e in found if e["type"].endswith(".delta"))
    again = [
        {"role": "user", "content": "Add 1"},
        item,
        {"type": "function_call_output", "call_id": item["call_id"], "output": "2"},
    ]
    assert ask(server, "/v1/responses", {**how, "input": again, "max_output_tokens": 5})[2]["status"] == "incomplete"
    body = {**how, "messages": ASKED, "tools": THEIRS, "max_tokens": 80, "tool_choice": {"type": "tool", "name": "say"}}
    value = ask(server, "/v1/messages", body)[2]
    (block,) = value["content"]
    assert value["stop_reason"] == "tool_use" and block["type"] == "tool_use" and good(block["name"], block["input"])
    found = events(server, "/v1/messages", {**body, "stream": True})
    (part,) = [e["delta"]["partial_json"] for e in found if e.get("delta", {}).get("type") == "input_json_delta"]
    assert json.loads(part) == block["input"]
    result = {"type": "tool_result", "tool_use_id": block["id"], "content": [{"type": "text", "text": "done"}]}
    talk = [*ASKED, {"role": "assistant", "content": value["content"]}, {"role": "user", "content": [result]}]
    status, _, value = ask(server, "/v1/messages", {**body, "messages": talk, "tool_choice": {"type": "none"}, "max_tokens": 3})
    assert status == 200 and value["content"][0]["type"] == "text"
    short = {"content": "<tool_call>", "role": "user"}
    assert ask(server, "/v1/messages", {**how, "messages": [short], "max_tokens": 3})[0] == 200
    value = ask(
        server,
        "/api/chat",
        {**how, "seed": None, "messages": ASKED, "tools": TOOLS, "stream": False, "options": {"num_predict": 60, "seed": 1}},
    )[2]
    assert set(value["message"]) <= {"role", "content", "tool_calls"} and value["done"]


def test_answers_with_a_form(server):
    """JSON as a schema says, in each API; what cannot be understood is told before."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": ADD, "strict": True}}
    value = ask(server, "/v1/chat/completions", {"messages": ASKED, "response_format": form, "n": 3})[2]
    assert all(good("add", c["message"]["content"]) and c["finish_reason"] == "stop" for c in value["choices"])
    value = ask(server, "/v1/completions", {"prompt": "x", "response_format": form})[2]
    assert good("add", value["choices"][0]["text"])
    text = {"format": {"type": "json_schema", "name": "x", "schema": SAY}}
    value = ask(server, "/v1/responses", {"input": "x", "text": text})[2]
    assert good("say", value["output"][0]["content"][0]["text"]) and value["status"] == "completed"
    for path, given in (("chat", {"messages": ASKED}), ("generate", {"prompt": "x"})):
        value = ask(server, f"/api/{path}", {"model": "model", "format": SAY, "stream": False, **given})[2]
        assert good("say", value["response"] if path == "generate" else value["message"]["content"])
    value = ask(server, "/v1/completions", {"prompt": "x", "regex": "(fox|hen){2}"})[2]
    assert value["choices"][0]["text"] in ("foxfox", "foxhen", "henfox", "henhen")
    both = {"messages": ASKED, "tools": TOOLS, "response_format": form, "seed": 2}
    message = ask(server, "/v1/chat/completions", both)[2]["choices"][0]["message"]
    assert message.get("tool_calls") or good("add", message["content"])
    bad = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "frog"}}}
    status, _, value = ask(server, "/v1/chat/completions", {"messages": ASKED, "response_format": bad})
    assert status == 400 and value["error"]["message"].startswith("response_format: ")
    for wrong in ({"regex": "("}, {"grammar": "start: nothing"}):
        status, _, value = ask(server, "/v1/completions", {"prompt": "x", **wrong})
        assert status == 400 and value["error"]["param"] == next(iter(wrong))
