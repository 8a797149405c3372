"""vocab.json and merges.txt, as GPT-2 and those after it keep a tokenizer."""

import json

from ...errors import ModelError, printable
from ...files import read_small
from ...tokenizer.file import MOST_BYTES
from ..damage import reading
from ..settings import read_json_if
from .folder import SETTINGS, merge_rows
from .splits import KNOWN_SPLITS

# what a class of transformers, or else a type of model, cuts text by: a number of KNOWN_SPLITS
CLASSES_OF = {"GPT2Tokenizer": 1, "CodeGenTokenizer": 1, "Qwen2Tokenizer": 3}
TYPES_OF = dict.fromkeys("gpt2 gpt_neo gptj opt codegen phi gpt_bigcode starcoder2".split(), 1)
TYPES_OF |= dict.fromkeys("qwen2 qwen2_moe qwen3 qwen3_moe".split(), 3)


def tokenizer_of_merges(folder, hints):
    """A folder with vocab.json and merges.txt -> the text of the tokenizer.json that says the
    same."""
    settings = hints.get("settings") or {}
    kind = str(settings.get("tokenizer_class") or "").removesuffix("Fast")
    model_type = str(read_json_if(folder / "config.json").get("model_type"))
    number = CLASSES_OF.get(kind) if kind else TYPES_OF.get(model_type)
    if number is None:
        found = printable(f"{folder / SETTINGS}: tokenizer_class {kind or 'absent'}")
        wants = f"expected one whose way to cut text is known: {', '.join(CLASSES_OF)}"
        raise ModelError(f"{found}, {wants}; save it as tokenizer.json with transformers")
    raw = [read_small(folder / name, "a vocabulary", MOST_BYTES) for name in FILES]
    with reading():
        vocab, rows = json.loads(raw[0]), merge_rows(raw[1])
        added = [dict(t) for t in hints.get("added") or ()]
        known = {t["content"] for t in added}
        for text in set((hints.get("special") or {}).values()) - known:
            if text in vocab:
                added.append({"id": vocab[text], "content": text, "special": True})
    space = bool(settings.get("add_prefix_space"))
    level = dict(type="ByteLevel", add_prefix_space=space, use_regex=number == 1)
    steps = [level]
    if number != 1:
        (pattern,) = {v: k for k, v in KNOWN_SPLITS.items()}[number]
        split = dict(type="Split", pattern={"Regex": pattern}, behavior="Isolated", invert=False)
        steps = [split, level]
    j = dict(version="1.0", added_tokens=whole_rows(added), pre_tokenizer=sequence(steps))
    j["normalizer"] = {"type": "NFC"} if number == 3 else None
    j["model"] = dict(type="BPE", vocab=vocab, merges=rows)
    return json.dumps(j | {"decoder": {**level, "trim_offsets": True}})


FILES = ("vocab.json", "merges.txt")
PLAIN = dict(single_word=False, lstrip=False, rstrip=False, special=False)


def whole_rows(added):
    """Added tokens with everything that tokenizer.json says of one."""
    rows = [{**PLAIN, "normalized": not t.get("special"), **t} for t in added]
    return sorted(rows, key=lambda t: t["id"])


def sequence(steps):
    steps = [{"trim_offsets": True, **s} if s["type"] == "ByteLevel" else s for s in steps]
    return {"type": "Sequence", "pretokenizers": steps}
