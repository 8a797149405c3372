"""How text is cut before merging."""

import random
import re

import pytest

from helpers.places import ROOT
from helpers.vocabularies import byte_bpe
from twofile.export.tokenizers.rules import find_with
from twofile.export.tokenizers.splits import GPT2_SPLIT, KNOWN_SPLITS, byte_alphabet, class_runs
from twofile.tokenizer.splits import SPLITS
from twofile.tokenizer.tokenizer import Tokenizer


def test_ways_to_cut_are_described():
    """Each number of SPLITS has a name in docs/format.md, and export.py writes each."""
    said = re.search(r"how text is split before merging \((.*?);", (ROOT / "docs" / "format.md").read_text()).group(1)
    assert [int(n) for n in re.findall(r"(?:^|, )(\d+) ", said)] == list(SPLITS) == sorted(KNOWN_SPLITS.values())


@pytest.mark.parametrize("cuts", [c for c in KNOWN_SPLITS if c not in ((), ("\u2581",))], ids=lambda c: str(KNOWN_SPLITS[c]))
def test_text_is_cut_as_the_reference_cuts_it(cuts):
    """4,000 random strings of awkward characters, at each pattern, against the tokenizers library."""
    T = pytest.importorskip("tokenizers")
    P, pretok = T.pre_tokenizers, KNOWN_SPLITS[cuts]
    known = {"digits": P.Digits(True), "numbers": P.Digits(False), "punctuation": P.Punctuation("contiguous")}
    known["bytes"] = P.ByteLevel(False) if "numbers" in cuts else P.Split(T.Regex(GPT2_SPLIT), "isolated")
    engine = P.Sequence([known.get(cut) or P.Split(T.Regex(cut), "isolated") for cut in cuts])
    t = Tokenizer(byte_bpe(pretok=pretok, classes=class_runs(find_with, pretok)))
    chars = {b: ch for ch, b in byte_alphabet().items()}
    show = lambda word: "".join(chars[b] for b in word) if isinstance(word, bytes) else word
    rng = random.Random(pretok)
    bits = list("aAzZ 's'S'T'reVE'llD\u017f'\u017f0123٣²½ \t\n\r\n\u00a0\u3000.,;!?/\\-_$+<=>^`|~#\u2014«éÉǅʰªßñмИрнमस्ते\u0301")
    bits += list("\u093f漢字かなカナー・한국어ไทย🙂👨\u200d👩\u200b\u0085\u2028\x00\x1c\x7f٠१\u3099゠")
    bits += list("ＡｚÀ～‘”。、ᴀႠḁΩℂ०߀\u1680\u2003\ud7a3\ud7ff")  # in two of DeepSeek's sets, or at their edges
    bits += ["'s", "'LL", "'\u017f", "  ", "\n\n", "HTTPServer", "don't", "1234567"]
    for _ in range(4000):
        text = "".join(rng.choice(bits) for _ in range(rng.randint(1, 14)))
        assert list(map(show, t.words(text))) == [piece for piece, _ in engine.pre_tokenize_str(text)], text
