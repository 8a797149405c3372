"""Answers broken between words, whatever pieces they come in."""

import functools
import random

import pytest

from twofile.front.wrap import Wrapped

LONG, BROKEN = "echo " * 5 + ".", "echo echo echo echo\necho ."
WAVE, HEART = "\U0001f44b\U0001f3fd", "\u2764\ufe0f\u200d\U0001f525"  # a skin tone; what has one emoji of two
CODER = "\U0001f469\U0001f3fd\u200d\U0001f4bb"


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
        ("```sh\n" + "echo " * 9 + "\n```\n" + "word " * 5, "```sh\n" + "echo " * 9 + "\n```\nword word word word\nword "),
        ("```in line``` " + "word " * 4, "```in line``` word\nword word word "),
        ("~~~struck~~~\n" + "word " * 5, "~~~struck~~~\nword word word word\nword "),
        (
            f"````md\n~~~\n```\n{LONG}\n````sh\n{LONG}\n `````  \n{LONG}",
            f"````md\n~~~\n```\n{LONG}\n````sh\n{LONG}\n `````  \n{BROKEN}",
        ),
        (f"~~~\n```\n{LONG}\n~~~\n{LONG}", f"~~~\n```\n{LONG}\n~~~\n{BROKEN}"),
        ("- a \n- b\n", "- a \n- b\n"),
        ("- a\t  \n  \n b  ", "- a\t  \n  \n b  "),
        ("x" * 17 + " " * 5 + "\ny", "x" * 17 + "\ny"),  # spaces that would fold
        (f"{'x' * 17} {WAVE}{WAVE}y", f"{'x' * 17}\n{WAVE}{WAVE}y"),
        (f"{'x' * 13} {CODER}{HEART}a", f"{'x' * 13} {CODER}\n{HEART}a"),
        (f"{'x' * 25}{CODER}{CODER} {HEART}", f"{'x' * 25}{CODER}{CODER} {HEART}"),
        ("a\u200db \U0001f469\u200d x\u200d\U0001f469", "a\\u200db \U0001f469\\u200d\nx\\u200d\U0001f469"),  # it would hide
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


def test_only_spaces_become_new_lines_and_all_stays_in_order():
    rng = random.Random(2)
    parts = ["a", " ", "  ", "\t", "\n", " \n", "語", "e\u0301 ", "word ", "x" * 25, "- ", "```\n", "~~~ ", WAVE, CODER, HEART]
    for _ in range(300):
        text = "".join(rng.choice(parts) for _ in range(50))
        shown, at = wrapped(text, 24, lambda: rng.randint(1, 9)), 0
        for ch in shown:
            behind = text[at:].lstrip(" \t")
            if ch == "\n" and text[at : at + 1] != ch or ch not in " \t\n" and text[at : at + 1] in (" ", "\t"):
                assert ch == "\n", (text, shown)
                at = len(text) - len(behind)
                at += text[at : at + 1] == "\n"  # spaces at an end, for which there was no room
            else:
                assert text[at : at + 1] == ch, (text, shown)
                at += 1
        assert not text[at:].strip(" \t")
        assert not any(line[:1] in "\u200d\ufe0f\U0001f3fd\U0001f4bb\U0001f525" for line in shown.split("\n") if line)


def test_no_letter_is_lost_and_no_line_is_too_long():
    rng = random.Random(1)
    for _ in range(200):
        text = "".join(rng.choice(["a ", "bc ", " ", "\n", "語", "e\u0301 ", "word ", "x" * 9 + " "]) for _ in range(80))
        shown = wrapped(text, 24, lambda: rng.randint(1, 9))
        assert shown.split() == text.split() or "語" in text
        assert "".join(shown.split()) == "".join(text.split())
        lines = [line for line in shown.split("\n") if line[:1] != " "]
        assert max(sum(2 if ch == "語" else ch != "\u0301" for ch in line) for line in lines) <= 23
