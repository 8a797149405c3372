"""Ids against the reference programs and their test texts."""

import random

import pytest

from helpers.places import shared
from twofile.export.tokenizers.any import read_tokenizer
from twofile.export.tokenizers.splits import KNOWN_SPLITS
from twofile.tokenizer.file import CONTROL, NFC, NORMAL, SPM
from twofile.tokenizer.tokenizer import Tokenizer

VOCABULARIES = {
    "llama2": ("tokenizers/llama2/tokenizer.model", "sentencepiece", False),
    "llama2 by llama2.c": ("tokenizers/llama2/tokenizer.bin", "json", False),
    "llama3": ("tokenizers/llama3/tokenizer.model", "tiktoken", False),
    "qwen2": ("tokenizers/qwen2/qwen.tiktoken", "tiktoken", False),
    "gpt2": ("tokenizers/gpt2/gpt2_tokenizer.json", "tokenizers", False),
}
CACHE = {}


def vocabulary(name):
    path, package, _ = VOCABULARIES[name]
    path = shared(path)
    if package in ("tiktoken", "tokenizers"):
        pytest.importorskip(package)
    if name not in CACHE:
        CACHE[name] = Tokenizer(read_tokenizer(path, {"n_vocab": 32000 if "llama2" in name else None}))
    return CACHE[name]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_llama_cpp_cases(name):
    """llama.cpp's own test texts and ids."""
    t = vocabulary(name)
    folder = shared(VOCABULARIES[name][0]).parent
    texts = (folder / "cases.inp").read_text("utf-8").split("\n__ggml_vocab_test__\n")
    ids = (folder / "cases.out").read_text().split("\n")
    assert len(texts) > 40
    for text, line in zip(texts, ids):
        assert t.encode(text, add_bos=False) == [int(i) for i in line.split()], repr(text)
    t.selftest()


def random_texts(t, n, seed):
    """Texts of the kinds that break tokenizers: spaces, apostrophes, digits, scripts, pieces, control names."""
    rng = random.Random(seed)
    normal = [p for p, kind in zip(t.pieces, t.types) if kind & 15 == NORMAL]
    words = [p.decode("utf-8", "ignore") for p in rng.choices(normal, k=3000)]
    odd = list("  \n\t'\"0123456789.,!?-_/\\{}[]()äößéñçøłžабвгдеж中文字日本語한국어🙂🎉\u00a0\u3000\u200b\u0301ſ") + [
        "'s",
        "'LL",
        "\r\n",
        "  ",
        "<s>",
        "<|end",
    ]
    for _ in range(n):
        source = rng.choice(
            (
                [*odd],
                words,
                [*odd, *words],
                [chr(rng.choice((rng.randint(1, 0x2FF), rng.randint(0x300, 0xD7FF)))) for _ in range(20)],
            )
        )
        yield "".join(rng.choice(source) for _ in range(rng.randint(1, 12)))


def compare(t, reference, seed):
    """Control tokens' names are left out: the references may match them in text, which is what this project never does."""
    control = [t.name(i) for i, kind in enumerate(t.types) if kind & 15 == CONTROL]
    texts = [text for text in random_texts(t, 3000, seed) if not any(name in text for name in control)]
    assert len(texts) > 2500
    wrong = [text for text in texts if t.encode(text, add_bos=False) != reference(text)]
    assert not wrong, (
        f"{len(wrong)} of 3000 differ, first {wrong[0]!r}: {t.encode(wrong[0], add_bos=False)} {reference(wrong[0])}"
    )


def test_fuzz_against_sentencepiece():
    sp = pytest.importorskip("sentencepiece")
    t = vocabulary("llama2")
    engine = sp.SentencePieceProcessor(model_file=str(shared("tokenizers/llama2/tokenizer.model")))
    compare(t, lambda s: engine.encode(s), 1)


def test_fuzz_against_tokenizers():
    T = pytest.importorskip("tokenizers")
    t = vocabulary("gpt2")
    engine = T.Tokenizer.from_file(str(shared("tokenizers/gpt2/gpt2_tokenizer.json")))
    plain = lambda s: engine.encode(s, add_special_tokens=False).ids
    compare(t, plain, 2)
    path = shared("checkpoints/tinystories-656k/tokenizer.json")
    engine = T.Tokenizer.from_file(str(path))
    hints = {"n_vocab": 2048, "bos": 1, "eos": 2}
    compare(Tokenizer(read_tokenizer(path, hints)), plain, 3)


@pytest.mark.parametrize("name", ["llama3", "qwen2"])
def test_fuzz_against_tiktoken(name):
    tiktoken = pytest.importorskip("tiktoken")
    import unicodedata

    t = vocabulary(name)
    pattern = {v: k[0] for k, v in KNOWN_SPLITS.items() if k}[t.pretok]
    ranks = {p: i for i, p in enumerate(t.pieces) if t.types[i] == NORMAL}
    engine = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    nfc = (lambda s: unicodedata.normalize("NFC", s)) if t.flags & NFC else str
    compare(t, lambda s: engine.encode_ordinary(nfc(s)), 4)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_real_vocabularies_survive_a_round_trip(name):
    import unicodedata

    t = vocabulary(name)
    for text in random_texts(t, 300, 5):
        text = text.replace("\ufffd", "")
        want = unicodedata.normalize("NFC", text) if t.flags & NFC else text
        assert t.decode(t.encode(text)) == (want.replace("\u2581", " ") if t.kind == SPM else want)
