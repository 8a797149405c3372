"""The tokenizer inside of a GGUF."""

import json

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
from ..template import add_chat
from .json import read_tokenizer_json
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


def gguf_tokenizer(fields):
    """The tokenizer in a GGUF's metadata -> (fields of pack_tokenizer, engine or None)."""
    get = lambda key, otherwise=None: fields.get(f"tokenizer.ggml.{key}", otherwise)
    tokens, kinds, eos = get("tokens"), get("token_type"), get("eos_token_id")
    stops = {
        i
        for key in ("eos", "eot", "eom")
        if (i := get(f"{key}_token_id")) is not None and i < len(tokens)
    }
    ends = (
        "<|eot_id|>",
        "<|im_end|>",
        "<end_of_turn>",
        "<turn|>",
        "<|end|>",
        "<|endoftext|>",
        "<|eom_id|>",
    )
    stops |= {i for i, (text, kind) in enumerate(zip(tokens, kinds)) if kind == 3 and text in ends}
    if get("model") == "llama":
        types = {1: NORMAL, 2: CONTROL, 3: CONTROL, 4: USER, 5: UNUSED, 6: BYTE}
        types = [types[k] for k in kinds]
        spaced = [t.replace("\u2581", " ").encode() for t in tokens]
        pieces = [
            bytes([int(t[3:5], 16)]) if k == BYTE else s for t, s, k in zip(tokens, spaced, types)
        ]
        bos = get("bos_token_id") if get("add_bos_token", True) else None
        flags = ADD_BOS * (bos is not None) | PREFIX * bool(get("add_space_prefix", True))
        flags |= BYTE_FALLBACK if types.count(BYTE) == 256 else 0
        ids = dict(bos=bos, eos=eos, unk=get("unknown_token_id"), stops=sorted(stops))
        return dict(
            kind=SPM, pieces=pieces, prio=list(get("scores")), types=types, flags=flags, **ids
        ), None
    plain = dict(single_word=False, lstrip=False, rstrip=False, normalized=False)
    rows = list(enumerate(zip(tokens, kinds)))
    added = [dict(plain, id=i, content=t, special=k == 3) for i, (t, k) in rows if k in (3, 4)]
    if get("model") == "gemma4":  # merges as of BPE, of characters with bytes to fall back on
        vocab = {t: i for i, (t, k) in rows if k not in (3, 4)}
        merges = [[m[: m.index(" ", 1)], m[m.index(" ", 1) + 1 :]] for m in get("merges")]
        model = {
            "type": "BPE",
            "vocab": vocab,
            "merges": merges,
            "byte_fallback": True,
            "unk_token": "<unk>",
        }
        norm = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
        hints = dict(
            bos=get("bos_token_id"),
            eos=eos,
            stops=sorted(stops),
            add_bos=bool(get("add_bos_token", True)),
        )
        return read_tokenizer_json(
            json.dumps(dict(version="1.0", model=model, added_tokens=added, normalizer=norm)), hints
        )
    pre = get("pre", "default")
    if get("model") != "gpt2" or pre not in GGUF_SPLITS:
        found = f"{get('model')} with {pre}"
        known = f"llama, gemma4, gpt2 with {', '.join(GGUF_SPLITS)}"
        raise ModelError(f"tokenizer {printable(found)} is not supported; known: {known}")
    cuts = {v: k for k, v in KNOWN_SPLITS.items()}[GGUF_SPLITS[pre]]
    isolated = lambda cut: {
        "type": "Split",
        "pattern": {"Regex": cut},
        "behavior": "Isolated",
        "invert": False,
    }
    level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": "bytes" in cuts,
    }
    steps = {
        "digits": {"type": "Digits", "individual_digits": True},
        "numbers": {"type": "Digits", "individual_digits": False},
    }
    steps |= {"punctuation": {"type": "Punctuation", "behavior": "Contiguous"}, "bytes": level}
    splits = [steps.get(cut) or isolated(cut) for cut in cuts] + [level] * ("bytes" not in cuts)
    vocab = {t: i for i, (t, k) in rows if k not in (3, 4)}
    model = {"type": "BPE", "vocab": vocab, "merges": list(get("merges"))}
    llama3 = pre in ("llama-bpe", "llama3", "llama-v3", "falcon3", "lfm2")
    model = {**model, "ignore_merges": llama3 or pre in ("tekken", "glm4")}
    nfc = {"type": "NFC"} if pre in ("qwen2", "qwen35") else None
    j = {
        "version": "1.0",
        "model": model,
        "added_tokens": added,
        "normalizer": nfc,
        "decoder": {**level, "use_regex": True},
    }
    j["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": splits}
    bos = get("bos_token_id")
    begins = bool(get("add_bos_token", llama3 or pre == "tekken") and bos is not None)
    return read_tokenizer_json(
        json.dumps(j), dict(bos=bos, eos=eos, stops=sorted(stops), add_bos=begins)
    )


def read_gguf_tokenizer(fields):
    """The tokenizer of a GGUF, with its chat template -> the bytes of tokenizer.bin."""
    packed, engine = gguf_tokenizer(fields)
    if template := fields.get("tokenizer.chat_template"):
        ids = {k: fields.get(f"tokenizer.ggml.{k}_token_id") for k in ("bos", "eos")}
        name = lambda i: "" if i is None else packed["pieces"][i].decode("utf-8", "replace")
        special = {f"{k}_token": name(i) for k, i in ids.items()}
        packed = add_chat(packed, template, special, False)
    return finish_tokenizer(packed, engine)
