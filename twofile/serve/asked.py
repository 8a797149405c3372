"""A request's body: read, checked by its schema, made ready."""

import asyncio
import json

from jsonschema import Draft202012Validator

from ..errors import ModelError, printable
from ..options import changes_nothing, shown
from .answers import PATIENCE
from .fields import published
from .refusals import Refused

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
            told = published(known[name])  # a null inside is what is left out, too
            complain(Draft202012Validator(told), told, where + name, given)
            continue
        try:
            idle = changes_nothing(name, given)
        except ModelError as e:
            raise Refused(400, str(e), where + name) from None
        if not idle:
            wants = ", ".join(known)
            found = f"{where}{printable(name[:40])}: unknown"
            raise Refused(400, f"{found}, expected {wants}; leave it out", where + name[:40])
    for name in schema["required"]:
        if name not in body:
            wants = known[name]["description"]
            found = f"{where}{name}: missing"
            raise Refused(400, f"{found}, expected {wants}; give it", where + name)


def complain(validator, schema, name, given):
    """Refused for the first thing that is not as a field's schema says."""
    for error in validator.iter_errors(given):
        path, wants = [str(step) for step in error.absolute_path], schema
        if path and "description" in error.schema:
            wants = error.schema
        where = ".".join([name, *path])
        found = f"{where} is {shown(error.instance)}"
        if error.validator in ("minItems", "maxItems"):
            found = f"{where} has {len(error.instance)} items"
            bound = {"minItems": "at least", "maxItems": "at most"}[error.validator]
            raise Refused(
                400, f"{found}, expected {bound} {error.validator_value}; change it", name
            )
        if error.validator == "required":
            lacks = next(field for field in error.validator_value if field not in error.instance)
            raise Refused(
                400, f"{where}.{lacks}: missing, expected {wants['description']}; give it", name
            )
        raise Refused(400, f"{found}, expected {wants['description']}; change it", name)


async def asked(request, schema):
    """The body of a request, checked -> dict."""
    reading = read_body(request, request.app.state.settings.max_body)
    try:
        body = parsed(await asyncio.wait_for(reading, PATIENCE))
    except asyncio.TimeoutError:
        found = f"body: not there after {PATIENCE} seconds"
        raise Refused(408, f"{found}, expected all of it; send it again") from None
    check(body, schema)
    return body


def limit(body, settings, names=LIMITS):
    """How many new tokens, by whatever name; None = until the end."""
    given = {name: body[name] for name in names if name in body}
    if len(set(given.values())) > 1:
        found = ", ".join(f"{name} {value}" for name, value in given.items())
        raise Refused(400, f"{found}; expected one limit; leave the others out", next(iter(given)))
    asked = next(iter(given.values()), None)
    asked, most = None if asked == -1 else asked, settings.max_tokens
    if most and asked is not None and asked > most:
        name = next(iter(given))
        raise Refused(400, f"{name} is {asked}, expected at most {most}; ask for fewer", name)
    return (most or None) if asked is None else asked


def deadline(body, settings):
    """Seconds for a text, None = as many as it takes."""
    both = [t for t in (body.get("deadline"), settings.timeout) if t]
    return min(both, default=None)
