"""The options of Writer are those of every method that writes, by name, in order, of one type; its docstring tells each."""

import inspect
import re
import typing

import pytest

import run
from twofile.given import ChatOptions, Options, StreamedOptions
from twofile.model import Model
from twofile.sampler import RULES
from twofile.writer import Writer

WAYS = ["generate", "stream", "astream", "batch", "best_of", "__call__", "create_completion", "create_chat_completion"]
KEYWORD = inspect.Parameter.KEYWORD_ONLY
OPTIONS = [p for p in inspect.signature(Writer).parameters.values() if p.kind is KEYWORD]


def parameters(what):
    return inspect.signature(what).parameters


@pytest.mark.parametrize("way", WAYS)
def test_every_option_is_named_in_every_signature(way):
    found = parameters(getattr(Model, way))
    kinds = {p.kind for p in found.values()}
    assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    assert {p.name: (p.annotation, p.default) for p in OPTIONS}.items() <= {
        n: (p.annotation, p.default) for n, p in found.items()
    }.items()
    order = [name for name, p in found.items() if p.kind is KEYWORD]
    own = [p.name for p in OPTIONS if p.name in order]
    assert order[-len(own) :] == own and {"max_tokens", *own} | {"seed"} == {"max_tokens", *(p.name for p in OPTIONS)}
    assert found["max_tokens"] == parameters(Writer)["max_tokens"] or found["max_tokens"].kind is KEYWORD
    assert [*parameters(getattr(run.Model, way))] == [*found]


def test_what_stands_first_may_be_given_by_place():
    """As it was, before options had names."""
    first = {way: [n for n, p in parameters(getattr(Model, way)).items() if p.kind is not KEYWORD][1:] for way in WAYS}
    assert first == {
        "generate": ["prompt", "max_tokens"],
        "stream": ["prompt", "max_tokens", "lookup"],
        "astream": ["prompt", "max_tokens", "lookup"],
        "batch": ["prompts", "max_tokens", "places", "seed"],
        "best_of": ["prompt", "n", "judge", "places", "seed"],
        "__call__": ["prompt", "max_tokens", "echo"],
        "create_completion": ["prompt", "max_tokens", "echo"],
        "create_chat_completion": ["messages", "max_tokens"],
    }


def test_the_options_to_hand_on_are_the_same():
    """The TypedDicts, for programs that have **options of their own."""
    assert typing.get_type_hints(Options) == {p.name: p.annotation for p in OPTIONS} and not Options.__required_keys__
    assert len(OPTIONS) == 26 and all(p.default is None for p in OPTIONS)
    for way, options in (("__call__", StreamedOptions), ("create_chat_completion", ChatOptions)):
        found = {n: p.annotation for n, p in parameters(getattr(Model, way)).items() if p.kind is KEYWORD and n != "stream"}
        assert typing.get_type_hints(options) == found


def test_each_option_is_told():
    """With its range and default, as the rules of sampling have them."""
    told = dict.fromkeys(["max_tokens", *(p.name for p in OPTIONS)], "")
    for names, about in re.findall(
        r"- ([a-z_, ]+?): ((?:.|\n(?=      ))+)", inspect.getdoc(Writer).replace("\n  ", "\n      ")
    ):
        told |= dict.fromkeys(names.split(", "), " ".join(about.split()))
    assert [name for name, about in told.items() if not about] == []
    for rule in RULES:
        assert f"{rule.default:g}" in told[rule.name], rule.name


def test_every_public_class_has_types():
    """Every method without an underscore of what `twofile` exports, and what it is made with."""
    import twofile

    bare, seen = [], 0
    for name in twofile.__all__:
        thing = getattr(twofile, name)
        for method, f in inspect.getmembers(thing, inspect.isfunction) if inspect.isclass(thing) else ():
            seen += 1
            given = [p for n, p in parameters(f).items() if n != "self"]
            if method[0] != "_" and (f.__annotations__.get("return", 0) == 0 or any(p.annotation is p.empty for p in given)):
                bare.append(f"{name}.{method}")
    assert seen > 80 and bare == []
