"""Mappings as dicts, sequences as lists, as JSON has them."""

import json
from collections.abc import Mapping, Sequence


def is_list(value):
    """Whether a value is what is a list in JSON: no text."""
    texts = str, bytes, bytearray, memoryview
    return isinstance(value, Sequence) and not isinstance(value, texts)


def json_part(value):
    """What json.dumps does not know, as what it knows."""
    if isinstance(value, Mapping):
        return dict(value)
    if is_list(value):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def plain_json(value):
    """value, whose mappings are dicts and whose sequences are lists to the last, or itself if it is
    JSON already. Raises what json.dumps raises."""
    try:
        json.dumps(value, allow_nan=False)
        return value
    except TypeError:
        return json.loads(json.dumps(value, default=json_part, allow_nan=False))
