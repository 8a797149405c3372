"""Passages: nothing is lost, none is long, each has its place."""

import random
import time

import pytest

from helpers.places import ROOT
from twofile.memory.passages import MOST, Passage, passages, weight

WORDS = "the fox ran over a hill and saw. Was it red? Yes! \u4e2d\u6587\u3002 caf\u00e9 https://example.org/a_b".split(" ")


def mixed(seed):
    """A text of headings, paragraphs, lists, code, lines of all lengths."""
    rng, parts = random.Random(seed), []
    for _ in range(60):
        words = " ".join(rng.choices(WORDS, k=rng.choice([1, 5, 40, 400])))
        shape = ["{}", "# {}", "## {}", "{}\n-----", "```\n{}\n\n# no heading\n```", "CHAPTER {}", "- {}\n- b", "{}\n\n\n"]
        parts.append(rng.choice(shape).format(words if rng.random() < 0.8 else words[:30]))
    return rng.choice(["\n", "\r\n"]).join(parts).replace("\n", "\n\n" if rng.random() < 0.5 else "\n")


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_and_none_is_long(seed):
    text = mixed(seed)
    found = list(passages(text))
    assert "".join("".join(p.text for p in found).split()) == "".join(text.split())
    assert max(weight(p.text) for p in found) <= MOST * 1.2 and all(p.text.strip() for p in found)
    lines = text.replace("\r\n", "\n").split("\n")
    begins = [p.text.split("\n")[0] for p in found]
    assert all(begin[:60] in lines[p.line - 1] for p, begin in zip(found, begins))


def test_they_have_some_100_to_200_words():
    sizes = sorted(len(p.text.split()) for p in passages((ROOT / "train" / "README.md").read_text()))
    assert 80 <= sizes[len(sizes) // 2] <= 200


def test_headings_are_the_outermost_first():
    text = (
        "# Boats\n\nall\n\n## Ferries\n\n"
        + "They leave at nine. " * 40
        + "\n\n## Rafts\n\n"
        + "slow " * 40
        + "\n\n# Trains\n\nfast"
    )
    found = [(p.heading, p.line) for p in passages(text)]
    assert ("Boats > Ferries", 1) in found and ("Boats > Rafts", 9) in found
    book = "PART ONE\n\nCHAPTER I\n\n" + "It was cold. " * 60 + "\n\nCHAPTER II - THE SEA\n\n" + "It was warm. " * 60
    assert [p.heading for p in passages(book)][-1] == "PART ONE > CHAPTER II - THE SEA"
    assert [p.heading for p in passages("```\n# a comment\n```\n\nText.")] == [""]
    assert [p.heading for p in passages("Title\n=====\n\nText.")] == ["Title"]


def test_empty_texts_have_none():
    assert [list(passages(text)) for text in ("", " \n\t\n", "\r\n")] == [[], [], []]
    assert list(passages("a")) == [Passage("a", 1)]


def test_odd_texts_take_no_time():
    """A megabyte without a space, of one sentence, of empty lines, of headings."""
    for text in ("x" * 1_000_000, "word " * 200_000, "\n" * 1_000_000, "# a\n" * 250_000, "\u4e2d" * 300_000, '."' * 500_000):
        found = list(passages(text))
        assert max((weight(p.text) for p in found), default=0) <= MOST * 1.2


ODD = ["# " + "#" * 100_000 + "x", "# a" + " \t#" * 100_000 + "x", "a" * 10_000_000, "\u4e2d" * 3_000_000]
ODD += ["caf\u00e9 " * 1_000_000, '."' * 1_000_000, "." + ")" * 1_000_000, "=" * 1_000_000 + "x"]
ODD += [" " * 5_000_000 + "x", "# " + "a" * 10_000_000 + "\n\nb" * 1000]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_time_grows_with_the_text_alone(text):
    """Whatever a line holds that goes on and on: no part of it is looked at again for each other."""
    began = time.process_time()
    assert "".join("".join(p.text.split()) for p in passages(text)) == "".join(text.split())
    assert time.process_time() - began < 5


def test_a_heading_loses_the_marks_behind_it():
    found = lambda line: [p.heading for p in passages(f"{line}\n\nText.")]
    assert found("## Boats ## \t") == found("# Boats") == ["Boats"] and found("# a # b #") == ["a # b"]
    assert found("# ##") == [""] and found("# " + "x" * 500) == ["x" * 200]
