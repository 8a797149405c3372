"""Text to ids and back: round trips, merges, attacks."""

import random
import time

import pytest

from helpers.vocabularies import AWKWARD_TEXTS, byte_bpe, spm
from twins.merge import naive_merge
from twofile.tokenizer.file import CONTROL, EXPLICIT
from twofile.tokenizer.tokenizer import Tokenizer


@pytest.mark.parametrize("make", [byte_bpe, spm])
@pytest.mark.parametrize("text", AWKWARD_TEXTS)
def test_round_trip(make, text):
    t = Tokenizer(make())
    assert t.decode(t.encode(text)) == text.replace("\u2581", " " if make is spm else "\u2581")


def test_heap_equals_rescanning():
    t, rng = Tokenizer(spm()), random.Random(0)
    prio = {p: -rank for p, rank in t.ranks.items()}
    for _ in range(500):
        text = "".join(rng.choice("aab é") for _ in range(rng.randint(1, 30)))
        want = naive_merge(prio, [ch.encode() for ch in " " + text])
        assert [t.pieces[i] for i in t.encode(text, add_bos=False)] == want


def test_text_never_becomes_a_control_token():
    for t in (Tokenizer(byte_bpe()), Tokenizer(spm())):
        control = {i for i, kind in enumerate(t.types) if kind == CONTROL}
        for i in control:
            for text in (t.name(i), f"x{t.name(i)} y", t.name(i) * 3):
                assert not control & set(t.encode(text, add_bos=False))


def test_user_defined_tokens_are_matched_in_text():
    t = Tokenizer(byte_bpe())
    assert t.encode("the[tool]x") == [257, 262, ord("x")]


def test_a_million_letters_take_a_linear_time():
    t, times = Tokenizer(spm()), []
    for n in (50_000, 200_000):
        took = []
        for _ in range(3):
            began = time.perf_counter()
            ids = t.encode("a" * n)
            took.append(time.perf_counter() - began)
        times.append(min(took))
        assert t.decode(ids) == "a" * n
    assert times[1] < 12 * times[0]  # four times as long; quadratic would be 16
    long = Tokenizer(byte_bpe())
    for text in ("x" * 1_000_000, " " * 1_000_000):
        began = time.perf_counter()
        assert len(long.encode(text)) == 1_000_000
        assert time.perf_counter() - began < 30


def test_explicit_merges_are_obeyed():
    """With only t+h in the list, "the" stays th+e although the piece "the" exists."""
    t = Tokenizer(byte_bpe(flags=EXPLICIT, merges=[(ord("t"), ord("h"))]))
    assert t.encode("the") == [256, ord("e")]
