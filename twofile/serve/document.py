"""The OpenAPI document."""

from ..errors import RELEASE
from .fields import published

ERRORS = {
    "400": "what is asked for cannot be done; the message says which field",
    "401": "no key, or a wrong one",
    "403": "a host or an origin that may not come in",
    "404": "no such model",
    "413": "a body that is too long",
    "429": "too many wait; Retry-After says when to ask again",
    "503": "the server is ending",
}
ANY = {"schema": {}}


def document(addresses):
    """The document of a table of addresses, as app.py has it."""
    paths = {}
    for method, path, answers, schema, streams in addresses:
        about = {
            "operationId": f"{answers.__module__.rpartition('.')[2]}_{answers.__name__}",
            "responses": good(path, streams) | failing(path, schema),
        }
        if schema:
            content = {"application/json": {"schema": published(schema)}}
            about["requestBody"] = {"required": True, "content": content}
        if "{" in path:
            of = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
            about["parameters"] = [of]
        paths.setdefault(path.replace(":path", ""), {})[method.lower()] = about
    return {
        "openapi": "3.1.0",
        "info": {"title": "twofile", "version": RELEASE},
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
    }


def good(path, streams):
    """What the document says of an answer."""
    kinds = {"/": "text/html", "/metrics": "text/plain"}
    if path == "/favicon.ico":
        return {"204": {"description": "nothing"}}
    content = {kinds.get(path, "application/json"): ANY}
    content |= {streams: ANY} if streams else {}
    return {"200": {"description": "the answer", "content": content}}


def failing(path, schema):
    codes = [code for code in ERRORS if schema or code in ("401", "403")]
    codes += ["404"] if "{" in path else []
    content = {"application/json": ANY}
    return {code: {"description": ERRORS[code], "content": content} for code in codes}
