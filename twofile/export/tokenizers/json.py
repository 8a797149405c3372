"""tokenizer.json."""

import json

from ...errors import ModelError, printable
from ...tokenizer.file import (
    ADD_BOS,
    ADD_EOS,
    BYTE,
    BYTE_BPE,
    BYTE_FALLBACK,
    CONTROL,
    IGNORE_MERGES,
    LSTRIP,
    MOST_TOKENS,
    NFC,
    NORMAL,
    PREFIX,
    PREFIX_UNLESS,
    RSTRIP,
    SPM,
    UNUSED,
    USER,
)
from ..say import DAMAGED, need
from ..template import ENGINE, bounded
from .pack import explicit_if_needed
from .splits import KNOWN_SPLITS, SPLIT_NAMES, byte_alphabet, class_runs, find_with


def read_tokenizer_json(text, hints):
    """A Hugging Face tokenizer.json: byte-level BPE, or BPE in SentencePiece's manner."""
    try:
        j = json.loads(text)
        if not isinstance(j["model"]["vocab"], dict):
            raise ModelError("tokenizer.json: its vocabulary is no table of names; known: BPE")
        model, added = j["model"], j.get("added_tokens") or []
        if model.get("type", "BPE") != "BPE":
            raise ModelError(
                f"tokenizer.json: model {printable(str(model.get('type')))[:40]!r}; known: BPE"
            )
        return _tokenizer_json(j, model, added, hints, text)
    except DAMAGED as e:
        raise ModelError(
            f"tokenizer.json: {printable(repr(e))[:80]}; expected what the tokenizers library writes"
        ) from None


def _text_rules(j, steps, hints):
    """What tokenizer.json does to a text before merging -> (whether pieces are bytes, flags, pattern)."""
    norms, pres = (
        steps(j.get("normalizer"), "normalizers"),
        steps(j.get("pre_tokenizer"), "pretokenizers"),
    )
    byte_level = any(p["type"] == "ByteLevel" for p in pres)
    flags = 0
    for step in norms:
        if step["type"] == "NFC":
            flags |= NFC
        elif step == {"type": "Prepend", "prepend": "\u2581"} and not byte_level:
            flags |= PREFIX
        elif (
            step != {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
            or byte_level
        ):
            found = printable(json.dumps(step))[:80]
            raise ModelError(
                f"tokenizer.json: normalizer {found} is not supported; known: NFC, Prepend, Replace"
            )
    cuts = []
    for step in pres:
        plain = step.get("behavior") == "Isolated" and not step.get("invert")
        if step["type"] == "Split" and plain and "Regex" in step["pattern"]:
            cuts.append(step["pattern"]["Regex"].replace("\r", r"\r").replace("\n", r"\n"))
        elif step["type"] == "Digits":
            cuts.append("digits" if step.get("individual_digits") else "numbers")
        elif step == {"type": "Punctuation", "behavior": "Contiguous"}:
            cuts.append("punctuation")
        elif step["type"] == "ByteLevel" and not step.get("add_prefix_space"):
            cuts += ["bytes"] if step.get("use_regex", True) else []
        elif (
            step["type"] == "Metaspace"
            and step["replacement"] == "\u2581"
            and not step.get("split", True)
        ):
            scheme = step.get("prepend_scheme", "always")
            flags |= {"always": PREFIX_UNLESS, "first": PREFIX_UNLESS, "never": 0}[scheme]
            hints["prefix_first"] = scheme == "first"  # not again behind a control token
        elif not (
            step["type"] == "Split"
            and step["pattern"] == {"String": " "}
            and norms
            and not byte_level
        ):
            # Gemma cuts at spaces, of which its normalizer has left none
            cuts.append(step)
    if [cut for cut in cuts if not isinstance(cut, str)] or tuple(cuts) not in KNOWN_SPLITS:
        found = printable(json.dumps(cuts, ensure_ascii=False))[:160]
        raise ModelError(f"tokenizer.json: pre-tokenizer {found} is not supported; {SPLIT_NAMES}")
    pretok = KNOWN_SPLITS[tuple(cuts)]
    return byte_level, flags, pretok


def _tokenizer_json(j, model, added, hints, text):
    steps = lambda part, key: (
        [] if not part else part[key] if part["type"] == "Sequence" else [part]
    )
    byte_level, flags, pretok = _text_rules(j, steps, hints)
    flags |= IGNORE_MERGES if model.get("ignore_merges") else 0
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(name):
            raise ModelError(f"tokenizer.json: {name} is not supported; expected none")
    vocab = {**model["vocab"], **{t["content"]: t["id"] for t in added}}
    n = max(vocab.values()) + 1
    if n > MOST_TOKENS or min(vocab.values()) < 0:
        raise ModelError(
            f"tokenizer.json: ids from {min(vocab.values())} to {n - 1}; expected 0 to {MOST_TOKENS - 1}"
        )
    pieces, types, alphabet = [b""] * n, [UNUSED] * n, byte_alphabet()
    for piece, i in model["vocab"].items():
        is_byte = model.get("byte_fallback") and len(piece) == 6 and piece.startswith("<0x")
        types[i] = BYTE if is_byte else NORMAL
        if byte_level:
            pieces[i] = (
                bytes(alphabet[ch] for ch in piece)
                if all(ch in alphabet for ch in piece)
                else piece.encode()
            )
        else:
            pieces[i] = (
                bytes([int(piece[3:5], 16)]) if is_byte else piece.replace("\u2581", " ").encode()
            )
    for t in added:
        user = USER | LSTRIP * bool(t.get("lstrip")) | RSTRIP * bool(t.get("rstrip"))
        types[t["id"]] = CONTROL if t.get("special") else user
        pieces[t["id"]] = t["content"].encode()
    if model.get("byte_fallback") and BYTE in types:
        # in some vocabularies it is switched on with no byte tokens to fall back on
        flags |= BYTE_FALLBACK
    bos, eos = hints.get("bos"), hints.get("eos")
    single = [next(iter(s), "") for s in (j.get("post_processor") or {}).get("single") or []]
    for step in steps(j.get("post_processor"), "processors"):
        single = (
            [next(iter(s), "") for s in step["single"]]
            if step["type"] == "TemplateProcessing"
            else single
        )
    if single and single[0] == "SpecialToken" or hints.get("add_bos"):
        flags |= ADD_BOS
    if single and single[-1] == "SpecialToken":
        flags |= ADD_EOS
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    rows = [(vocab[a], vocab[b]) for a, b in merges]
    prio = [-float(n)] * n
    for rank, (a, b) in reversed(list(enumerate(merges))):
        prio[vocab[a + b]] = -float(rank)
    stops = [i for i in hints.get("stops") or ([] if eos is None else [eos]) if i < n]
    unk = vocab.get(model.get("unk_token"))
    kind = BYTE_BPE if byte_level else SPM
    fields = dict(kind=kind, pieces=pieces, prio=prio, types=types, flags=flags, pretok=pretok)
    fields |= dict(bos=bos, eos=eos, unk=unk, stops=stops)
    engine, T = None, need("tokenizers") if byte_level else None
    if byte_level:
        fields["classes"] = class_runs(lambda p, s: find_with(T, p, s), pretok)
        engine = lambda texts: bounded(ENGINE, {"json": text, "texts": texts}, 4 << 30, 60)
    return explicit_if_needed(fields, rows), engine
