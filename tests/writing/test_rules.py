"""The rules of sampling: what a row of RULES says is so in Sampling, in the flags, in a --batch line, and in docs/usage.md."""

import inspect
import json
import re
from dataclasses import fields

import numpy as np
import pytest

from helpers.places import ROOT
from twofile.compiler.code import Code
from twofile.errors import ModelError
from twofile.front.modes import all_flags, make_parser, parse_args
from twofile.front.requests import read_request
from twofile.kernels.pick import pick
from twofile.model import Model
from twofile.sampler import RULES, Sampler, Sampling
from twofile.writer import Writer

USAGE = (ROOT / "docs" / "usage.md").read_text()
CODE = Code([pick], lambda text: None)
EACH = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


def beyond(rule):
    """Numbers just outside the range of a rule."""
    step = 1 if rule.kind is int else 1e-6
    return [rule.least - step, rule.most + step]


def within(rule):
    """A number of the rule's type inside its range that is not the default."""
    value = rule.kind((rule.least + min(rule.most, 10)) / 2)
    return value if value != rule.default else value + 1


def request(model, line, *given):
    """What a line of --batch becomes, beside these flags."""
    args = parse_args(["model.bin", "--batch", "lines", *given])
    return read_request(model, args, json.dumps({"prompt": "the fox", **line}).encode(), 0, 1)


def test_a_rule_is_known_by_one_name_and_one_flag():
    assert len({rule.name for rule in RULES}) == len({rule.flag for rule in RULES}) == len(RULES) >= 6


def test_fields_of_sampling_are_the_rules():
    """In their order, with their types and defaults, and no others: calls by place stay as they are."""
    assert [(f.name, f.type, f.default) for f in fields(Sampling)] == [(r.name, r.kind, r.default) for r in RULES]
    assert list(inspect.signature(Sampling).parameters) == [rule.name for rule in RULES]


@EACH
def test_the_range(rule):
    """Both ends belong to it, the default stands in it; what is outside, or no number, is refused by name."""
    for value in (rule.least, rule.most, rule.default, within(rule)):
        assert getattr(Sampling(**{rule.name: value}), rule.name) == value
    for value in (*beyond(rule), float("nan")):
        says = f"{rule.name} is {value}, expected {rule.least:.10g} to {rule.most:.10g}"
        with pytest.raises(ModelError, match="^" + re.escape(says)):
            Sampling(**{rule.name: value})


@EACH
def test_the_rule_acts(rule):
    """A row that nothing reads would be taken and do nothing: at some number other tokens are chosen."""
    rng, n = np.random.default_rng(0), 50
    logits, recent = rng.standard_normal(n).astype(np.float32), list(range(0, n, 2)) * 2
    free = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 5.0, "repeat_last_n": -1}
    free |= {"xtc_threshold": 0.01} if rule.name == "xtc_probability" else {}
    free |= {"xtc_probability": 0.9} if rule.name == "xtc_threshold" else {}
    free |= {"mirostat": 2} if rule.name in ("mirostat_tau", "mirostat_eta") else {}

    def chosen(how):
        sampler = Sampler(how, n, CODE)
        return [sampler(logits, recent, coin) for coin in np.linspace(0.01, 0.99, 40)]

    usual = chosen(Sampling(**free))
    others = [rule.kind(value) for value in {rule.least, min(rule.most, 1000), 1}]
    assert any(chosen(Sampling(**{**free, rule.name: value})) != usual for value in others)


@EACH
def test_the_flag(rule, capsys):
    """One flag, that --help tells, whose number goes into Sampling; left out, it is as the model or Sampling says."""
    (flag,) = (flag for flag in all_flags() if rule.flag in flag.names)
    assert flag.field == rule.name and flag.how["type"] is rule.kind and flag.how["help"] == rule.help
    assert f"{rule.flag} {rule.metavar}" in make_parser().format_help()
    value = within(rule)
    assert parse_args(["model.bin", "-p", "x", rule.flag, f"{value}"]).how == {rule.name: value}
    assert parse_args(["model.bin", "-p", "x"]).how == {}
    for wrong in (*beyond(rule), "red"):
        with pytest.raises(SystemExit) as caught:
            parse_args(["model.bin", "-p", "x", f"{rule.flag}={wrong}"])
        said = capsys.readouterr().err
        assert caught.value.code == 2 and (
            f"{rule.name} is {wrong}, expected" in said or f"{rule.flag} is '{wrong}', expected a" in said
        )


@EACH
def test_the_field_of_a_line(rule, tiny):
    """Of a line, before the flag; a number out of range, or what is none, fails that line by name."""
    model, value = Model(tiny, verbose=False), within(rule)
    for line, flags, want in (
        ({}, [], rule.default),
        ({}, [rule.flag, f"{value}"], value),
        ({rule.name: value}, [], value),
        ({rule.name: value}, [rule.flag, f"{rule.default}"], value),
    ):
        made = request(model, line, *flags)
        assert not made.failed and getattr(made.found.how, rule.name) == want
    assert getattr(request(model, {rule.name: None}).found.how, rule.name) == rule.default
    for wrong in (*beyond(rule), "1", True):
        made = request(model, {rule.name: wrong})
        assert made.failed and re.match(rf"line 0: (field )?{rule.name}\b", str(made.found)), wrong


@EACH
def test_the_option_of_a_writer(rule, tiny):
    model, value = Model(tiny, verbose=False), within(rule)
    assert getattr(Writer(model, "the", 1, **{rule.name: value}).how, rule.name) == value
    with pytest.raises(ModelError, match=f"^{rule.name} is "):
        model.generate("the", 1, **{rule.name: beyond(rule)[0]})


@EACH
def test_the_usage_tells_it(rule):
    """Its flag with its default in the table of flags, its name among the fields of a line."""
    (row,) = (row for row in USAGE.splitlines() if row.startswith("|") and f"`{rule.flag} {rule.metavar}`" in row)
    flags, defaults = row.split("|")[1:3]
    place = re.findall(r"`(--[a-z-]+) \w`", flags).index(rule.flag)
    assert rule.kind(defaults.split(",")[place]) == rule.default
    (told,) = re.findall(r"^A line of input is .*?body`\)", USAGE, re.M | re.S)
    assert f"`{rule.name}`" in told


def test_biases_of_a_command_line(tiny, capsys):
    """--logit-bias, and the field of a line, which stands before it."""
    model = Model(tiny, verbose=False)
    given = ["--logit-bias", "5+1.5", "--logit-bias=7-100", "--logit-bias", "9-inf", "--logit-bias", "8-false"]
    want = {5: 1.5, **dict.fromkeys((7, 8, 9), -np.inf)}
    assert request(model, {}, *given).found.bias == want and request(model, {}).found.bias == {}
    assert request(model, {"logit_bias": {"6": -2}}, *given).found.bias == {6: -2.0}
    assert request(model, {"logit_bias": [[6, False]]}, *given).found.bias == {6: -np.inf}
    for wrong in ("5", "+1", "5:1", "5+", "5+x", "-5+1"):
        with pytest.raises(SystemExit):
            parse_args(["model.bin", "-p", "x", f"--logit-bias={wrong}"])
        assert f"--logit-bias is {wrong!r}, expected ID+NUMBER" in capsys.readouterr().err
