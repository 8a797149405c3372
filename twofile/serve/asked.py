"""A request's body: read, checked by its schema, made ready."""

import asyncio
import json

from jsonschema import Draft202012Validator
from jsonschema.validators import extend
from starlette.requests import ClientDisconnect

from ..errors import ModelError, printable, shown
from ..noops import changes_nothing
from ..options import did_you_mean
from .answers import PATIENCE, Gone
from .fields import published
from .refusals import Refused

LARGE = 1 << 16  # bytes of a body that is looked at beside the loop
WHOLE = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, x: type(x) is int)
Checker = extend(Draft202012Validator, type_checker=WHOLE)  # to which 2.0 is no whole number
# what a field is called in other programs' requests, which here is another's
LIMITS = "max_tokens", "max_completion_tokens", "n_predict"


def no_number(name):
    raise ValueError(f"{name} is no number in JSON")


async def read_body(request, most):
    """The bytes of a request. Raises Refused for more than most."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            found = f"body: more than {most:,} bytes"
            raise Refused(413, f"{found}, expected fewer; shorten it, or start with --max-body")
        parts.append(part)
    return b"".join(parts)


def parsed(raw):
    """A body as an object without its nulls, which are what is left out."""
    try:
        value = json.loads(raw, parse_constant=no_number)
    except (ValueError, RecursionError) as e:
        found = f"body: no JSON ({printable(str(e))[:80]})"
        raise Refused(400, f"{found}, expected an object; correct it") from None
    if not isinstance(value, dict):
        raise Refused(400, f"body: {shown(value)}, expected an object; send one")
    return {name: given for name, given in value.items() if given is not None}


def check(body, schema, where=""):
    """A body is what a schema says, and each field that is not in it changes nothing. Raises
    Refused, which names the field."""
    known = schema["properties"]
    for name, given in body.items():
        if name in known:
            complain(known[name], where + name, given)
            continue
        try:
            idle = changes_nothing(name, given)
        except ModelError as e:
            raise Refused(400, str(e), where + name) from None
        if not idle:
            wants = ", ".join(known)
            found = f"{where}{printable(name[:40])}: unknown"
            raise Refused(
                400,
                f"{found}, expected {wants}; {did_you_mean(name, list(known))}",
                where + name[:40],
            )
    for name in schema["required"]:
        if name not in body:
            wants = known[name]["description"]
            found = f"{where}{name}: missing"
            raise Refused(400, f"{found}, expected {wants}; give it", where + name)


def complain(schema, name, given):
    """Refused for the first thing that is not as a field's schema says."""
    if "anyOf" in schema:  # only the part that such a value can be: a list may be a million long
        fits = [s for s in schema["anyOf"] if may_be(s, given)]
        if len(fits) != 1:
            found = f"{name} is {shown(given)}"
            raise Refused(400, f"{found}, expected {schema['description']}; change it", name)
        schema = {"description": schema["description"], **fits[0]}
    if given and is_list_of_ids(schema):
        return complain_of_ids(schema, name, given)
    for error in Checker(published(schema)).iter_errors(given):
        raise refused(error, schema, name)


def may_be(schema, given):
    """Whether the kind of a value, and of its first item, is a schema's."""
    kind = schema.get("type", "string")  # words to choose from have none
    if not Checker({"type": kind}).is_valid(given):
        return False
    return kind != "array" or not given or may_be(schema["items"], given[0])


def is_list_of_ids(schema):
    """Whether it is a list of ids, or of such lists, which are too many to be looked at slowly."""
    inside = schema.get("items", {})
    return inside.get("description") == "a token id" or is_list_of_ids(inside) if inside else False


def complain_of_ids(schema, name, given):
    several = "items" in schema["items"]
    if not isinstance(given, list) or not schema["minItems"] <= len(given) <= schema["maxItems"]:
        found = f"{name} is {shown(given)}" if not isinstance(given, list) else ""
        found = found or f"{name} has {len(given)} items"
        wants = f"{schema['minItems']} to {schema['maxItems']} in {schema['description']}"
        raise Refused(400, f"{found}, expected {wants}; change it", name.split(".")[0])
    for i, inside in enumerate(given):
        if several:
            complain_of_ids(schema["items"], f"{name}.{i}", inside)
        elif type(inside) is not int or not 0 <= inside < 1 << 31:
            found = f"{name}.{i} is {shown(inside)}"
            raise Refused(400, f"{found}, expected a token id; change it", name.split(".")[0])


def refused(error, schema, name):
    """The Refused of a jsonschema.ValidationError about a field."""
    path, wants = [str(step) for step in error.absolute_path], schema
    if path and "description" in error.schema:
        wants = error.schema
    where, bound = ".".join([name, *path]), error.validator_value
    found = f"{where} is {shown(error.instance)}"
    wants = wants["description"]
    if error.validator in ("minItems", "maxItems"):
        found = f"{where} has {len(error.instance)} items"
        wants = f"at {'least' if error.validator == 'minItems' else 'most'} {bound}"
    if error.validator == "required":
        lacks = next(field for field in bound if field not in error.instance)
        return Refused(400, f"{where}.{lacks}: missing, expected {wants}; give it", name)
    return Refused(400, f"{found}, expected {wants}; change it", name)


async def asked(request, schema):
    """The body of a request, checked -> dict."""
    reading = read_body(request, request.app.state.settings.max_body)
    try:
        raw = await asyncio.wait_for(reading, PATIENCE)
    except asyncio.TimeoutError:
        found = f"body: not there after {PATIENCE} seconds"
        raise Refused(408, f"{found}, expected all of it; send it again") from None
    except ClientDisconnect:
        raise Gone from None

    def checked():
        body = parsed(raw)
        check(body, schema)
        return body

    return await asyncio.to_thread(checked) if len(raw) > LARGE else checked()


def limit(body, settings, names):
    """How many new tokens, by whatever name; None = until the end."""
    given = {name: body[name] for name in names if name in body}
    if len(set(given.values())) > 1:
        found = ", ".join(f"{name} {value}" for name, value in given.items())
        raise Refused(400, f"{found}; expected one limit; leave the others out", next(iter(given)))
    asked = next(iter(given.values()), None)
    asked, most = None if asked is not None and asked < 0 else asked, settings.max_tokens
    if most and asked is not None and asked > most:
        name = next(iter(given))
        raise Refused(400, f"{name} is {asked}, expected at most {most}; ask for fewer", name)
    return (most or None) if asked is None else asked


def deadline(body, settings):
    """Seconds for a text, None = as many as it takes."""
    own = [body["deadline"]] if "deadline" in body else []
    return min([*own, *[settings.timeout] * (settings.timeout > 0)], default=None)
