"""tokenizer.json as it is found: each rule of the tokenizers library, on texts at random, against the library."""

import random

import pytest

from helpers.jsons import MARK, PREPENDED, SPACED, added, bytewise, metaspace, ours, spaced, theirs
from twofile.errors import ModelError
from twofile.export.tokenizers.splits import KNOWN_SPLITS

T = pytest.importorskip("tokenizers")
MERGES = [(b"a", b"b"), (b"ab", b"c"), (b" ", b"a"), (b"\xc3", b"\xa9"), (b"b", b"\xc3\xa9"), (b"t", b"h"), (b"th", b"e")]


def compare(j, bits, seed=0, count=1500, size=9, controls=False):
    """Ids of random texts of these bits."""
    t, want, rng = ours(j), theirs(T, j), random.Random(seed)
    for _ in range(count):
        text = "".join(rng.choices(bits, k=rng.randint(0, size)))
        assert t.encode(text, add_bos=False) == want(text), ascii(text)
    return t


BYTES = list("abc \n\x04\x05é中🙂") + ["ab", "abc", "the", " a", "\U00050000"]


@pytest.mark.parametrize("unk", [None, "fused", "each"])
@pytest.mark.parametrize("drop", [(), (4, 5), (0xC0, 0xF1, *range(0xF5, 256)), (4, 0xF0, 0xE4, ord("c"))])
@pytest.mark.parametrize("ignore", [False, True])
def test_a_byte_without_a_token(drop, unk, ignore):
    """T5: it is dropped, so that its neighbours may merge; or an unknown token for it, or for a run of such."""
    tokens = [added("<unk>", True)] if unk else []
    merges = [(a, b) for a, b in MERGES if not set(a + b) & set(drop)]
    raw = ["<unk>"] if unk else []
    more = dict(unk_token="<unk>", fuse_unk=unk == "fused") if unk else {}
    t = compare(bytewise(merges, tokens, drop, raw, ignore_merges=ignore, **more), BYTES)
    assert t.longest is None if drop else t.longest


@pytest.mark.parametrize("no_bytes", [(), (9,), (0xE4, 9), range(256)])
@pytest.mark.parametrize("fuse", [True, False])
def test_a_character_without_a_token(no_bytes, fuse):
    """As bytes if all of its bytes have tokens, else unknown; Gemma spells one byte as the character."""
    letters = [*"abc\n", MARK, *("\t" if 9 in no_bytes else "")]
    merges = [("a", "b"), (MARK, "a"), (MARK, MARK)]
    j = spaced(letters, merges, normalizer=SPACED, no_bytes=no_bytes, fuse_unk=fuse)
    bits = [*"ab c\t\n", "é", "中", "中中", "x", MARK]
    if 0xE4 in no_bytes and len(no_bytes) < 256:
        bits.remove("é"), bits.remove("x"), bits.remove("中中")  # the library changes their order
    compare(j, bits)


TOKENS = [
    added("<|a|>"),
    added("<|l|>", lstrip=True),
    added("<|r|>", rstrip=True),
    added("<|both|>", lstrip=True, rstrip=True),
    added("fox", single_word=True),
    added("<n>", normalized=True),
    added("ab", normalized=True),
    added("b c", normalized=True),
    added("é", normalized=True),
    added("\n\n"),
    added("<|im"),
    added("<|im_start|>", True, rstrip=True),
    added("</done>", True, normalized=True, lstrip=True),
]
BITS = [t["content"] for t in TOKENS] + [*"abcfox \n\t_1é\u00a0\x1c\x85\u3000", "e\u0301", "<|", "|>", MARK, "  ", "fo"]


@pytest.mark.parametrize("form", ["none", "NFC", "space"])
def test_added_tokens_in_a_byte_level_vocabulary(form):
    """Found before or behind what makes a text ready, alone, with the white space beside them, or not inside of words."""
    more = {"NFC": dict(normalizer={"type": "NFC"}), "space": dict(space=True)}.get(form, {})
    compare(bytewise(MERGES, [dict(t) for t in TOKENS], **more), BITS, count=4000)


def cut_at(pattern, behaviour, invert=False):
    return dict(type="Split", pattern=pattern, behavior=behaviour, invert=invert)


WAYS = {
    "prepend": dict(normalizer=PREPENDED),
    "replace": dict(normalizer=SPACED),
    "gemma": dict(normalizer=SPACED, pre=cut_at({"String": " "}, "MergedWithPrevious")),
    **{scheme: dict(pre=metaspace(scheme)) for scheme in ("first", "always", "never")},
    "split": dict(pre=metaspace("always", True)),
    "NFC": dict(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, SPACED]}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("normed", [False, True])
def test_added_tokens_in_sentencepieces_manner(way, normed):
    """With each way to mark spaces; Gemma 3's runs of marks, which merges make too."""
    runs = [MARK * n for n in range(2, 6)]
    merges = [(MARK, MARK), (MARK * 2, MARK), (MARK * 2, MARK * 2), (MARK * 3, MARK * 2)]
    merges += [(MARK, "a"), ("a", "b"), (MARK + "a", "b")]
    tokens = [dict(t, normalized=t["normalized"] and normed) for t in TOKENS]
    tokens += [added(text) for text in (*runs, " x", "x" + MARK)]
    j = spaced([*"abcfox\n", MARK], merges, tokens, **WAYS[way])
    bits = BITS + ["   ", "      ", MARK * 3, " x", "x" + MARK]
    if way in ("first", "always", "never", "split") and normed:
        bits = [b for b in bits if b not in ("b c", " ", "  ", "   ", "      ")]  # only there is a space still one then
    compare(j, bits, count=4000)


def test_raw_characters_are_printed_and_never_found():
    """A byte-level vocabulary with tokens of characters that stand for no byte, as Command-R's has."""
    j = bytewise(MERGES, raw=["中", "the 中", " a"])
    t = compare(j, [*BYTES, "the 中", "中"])
    i = j["model"]["vocab"]["the 中"]
    assert t.decode([i]) == "the 中" and i not in t.encode("the 中") and t.decode(t.encode("中")) == "中"


CL100K = next(k[0] for k, v in KNOWN_SPLITS.items() if v == 2)
O200K = next(k[0] for k, v in KNOWN_SPLITS.items() if v == 6)
AGAIN = {  # other spellings of known ways
    "cl100k, removed": (CL100K, "Removed", True),
    "o200k, removed": (O200K, "Removed", True),
    "contractions in another order": (CL100K.replace("'s|'t|'re|'ve|'m|'ll|'d", "'d|'ll|'re|'m|'s|'ve|'t"), "Isolated", False),
    "contractions behind one mark": (CL100K.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?i:[sdmt]|ll|ve|re)"), "Removed", True),
    "possessive": (CL100K.replace("?\\p{L}+", "?+\\p{L}++"), "Isolated", False),
    "lines by their numbers": (CL100K.replace("\\r\\n", "\\n\\r"), "Isolated", False),
    "Qwen's with a count": (CL100K.replace("{1,3}", "{1}"), "Isolated", False),
    "without what is never reached": (CL100K.removesuffix("|\\s+") + "|\\s", "Isolated", False),
    "GPT-2's by hand": ("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", "Removed", True),
    "Ling's": (CL100K.replace("{1,3}", "").replace("|\\s*[\\r\\n]+", "|\\s*[\\r\\n]"), "Isolated", False),
    "Seed-Coder's": (CL100K.replace("{1,3}", "").replace("\\p{N}]+[\\r\\n]*", "\\p{N}\\r\\n]+"), "Removed", True),
}


@pytest.mark.parametrize("name", AGAIN)
def test_a_known_way_to_cut_in_other_words(name):
    """It is known by what it does on every kind of character."""
    pattern, behaviour, invert = AGAIN[name]
    split = cut_at({"Regex": pattern}, behaviour, invert)
    merges = [*MERGES, (b"1", b"2"), (b"\n", b"\n"), (b".", b"\n"), (b" ", b" "), (b"'", b"s")]
    compare(bytewise(merges, split=split), [*BYTES, *"12'S.", "'s", "12", ".\n", "\n\n", "  ", "\u017f", "A", "B", "ة", "٣"])


@pytest.mark.parametrize(
    "pattern, behaviour, invert",
    [
        (CL100K.replace("\\p{N}{1,3}", "\\d{1,4}"), "Isolated", False),
        (CL100K.replace("\\p{L}+|", "[\\p{L}\\p{Sc}]+|"), "Isolated", False),
        ("\\p{N}{1,3}", "Removed", True),  # drops all else
        (CL100K, "Removed", False),
        ("\\p{N}", "MergedWithNext", False),
        ("(a+)+$", "Isolated", False),
    ],
)
def test_other_ways_to_cut_are_refused(pattern, behaviour, invert):
    """What differs in one class, or drops text, is no known way."""
    split = cut_at({"Regex": pattern}, behaviour, invert)
    with pytest.raises(ModelError, match="pre-tokenizer .* is not supported; known: GPT-2"):
        ours(bytewise(MERGES, split=split))


def test_a_vocabulary_that_marks_no_spaces_is_refused():
    with pytest.raises(ModelError, match="nothing marks the spaces between words; expected ByteLevel, Metaspace, or Replace"):
        ours(spaced([MARK, "a"], []))


def test_padding_and_truncation_touch_nothing():
    j = bytewise(MERGES, [added("</s>", True)])
    plain = ours(j).encode("the " * 50)
    j["truncation"] = dict(direction="Right", max_length=8, strategy="LongestFirst", stride=0)
    j["padding"] = dict(strategy={"Fixed": 64}, direction="Left", pad_to_multiple_of=None)
    j["padding"] |= dict(pad_id=1, pad_type_id=0, pad_token="</s>")
    assert ours(j).encode("the " * 50) == plain


def template_of(before, behind=()):
    row = lambda text: {"SpecialToken": {"id": text, "type_id": 0}}
    middle = {"Sequence": {"id": "A", "type_id": 0}}
    single = [*map(row, before), middle, *map(row, behind)]
    ids = {text: dict(id=text, ids=[261 + MARKS.index(text)], tokens=[text]) for text in {*before, *behind}}
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    return dict(type="TemplateProcessing", single=single, pair=pair, special_tokens=ids)


MARKS = ["<s>", "</s>", "[gMASK]", "<sop>"]
LEVEL = dict(type="ByteLevel", add_prefix_space=True, trim_offsets=False, use_regex=True)
POSTS = {
    "one": (template_of(["<s>"]), [261]),
    "two": (template_of(["[gMASK]", "<sop>"]), [263, 264]),
    "an end too": (template_of(["<s>"], ["</s>"]), [261]),
    "an end alone": (template_of([], ["</s>"]), []),
    "in turn": ({"type": "Sequence", "processors": [LEVEL, template_of(["<s>"])]}, [261]),
    "RoBERTa's": (dict(LEVEL, type="RobertaProcessing", sep=["</s>", 262], cls=["<s>", 261]), [261]),
    "none": (LEVEL, []),
    "null": (None, []),
}


@pytest.mark.parametrize("name", POSTS)
def test_what_stands_before_a_text(name):
    """The post-processor says it, whatever config.json names; nothing is put behind a text that goes on."""
    post, begins = POSTS[name]
    j = bytewise(MERGES[:5], [added(text, True) for text in MARKS], post_processor=post)
    assert len(j["model"]["vocab"]) == 261
    t = ours(j, bos=7)
    assert t.encode("ab") == begins + t.encode("ab", add_bos=False) and t.begins == begins
    assert t.bos == (begins[0] if begins else 7)


def test_begin_tokens_that_the_settings_name():
    """Without a post-processor: tokenizer_config.json's begin token, if it or its class says that one is put there."""
    j = bytewise(MERGES[:5], [added(text, True) for text in MARKS], post_processor=LEVEL)
    begins = lambda settings, **special: ours(j, special=special, settings=settings, bos=7).begins
    assert begins({"add_bos_token": True}, bos_token="<sop>") == [264]
    assert begins({"tokenizer_class": "LlamaTokenizerFast"}, bos_token="<s>") == [261]
    assert begins({"tokenizer_class": "LlamaTokenizer", "add_bos_token": False}, bos_token="<s>") == []
    assert begins({"tokenizer_class": "PreTrainedTokenizerFast"}, bos_token="<s>") == []
    assert begins({"add_bos_token": True}) == [7] and begins({}, bos_token="<s>") == []  # config.json's
    ends = lambda special, **more: sorted(ours(j, special=special, **more).stops)
    assert ends({"eos_token": "[gMASK]"}, eos=262, stops=[262]) == [262, 263]
    assert ends({}, eos=262) == [262] and ends({"eos_token": "absent"}, stops=[261, 9999]) == [261]


@pytest.mark.parametrize("part", ["post_processor", "decoder", "normalizer"])
def test_a_file_that_its_own_library_cannot_use(part):
    j = bytewise(MERGES) | {part: {"type": "Foo"} if part != "normalizer" else {}}
    with pytest.raises(ModelError, match=r"cannot use it \(.*\); expected what that writes; is it whole\?"):
        ours(j)
