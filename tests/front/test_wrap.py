"""Answers broken between words, whatever pieces they come in."""

import functools
import random

import pytest

from twofile.front.wrap import Wrapped


def wrapped(text, columns, cut=lambda: 1):
    """The text as it is shown, given in pieces."""
    w, out = Wrapped(columns), ""
    while text:
        n = cut()
        out, text = out + w(text[:n]), text[n:]
    return out + w.rest()


@pytest.mark.parametrize(
    "text, shown",
    [
        ("the quick brown fox jumps over", "the quick brown fox\njumps over"),
        ("the quick brown foxes jump", "the quick brown\nfoxes jump"),  # 21 columns would be two too many
        ("a\n\nb\n", "a\n\nb\n"),
        ("  indented text that is long", "  indented text\nthat is long"),
        ("see " + "x" * 50 + " and that is all", "see\n" + "x" * 50 + " and that\nis all"),  # 10 columns are left
        ("x" * 19 + " y", "x" * 19 + "\ny"),
        ("e\u0301" * 19 + " y", "e\u0301" * 19 + "\ny"),  # combining characters take no column
        ("これは日本語の文章です。とても", "これは日本語の文章\nです。とても"),
        ("日本語日本語日本。語", "日本語日本語日本\n。語".replace("\n。", "。\n")),  # none begins with a full stop
        ("one\ttwo three four", "one\ttwo three\nfour"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("```sh\n" + "echo " * 9 + "\n```\n" + "word " * 5, "```sh\n" + "echo " * 9 + "\n```\nword word word word\nword"),
        ("```in line``` " + "word " * 4, "```in line``` word\nword word word"),
    ],
)
def test_lines_end_between_words(text, shown):
    assert wrapped(text, 20) == wrapped(text, 20, lambda: 99) == shown
    for seed in range(5):
        assert wrapped(text, 20, functools.partial(random.Random(seed).randint, 1, 5)) == shown


def test_only_the_word_that_is_written_waits():
    w = Wrapped(30)
    assert [w(part) for part in ("The", " fox", " ju", "mps", "\n", "x")] == ["", "The", " fox", "", " jumps\n", ""]
    assert w.rest() == "x" and w.rest() == ""
    assert w("y" * 40) and w("y") == "y"  # a word without an end is shown as it comes


@pytest.mark.parametrize("columns", [0, 1, 19])
def test_where_the_width_is_unknown_or_tiny_nothing_is_broken(columns):
    assert wrapped("word " * 50, columns) == "word " * 50


def test_no_letter_is_lost_and_no_line_is_too_long():
    rng = random.Random(1)
    for _ in range(200):
        text = "".join(rng.choice(["a ", "bc ", " ", "\n", "語", "e\u0301 ", "word ", "x" * 9 + " "]) for _ in range(80))
        shown = wrapped(text, 24, lambda: rng.randint(1, 9))
        assert shown.split() == text.split() or "語" in text
        assert "".join(shown.split()) == "".join(text.split())
        lines = [line for line in shown.split("\n") if line[:1] != " "]
        assert max(sum(2 if ch == "語" else ch != "\u0301" for ch in line) for line in lines) <= 23
