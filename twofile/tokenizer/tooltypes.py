"""Tools as some families tell them: their parameters as types of a language."""

import json

PYTHON = {"string": "str", "number": "float", "integer": "int", "boolean": "bool"}
TYPESCRIPT = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean"}


def as_object(value):
    """A value where an object is expected: what is none has nothing in it."""
    return value if isinstance(value, dict) else {}


def as_list(value):
    """A value where a list is expected."""
    return value if isinstance(value, (list, tuple)) else ()


def python_type(spec):
    """A JSON schema as Python's types, as Hermes models are told it."""
    spec = as_object(spec)
    kind = spec.get("type")
    if isinstance(kind, str) and kind in PYTHON:
        return PYTHON[kind]
    if kind == "array":
        return "list[Union[]]"
    if kind == "object":
        more = spec.get("additionalProperties")
        return "dict" if more is None else f"dict[str, {python_type(more)}]"
    if isinstance(kind, str):
        return "Any"
    kinds = as_list(kind)
    return f"Union[{','.join(python_type({'type': one}) for one in kinds)}]"


def python_typed(tool):
    """A tool as Hermes models are told it: JSON, with Python's signature in its description."""
    name, parameters = tool["name"], tool["parameters"]
    inside = as_object(parameters.get("properties"))
    takes = ", ".join(f"{key}: {python_type(spec)}" for key, spec in inside.items())
    says = lambda spec: str(as_object(spec).get("description") or "").strip()
    rows = [f"        {key}({python_type(spec)}): {says(spec)}" for key, spec in inside.items()]
    about = f"{name}({takes}) - {tool['description']}\n\n" + "    Args:\n" * bool(rows)
    schema = json.dumps(parameters, ensure_ascii=False) if inside else "{}"
    about += "".join(rows)
    return f'{{"name": "{name}", "description": "{about}", "parameters": {schema}}}'


def typescript_type(spec, needs=()):
    """A JSON schema as a type of TypeScript, as gpt-oss is told it. needs: names of properties that
    are required around it."""
    spec = as_object(spec)
    kind, null = spec.get("type"), " | null" * bool(spec.get("nullable"))
    if kind == "array":
        items = spec.get("items")
        inner = typescript_type(items, needs) if items else "any"
        known = items.get("type") if isinstance(items, dict) else None
        if isinstance(known, str) and known in TYPESCRIPT:
            inner = TYPESCRIPT[known]
        elif inner == "object | object" or len(inner) > 50:
            inner = "any"
        return f"{inner}[]{null}"
    if isinstance(kind, list) and kind:
        return " | ".join(map(str, kind))
    if as_list(spec.get("oneOf")):
        return either([as_object(one) for one in spec["oneOf"]], needs)
    if kind == "string" and as_list(spec.get("enum")):
        return '"' + '" | "'.join(map(str, spec["enum"])) + '"'
    if kind == "object" and as_object(spec.get("properties")):
        own = as_list(spec.get("required"))
        rows = [
            f"{key}{'?' * (key not in own)}: \n                {typescript_type(value, own)}"
            for key, value in spec["properties"].items()
        ]
        return "{\n" + ", ".join(rows) + "}"
    if kind == "object":
        return "object"
    return TYPESCRIPT.get(str(kind), "any") + null * (kind == "string")


def either(variants, needs):
    """The types of a oneOf."""
    if len(variants) > 1 and any(one.get("type") == "object" for one in variants):
        return "any"
    rows = []
    for one in variants:
        text = typescript_type(one, needs)
        text += f"// {one['description']}" if one.get("description") else ""
        if "default" in one:
            text += f"                    // default: {json.dumps(one['default'])}"
        rows.append(text)
    return " | \n".join(rows)


def typescript_typed(tool):
    """A tool as gpt-oss is told it: a type of TypeScript."""
    inside = as_object(tool["parameters"].get("properties"))
    needs = as_list(tool["parameters"].get("required"))
    rows = []
    for key, spec in inside.items():
        spec = as_object(spec)
        row = f"// {spec['description']}\n" if spec.get("description") else ""
        row += f"{key}{'?' * (key not in needs)}: {typescript_type(spec, needs)}"
        if "default" in spec and (spec.get("enum") or spec.get("oneOf")):
            row += f"{', ' * bool(spec.get('enum'))}// default: {spec['default']}"
        elif "default" in spec:
            row += f", // default: {json.dumps(spec['default'], ensure_ascii=False)}"
        rows.append(f"{row},\n")
    takes = "(_: {\n" + "".join(rows) + "})" if rows else "()"
    return f"// {tool['description']}\ntype {tool['name']} = {takes} => any;\n\n"
