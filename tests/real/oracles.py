"""Reference tokenizers: what other libraries make of the same files."""

import base64
import functools
import importlib
import json
import re
import struct

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = QWEN2.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BYTES = {**LEVEL, "use_regex": False}
DIGITS = {"type": "Digits", "individual_digits": True}
isolated = lambda regex: {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
NFC = {"type": "NFC"}
RULES = {  # GGUF's names -> normalizer and pre-tokenizers of the tokenizer.json that the model was published with
    "gpt-2": (None, [LEVEL]),
    "aquila": (None, [LEVEL]),
    "gpt-neox": (NFC, [LEVEL]),
    "mpt": (NFC, [LEVEL]),
    "starcoder": (None, [DIGITS, LEVEL]),
    "refact": (None, [DIGITS, LEVEL]),
    "smollm2": (None, [DIGITS, LEVEL]),
    "command-r": (NFC, [DIGITS, LEVEL]),
    "llama-bpe": (None, [isolated(LLAMA3), BYTES]),
    "qwen2": (NFC, [isolated(QWEN2), BYTES]),
    "qwen35": (NFC, [isolated(QWEN35), BYTES]),
    "falcon": (
        None,
        [
            {"type": "Punctuation", "behavior": "Contiguous"},
            LEVEL,
            {"type": "Digits", "individual_digits": False},
            isolated("[0-9][0-9][0-9]"),
        ],
    ),
}


def library(name):
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


class Hugging:
    """tokenizers, of a tokenizer.json. apart: ids that a text never becomes, whatever the file says."""

    name = "tokenizers"

    def __init__(self, text, apart=()):
        tokenizers = library("tokenizers")
        j = json.loads(text)
        j["padding"] = j["truncation"] = None
        for token in j.get("added_tokens") or []:
            token["special"] = token["special"] or token["id"] in apart
        self.engine = tokenizers.Tokenizer.from_str(json.dumps(j))
        self.pieces = plain(j["model"]["vocab"], "ByteLevel" in json.dumps(j["pre_tokenizer"]))
        self.marks = [t["content"] for t in j.get("added_tokens") or []]
        self.users = {t["content"] for t in j.get("added_tokens") or [] if not t["special"]}

    def encode(self, texts):
        self.engine.encode_special_tokens = True
        return [e.ids for e in self.engine.encode_batch(texts, add_special_tokens=False)]

    def chats(self, texts):
        self.engine.encode_special_tokens = False
        return [e.ids for e in self.engine.encode_batch(texts, add_special_tokens=False)]

    def begin(self, settings):
        """The ids that transformers puts before a text: as tokenizer_config.json says, or else the post-processor."""
        if "add_bos_token" in settings:
            bos = settings["bos_token"] if settings["add_bos_token"] else None
            return [self.engine.token_to_id(bos.get("content") if isinstance(bos, dict) else bos)] if bos else []
        return self.engine.encode("a", add_special_tokens=True).ids[: -len(self.encode(["a"])[0])]


class Ranks:
    """tiktoken, of a tekken.json, whose first ids are control tokens."""

    name = "tiktoken"

    def __init__(self, text, names):
        tiktoken, j = library("tiktoken"), json.loads(text)
        c = j["config"]
        self.first = c["default_num_special_tokens"]
        rows = j["vocab"][: c["default_vocab_size"] - self.first]
        ranks = {base64.b64decode(row["token_bytes"]): row["rank"] for row in rows}
        self.engine = tiktoken.Encoding("x", pat_str=c["pattern"], mergeable_ranks=ranks, special_tokens={})
        self.pieces = [piece.decode("utf-8", "ignore") for piece in ranks]
        self.ids = {name: i for i, name in enumerate(names)}
        self.ids |= {s["token_str"]: s["rank"] for s in j.get("special_tokens") or ()}
        self.marks, self.users = list(self.ids), set()

    def encode(self, texts):
        return [[i + self.first for i in ids] for ids in self.engine.encode_ordinary_batch(texts)]

    def chats(self, texts):
        pattern = re.compile("(" + "|".join(sorted(map(re.escape, self.ids), key=len, reverse=True)) + ")")
        out = []
        for text in texts:
            parts = pattern.split(text)
            rows = [[self.ids[p]] if i % 2 else self.encode([p])[0] for i, p in enumerate(parts)]
            out.append([i for row in rows for i in row])
        return out


class Pieces:
    """sentencepiece, of a tokenizer.model."""

    name = "sentencepiece"

    def __init__(self, raw):
        self.engine = library("sentencepiece").SentencePieceProcessor(model_proto=raw)
        e = self.engine
        self.pieces = [e.id_to_piece(i).replace("\u2581", " ") for i in range(e.get_piece_size())]
        self.marks = [p for i, p in enumerate(self.pieces) if e.is_control(i)] or ["<s>", "</s>"]
        self.users = set()

    def encode(self, texts):
        return [self.engine.encode(text) for text in texts]


class Llama:
    """llama.cpp, of a GGUF."""

    name = "llama.cpp"

    def __init__(self, path):
        self.engine = library("llama_cpp").Llama(str(path), vocab_only=True, verbose=False)
        self.users = set()

    def encode(self, texts):
        return [self.engine.tokenize(text.encode(), add_bos=False, special=False) for text in texts]

    def chats(self, texts):
        return [self.engine.tokenize(text.encode(), add_bos=False, special=True) for text in texts]

    def begin(self):
        plain, ids = self.encode(["a"])[0], self.engine.tokenize(b"a", add_bos=True, special=False)
        return ids[: next(i for i in range(len(ids)) if ids[i : i + len(plain)] == plain)]


def letters():
    """{character that stands for a byte in byte-level vocabularies: the byte}."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def plain(tokens, level):
    """Tokens as the text that they stand for. level: whether characters stand for bytes."""
    alphabet = letters()
    if level:
        return [bytes(alphabet.get(ch, 63) for ch in t).decode("utf-8", "ignore") for t in tokens]
    return [t.replace("\u2581", " ") for t in tokens]


SCALARS = dict(zip(range(13), ("<B", "<b", "<H", "<h", "<I", "<i", "<f", "<?", None, None, "<Q", "<q", "<d")))


@functools.cache
def gguf_fields(path):
    """{key behind "tokenizer.": value} of a GGUF, which is sound."""
    with open(path, "rb") as f:
        number = lambda form: struct.unpack(form, f.read(struct.calcsize(form)))[0]
        string = lambda: f.read(number("<Q")).decode("utf-8", "replace")

        def value(kind):
            if kind != 9:
                return number(SCALARS[kind]) if SCALARS[kind] else string()
            kind, count = number("<I"), number("<Q")
            form = SCALARS[kind]
            if form is None:
                return [value(kind) for _ in range(count)]
            return list(struct.unpack(f"<{count}{form[1]}", f.read(count * struct.calcsize(form))))

        f.read(16)
        fields = {}
        for _ in range(number("<Q")):
            key = string()
            fields[key] = value(number("<I"))
    return {k.split(".", 1)[1]: v for k, v in fields.items() if k.startswith("tokenizer.")}


def rebuilt_json(name, fields, sources):
    """The tokenizer.json that a byte-level GGUF was made from, as far as it speaks of texts; None where RULES has none.
    sources: llama.cpp's."""
    rules = RULES.get(name)
    if name.startswith("deepseek-"):
        rules = None, listed(sources / "llama-vocab.cpp", name.upper().replace("-", "_"))
    rows = list(enumerate(zip(fields["ggml.tokens"], fields["ggml.token_type"])))
    added = [(i, t, k) for i, (t, k) in rows if k in (3, 4)]
    plain = dict(single_word=False, lstrip=False, rstrip=False)
    normalised = name in ("gpt-neox", "mpt")
    added = [dict(plain, id=i, content=t, special=k == 3, normalized=normalised and k == 4) for i, t, k in added]
    vocab, merges = {t: i for i, (t, k) in rows if k != 5}, fields.get("ggml.merges")
    model = dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None)
    model |= dict(fuse_unk=False, byte_fallback=False, ignore_merges=name == "llama-bpe", vocab=vocab)
    j = dict(version="1.0", truncation=None, padding=None, added_tokens=added, post_processor=None, decoder=None, model=model)
    if name == "gemma-4":
        model |= dict(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
        model["merges"] = [[m[: m.index(" ", 1)], m[m.index(" ", 1) + 1 :]] for m in merges]
        j["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
        j["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    elif rules:
        model["merges"] = [m.split(" ") for m in merges]
        j["normalizer"], steps = rules
        j["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    else:
        return None
    return json.dumps(j)


def listed(source, case):
    """The regular expressions of a case of llama.cpp's llama-vocab.cpp, with single digits, as pre-tokenizers."""
    text = source.read_text("utf-8").split(f"case LLAMA_VOCAB_PRE_TYPE_{case}:")[1].split("};")[0]
    rows = [json.loads(row) for row in re.findall(r'"(?:[^"\\]|\\.)*"', text)]
    return [DIGITS if row.startswith(r"\p{N}") else isolated(row) for row in rows] + [BYTES]


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def rebuilt_model(fields):
    """The tokenizer.model that a GGUF of SentencePiece's kind was made from."""
    wrap = lambda field, raw: varint(field << 3 | 2) + varint(len(raw)) + raw
    number = lambda field, n: varint(field << 3) + varint(n)
    out = b""
    for piece, score, kind in zip(fields["ggml.tokens"], fields["ggml.scores"], fields["ggml.token_type"]):
        out += wrap(1, wrap(1, piece.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score) + number(3, kind))
    trainer = number(3, 2) + number(35, 1) + number(40, 0) + number(41, 1) + number(42, 2)
    normaliser = wrap(1, b"identity") + number(3, 1) + number(4, 0) + number(5, 1)
    return out + wrap(2, trainer) + wrap(3, normaliser)
