"""What a tokenizer.json does to a text before merging."""

import functools
import json
from typing import NamedTuple

from ...errors import ModelError, printable
from ...tokenizer.file import BYTE_BPE, NFC, NORMED, PREFIX, PREFIX_EACH, PREFIX_UNLESS, SPM
from ..say import need
from .behaviour import known_way
from .forms import form_rows, word_rows
from .splits import EVERY, KNOWN_SPLITS, SPLIT_NAMES, byte_alphabet, class_runs

SPACED = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
PREPENDED = {"type": "Prepend", "prepend": "\u2581"}
AT_LINES = "[^\\n]+|[\\n]+"  # Gemma 4 cuts there, where no merge crosses
BYTES = byte_alphabet()


class Rules(NamedTuple):
    kind: int  # BYTE_BPE or SPM
    flags: int  # NFC, PREFIX and those beside it
    pretok: int  # number of the pattern
    first: bool = False  # whether the space comes before the first words alone
    normed: int = NORMED  # of tokens that are found in the text made ready for merging


def steps_of(part, key):
    """A part of tokenizer.json as the list of its steps."""
    if not part:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [step for inner in part[key] for step in steps_of(inner, key)]


def text_rules(j):
    """A tokenizer.json, as a dict -> its Rules."""
    norms = steps_of(j.get("normalizer"), "normalizers")
    pres = steps_of(j.get("pre_tokenizer"), "pretokenizers")
    bytewise = any(p["type"] == "ByteLevel" for p in pres)
    flags = normal_flags(norms, bytewise)
    if bytewise:
        more, pretok = byte_rules(j["pre_tokenizer"], pres)
        return Rules(BYTE_BPE, flags | more, pretok)
    if SPACED not in norms and not any(step["type"] == "Metaspace" for step in pres):
        found = "tokenizer.json: nothing marks the spaces between words"
        raise ModelError(f"{found}; expected ByteLevel, Metaspace, or Replace by U+2581")
    more, first, cuts = spaced_rules(pres, bool(norms))
    if cuts == [AT_LINES] and not any(set(t) > {"\n"} for t in j["model"]["vocab"] if "\n" in t):
        cuts = []
    if tuple(cuts) not in ((), ("\u2581",)):
        unknown(cuts)
    # where nothing makes it ready, spaces are marked when tokens are found
    normed = NORMED if norms or more else 0
    return Rules(SPM, flags | more, KNOWN_SPLITS[tuple(cuts)], first, normed)


def normal_flags(norms, bytewise):
    """Flags of the normalizer's steps."""
    flags = 0
    for step in norms:
        if step["type"] == "NFC":
            flags |= NFC
        elif step == PREPENDED and not bytewise:
            flags |= PREFIX | PREFIX_EACH
        elif step != SPACED or bytewise:
            found = f"tokenizer.json: normalizer {printable(json.dumps(step))[:80]}"
            raise ModelError(f"{found} is not supported; known: NFC, Prepend, Replace")
    return flags


def byte_rules(pre, pres):
    """The pre-tokenizer of a byte-level vocabulary, and its steps -> flags, number of the
    pattern."""
    flags = 0
    if any(p.get("add_prefix_space") for p in pres if p["type"] == "ByteLevel"):
        if len(pres) > 1:
            unknown(pres)
        flags = PREFIX_UNLESS | PREFIX_EACH
        pre = {**pres[0], "add_prefix_space": False}
        pres = [pre]
    cuts = [cut for step in pres for cut in cut_of(step)]
    if all(isinstance(cut, str) for cut in cuts) and tuple(cuts) in KNOWN_SPLITS:
        return flags, KNOWN_SPLITS[tuple(cuts)]
    found = known_way(pre, find_with, classes_of)
    if found is None:
        unknown(cuts)
    return flags, found


def unknown(cuts):
    """Refuse a pre-tokenizer."""
    found = printable(json.dumps(cuts, ensure_ascii=False))[:160]
    raise ModelError(f"tokenizer.json: pre-tokenizer {found} is not supported; {SPLIT_NAMES}")


def spaced_rules(pres, marked):
    """The steps of a pre-tokenizer that keeps characters -> flags, whether the space comes before
    the first words alone, cuts. marked: whether spaces are marked already."""
    flags, first, cuts = 0, False, []
    for step in pres:
        if step["type"] == "Metaspace" and step["replacement"] == "\u2581":
            plain = "always" if step.get("add_prefix_space", True) else "never"
            scheme = step.get("prepend_scheme", plain)
            each = PREFIX_UNLESS | PREFIX_EACH
            flags |= {"always": each, "first": PREFIX_UNLESS, "never": 0}[scheme]
            first, cuts = scheme == "first", cuts + ["\u2581"] * bool(step.get("split", True))
        elif not (marked and step["type"] == "Split" and step["pattern"] == {"String": " "}):
            # Gemma cuts at spaces, of which its normalizer has left none
            cuts += cut_of(step)
    return flags, first, cuts


def cut_of(step):
    """A pre-tokenizer's step in the words of KNOWN_SPLITS: a list of none or one, which is the step
    itself where there is no word for it."""
    kind, plain = step["type"], step.get("behavior") == "Isolated" and not step.get("invert")
    if kind == "Split" and plain and "Regex" in step["pattern"]:
        return [step["pattern"]["Regex"].replace("\r", r"\r").replace("\n", r"\n")]
    if kind == "Digits":
        return ["digits" if step.get("individual_digits") else "numbers"]
    if step == {"type": "Punctuation", "behavior": "Contiguous"}:
        return ["punctuation"]
    if kind == "ByteLevel":
        return ["bytes"] if step.get("use_regex", True) else []
    return [step]


@functools.cache
def classes_of(pretok):
    """class_runs of a pattern, as the package tokenizers sees characters."""
    return class_runs(find_with, pretok)


@functools.cache
def forms_of_library():
    """The tables of form C, as the package tokenizers has them."""
    N = need("tokenizers").normalizers
    return form_rows(N.NFD().normalize_str, N.NFC().normalize_str)


@functools.cache
def words_of_library():
    """Rows of what words are made of, as the package tokenizers has them."""
    return word_rows(find_with(r"\w+", "".join(map(chr, EVERY))))


def find_with(pattern, text):
    """The characters of text that a pattern, or "punctuation", matches as the package tokenizers
    sees them."""
    T = need("tokenizers")
    P = T.pre_tokenizers
    joined = lambda step: "".join(part for part, _ in step.pre_tokenize_str(text))
    if pattern != "punctuation":
        return joined(P.Split(T.Regex(pattern), "removed", invert=True))
    others = set(joined(P.Punctuation("removed")))
    return "".join(ch for ch in text if ch not in others)
