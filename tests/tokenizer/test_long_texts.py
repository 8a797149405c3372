"""Long texts take a time that is linear, and become the same ids. Row P3 of the table of bad inputs."""

import functools
import random
import time
import unicodedata

import numpy as np
import pytest

from helpers.rooms import patch
from helpers.vocabularies import byte_bpe, forms, spm
from twins.merge import naive_merge
from twofile.errors import ModelError
from twofile.tokenizer.file import CONTROL, LSTRIP, NFC, NORMAL, RSTRIP, USER
from twofile.tokenizer.forms import FormC
from twofile.tokenizer.tokenizer import Tokenizer


def test_marks_in_disorder_take_no_square_of_their_number():
    """A character with 100,000 accents, above and below by turns, in a model that normalises: minutes by unicodedata alone."""
    t = Tokenizer(byte_bpe(flags=NFC))
    began = time.process_time()
    t.encode("a" + "\u0301\u0316" * 50_000)
    assert time.process_time() - began < 6


KINDS = {"byte": byte_bpe, "spm": spm, "nfc": functools.partial(byte_bpe, flags=NFC)}
KINDS["strips"] = functools.partial(byte_bpe, types=[NORMAL] * 261 + [CONTROL, USER | LSTRIP | RSTRIP])
LONG = {
    "a": "a",
    "spaces": " ",
    "a word": "abcdefgh",
    "lines": "\n ",
    "marks": "\u0327\u0301",
    "emoji": "🙂",
    "tags": "\U000e0041",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_time_for_long_words_is_linear(kind):
    """P3: 10^5 and 4 * 10^5 characters of each sort; a run of combining marks, and spaces before a token that takes them, once
    took the square."""
    t = Tokenizer(KINDS[kind]())
    for name, unit in LONG.items():
        took = []
        for n in (50_000, 200_000):
            began = time.perf_counter()
            t.encode("e" + unit * (n // len(unit)))
            took.append(time.perf_counter() - began)
        assert took[1] < 12 * took[0] + 0.5 and took[1] < 20, (name, took)  # the square would be 16
    if kind == "strips":
        assert t.encode("a \n [tool] \n b") == [97, 262, 98] and t.encode("[tool][tool]") == [262, 262]


def test_a_word_that_would_fill_the_memory_is_refused():
    """P3"""
    with pytest.raises(ModelError, match="a word of 5,000,000 characters, expected at most 4,194,304; put spaces"):
        Tokenizer(byte_bpe()).encode("x" * 5_000_000)


def test_form_c_is_unicodes():
    """By the tables, against Python's own: every character that changes, and marks in any order and number."""
    form, rng = FormC(np.array(forms(), "<u4")), random.Random(4)
    marks, parts = list(map(chr, form.classes)), list(map(chr, form.parts))
    korean = [chr(c) for c in (*range(0x1100, 0x1200), *range(0xAC00, 0xAC40))]
    some = (marks, marks, parts, korean, list("aeo 中\u0334"), [chr(c) for c in range(0x20, 0x3000)])
    for n in [1] * 500 + [2, 3, 5, 9, 400] * 500:
        text = "".join(rng.choice(rng.choice(some)) for _ in range(n))
        assert form(text) == unicodedata.normalize("NFC", text), ascii(text)
    for ch in parts:
        assert form(ch) == unicodedata.normalize("NFC", ch)


def test_form_c_is_by_the_files_tables_alone():
    """What Python knows and the tables do not stays as it is: every version of Python does the same."""
    form = FormC(np.array([row for row in forms() if row[0] & 0xFFFFFF != ord("é")], "<u4"))
    assert form("e\u0301a\u0301") == "e\u0301á" and unicodedata.normalize("NFC", "e\u0301") == "é"


def test_long_texts_of_sentencepiece_are_cut_where_nothing_merges(monkeypatch):
    """As one word, by the naive merging of the whole, for pieces that do and do not hold a space inside."""

    patch(monkeypatch, "LONG", 0)
    rng = random.Random(2)
    extra = {"inside": [b"a b", b"a\n"], "before": [b"  ", b"  a"]}
    for name, pieces in extra.items():
        plain = Tokenizer(spm())
        fields = dict(pieces=[*plain.pieces, *pieces], types=[*plain.types.tolist(), *[NORMAL] * len(pieces)])
        t = Tokenizer(spm(**fields, prio=[0.0] * 259 + [-20.0, -21.0, -22.0, -3.0, -1.0, -23.0, -2.0, -4.0, -5.0, -0.5, -0.7]))
        assert (t.apart is None) == (name == "inside")
        prio = {p: -rank for p, rank in t.ranks.items()}
        for _ in range(300):
            text = "".join(rng.choice("aab  \n\né") for _ in range(rng.randint(1, 30)))
            want = naive_merge(prio, [ch.encode() for ch in " " + text])
            got = b"".join(t.pieces[i] for i in t.encode(text, add_bos=False))
            assert got.decode() == " " + text
            assert [p for p in map(t.pieces.__getitem__, t.encode(text, add_bos=False)) if len(p) > 1] == [
                p for p in want if len(p) > 1 and p in t.ids
            ]
