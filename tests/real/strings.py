"""Strings that take tokenizers apart, and conversations; both by a seed."""

import unicodedata

SPACES = [*" \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u200b\u200d\u2060\ufeff"]
SPACES += ["\u2581", "\u180e", "\r\n", "  ", "   ", "    ", "\n\n"]
CONTRACTIONS = "'s 't 're 've 'm 'll 'd 'S 'T 'RE 'Ve 'M 'lL 'D '\u017f \u2019s 'em n't".split()
DIGITS = [chr(a + d) for a in (0x30, 0x660, 0x6F0, 0x966, 0x9E6, 0xE50, 0xFF10, 0x1D7CE) for d in range(10)]
DIGITS += "²³¹¼½¾ⅧⅨ㊿①万"
MARKS = [*"\u0300\u0301\u0308\u0327\u0323\u035c\u05b0\u064b\u093c\u094d\u0e49\u302a\u3099\u20dd\ufe0f"]
EMOJI = "🙂 👍🏽 👨\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 🇩🇪 🇺🇸🇫🇷 #️⃣ ❤️ 🧑🏿\u200d🚀 ☺ 🫠".split()
SCRIPTS = (
    "你好世界 漢字仮名交じり文 ひらがな カタカナ ｶﾀｶﾅ 한국어 ᄒ\u1161\u11ab שָׁלוֹם مرحبا العالم हिन्दी ภาษาไทย "
    "Ελληνικά Здравствуйте Ǆǅǆ ŒUVRE ßtraße İstanbul ﬁn ΐ \u00c5 \u212b ｆｕｌｌ ꙮ ᏣᎳᎩ ꮳꮃꭹ Ⴀⴀ ა Აა 𝓜𝓪𝓽𝓱 𐐀𐐨 Đặng Việt "
    "naïve co\u0301ope\u0301re\u0301 e\u0301\u0323 \u0958 \u09dc \u2126 \u0344"
).split()
CODE = [
    "def f(x):\n    return x+1\n",
    "for(i=0;i<10;++i){\n\ta[i]=b[i]; // no\n}",
    '<div class="a">&nbsp;</div>',
    "SELECT * FROM t WHERE a='b';",
    "x -> y => z != w",
    "https://example.org/a?b=c&d=%20#e",
    "C:\\dir\\file.txt",
    "#!/bin/sh\n$x",
    "0x1F 1e-5 1_000 3.14",
    "{{x}}{% y %}",
    "\\begin{x}\\alpha",
    "```py\n```",
    "/* a */ // b\r\n",
    '"""doc"""',
    "[x](y) **b** _i_",
]
WORDS = "the The THE don't iPhone McDonald HTMLParser camelCase snake_case ALLCAPS lowerUPPER x fox é Hello hello world"
WORDS = (WORDS + " I'm we'LL a1b2").split()
PUNCTUATION = [*"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", *"…—–“”‘’«»¿¡·•、。「」！？；：（）℃№§¶†‡¢£¥€©®™°±×÷≠≤∞∑√"]


def code_point(rng):
    """Any character but a surrogate: control, unassigned, private and rare ones too."""
    edges = [0, 0x20, 0x7F, 0x100, 0xD800, 0xE000, 0x10000, 0x20000, 0x110000]
    first, last = rng.choice([row for row in zip(edges, edges[1:]) if row[0] not in (0x20, 0xD800)])
    return chr(rng.randrange(first, last))


def fragment(rng, pieces, marks):
    """A short text of one of many kinds. pieces: of the vocabulary; marks: its special and added tokens, as text."""
    some = lambda many, most: "".join(rng.choice(many) for _ in range(rng.randint(1, most)))
    kind = rng.randrange(20)
    if kind < 3:
        return some(SPACES, 6) if rng.random() < 0.5 else rng.choice(SPACES) * rng.randint(1, 40)
    if kind == 3 and marks:
        return rng.choice(marks)
    if kind == 4 and marks:
        mark = rng.choice(marks)
        a, b = sorted(rng.randrange(len(mark) + 1) for _ in range(2))
        return rng.choice([mark[a:], mark[:b], mark[a:b], mark + mark[:b], mark[:a] + mark])
    if kind == 5 and marks:
        return some(SPACES, 2) + rng.choice(marks) + some(SPACES, 2)
    if kind == 6:
        return some(DIGITS[:10], 12) if rng.random() < 0.5 else some(DIGITS, 12)
    if kind == 7:
        return rng.choice(WORDS) + rng.choice(CONTRACTIONS) + rng.choice(["", " ", rng.choice(WORDS)])
    if kind == 8:
        return rng.choice("aeiou AEnzcx가かäǖ") + some(MARKS, 4)
    if kind == 9:
        return unicodedata.normalize(rng.choice(["NFC", "NFD", "NFKC", "NFKD"]), rng.choice(SCRIPTS))
    if kind == 10:
        return some(EMOJI, 3)
    if kind == 11:
        return some(SCRIPTS, 3)
    if kind == 12:
        return some([code_point(rng) for _ in range(6)], 6)
    if kind == 13:
        return some("abcdefghijklmnopqrstuvwxyz", 60) if rng.random() < 0.5 else rng.choice("aA1-=_é🙂字") * rng.randint(2, 90)
    if kind == 14:
        return "".join(rng.choice([str.upper, str.lower, str.title])(rng.choice(WORDS)) for _ in range(rng.randint(1, 3)))
    if kind == 15:
        return rng.choice(PUNCTUATION) * rng.randint(1, 9) if rng.random() < 0.5 else some(PUNCTUATION, 8)
    if kind == 16:
        return rng.choice(CODE)
    if kind == 17 and pieces:
        return some(pieces, 4)
    return rng.choice(["", " ", " ", "\n"]) + rng.choice(WORDS)


def strings(rng, count, pieces, marks):
    """So many texts; the empty one, and every kind of white space and each mark alone and between words, among the first."""
    alone = [rng.choice(marks) for _ in range(min(len(marks), 60))]
    out = ["", *SPACES, *(f"a{s}b" for s in SPACES), *alone, *(f" a {m} b" for m in alone), *CODE, *SCRIPTS]
    while len(out) < count:
        out.append("".join(fragment(rng, pieces, marks) for _ in range(rng.choice([1, 1, 2, 3, 5, 8]))))
    return out[:count]


THOUGHTS = ("<think>\nhm, {}\n</think>\n\n", "<think>{}</think>", "<think>\n\n</think>\n\n{}\n")


def content(rng):
    """What somebody says: awkward, with white space around now and then, but no token of any template."""
    inner = "".join(fragment(rng, [], []) for _ in range(rng.randint(1, 4))).replace("\ue0dd", "")
    before, behind = rng.choice(["", "", "", " ", "\n", "\n\n", "  \t"]), rng.choice(["", "", "", " ", "\n", " \n "])
    return before + (inner.strip() or "x") + behind


def conversations(rng, count, system, thoughts=True):
    """So many conversations, the user last. system: whether they begin with a system message. thoughts: let some answers begin
    with what a model thought."""
    out = []
    for _ in range(count):
        messages = [{"role": "system", "content": content(rng)}] if system else []
        for i in range(rng.choice([1, 1, 3, 3, 5, 7])):
            text = content(rng)
            if i % 2 and thoughts and rng.random() < 0.3:
                text = rng.choice(THOUGHTS).format(content(rng)) + text
            messages.append({"role": ("user", "assistant")[i % 2], "content": text})
        out.append(messages)
    return out
