"""The ways to cut text, as regular expressions that other programs write."""

import numpy as np

from ...tokenizer.splits import LETTER, NUMBER, SPACE

CASE_FREE = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UP, LOW = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
BLANKS = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
ANY, REST = r"[^\r\n\p{L}\p{N}]?", r"| ?[^\s\p{L}\p{N}]+[\r\n/]*" + BLANKS
CASES = lambda ends, digits: (
    f"{ANY}{UP}*{LOW}+{ends}|{ANY}{UP}+{LOW}*{ends}|" + r"\p{N}" + digits + REST
)
WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
GPT2_SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PUNCTUATION = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"""
KANA = "[一-龥\u3040-ゟ゠-ヿ]"
DEEPSEEK = (
    PUNCTUATION + r"[A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*" + BLANKS
)
CASED_LETTERS = (  # as DeepSeek LLM lists them
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af"
    "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1"
    "\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd"
    "\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d"
    "\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"
    "\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b"
    "\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787"
    "\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"
    "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2"
    "\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
CJK = "[一-龥\u0800-一\uac00-\ud7ff]"
LISTED_PUNCTUATION = r"[!-/:-~！-／：-～‘-‟\u3000-。]"
KNOWN_SPLITS = {
    # the regular expressions of tokenizer.json, one after the other -> the pattern's number in
    # run.py
    (CASE_FREE + WORDS % "{1,3}" + BLANKS,): 2,
    (CASE_FREE + WORDS % "" + BLANKS,): 3,
    (CASES("", ""),): 5,
    (CASES(CASE_FREE + "?", "{1,3}"),): 6,
    (
        CASE_FREE
        + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
        + BLANKS,
    ): 7,
    (r"\p{N}{1,3}", KANA + "+", DEEPSEEK): 8,
    (
        r"[\r\n]",
        rf"\s?[{CASED_LETTERS}]+",
        rf"\s?{LISTED_PUNCTUATION}+",
        r"\s+$",
        CJK + "+",
        "digits",
    ): 10,
    (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK + "+", "digits"): 11,
    (
        CASE_FREE
        + WORDS.removesuffix(r"[\r\n]*").replace(r"\p{N}]+", r"\p{N}\r\n]+") % ""
        + BLANKS,
    ): 12,
    (CASE_FREE + WORDS % "" + BLANKS.replace(r"[\r\n]+", r"[\r\n]"),): 13,
    (WORDS[1:] % "" + BLANKS,): 14,
    (r"\p{N}{1,3}", CASE_FREE + WORDS % "+" + BLANKS): 15,
    ("\u2581",): 16,
    ("digits", "bytes"): 4,
    ("punctuation", "bytes", "numbers", "[0-9][0-9][0-9]"): 9,
    ("bytes",): 1,
    (): 0,
}
SPLIT_NAMES = "known: GPT-2, Llama 3, Qwen 2 and 3.5, SmolLM, StarCoder 2, tekken, o200k, "
SPLIT_NAMES += "DeepSeek LLM, Coder and V3, Falcon, Seed-Coder, Ling, MiniCPM 5"
OLD_CLASSES = [(r"\p{L}+", LETTER), (r"\p{N}+", NUMBER), (r"\s+", SPACE)]
BASE = [
    (r"\p{L}+", "x"),
    (r"\p{N}+", "0"),
    (r"\s+", "\t"),
    (r"[\r\n]+", "\n"),
    (" +", " "),
    ("'+", "'"),
]
LETTERS = [(f"{ch}+", ch) for ch in "stmdlverSTMDLVER"] + [("\u017f+", "z")]
CASED_CLASSES = [(r"\p{M}+", "~"), *BASE, (r"[\p{Lu}\p{Lt}]+", "A"), (r"\p{Ll}+", "a"), ("/+", "/")]


def overlaps(letter, mark):
    """Classes of a pattern whose steps speak of sets that have characters in common."""
    sets = {
        "x": letter,
        "!": mark,
        "k": CJK,
        "X": f"{letter} {mark}",
        "y": f"{letter} {CJK}",
        "K": f"{mark} {CJK}",
    }
    sets |= {"q": rf"\s {CJK}", "#": rf"\s {mark} {CJK}", "m": rf"\p{{N}} {CJK}"}
    every = lambda parts: "(?:" + "".join(f"(?={part})" for part in parts[1:]) + parts[0] + ")+"
    return [(r"\p{N}+", "0"), (r"\s+", "\t"), (r"[\r\n]+", "\n")] + [
        (every(s.split(" ")), ch) for ch, s in sets.items()
    ]


CLASSES = {  # pattern -> [(what the engine finds, the letter it gets)], the later over the earlier
    4: BASE + LETTERS,
    5: CASED_CLASSES,
    6: CASED_CLASSES + LETTERS,
    7: [(r"\p{M}+", "~"), *BASE, *LETTERS],
    8: [
        (r"[\p{P}\p{S}]+", "#"),
        (PUNCTUATION + "+", "!"),
        (r"\p{M}+", "~"),
        *BASE[:5],
        ("[A-Za-z]+", "a"),
    ]
    + [(f"{KANA}+", "q")]
    + [
        (f"(?:(?={KANA}){kind})+", ch)
        for kind, ch in ((r"\p{L}", "k"), (r"\p{M}", "m"), (r"[\p{P}\p{S}]", "K"))
    ],
    9: [("punctuation", "!"), *BASE, *LETTERS],
    10: overlaps(f"[{CASED_LETTERS}]", LISTED_PUNCTUATION),
    11: overlaps(r"\p{L}", r"\p{P}"),
    **dict.fromkeys((12, 13, 14, 15), BASE + LETTERS),
    16: [(" +", " ")],
}


def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes -> the byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


# the planes in which Unicode has characters, but for surrogates
EVERY = [*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE1000)]


def class_runs(find, pretok, characters=None):
    """[(first, last, class)] over all code points, or those given. find(pattern, text) -> the
    characters of text that match, by the engine."""
    text, kinds = "".join(characters or map(chr, EVERY)), np.zeros(0x110000, np.uint8)
    for pattern, kind in CLASSES.get(pretok, OLD_CLASSES):
        found = find(pattern, text) if len(pattern) > 2 else pattern[0]  # one character and a +
        kinds[np.frombuffer(found.encode("utf-32-le"), "<u4")] = (
            ord(kind) if isinstance(kind, str) else kind
        )
    edges = np.flatnonzero(np.diff(kinds, prepend=0, append=0)).tolist()
    return [(a, b - 1, int(kinds[a])) for a, b in zip(edges, edges[1:]) if kinds[a]]
