"""The tokenizer inside of a GGUF."""

import json

import numpy as np

from ...errors import ModelError, printable
from ...tokenizer.file import (
    ADD_BOS,
    BYTE,
    BYTE_FALLBACK,
    CONTROL,
    NORMAL,
    PREFIX,
    SPM,
    UNUSED,
    USER,
)
from ..damage import reading
from ..template import add_chat
from .json import SPACED, read_tokenizer_json
from .pack import finish_tokenizer
from .splits import KNOWN_SPLITS

GGUF_SPLITS = {  # what the converter calls a way to split text: which of KNOWN_SPLITS it is
    name: kind
    for kind, names in {
        1: "default gpt-2 phi-2 olmo mpt exaone4",
        2: "llama-bpe llama3 llama-v3 falcon3 lfm2 smaug-bpe dbrx chatglm-bpe glm4",
        3: "qwen2 deepseek-r1-qwen stablelm2 megrez hunyuan",
        4: "smollm starcoder refact command-r exaone codeshell",
        5: "tekken",
        6: "gpt-4o llama4",
        7: "qwen35",
        8: "deepseek-v3 hunyuan-dense",
        9: "falcon",
        10: "deepseek-llm",
        11: "deepseek-coder",
    }.items()
    for name in names.split()
}


ENDS = (  # control tokens that end an answer, whatever else is said
    "<|eot_id|>",
    "<|im_end|>",
    "<end_of_turn>",
    "<turn|>",
    "<|end|>",
    "<|endoftext|>",
    "<|eom_id|>",
)
LLAMA3 = ("llama-bpe", "llama3", "llama-v3", "falcon3", "lfm2")  # tokens of whole words are kept


def gguf_tokenizer(fields):
    """The tokenizer in a GGUF's metadata -> (fields of pack_tokenizer, engine or None)."""
    get = lambda key, otherwise=None: fields.get(f"tokenizer.ggml.{key}", otherwise)
    with reading():
        stops = gguf_stops(get)
        if get("model") == "llama":
            return gguf_pieces(get, stops), None
        j, begins = gguf_chars(get) if get("model") == "gemma4" else gguf_bytes(get)
        hints = dict(bos=get("bos_token_id"), eos=get("eos_token_id"), stops=stops, add_bos=begins)
        text = json.dumps(j)
    return read_tokenizer_json(text, hints)


def gguf_stops(get):
    """Tokens that end an answer: those that it names, and control tokens with a known text."""
    tokens, ids = get("tokens"), [get(f"{key}_token_id") for key in ("eos", "eot", "eom")]
    stops = {i for i in ids if i is not None and i < len(tokens)}
    rows = enumerate(zip(tokens, get("token_type")))
    return sorted(stops | {i for i, (text, kind) in rows if kind == 3 and text in ENDS})


def gguf_pieces(get, stops):
    """SentencePiece's -> fields of pack_tokenizer."""
    types = {1: NORMAL, 2: CONTROL, 3: CONTROL, 4: USER, 5: UNUSED, 6: BYTE}
    types, tokens = [types[k] for k in get("token_type")], get("tokens")
    spaced = [t.replace("\u2581", " ").encode() for t in tokens]
    rows = zip(tokens, spaced, types)
    pieces = [bytes([int(t[3:5], 16)]) if k == BYTE else s for t, s, k in rows]
    bos = get("bos_token_id") if get("add_bos_token", True) else None
    flags = ADD_BOS * (bos is not None) | PREFIX * bool(get("add_space_prefix", True))
    flags |= BYTE_FALLBACK if types.count(BYTE) == 256 else 0
    prio = np.array(list(get("scores")), "<f4").tolist()
    fields = dict(kind=SPM, pieces=pieces, prio=prio, types=types, flags=flags)
    ids = dict(bos=bos, eos=get("eos_token_id"), unk=get("unknown_token_id"))
    return fields | ids | dict(stops=stops)


def gguf_vocabulary(get):
    """-> ({text: id} of what merges make, the other tokens as tokenizer.json lists them)."""
    plain = dict(single_word=False, lstrip=False, rstrip=False, normalized=False)
    rows = list(enumerate(zip(get("tokens"), get("token_type"))))
    added = [dict(plain, id=i, content=t, special=k == 3) for i, (t, k) in rows if k in (3, 4)]
    return {t: i for i, (t, k) in rows if k not in (3, 4)}, added


def gguf_chars(get):
    """Gemma 4's, merges as of BPE, of characters with bytes to fall back on -> (what a
    tokenizer.json of it would say, whether a text begins with a token)."""
    vocab, added = gguf_vocabulary(get)
    merges = [[m[: m.index(" ", 1)], m[m.index(" ", 1) + 1 :]] for m in get("merges")]
    model = dict(type="BPE", vocab=vocab, merges=merges, byte_fallback=True, unk_token="<unk>")
    j = dict(version="1.0", model=model, added_tokens=added, normalizer=SPACED)
    return j, bool(get("add_bos_token", True))


def gguf_bytes(get):
    """GPT-2's and its relatives', by the way that they cut text -> as gguf_chars."""
    vocab, added = gguf_vocabulary(get)
    pre = get("pre", "default")
    if get("model") != "gpt2" or pre not in GGUF_SPLITS:
        found = f"{get('model')} with {pre}"
        known = f"llama, gemma4, gpt2 with {', '.join(GGUF_SPLITS)}"
        raise ModelError(f"tokenizer {printable(found)} is not supported; known: {known}")
    cuts = {v: k for k, v in KNOWN_SPLITS.items()}[GGUF_SPLITS[pre]]
    level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=False)
    level |= dict(use_regex="bytes" in cuts)
    steps = {
        "digits": {"type": "Digits", "individual_digits": True},
        "numbers": {"type": "Digits", "individual_digits": False},
        "punctuation": {"type": "Punctuation", "behavior": "Contiguous"},
        "bytes": level,
    }
    isolated = dict(type="Split", behavior="Isolated", invert=False)
    splits = [steps.get(cut) or dict(isolated, pattern={"Regex": cut}) for cut in cuts]
    splits += [level] * ("bytes" not in cuts)
    model = {"type": "BPE", "vocab": vocab, "merges": list(get("merges"))}
    model["ignore_merges"] = pre in (*LLAMA3, "tekken", "glm4")
    j = {"version": "1.0", "model": model, "added_tokens": added}
    j["normalizer"] = {"type": "NFC"} if pre in ("qwen2", "qwen35") else None
    j["decoder"] = {**level, "use_regex": True}
    j["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": splits}
    begins = get("add_bos_token", pre in (*LLAMA3, "tekken"))
    return j, bool(begins and get("bos_token_id") is not None)


def read_gguf_tokenizer(fields):
    """The tokenizer of a GGUF, with its chat template -> the bytes of tokenizer.bin."""
    packed, engine = gguf_tokenizer(fields)
    if template := fields.get("tokenizer.chat_template"):
        with reading():
            ids = {k: fields.get(f"tokenizer.ggml.{k}_token_id") for k in ("bos", "eos")}
            name = lambda i: "" if i is None else packed["pieces"][i].decode("utf-8", "replace")
            special = {f"{k}_token": name(i) for k, i in ids.items()}
        packed = add_chat(packed, template, special, False)
    return finish_tokenizer(packed, engine)
