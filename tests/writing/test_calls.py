"""Tools, calls and results: as texts of messages, in objects of OpenAI's form, and written under a mask."""

import json

import pytest

from helpers.models import make_model
from helpers.tooltalks import FORMS, fields_with
from twofile.callform import TEXT_CALLS
from twofile.callreader import Reader
from twofile.calls import tools_asked
from twofile.calltext import as_texts
from twofile.errors import ModelError
from twofile.export.tokenizers.pack import pack_tokenizer
from twofile.model import Model
from twofile.prompts import plain_messages
from twofile.writer import Writer

jsonschema = pytest.importorskip("jsonschema")
ADD = {"type": "object", "properties": {"a": {"enum": [1, 2, 3]}}, "required": ["a"], "additionalProperties": False}
SAY = {"type": "object", "properties": {"w": {"enum": ["fox", "hen"]}}, "required": ["w"], "additionalProperties": False}
SCHEMAS = {"add": ADD, "say": SAY}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMAS[name]}} for name in SCHEMAS]
ASKED = [{"role": "user", "content": "Add 1"}]
CALLED = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def test_what_is_no_number_anywhere_is_no_call():
    for given in ('{"a": 1e999}', '{"a": ' + "1" * 5000 + "}", "[1]", "{"):
        text = f'<tool_call>\n{{"name": "add", "arguments": {given}}}\n</tool_call>'
        assert Reader(TEXT_CALLS, ["add"]).push(text, True) == []


def test_a_conversation_with_calls_is_texts():
    messages = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [CALLED, {**CALLED, "id": "c2"}]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "3"}]},
        {"role": "user", "content": "and?"},
    ]
    tools = tools_asked(TOOLS, "auto")
    system, user, answer, results = as_texts(plain_messages(messages), tools.tools, True)
    assert system["role"] == "system" and '"name": "say"' in system["content"] and user == ASKED[0]
    assert answer["content"].count("<tool_call>") == 2 and '{"name": "add", "arguments": {"a": 1}}' in answer["content"]
    said = "<tool_response>\n2\n</tool_response>\n<tool_response>\n3\n</tool_response>\nand?"
    assert results == {"role": "user", "content": said}
    (first, *_) = as_texts(plain_messages(messages), tools.tools, False)
    assert first["role"] == "user" and first["content"].endswith("\n\nAdd 1") and "<tools>" in first["content"]
    told = as_texts([{"role": "system", "content": "Be kind"}, *ASKED], tools.tools, True)
    assert told[0]["content"].startswith("Be kind\n\n") and len(told) == 2


@pytest.fixture(scope="module", params=FORMS)
def model(request, tmp_path_factory):
    """A tiny model of random weights, with a template of that kind inside."""
    tokenizer = pack_tokenizer(**fields_with(FORMS[request.param]))
    path = tmp_path_factory.mktemp("m") / f"{request.param}.bin"
    path = make_model(path, "q8_0", tokenizer=tokenizer, vocab_size=320, embed=True, max_ctx=2048)
    with Model(path, verbose=False) as model:
        yield model


def test_calls_are_written_in_the_form_of_the_template(model):
    """Whatever random weights say: a call that is asked for parses, keeps to its schema, has its control tokens as ids, reads
    the same whole and in a stream; its result is said back to the model."""
    for seed in range(4):
        value = model.create_chat_completion(ASKED, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, seed=seed)
        (choice,) = value["choices"]
        (call,) = choice["message"]["tool_calls"]
        jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMAS[call["function"]["name"]])
        assert choice["finish_reason"] == "tool_calls"
        tools = tools_asked(TOOLS, "required", False)
        assert model.encode_chat(ASKED, TOOLS) == model.encode_chat(ASKED, tools)
        w = Writer(model, model.encode_chat(ASKED, tools), seed=seed, tools=tools)
        reader, found = model.reader(tools), []
        for chunk in model.write(w):
            found += reader.push(chunk.text, chunk.finish_reason is not None)
        calls = [part for part in found if not isinstance(part, str)]
        assert [(c.name, c.arguments) for c in calls] == [tuple(call["function"].values())]
        written = [
            i for piece in (model.calls.first or model.calls.beside, model.calls.close) for i in piece if isinstance(i, int)
        ]
        assert [i for i in w.ids[w.n_prompt :] if i in written] == written
        messages = [*ASKED, choice["message"], {"role": "tool", "tool_call_id": call["id"], "content": "2 </s>"}]
        ids = model.encode_chat(messages, tools)
        assert call["function"]["arguments"] in "".join(map(model.tokenizer.name, ids))
        assert isinstance(model.create_chat_completion(messages, tools=TOOLS, max_tokens=3)["choices"][0]["message"], dict)


def test_only_the_tool_that_is_named(model):
    choice = {"type": "function", "function": {"name": "say"}}
    for seed in range(4):
        value = model.create_chat_completion(ASKED, tools=TOOLS, tool_choice=choice, seed=seed)
        (call,) = value["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == "say" and json.loads(call["function"]["arguments"])["w"] in ("fox", "hen")


def test_text_or_calls_and_nothing_between(model):
    """Where a call is not asked for: texts never hold what begins one, and a limit cuts as it does."""
    tools = tools_asked(TOOLS)
    for seed in range(6):
        w = Writer(model, model.encode_chat(ASKED, tools), 60, seed=seed, tools=tools)
        list(model.write(w))
        value = w.chat_completion()["choices"][0]
        text = value["message"]["content"] or ""
        assert not model.calls.head or model.calls.head not in text or model.calls.beside is None
        assert not any(0xD800 <= ord(c) < 0xE000 for c in text)
        assert value["finish_reason"] in ("stop", "length", "tool_calls")


def test_a_form_beside_tools_is_refused(model):
    for name, value in (("regex", "a+"), ("grammar", 'start: "x"')):
        with pytest.raises(ModelError, match=f"^{name}: beside tools"):
            model.create_chat_completion(ASKED, tools=TOOLS, **{name: value})
    value = model.create_chat_completion(ASKED, tools=TOOLS, schema=ADD, seed=1)["choices"][0]["message"]
    assert value.get("tool_calls") or json.loads(value["content"])["a"] in (1, 2, 3)


def test_an_answer_in_json_beside_tools_is_no_call(model):
    """Though its first key is a call's."""
    schema = {**ADD, "properties": {"name": {"enum": ["Bob", "Ann"]}}, "required": ["name"]}
    said = 0
    for seed in range(8):
        message = model.create_chat_completion(ASKED, tools=TOOLS, schema=schema, seed=seed)["choices"][0]["message"]
        said += not message.get("tool_calls")
        assert message.get("tool_calls") or json.loads(message["content"])["name"] in ("Bob", "Ann")
    assert model.calls.lone and (said or model.calls.opens == '{"name": "')


@pytest.mark.parametrize(
    "parameters", [0, [], "x", True, {"type": "string"}, {"type": "object", "x": {1}}, {"a": float("nan")}]
)
def test_parameters_that_are_no_schema_of_an_object(parameters):
    with pytest.raises(ModelError, match="expected a JSON schema of an object"):
        tools_asked([{"function": {"name": "f", "parameters": parameters}}])


def test_tools_need_a_tokenizer(tmp_path):
    with Model(make_model(tmp_path / "m.bin", "q8_0"), verbose=False) as model:
        with pytest.raises(ModelError, match="without a tokenizer"):
            Writer(model, [1, 2], tools=TOOLS)
