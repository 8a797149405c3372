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
    PREFIX_EACH,
    RSTRIP,
    SPM,
    UNUSED,
    USER,
)
from ..damage import reading
from ..template import add_chat
from .json import read_tokenizer_json
from .pack import finish_tokenizer, fitted
from .rules import SPACED
from .splits import KNOWN_SPLITS

GGUF_SPLITS = {  # what the converter calls a way to split text: which of KNOWN_SPLITS it is
    name: kind
    for kind, names in {
        1: "gpt-2 phi-2 jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code roberta-bpe "
        "gigachat a.x-4.0 mellum modern-bert mpt olmo jais trillion granite-docling exaone4",
        2: "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano "
        "smaug-bpe dbrx chatglm-bpe glm4 glm5",
        3: "qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 megrez hunyuan solar-open grok-2",
        4: "smollm starcoder refact command-r exaone codeshell minerva-7b mellum2",
        5: "tekken",
        6: "gpt-4o llama4 kanana2 talkie granite-embed-multi-97m minimax-m2",
        7: "qwen35",
        8: "deepseek-v3 hunyuan-dense joyai-llm hy_v4",
        9: "falcon",
        10: "deepseek-llm",
        11: "deepseek-coder",
        12: "seed-coder",
        13: "bailingmoe bailingmoe2 llada-moe",
        14: "ufakzeka",
        15: "minicpm5",
    }.items()
    for name in names.split()
}
# others that llama.cpp knows, and no pattern of ours does the same
REFUSED = "jais-2 spark2_5 youtu viking poro-chat bloom gpt3-finnish chameleon exaone-moe tiny_aya "
REFUSED += "cohere2moe superbpe kimi-k2 afmoe laguna whitespace sarvam-moe granite-embed-multi-311m"
# files from before the converter named it: what models of an architecture have
UNNAMED = {"gpt2": 1, "gptneox": 1, "phi2": 1, "mpt": 1, "falcon": 9, "starcoder": 4}
UNNAMED |= {"starcoder2": 4, "refact": 4, "command-r": 4, "olmo": 1}
COMPOSED = "qwen2 qwen35 command-r olmo mpt"  # whose own library has form C before
# a word that is a token is not merged
WHOLE = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano tekken "
WHOLE += "glm4 glm5 minicpm5 granite-embed-multi-97m"
BEGUN = (*WHOLE.split()[:9], "tekken")  # a begin token comes first if the file does not say


ENDS = (  # control tokens that end an answer, whatever else is said
    "<|eot_id|>",
    "<|im_end|>",
    "<end_of_turn>",
    "<turn|>",
    "<|end|>",
    "<|endoftext|>",
    "<|eom_id|>",
)
# gpt-oss's and Solar's: an answer is over, a tool is asked
TOOL_TEMPLATE = "tokenizer.chat_template.tool_use"  # beside the other, where there are two
HARMONY = (("<|return|>", "<|call|>"), ("<|flush|>", "<|calls|>"))
# those that take the white space behind them in Phi-3, of which a GGUF says nothing
NO_RSTRIP = ("<unk>", "<s>", "<|endoftext|>")


def gguf_tokenizer(fields):
    """The tokenizer in a GGUF's metadata -> (fields of pack_tokenizer, engine or None)."""
    get = lambda key, otherwise=None: fields.get(f"tokenizer.ggml.{key}", otherwise)
    with reading():
        stops = gguf_stops(get)
        if get("model") == "llama":
            return gguf_pieces(get, stops, strips_behind(fields)), None
        whole = get("model") == "gemma4"
        j, begins = gguf_chars(get) if whole else gguf_bytes(get, fields)
        hints = dict(bos=get("bos_token_id"), eos=get("eos_token_id"), stops=stops, add_bos=begins)
        text = json.dumps(j)
    return read_tokenizer_json(text, hints)


def strips_behind(fields):
    """Whether marks take the white space behind them, which llama.cpp goes by the name for."""
    name, arch = (str(fields.get(f"general.{key}")).lower() for key in ("name", "architecture"))
    phi3 = arch == "phi3" and fields.get("tokenizer.ggml.model") == "llama"
    return phi3 or "phi-3" in name or "phi3" in name


def gguf_stops(get):
    """Tokens that end an answer: those that it names, and control tokens with a known text."""
    tokens, ids = get("tokens"), [get(f"{key}_token_id") for key in ("eos", "eot", "eom")]
    stops = {i for i in ids if i is not None and i < len(tokens)}
    rows = enumerate(zip(tokens, get("token_type")))
    ends = {*ENDS, *sum(HARMONY, ())}
    known = {text: i for i, (text, kind) in rows if kind == 3 and text in ends}
    if any(set(pair) <= set(known) for pair in HARMONY):
        known.pop("<|end|>", None)  # there it ends a part of an answer
    return sorted(stops | {*known.values()})


def gguf_pieces(get, stops, strips):
    """SentencePiece's -> fields of pack_tokenizer. strips: whether marks take what is behind
    them."""
    types = {1: NORMAL, 2: CONTROL, 3: CONTROL, 4: USER, 5: UNUSED, 6: BYTE}
    types, tokens = [types[k] for k in get("token_type")], get("tokens")
    if strips:
        rows = list(zip(types, tokens))
        types = [k | RSTRIP * (k in (CONTROL, USER) and t not in NO_RSTRIP) for k, t in rows]
    spaced = [t.replace("\u2581", " ").encode() for t in tokens]
    rows = zip(tokens, spaced, types)
    pieces = [bytes([int(t[3:5], 16)]) if k == BYTE else s for t, s, k in rows]
    bos = get("bos_token_id") if get("add_bos_token", True) else None
    flags = ADD_BOS * (bos is not None)
    flags |= PREFIX | PREFIX_EACH if get("add_space_prefix", True) else 0
    flags |= BYTE_FALLBACK if BYTE in types else 0
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


def gguf_way(get, fields):
    """-> the name that the converter gave to the way that text is cut, or "" in files older than
    such names; the number of the pattern."""
    pre, arch = get("pre") or "default", str(fields.get("general.architecture"))
    if get("model") != "gpt2":
        known = "known: llama, gpt2, gemma4"
        raise ModelError(f"tokenizer {printable(str(get('model')))[:40]} is not supported; {known}")
    if pre == "default" and arch in UNNAMED:
        return "", UNNAMED[arch]
    if pre not in GGUF_SPLITS:
        found = f"tokenizer.ggml.pre is {printable(str(pre))[:40]}"
        if pre == "default":
            wants = "which says not how text is cut; expected the name of a way"
            raise ModelError(f"{found}, {wants}; convert it again with a newer llama.cpp")
        known = ", which llama.cpp knows and run.py does not" if pre in REFUSED.split() else ""
        raise ModelError(
            f"{found}{known}; known: {', '.join(GGUF_SPLITS)}; --tokenizer takes others"
        )
    return pre, GGUF_SPLITS[pre]


def gguf_bytes(get, fields):
    """GPT-2's and its relatives', by the way that they cut text -> as gguf_chars."""
    vocab, added = gguf_vocabulary(get)
    pre, number = gguf_way(get, fields)
    if strips_behind(fields):
        added = [t | {"rstrip": t["content"] not in NO_RSTRIP} for t in added]
    cuts = {v: k for k, v in KNOWN_SPLITS.items()}[number]
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
    model["ignore_merges"] = pre in WHOLE.split()
    j = {"version": "1.0", "model": model, "added_tokens": added}
    neox = not pre and fields.get("general.architecture") == "gptneox"
    j["normalizer"] = {"type": "NFC"} if pre in COMPOSED.split() or neox else None
    j["decoder"] = {**level, "use_regex": True}
    j["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": splits}
    begins = get("add_bos_token", pre in BEGUN)
    return j, bool(begins and get("bos_token_id") is not None)


def read_gguf_tokenizer(fields, n_vocab=None):
    """The tokenizer of a GGUF, with its chat template, for a model of n_vocab tokens -> the bytes
    of tokenizer.bin."""
    packed, engine = gguf_tokenizer(fields)
    template, tools = map(fields.get, ("tokenizer.chat_template", TOOL_TEMPLATE))
    with reading():
        ids = {k: fields.get(f"tokenizer.ggml.{k}_token_id") for k in ("bos", "eos")}
        name = lambda i: packed["pieces"][i].decode("utf-8", "replace")
        special = {f"{k}_token": name(i) for k, i in ids.items() if i is not None}
    packed = add_chat(fitted(packed, n_vocab), template, special, False, None, tools)
    return finish_tokenizer(packed, engine)
