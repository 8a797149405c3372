"""How text is cut before merging: patterns over classes of characters."""

import functools
import re

import numpy as np

LETTER, NUMBER, SPACE = 1, 2, 3  # of class runs

# Regular expressions, one after the other on what the last one left, over a string of classes, a
# letter for each character of the text. x letter, 0 number, . other, "\n" line end, " " space, "\t"
# other white space; ' and the letters of English contractions stand for themselves, z for the long
# s, which matches s when case is ignored. From 4 on the file says the letters: A upper case, a
# lower case, x other letters, ~ marks, / itself, ! (ASCII) punctuation, # other punctuation and
# symbols; of Han and kana: k letters, m marks, K punctuation and symbols, q the rest. From 10 on
# they are sets that overlap: x letters, ! punctuation, k CJK, and X y K q # m what is in two of
# them or three.
CONTRACTIONS = r"'(?:[sSz]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
LATER = r"|[^\na-zA-Z0]?[a-zA-Z]+|0{1,%d}| ?[.']+\n*|\s*\n+|\s+(?!\S)|\s+"
ENDS = r"|\s*\n+|\s+(?!\S)|\s+"
GPT2 = r"'(?:s|t|re|ve|m|ll|d)| ?[a-zA-Z]+| ?0+| ?[.']+|\s+(?!\S)|\s+"
CASED = (
    r"[^\na-zA-Z0]?[AxSTMDLVER~]*[axstmdlverz~]+{0}"
    r"|[^\na-zA-Z0]?[AxSTMDLVER~]+[axstmdlverz~]*{0}|0{1}| ?[.'~/]+[\n/]*"
)
SPLITS = {
    0: (),  # the whole text is one piece
    1: (GPT2,),
    2: (CONTRACTIONS + LATER % 3,),  # Llama 3
    3: (CONTRACTIONS + LATER % 1,),  # Qwen 2
    4: ("0", GPT2),  # SmolLM, StarCoder 2: digits one by one
    5: (CASED.format("", "") + ENDS,),  # tekken: Mistral Nemo and later
    6: (CASED.format(f"(?:{CONTRACTIONS})?", "{1,3}") + ENDS,),  # o200k: Phi-4-mini, gpt-oss
    7: (CONTRACTIONS + r"|[^\na-zA-Z0]?[a-zA-Z~]+|0| ?[.']+\n*" + ENDS,),  # Qwen 3.5
    8: ("0{1,3}", "[kmKq]+", r"!a+|[^\naxk!#K]?[axk~m]+| ?[!#K]+\n*" + ENDS),  # DeepSeek V3
    9: ("[!']+", GPT2.replace(".'", ".'!")),  # Falcon; and then BYTE_SPLITS
    # DeepSeek LLM
    10: ("\n", r"[\tq#]?[xXy]+", r"[\tq#]?[!XK#]+", r"[\tq#]+$", "[kyKq#m]+", "[0m]"),
    11: ("\n", r"[\tq#]?[xXy]+", r"[\tq#]?[!XK#]+", "[kyKq#m]+", "[0m]"),  # DeepSeek Coder
    12: (CONTRACTIONS + r"|[^\na-zA-Z0]?[a-zA-Z]+|0| ?[.']+" + ENDS,),  # Seed-Coder
    13: (CONTRACTIONS + LATER.replace(r"\s*\n+", r"\s*\n") % 1,),  # Ling
    14: (LATER[1:] % 1,),  # Qwen 2 without contractions
    15: ("0{1,3}", CONTRACTIONS + LATER.replace("{1,%d}", "+")),  # MiniCPM 5
    16: (" [^ ]*|[^ ]+",),  # a word begins with a space, SentencePiece's
}

# its digits are cut among bytes: the reference writes a byte as a character, and some of those
# count as numbers
BYTE_SPLITS = {9: (rb"[0-9\xb2\xb3\xb9\xbc-\xbe]+", b"[0-9]{3}")}


def cut(pattern, text, spans):
    """Yield the spans that a pattern cuts those of text into: each match, and what lies between. As
    if each span were alone."""
    for first, last in spans:
        part, at = text[first:last], 0
        for m in pattern.finditer(part):
            if m.start() > at:
                yield first + at, first + m.start()
            yield first + m.start(), first + m.end()
            at = m.end()
        if at < len(part):
            yield first + at, last


class Cutter:
    """Cuts text into the words that are merged, by number pretok of SPLITS, not 0.

    classes: u4 [runs, 3], first and last character and class. bytewise: whether words may be bytes.
    """

    def __init__(self, pretok, classes, bytewise):
        self.pretok, self.classes = pretok, classes
        self.patterns = [re.compile(pattern) for pattern in SPLITS[pretok]]
        found = BYTE_SPLITS.get(pretok, ()) if bytewise else ()
        self.byte_patterns = [re.compile(pattern) for pattern in found]

    @functools.cached_property
    def letters(self):
        """The letter that stands for each character's class in the patterns, u1 [0x110000]."""
        letters = np.full(0x110000, ord("."), np.uint8)
        old = {LETTER: "x", NUMBER: "0", SPACE: "\t"} if self.pretok < 4 else {}
        for first, last, kind in self.classes.tolist():
            letters[first : last + 1] = ord(old[kind]) if kind in old else kind
        if old:
            for ch in "stmdlverSTMDLVER' ":
                letters[ord(ch)] = ord(ch)
            letters[[0x0A, 0x0D]], letters[0x17F] = ord("\n"), ord("z")
        return letters

    def __call__(self, text):
        """Yield the words of text, str or bytes; the patterns run on a string of classes."""
        characters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        classes = self.letters[characters].tobytes().decode("latin-1")
        spans = [(0, len(text))]
        for pattern in self.patterns:
            spans = cut(pattern, classes, spans)
        if not self.byte_patterns:
            for first, last in spans:
                yield text[first:last]
            return
        for first, last in spans:
            raw = text[first:last].encode("utf-8", "replace")
            parts = [(0, len(raw))]
            for pattern in self.byte_patterns:
                parts = cut(pattern, raw, parts)
            for a, b in parts:
                yield raw[a:b]
