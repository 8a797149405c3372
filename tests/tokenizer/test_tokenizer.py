"""The tokenizer: ids against the reference programs and their test texts, round trips, attacks, refusals."""

import random
import re
import struct
import time

import pytest
from conftest import ROOT, shared

import export
import run
from run import ModelError, TextStream, Tokenizer

AWKWARD = [
    "",
    " ",
    "?",
    "  two  spaces ",
    "\n\n\t",
    "naïve 🙂 안녕",
    "\x00\x7f",
    "<s>",
    "a" * 5000,
    "\u2581x",
    "e\u0301",
    "\u017f's 'S",
]


def byte_bpe(**changes):
    """A small byte-level BPE: all bytes, some merges, a user-defined and a control token."""
    pieces = [bytes([b]) for b in range(256)] + [b"th", b"the", b" the", b"he", b" t", b"<|end|>", b"[tool]"]
    types = [run.NORMAL] * 261 + [run.CONTROL, run.USER]
    classes = [(65, 90, 1), (97, 122, 1), (48, 57, 2), (9, 13, 3), (32, 32, 3), (0xE0, 0xFF, 1)]
    prio = [-float(i) for i in range(263)]
    fields = dict(
        kind=run.BYTE_BPE, pieces=pieces, prio=prio, types=types, pretok=1, eos=261, stops=(261,), classes=classes
    )
    return export.pack_tokenizer(**{**fields, **changes})


def spm(**changes):
    """A small SentencePiece-like BPE with byte fallback."""
    pieces = [b"<unk>", b"<s>", b"</s>"] + [bytes([b]) for b in range(256)]
    types = [run.CONTROL] * 3 + [run.BYTE] * 256
    for piece in [" ", "a", "b", "ab", " ab", "é", "aé", "aa", "aaaa"]:
        pieces.append(piece.encode())
        types.append(run.NORMAL)
    prio = [0.0] * 259 + [-20.0, -21.0, -22.0, -3.0, -1.0, -23.0, -2.0, -4.0, -5.0]
    flags = run.ADD_BOS | run.PREFIX | run.BYTE_FALLBACK
    fields = dict(kind=run.SPM, pieces=pieces, prio=prio, types=types, flags=flags, bos=1, eos=2, unk=0, stops=(2,))
    return export.pack_tokenizer(**{**fields, **changes})


def naive_merge(prio, symbols):
    """Rescan for the best pair each time: the quadratic twin of the heap."""
    symbols = list(symbols)
    while True:
        pairs = [(prio[a + b], -i) for i, (a, b) in enumerate(zip(symbols, symbols[1:])) if a + b in prio]
        if not pairs:
            return symbols
        i = -max(pairs)[1]
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]


@pytest.mark.parametrize("make", [byte_bpe, spm])
@pytest.mark.parametrize("text", AWKWARD)
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
        control = {i for i, kind in enumerate(t.types) if kind == run.CONTROL}
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


def test_text_stream_gives_whole_characters():
    t = Tokenizer(byte_bpe())
    stream, out = TextStream(t), []
    for token in "naïve 🙂".encode():
        out.append(stream.push(token))
    assert "".join(out) == "naïve 🙂" and "\ufffd" not in "".join(out)
    assert out[-1] == "🙂" and out[-4:-1] == ["", "", ""]
    assert stream.push(0xF0) == "" and stream.flush() == "\ufffd"


def test_stream_keeps_the_leading_space_of_a_continuation():
    t = Tokenizer(spm())
    ids = t.encode("ab", add_bos=False)
    assert "".join(map(TextStream(t).push, ids)) == " ab"
    assert "".join(map(TextStream(t, start=True).push, ids)) == "ab"


def changed(raw, at, new):
    raw = bytearray(raw)
    raw[at : at + len(new)] = new
    raw[0x40:0x60] = bytes(32)
    raw[0x40:0x60] = __import__("hashlib").sha256(raw).digest()
    return bytes(raw)


def u32(n):
    return struct.pack("<I", n)


HARMS = {
    "T1 empty": (lambda: b"", "empty"),
    "T1 truncated": (lambda: spm()[:-64], "truncated"),
    "T1 header only": (lambda: spm()[:100], "shorter"),
    "T1 flipped bit": (lambda: spm()[:-70] + bytes([spm()[-70] ^ 1]) + spm()[-69:], "checksum"),
    "T1 another kind of file": (lambda: b"GGUF" + spm()[4:], "GGUF"),
    "T2 no tokens": (lambda: changed(spm(), 0x1C, u32(0)), "0 tokens"),
    "T2 more tokens than there are": (lambda: changed(spm(), 0x1C, u32(400)), "400 tokens"),
    "T3 offsets out of order": (lambda: changed(spm(), 256 + 40, u32(900)), "offsets"),
    "T3 section past the end": (lambda: changed(spm(), 0x68, struct.pack("<Q", 1 << 60)), "section"),
    "T3 section overlap": (lambda: changed(spm(), 0x70, struct.pack("<Q", 256)), "section"),
    "T4 long piece": (lambda: spm(pieces=Tokenizer(spm()).pieces[:-1] + [b"a" * 5000]), "longer than 4096"),
    "T4 empty piece": (lambda: spm(pieces=Tokenizer(spm()).pieces[:-1] + [b""]), "empty piece"),
    "T4 not UTF-8": (lambda: spm(pieces=Tokenizer(spm()).pieces[:-1] + [b"\xff\xfe"]), "not UTF-8"),
    "T5 a byte is missing": (lambda: spm(types=[run.CONTROL] * 4 + [run.BYTE] * 255 + [run.NORMAL] * 9), "byte tokens"),
    "T5 byte-level, a byte is missing": (
        lambda: byte_bpe(types=[run.UNUSED] + [run.NORMAL] * 260 + [2, 3]),
        "byte tokens",
    ),
    "T6 NaN priority": (lambda: spm(prio=[float("nan")] * 268), "priority"),
    "T6 stop id": (lambda: spm(stops=(268,)), "not below 268"),
    "T6 bos": (lambda: spm(bos=300), "not below 268"),
    "T7 pre-tokenizer": (lambda: byte_bpe(pretok=99), "pre-tokenizer 99"),
    "T7 class run backwards": (lambda: byte_bpe(classes=[(9, 8, 1)]), "class run"),
    "T7 class run too far": (lambda: byte_bpe(classes=[(9, 0x110000, 1)]), "class run"),
    "T8 chat section": (lambda: with_chat(), "chat section is not what"),
    "T10 self-test": (lambda: spm(tests=[("ab", [1, 2, 3])]), "self-test failed"),
    "version": (lambda: changed(spm(), 8, u32(2)), "version 2"),
    "merge out of range": (lambda: byte_bpe(flags=run.EXPLICIT, merges=[(1, 999)]), "merge names token 999"),
    "tests cut short": (lambda: with_chat(8), "self-test section"),
}


def with_chat(section=7):
    """A file whose section says 64 bytes of rubbish where there is nothing yet."""
    raw = bytearray(spm())
    at = len(raw)
    raw += b"\xff" * 64
    rows = [list(struct.unpack_from("<QQ", raw, 0x60 + 16 * i)) for i in range(10)]
    if section == 8:
        rows[8] = [rows[8][0], 64]
        raw = raw[: rows[8][0]] + b"\xff" * 64
        at = rows[8][0]
    else:
        rows[7] = [rows[8][0], 64]
        raw = raw[: rows[8][0]] + b"\xff" * 64 + raw[rows[8][0] : at]
        rows[8][0] += 64
    rows[9] = [len(raw), 0]
    for i, row in enumerate(rows):
        struct.pack_into("<QQ", raw, 0x60 + 16 * i, *row)
    return changed(bytes(raw), 0x10, struct.pack("<Q", len(raw)))


@pytest.mark.parametrize("harm", HARMS)
def test_bad_file_is_refused_in_words(harm, tmp_path):
    make, says = HARMS[harm]
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(make())
    began = time.perf_counter()
    with pytest.raises(ModelError, match=says) as caught:
        Tokenizer(path)
    assert time.perf_counter() - began < 1
    assert "tokenizer.bin" in str(caught.value) and "\n" not in str(caught.value)


def test_explicit_merges_are_obeyed():
    """With only t+h in the list, "the" stays th+e although the piece "the" exists."""
    t = Tokenizer(byte_bpe(flags=run.EXPLICIT, merges=[(ord("t"), ord("h"))]))
    assert t.encode("the") == [256, ord("e")]


# -- the four vocabularies of ../shared, and the reference programs ------------------------------------------------------

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
        CACHE[name] = Tokenizer(export.read_tokenizer(path, {"n_vocab": 32000}))
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
    normal = [p for p, kind in zip(t.pieces, t.types) if kind == run.NORMAL]
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
    control = [t.name(i) for i, kind in enumerate(t.types) if kind == run.CONTROL]
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
    compare(Tokenizer(export.read_tokenizer(path, hints)), plain, 3)


@pytest.mark.parametrize("name", ["llama3", "qwen2"])
def test_fuzz_against_tiktoken(name):
    tiktoken = pytest.importorskip("tiktoken")
    import unicodedata

    t = vocabulary(name)
    pattern = {v: k[0] for k, v in export.KNOWN_SPLITS.items() if k}[t.pretok]
    ranks = {p: i for i, p in enumerate(t.pieces) if t.types[i] == run.NORMAL}
    engine = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    nfc = (lambda s: unicodedata.normalize("NFC", s)) if t.flags & run.NFC else str
    compare(t, lambda s: engine.encode_ordinary(nfc(s)), 4)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_real_vocabularies_survive_a_round_trip(name):
    import unicodedata

    t = vocabulary(name)
    for text in random_texts(t, 300, 5):
        text = text.replace("\ufffd", "")
        want = unicodedata.normalize("NFC", text) if t.flags & run.NFC else text
        assert t.decode(t.encode(text)) == (want.replace("\u2581", " ") if t.kind == run.SPM else want)


def test_ways_to_cut_are_described():
    """Each number of run.SPLITS has a name in docs/format.md, and export.py writes each."""
    said = re.search(r"how text is split before merging \((.*?);", (ROOT / "docs" / "format.md").read_text()).group(1)
    assert [int(n) for n in re.findall(r"(?:^|, )(\d+) ", said)] == list(run.SPLITS) == sorted(export.KNOWN_SPLITS.values())


@pytest.mark.parametrize("cuts", [c for c in export.KNOWN_SPLITS if c], ids=lambda c: str(export.KNOWN_SPLITS[c]))
def test_text_is_cut_as_the_reference_cuts_it(cuts):
    """4,000 random strings of awkward characters, at each pattern, against the tokenizers library."""
    T = pytest.importorskip("tokenizers")
    P, pretok = T.pre_tokenizers, export.KNOWN_SPLITS[cuts]
    known = {"digits": P.Digits(True), "numbers": P.Digits(False), "punctuation": P.Punctuation("contiguous")}
    known["bytes"] = P.ByteLevel(False) if "numbers" in cuts else P.Split(T.Regex(export.GPT2_SPLIT), "isolated")
    engine = P.Sequence([known.get(cut) or P.Split(T.Regex(cut), "isolated") for cut in cuts])
    t = Tokenizer(byte_bpe(pretok=pretok, classes=export.class_runs(lambda p, s: export.find_with(T, p, s), pretok)))
    chars = {b: ch for ch, b in export.byte_alphabet().items()}
    show = lambda word: "".join(chars[b] for b in word) if isinstance(word, bytes) else word
    rng = random.Random(pretok)
    bits = list("aAzZ 's'S'T'reVE'llD\u017f'\u017f0123٣²½ \t\n\r\n\u00a0\u3000.,;!?/\\-_$+<=>^`|~#\u2014«éÉǅʰªßñмИрнमस्ते\u0301")
    bits += list("\u093f漢字かなカナー・한국어ไทย🙂👨\u200d👩\u200b\u0085\u2028\x00\x1c\x7f٠१\u3099゠")
    bits += list("ＡｚÀ～‘”。、ᴀႠḁΩℂ०߀\u1680\u2003\ud7a3\ud7ff")  # in two of DeepSeek's sets, or at their edges
    bits += ["'s", "'LL", "'\u017f", "  ", "\n\n", "HTTPServer", "don't", "1234567"]
    for _ in range(4000):
        text = "".join(rng.choice(bits) for _ in range(rng.randint(1, 14)))
        assert list(map(show, t._words(text))) == [piece for piece, _ in engine.pre_tokenize_str(text)], text
