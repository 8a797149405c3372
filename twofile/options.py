"""What is asked for beside a prompt, checked."""

import hashlib
import math
import operator
import random
import re
from collections.abc import Collection, Mapping

import numpy as np

from .errors import WrongType, WrongValue, shown
from .program.operands import WANTED_MAX


def is_number(value):
    """Whether a value is a number, of Python or of numpy."""
    kinds = int, float, np.integer, np.floating
    return isinstance(value, kinds) and not isinstance(value, bool)


def number_between(name, value, least, most, wants):
    """value as a Python number in that range. Raises ModelError; wants says what is expected."""
    found = f"{name} is {shown(value)}, expected {wants}"
    if not is_number(value):
        raise WrongType(found)
    if type(value) not in (int, float):  # numpy's would wrap around
        value = int(value) if isinstance(value, (int, np.integer)) else float(value)
    if not least <= value <= most:
        raise WrongValue(found)
    return value


def yes_or_no(name, value, usual=False):
    """value, a truth value; None is as usual."""
    if value is not None and not isinstance(value, (bool, np.bool_)):
        raise WrongType(f"{name} is {shown(value)}, expected True or False; give one")
    return usual if value is None else bool(value)


def nearest(name, names):
    """The one of names that begins so, with three letters or more, or is spelt nearly so, or None.
    A poor guess is none. Dashes before names count for nothing."""
    import difflib

    name, bare = name[:40].lstrip("-"), {known.lstrip("-"): known for known in names}
    near = [known for known in bare if known.startswith(name) and len(name) > 2]
    found = near[:1] or difflib.get_close_matches(name, bare, 1, 0.75)
    return bare[found[0]] if found else None


def did_you_mean(name, names):
    """What to do about a name that is none of names: take the one that is like it."""
    near = nearest(name, names)
    return f"did you mean {near}?" if near else "leave it out"


def whole_number(name, value, least, wants, most=math.inf):
    """value as an int from least to most. Raises ModelError; wants says what is expected."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    found = f"{name} is {shown(value)}, expected {wants}; give such a number"
    if number is None or isinstance(value, bool):
        raise WrongType(found)
    if not least <= number <= most:
        raise WrongValue(found)
    return number


def token_limit(value, name="max_tokens"):
    """How many new tokens at most; None = until the end, which -1 is in llama.cpp."""
    wants = "a whole number of new tokens, or None or -1 for until the end"
    limit = None if value is None else whole_number(name, value, -1, wants)
    return None if limit == -1 else limit


def stop_strings(value):
    """What ends a text: a str, or several, or None -> list of str."""
    several = [] if value is None else [value] if isinstance(value, str) else value
    no_list = bytes, bytearray, memoryview, Mapping
    if (
        not isinstance(several, Collection)
        or isinstance(several, no_list)
        or not all(isinstance(text, str) for text in several)
    ):
        raise WrongType(f"stop is {shown(value)}, expected a text, or a list of texts; give such")
    several = [text for text in several if text]
    if len(several) > 64:
        raise WrongValue(f"{len(several)} stop strings; expected at most 64; ask for fewer")
    return several


def likeliest_asked(logprobs, top_logprobs=None):
    """How many of the likeliest tokens are to be told; None = no log-probabilities at all.
    logprobs: their number, or as in OpenAI's chats true, with the number in top_logprobs."""
    wants = "a whole number from 0 to 100"
    top = None
    if top_logprobs is not None:
        top = whole_number("top_logprobs", top_logprobs, 0, wants)
    if logprobs is None or logprobs is False:
        if top:
            raise WrongValue(
                f"top_logprobs is {shown(top)} without logprobs; expected logprobs true"
            )
        return None
    if logprobs is True:
        n = top or 0
    else:
        n = whole_number("logprobs", logprobs, 0, f"{wants}, true or false")
        if top is not None and top != n:
            found = f"logprobs is {shown(n)}, top_logprobs {shown(top)}"
            raise WrongValue(f"{found}; expected one number; leave one out")
    if n > 100:
        raise WrongValue(f"{shown(n)} logprobs; expected at most 100; ask for fewer")
    return n


def iterable_asked(name, value):
    """An iterator of an argument that has several; a str would have as many as characters."""
    try:
        if not isinstance(value, (str, bytes, bytearray, memoryview, dict)):
            return iter(value)
    except TypeError:
        pass
    raise WrongType(f"{name} is {shown(value)}, expected a list of them; give such")


def text_asked(name, value):
    """value, a str."""
    if not isinstance(value, str):
        raise WrongType(f"{name} is {shown(value)}, expected a str; decode bytes")
    return value


def function_asked(name, value):
    """value, which can be called; None for None."""
    if value is not None and not callable(value):
        raise WrongType(f"{name} is {shown(value)}, expected a function or None; give one")
    return value


def places_asked(value):
    """How many texts are written at once; no more than share a pass, or they would stand in the
    way of others' who wait."""
    return min(WANTED_MAX, whole_number("places", value, 1, "how many texts at once, 1 or more"))


def worth_asked(value):
    """What a judge says of a text: a number that has a place among others. Raises ModelError."""
    found = f"judge gave {shown(value)}, expected a number; let it give one"
    try:
        number = value if type(value) in (int, float) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or isinstance(value, (str, bytes, bytearray)):
        raise WrongType(found)
    if number != number:
        raise WrongValue(found)
    return number


def bias_asked(value, n):
    """What is added to logits: {id: number}, of JSON {"id": number}, or llama.cpp's [[id, number]]
    with false for never -> {id: float}, -inf for what is never chosen. n: ids are below it."""
    if value is None:
        return {}
    try:
        rows = value.items() if isinstance(value, Mapping) else value
        pairs = [(i, by) for i, by in rows or ()]
    except (TypeError, ValueError):
        wants = "{id: number}, or a list of [id, number]"
        raise WrongType(f"logit_bias is {shown(value)}, expected {wants}; give such") from None
    bias = {}
    for i, by in pairs:
        number = int(i) if isinstance(i, str) and re.fullmatch("[0-9]{1,9}", i) else i
        wants = f"a token's id, 0 to {n - 1}"
        number = whole_number("logit_bias: a key", number, 0, wants)
        if number >= n:
            raise WrongValue(f"logit_bias: a key is {number}, expected {wants}; give such a number")
        by = -math.inf if by is False else by
        if not is_number(by) or not by <= 100:
            found = f"logit_bias: {shown(by)} for {number}, expected -100 (never) to 100, or false"
            raise (WrongValue if is_number(by) else WrongType)(f"{found}; change it")
        bias[number] = float(by) if by > -100 else -math.inf
    if sum(by == -math.inf for by in bias.values()) == n:
        raise WrongValue(f"logit_bias bans all {n} tokens, expected one that is left; leave one")
    return bias


def bias_pair(text, name):
    """ "15043-1.5" -> (15043, -1.5), for a number also inf, or false for never"""
    found = re.fullmatch(r"(\d{1,9})([+-](?:\d{1,9}(?:\.\d{0,9})?|inf|false))", text)
    if not found:
        wants = "expected ID+NUMBER or ID-NUMBER"
        raise WrongValue(f"{name} is {shown(text)}, {wants}; give such, as 15043+1.5")
    return int(found[1]), float(found[2].replace("false", "inf"))


def deadline_asked(value, now):
    """When a text is to end that has so many seconds from now on; None = whenever it does."""
    if value is None:
        return None
    wants = "seconds, 0 or more, or None; give such a number"
    return now + number_between("deadline", value, 0, 1e12, wants)


def size_asked(value, name):
    """A number of bytes: 500M, 1.5G, 2GiB, 100000; None for None. Raises ModelError, by name."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,18}\.?\d{0,9}) ?([kmgt]?)(i?b)?", value.strip().lower())
    size = int(float(found[1]) * 1024 ** " kmgt".index(found[2] or " ")) if found else 0
    if not 0 < size < 1 << 60:
        raise WrongValue(f"{name} is {shown(value)}, expected bytes, as 500M or 4G; give such")
    return size


def run_seed(value):
    """The seed that those of many texts derive from."""
    seed = seed_asked(value)
    return random.getrandbits(32) if seed is None else seed


def line_seed(seed, name):
    """The seed of one text of many."""
    text = f"{seed}/{name}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "little")


def seed_asked(value):
    """A seed, or None for a random one, which -1 is in llama.cpp."""
    if value is None:
        return None
    wants = "a whole number, or None or -1 for a random one"
    seed = whole_number("seed", value, -(1 << 1024), wants, 1 << 1024)
    return None if seed == -1 else seed
