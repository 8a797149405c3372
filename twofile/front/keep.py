"""Conversations in files: kept as JSON, read again."""

import json
import os

from ..errors import ModelError, printable
from ..files import mode_there, read_small, replaced_as_named

TALK_MOST = 1 << 26  # bytes of a kept conversation


def kept_talk(path):
    """The messages in a file, of which nothing is known but that they are objects. Raises
    ModelError."""
    name, raw = printable(path), read_small(path, "a kept conversation", TALK_MOST)
    try:
        messages = json.loads(raw)
    except (ValueError, RecursionError):
        raise ModelError(f"{name} is not JSON, expected what /save wrote") from None
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise ModelError(f"{name} is no conversation, expected what /save wrote")
    return messages


def keep_talk(path, messages):
    """Write messages to a file, which only this user can read if it is new -> whether there was
    one, with a conversation, or empty. Raises ModelError, also where something else would be
    lost."""
    name = printable(path)
    try:
        there = mode_there(path) is not None
        if there and os.path.getsize(path):
            refuse_other(path, name)
        with replaced_as_named(path, 0o600) as f:
            f.write(json.dumps(messages, indent=1).encode())
    except ModelError:
        raise
    except (OSError, ValueError) as e:
        found = printable(getattr(e, "strerror", None) or str(e))
        raise ModelError(f"{name} cannot be written ({found})") from None
    return there


def refuse_other(path, name):
    """ModelError for a file that is no kept conversation."""
    try:
        if all("role" in m for m in kept_talk(path)):
            return
    except ModelError:
        pass
    raise ModelError(f"{name} is no kept conversation and would be lost; choose another name")
