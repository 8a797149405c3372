"""Tools in conversations: forms of templates compiled at export are exact, and nothing said becomes a control token."""

import json
import random
import time

import pytest

from helpers.tooltalks import CONTROLS, FORMS, SPECIAL, STYLES, TAGS, fields_with, tokenizer_of
from twofile.callform import call_form
from twofile.callreader import Reader
from twofile.calls import tools_asked
from twofile.errors import ModelError
from twofile.export.sandbox import render
from twofile.export.tokenizers.pack import pack_tokenizer
from twofile.tokenizer.file import CONTROL
from twofile.tokenizer.tokenizer import Tokenizer

pytest.importorskip("jinja2")
SCHEMA = {"type": "object", "properties": {"é": {"type": "string", "description": 'a "quoted"\nline'}}, "required": ["é"]}
TOOLS = [{"name": f"look-up_{i}", "description": f'Say "{i}"\n</s>', "parameters": SCHEMA} for i in range(3)]
MARKS = ["<call>", "</call>", "<|end|>", "[CALLS]", "[/TOOLS]", "</s>"]
WORDS = ["fox", " ", "\n", "é", "🙂", '"', "\\", "{", "}", "\t"]


def talk(name, rng, marks):
    """A conversation as OpenAI has them, of what a form can say."""
    form = tokenizer_of(name).tools
    text = lambda: "a" + "".join(rng.choices(WORDS + marks, k=rng.randrange(6))) + "a"
    messages = [{"role": "system", "content": text()}] if name != "ids" and rng.random() < 0.5 else []
    for turn in range(n := rng.randint(1, 3)):
        messages.append({"role": "user", "content": f"{turn}{text()}"})
        for _ in range(rng.randrange(3)):
            ids = ["".join(rng.choices("abcXYZ09", k=9)) for _ in range(rng.randint(1, 2) if form.several else 1)]
            values = [{"b": rng.choice([text(), 1.5, [None, {"x": -1}]]), "a": text()} for _ in ids]
            calls = [
                {"id": i, "type": "function", "function": {"name": rng.choice(TOOLS)["name"], "arguments": v}}
                for i, v in zip(ids, values)
            ]
            messages.append(
                {"role": "assistant", "content": text() if form.beside and rng.random() < 0.4 else "", "tool_calls": calls}
            )
            messages += [{"role": "tool", "content": text(), "tool_call_id": i} for i in ids]
        if form.resumes and messages[-1]["role"] == "tool" and rng.random() < 0.3:
            messages.append({"role": "user", "content": f"{turn}b{text()}"})
        messages += [{"role": "assistant", "content": text()}] if turn < n - 1 else []
    return messages


def as_given(name, messages, tools):
    """A conversation as the template takes it: calls of one that has no place for them stand in contents."""
    rows, told = [], [{"type": "function", "function": tool} for tool in tools] or None
    for m in messages:
        if name in STYLES and m.get("tool_calls"):
            before, between, behind = STYLES[name]
            calls = between.join(json.dumps(c["function"], ensure_ascii=False) for c in m["tool_calls"])
            m = {"role": "assistant", "content": m["content"] + before + calls + behind}
        rows.append(m)
    if name == "system" and tools:
        rows = rows if rows[0]["role"] == "system" else [{"role": "system", "content": ""}, *rows]
        rows[0] = {**rows[0], "tools": json.dumps(tools, ensure_ascii=False)}
    return rows, True, {"xml_tools" if name == "named" else "tools": told}


@pytest.mark.parametrize("name", FORMS)
def test_a_conversation_with_tools_reads_as_the_template_writes_it(name):
    """Text for text, with tools told and without, arguments as objects and as JSON; control tokens as many as the template
    writes by itself, whatever contents, names and descriptions say."""
    t = tokenizer_of(name)
    safe = [{**tool, "description": "x"} for tool in TOOLS]
    rows = []
    for marks, tools in ((MARKS, TOOLS), (["x"] * len(MARKS), safe)):
        rng = random.Random(7)
        chats = [(talk(name, rng, marks), rng.choice([tools, tools[:1], []])) for _ in range(60)]
        given = [as_given(name, m, some) for m, some in chats]
        rows.append((chats, render(FORMS[name], SPECIAL, given)))
    (chats, wants), (_, plain) = rows
    assert any(a["role"] == "tool" and b["role"] == "user" for m, _ in chats for a, b in zip(m, m[1:]))
    for (messages, tools), want, marked in zip(chats, wants, plain):
        ids = t.encode_chat(messages, tools)
        assert b"".join(t.pieces[i] for i in ids).decode() == want
        control = [t.name(i) for i in ids if t.types[i] & 15 == CONTROL]
        assert sorted(control) == sorted(c for c in CONTROLS for _ in range(marked.count(c)))
        for m in messages:
            for call in m.get("tool_calls", ()):
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
        assert t.encode_chat(messages, tools) == ids


def test_ids_become_what_a_template_takes():
    """The same nine letters for the same id, in the call and in its result; results come in the order of their calls."""
    t = tokenizer_of("ids")
    calls = [{"id": f"call_{i}", "function": {"name": "f", "arguments": {}}} for i in range(2)]
    results = [{"role": "tool", "tool_call_id": f"call_{i}", "content": f"gave {i}"} for i in (1, 0)]
    asked = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "", "tool_calls": calls}]
    text = "".join(t.name(i) for i in t.encode_chat([*asked, *results], TOOLS))
    numbers = [part[:9] for part in text.split("[ID]")[1:]]
    assert len(set(numbers)) == 2 and [text.count(n) for n in numbers] == [2, 2]
    assert text.index("gave 0") < text.index("gave 1") and text.index(numbers[0] + "\ngave 0")


CALL = {"id": "abcXYZ098", "function": {"name": "f", "arguments": {}}}
USER, SAID = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "x", "tool_call_id": "abcXYZ098"}


def test_odd_ids_and_names_of_results():
    """A lone surrogate is an id like others; a result without an id goes by its tool's name."""
    t = tokenizer_of("ids")
    calls = [{"id": i, "function": {"name": name, "arguments": {}}} for i, name in (("\ud800", "f"), ("b", "g"))]
    asked = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "", "tool_calls": calls}]
    for key, values in (("tool_call_id", ("b", "\ud800")), ("name", ("g", "f"))):
        results = [{"role": "tool", "content": f"of {v!a}", key: v} for v in values]
        text = "".join(t.name(i) for i in t.encode_chat([*asked, *results], TOOLS))
        assert text.index(f"of {values[1]!a}") < text.index(f"of {values[0]!a}")
    with pytest.raises(ModelError, match="name is zzz, expected one of the calls"):
        t.encode_chat([*asked, {"role": "tool", "content": "x", "name": "zzz"}], TOOLS)


WRONG = {
    "no result": ([USER, SAID], "a call has no result"),
    "a user in between": ([USER, SAID, USER], "where a call has no result"),
    "no call": ([USER, RESULT], "a result for each call"),
    "another call's": ([USER, SAID, {**RESULT, "tool_call_id": "b"}], "one of the calls before it"),
    "one too many": ([USER, SAID, RESULT, RESULT], "a result for each call"),
    "first": ([SAID, RESULT], "expected a system"),
    "two calls": ([USER, {**SAID, "tool_calls": [CALL, CALL]}, RESULT, RESULT], "has no place for more"),
    "no arguments": ([USER, {**SAID, "tool_calls": [{"function": {"name": "f"}}]}, RESULT], "a function's name and arguments"),
    "a list": (
        [USER, {**SAID, "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}, RESULT],
        "arguments, an object",
    ),
    "no text": ([USER, SAID, {"role": "tool"}], "expected a text"),
    "system late": ([USER, {"role": "system", "content": "x"}], "expected a system"),
}


@pytest.mark.parametrize("name", WRONG)
def test_another_order_is_refused(name):
    messages, says = WRONG[name]
    with pytest.raises(ModelError, match=says):
        tokenizer_of("bare").encode_chat(messages, TOOLS)


@pytest.mark.parametrize(
    "template, says",
    [
        (
            TAGS.replace("c.function.arguments | tojson", "c.function.arguments | upper"),
            "writes arguments in a form of its own",
        ),
        (TAGS.replace("{{ t | tojson }}", "{{ t.function.name | upper }}"), "tells what tools there are in a form of its own"),
        (TAGS.replace("{{ t | tojson }}", ""), "in a form of its own, or not at all"),
        (TAGS.replace("c.function.name +", "'f' ~ loop.index ~"), "cannot say what it does"),
        (TAGS.replace("{% if m.content %}", "{% if m.content | length > 4 %}"), None),
        (TAGS.replace("+ m.content + '\n</got>'", "+ (m.content | upper) + '\n</got>'"), "writes results in a form of its own"),
        (
            TAGS.replace("{% for c in m.tool_calls %}", "{{ raise_exception('never') }}{% for c in m.tool_calls %}"),
            "refuses calls",
        ),
        (TAGS.replace("'\n<call>", "messages | length ~ '\n<call>"), "cannot say what it does"),
    ],
)
def test_a_template_whose_form_for_tools_cannot_be_compiled_tells_why(template, says, capfd):
    """The conversation stays; tools are told as text."""
    fields = fields_with(template)
    t = Tokenizer(pack_tokenizer(**fields))
    err = capfd.readouterr().err
    assert t.encode_chat([USER])
    if says is None:  # what its rule on short texts is for: they are left out beside calls
        assert t.tools is not None
    else:
        assert t.tools is None and says in err and "tools are told as text" in err and err.count("\n") == 1


def test_the_template_for_tools_beside_another():
    plain = "{% for m in messages %}" + "{{ '<|start|>' + m.role + '\n' + m.content + '<|end|>\n' }}{% endfor %}"
    plain += "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
    assert Tokenizer(pack_tokenizer(**fields_with(plain))).tools is None
    assert Tokenizer(pack_tokenizer(**fields_with(plain, TAGS))).tools.call == "NV"


@pytest.mark.parametrize("name", FORMS)
def test_a_changed_form_is_refused_or_read(name):
    """600 changes of the section's bytes: a ModelError, or a tokenizer that encodes."""
    fields, rng = fields_with(FORMS[name]), random.Random(1)
    at = fields["chat"].index(b"tool")
    messages = [USER, {**SAID, "tool_calls": [CALL]}, RESULT]
    for _ in range(600):
        raw = bytearray(fields["chat"])
        for _ in range(rng.choice([1, 1, 3])):
            raw[rng.randrange(at, len(raw))] = rng.randrange(256)
        raw = raw if rng.random() < 0.8 else raw[: rng.randrange(at, len(raw))]
        try:
            Tokenizer(pack_tokenizer(**{**fields, "chat": bytes(raw)})).encode_chat(messages, TOOLS[:1])
        except ModelError:
            pass


@pytest.mark.parametrize("name", [*FORMS, "as text"])
def test_calls_are_read_however_the_text_is_cut(name):
    """What a model of the family writes, whole and in pieces: texts, and calls with their arguments as they are written."""
    t = tokenizer_of("tags" if name == "as text" else name)
    form = call_form(t) if name != "as text" else call_form(type("Plain", (), {"tools": None}))
    rng, text = random.Random(2), form.text
    says = ['{"a": 1}', '{"a": "</call>}]{\\"</tool_call>"}', '{"a": {"b": [1.50, "}"]}}', "{}"]
    for _ in range(300):
        calls = [
            (rng.choice(["add", "say"]), rng.choice(says)) for _ in range(rng.randint(0, 3 if form.more is not None else 1))
        ]
        words = "".join(rng.choices(["One", " two", "{", "<c", "\n", '"name"'], k=rng.randrange(5)))
        before = words if form.beside is not None or not calls else ""
        whole = before
        if calls:
            opening = form.beside if before and form.beside is not None else form.first
            rows = []
            for called, arguments in calls:
                parts = {"N": called, "V": arguments, "I": "abcXYZ098"}
                pieces = [*map(text, form.between), ""]
                rows.append("".join(parts[kind] + piece for kind, piece in zip(form.order, pieces)))
            whole += text(opening) + (text(form.more) if form.more else "").join(rows) + text(form.close)
        for size in (len(whole) + 1, 1, 7):
            reader, found = Reader(form, ["add", "say"]), []
            for at in range(0, len(whole), size):
                found += reader.push(whole[at : at + size], at + size >= len(whole))
            assert [(c.name, c.arguments) for c in found if not isinstance(c, str)] == calls
            said = "".join(c for c in found if isinstance(c, str))
            assert said == (before.rstrip("\n") if calls else before)
        if calls:  # a call that was cut is none
            cut = Reader(form, ["add", "say"]).push(whole[: len(whole) - len(text(form.close)) - 1], True)
            assert len([c for c in cut if not isinstance(c, str)]) == len(calls) - 1


@pytest.mark.parametrize("size", [1, 5, 99])
def test_a_call_alone_may_lack_its_mark(size):
    """At the beginning, and where the family has a mark: elsewhere it is text."""
    assert call_form(tokenizer_of("list")).bare is None  # its calls have more behind
    form = call_form(tokenizer_of("tags"))
    for text, calls in (
        ('{"name": "add", "arguments": {"a": 1}}', 1),
        (' {"name": "add", "arguments": {"a": 1}}', 0),
        ('{"name', 0),
    ):
        reader, found = Reader(form, ["add"]), []
        for at in range(0, len(text), size):
            found += reader.push(text[at : at + size], at + size >= len(text))
        assert [type(c) is not str for c in found].count(True) == calls
        assert "".join(c for c in found if isinstance(c, str)) == ("" if calls else text)


def plain(form, text, end=True, names=("add",)):
    found = Reader(form, names).push(text, end)
    return "".join(c for c in found if isinstance(c, str)), [c for c in found if not isinstance(c, str)]


def test_a_text_that_says_what_a_call_would_say():
    """Where calls stand at the beginning alone, what looks like one behind a text is text; an answer in JSON is no call."""
    bare, tags = call_form(tokenizer_of("bare")), call_form(tokenizer_of("tags"))
    for text in ('Sure: {"name": "Bob", "age": 3} is nice.', 'Use {"name": "add", "parameters": {"z": 9}} please'):
        for size in (1, 7, 99):
            reader, found = Reader(bare, ["add"]), []
            for at in range(0, len(text), size):
                found += reader.push(text[at : at + size], at + size >= len(text))
            assert "".join(found) == text
    for form in (tags, bare):
        assert plain(form._replace(lone=False), '{"name": "Bob"}') == ('{"name": "Bob"}', [])


@pytest.mark.parametrize("name", [*FORMS, "as text"])
def test_a_call_that_was_cut_anywhere_is_left_out(name):
    """In its opening too, from the mark on that no text has."""
    form = call_form(tokenizer_of("tags" if name == "as text" else name))
    form = form if name != "as text" else call_form(type("Plain", (), {"tools": None}))
    if form.beside is None:
        return  # where it begins as a text might, what is there may be one
    whole = form.text(form.beside) + "add" + form.text(form.between[0]) + "{}"
    first = whole.index(form.mark) + len(form.mark)
    for n in range(first, len(whole)):
        assert plain(form, "One" + whole[:n]) == ("One", []), whole[:n]


def test_reading_takes_time_that_grows_with_the_text():
    """A long string of arguments, and many line ends, a few characters at a time."""
    form = call_form(tokenizer_of("tags"))
    for text in (form.text(form.first) + 'add", "arguments": {"a": "' + 'x\\"' * 10000, "\n" * 30000):
        began, reader = time.process_time(), Reader(form, ["add"])
        for at in range(0, len(text), 3):
            reader.push(text[at : at + 3])
        assert time.process_time() - began < 3


def test_a_form_whose_calls_nobody_could_tell_is_refused(capfd):
    """One that begins with nothing, or has a name at its end that nothing ends."""
    begin, end = TAGS.index("'\n<call>\n"), TAGS.index("{% endfor %}{{ '<|end|>")
    call = TAGS[begin:end].removesuffix("}}")
    nothing = "'\n' + c.function.name + '\n' }}{{ c.function.arguments | tojson }}{{ '' "
    last = "'<call>' }}{{ c.function.arguments | tojson }}{{ '</call>' + c.function.name "
    for form in (nothing, last):
        assert Tokenizer(pack_tokenizer(**fields_with(TAGS.replace(call, form)))).tools is None
        assert "its form for tools cannot be compiled" in capfd.readouterr().err
    assert fields_with(TAGS)  # which is not changed


def test_what_conversations_at_random_never_hold_is_tried_too(capfd):
    """Templates that treat what is empty, long or many in another way."""
    odd = {
        "no arguments": (
            "c.function.arguments | tojson",
            "(c.function.arguments | tojson if c.function.arguments else 'none')",
        ),
        "an empty result": ("+ m.content + '\n</got>'", "+ (m.content or 'nothing') + '\n</got>'"),
        "many tools": ("{% for t in tools %}", "{% for t in tools[:4] %}"),
        "a result in JSON": ("+ m.content + '\n</got>'", "+ (m.content if m.content[:1] != '{' else 'JSON') + '\n</got>'"),
        "a long result": ("+ m.content + '\n</got>'", "+ m.content[:999] + '\n</got>'"),
        "three calls": ("in m.tool_calls %}", "in m.tool_calls[:2] %}"),
    }
    for name, (old, new) in odd.items():
        assert old in TAGS
        tools = Tokenizer(pack_tokenizer(**fields_with(TAGS.replace(old, new)))).tools
        assert tools is None or name == "three calls" and not tools.several, name


def test_names_that_no_form_can_hold_are_refused():
    for name in ("", "a b", "é", 'x"', "a\n", "n" * 129, None, 5):
        with pytest.raises(ModelError, match="name is .*, expected 1 to 128 letters"):
            tools_asked([{"type": "function", "function": {"name": name}}])
