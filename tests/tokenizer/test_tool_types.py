"""Tools told as types of a language, as two families' templates tell them; tests/real/tool_forms.py compares with those."""

import pytest

from twofile.tokenizer.tooltypes import python_type, python_typed, typescript_type, typescript_typed

TEXT = {"type": "string"}


@pytest.mark.parametrize(
    "spec, typescript, python",
    [
        (TEXT, "string", "str"),
        ({"type": "string", "nullable": True}, "string | null", "str"),
        ({"type": "string", "enum": ["a", "b"]}, '"a" | "b"', "str"),
        ({"type": "integer"}, "number", "int"),
        ({"type": "number"}, "number", "float"),
        ({"type": "boolean"}, "boolean", "bool"),
        ({"type": "array"}, "any[]", "list[Union[]]"),
        ({"type": "array", "items": {"type": "integer"}}, "number[]", "list[Union[]]"),
        ({"type": "array", "items": {"type": "array", "items": TEXT}}, "string[][]", "list[Union[]]"),
        ({"type": "array", "items": {"type": "object", "properties": {"a" * 40: TEXT}}}, "any[]", "list[Union[]]"),
        ({"type": ["string", "integer"]}, "string | integer", "Union[str,int]"),
        ({"type": "object"}, "object", "dict"),
        ({"type": "object", "additionalProperties": TEXT}, "object", "dict[str, str]"),
        ({"type": "object", "properties": {"x": TEXT}}, "{\nx?: \n                string}", "dict"),
        ({"oneOf": [TEXT, {"type": "number"}]}, "string | \nnumber", "Union[]"),
        ({"oneOf": [TEXT, {"type": "object"}]}, "any", "Union[]"),
        ({}, "any", "Union[]"),
        (True, "any", "Union[]"),
        ({"type": "null"}, "any", "Any"),
    ],
)
def test_types(spec, typescript, python):
    assert typescript_type(spec) == typescript and python_type(spec) == python


def test_tools():
    inside = {
        "a": {**TEXT, "description": "What"},
        "n": {"type": "integer", "default": 3},
        "e": {**TEXT, "enum": ["x"], "default": "x"},
    }
    tool = {"name": "f", "description": "Does it", "parameters": {"type": "object", "properties": inside, "required": ["a"]}}
    want = "// Does it\ntype f = (_: {\n// What\na: string,\nn?: number, // default: 3,\n"
    assert typescript_typed(tool) == want + 'e?: "x", // default: x,\n}) => any;\n\n'
    said = python_typed(tool)
    begin = (
        '{"name": "f", "description": "f(a: str, n: int, e: str) - Does it\n\n    Args:\n        a(str): What        n(int): '
    )
    assert said.startswith(begin) and said.endswith('"required": ["a"]}}')
    bare = {"name": "f", "description": "x", "parameters": {"type": "object"}}
    assert typescript_typed(bare) == "// x\ntype f = () => any;\n\n"
    assert python_typed(bare) == '{"name": "f", "description": "f() - x\n\n", "parameters": {}}'


@pytest.mark.parametrize(
    "inside",
    [
        [1],
        {"a": {"oneOf": [True, TEXT]}},
        {"a": {"type": 5}},
        {"a": {"enum": 5, "type": "string"}},
        {"a": {"type": "object", "properties": "x"}},
        5,
    ],
)
def test_schemas_that_are_none_are_told_somehow(inside):
    tool = {"name": "f", "description": "x", "parameters": {"type": "object", "properties": inside, "required": 5}}
    assert "f" in typescript_typed(tool) and "f" in python_typed(tool)
