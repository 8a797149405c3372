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
from ..damage import reading, worded
from ..sandbox import ENGINE, bounded
from ..say import need
from .pack import explicit_if_needed
from .splits import KNOWN_SPLITS, SPLIT_NAMES, byte_alphabet, class_runs, find_with

SPACED = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
PREPENDED = {"type": "Prepend", "prepend": "\u2581"}


def read_tokenizer_json(text, hints):
    """A Hugging Face tokenizer.json: byte-level BPE, or BPE in SentencePiece's manner -> (fields of
    pack_tokenizer, engine or None)."""
    with worded("tokenizer.json: ", "; expected what the tokenizers library writes"):
        with reading():
            fields, rows = json_fields(json.loads(text), hints)
        if fields["kind"] != BYTE_BPE:
            return explicit_if_needed(fields, rows), None
        T = need("tokenizers")
        fields["classes"] = class_runs(lambda p, s: find_with(T, p, s), fields["pretok"])
        engine = lambda texts: bounded(ENGINE, {"json": text, "texts": texts}, 4 << 30, 60)
        return explicit_if_needed(fields, rows), engine


def json_fields(j, hints):
    """-> (fields of pack_tokenizer but for classes, [(id, id)] of the merges by rank)."""
    if not isinstance(j["model"]["vocab"], dict):
        raise ModelError("tokenizer.json: its vocabulary is no table of names; known: BPE")
    model, added = j["model"], j.get("added_tokens") or []
    if model.get("type", "BPE") != "BPE":
        found = f"tokenizer.json: model {printable(str(model.get('type')))[:40]!r}"
        raise ModelError(f"{found}; known: BPE")
    byte_level, flags, pretok = text_rules(j, hints)
    flags |= IGNORE_MERGES if model.get("ignore_merges") else 0
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(name):
            raise ModelError(f"tokenizer.json: {name} is not supported; expected none")
    vocab, pieces, types = token_table(model, added, byte_level)
    if model.get("byte_fallback") and BYTE in types:
        # in some vocabularies it is switched on with no byte tokens to fall back on
        flags |= BYTE_FALLBACK
    bos, eos, n = hints.get("bos"), hints.get("eos"), len(pieces)
    flags |= ends_added(j) | (ADD_BOS if hints.get("add_bos") else 0)
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    rows = [(vocab[a], vocab[b]) for a, b in merges]
    prio = [-float(n)] * n
    for rank, (a, b) in reversed(list(enumerate(merges))):
        prio[vocab[a + b]] = -float(rank)
    stops = [i for i in hints.get("stops") or ([] if eos is None else [eos]) if i < n]
    unk = vocab.get(model.get("unk_token"))
    fields = dict(kind=BYTE_BPE if byte_level else SPM, pieces=pieces, prio=prio, types=types)
    fields |= dict(flags=flags, pretok=pretok, bos=bos, eos=eos, unk=unk, stops=stops)
    return fields, rows


def steps_of(part, key):
    """A part of tokenizer.json as the list of its steps."""
    if not part:
        return []
    return part[key] if part["type"] == "Sequence" else [part]


def text_rules(j, hints):
    """What tokenizer.json does to a text before merging -> (whether pieces are bytes, flags,
    number of the pattern)."""
    norms = steps_of(j.get("normalizer"), "normalizers")
    pres = steps_of(j.get("pre_tokenizer"), "pretokenizers")
    byte_level, flags = any(p["type"] == "ByteLevel" for p in pres), 0
    for step in norms:
        if step["type"] == "NFC":
            flags |= NFC
        elif step == PREPENDED and not byte_level:
            flags |= PREFIX
        elif step != SPACED or byte_level:
            found = f"tokenizer.json: normalizer {printable(json.dumps(step))[:80]}"
            raise ModelError(f"{found} is not supported; known: NFC, Prepend, Replace")
    cuts = []
    for step in pres:
        if is_metaspace(step):
            scheme = step.get("prepend_scheme", "always")
            flags |= {"always": PREFIX_UNLESS, "first": PREFIX_UNLESS, "never": 0}[scheme]
            hints["prefix_first"] = scheme == "first"  # not again behind a control token
        elif not (cuts_at_spaces(step) and norms and not byte_level):
            # Gemma cuts at spaces, of which its normalizer has left none
            cuts += cut_of(step)
    if [cut for cut in cuts if not isinstance(cut, str)] or tuple(cuts) not in KNOWN_SPLITS:
        found = printable(json.dumps(cuts, ensure_ascii=False))[:160]
        raise ModelError(f"tokenizer.json: pre-tokenizer {found} is not supported; {SPLIT_NAMES}")
    return byte_level, flags, KNOWN_SPLITS[tuple(cuts)]


def is_metaspace(step):
    """Whether a step marks spaces, and cuts nowhere."""
    marks = step["type"] == "Metaspace" and step["replacement"] == "\u2581"
    return marks and not step.get("split", True)


def cuts_at_spaces(step):
    return step["type"] == "Split" and step["pattern"] == {"String": " "}


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
    if kind == "ByteLevel" and not step.get("add_prefix_space"):
        return ["bytes"] if step.get("use_regex", True) else []
    return [step]


def token_table(model, added, byte_level):
    """-> ({text: id}, pieces [bytes], types) of all tokens."""
    vocab = {**model["vocab"], **{t["content"]: t["id"] for t in added}}
    n = max(vocab.values()) + 1
    if n > MOST_TOKENS or min(vocab.values()) < 0:
        found = f"tokenizer.json: ids from {min(vocab.values())} to {n - 1}"
        raise ModelError(f"{found}; expected 0 to {MOST_TOKENS - 1}")
    pieces, types, alphabet = [b""] * n, [UNUSED] * n, byte_alphabet()
    for piece, i in model["vocab"].items():
        is_byte = model.get("byte_fallback") and len(piece) == 6 and piece.startswith("<0x")
        types[i] = BYTE if is_byte else NORMAL
        if byte_level and all(ch in alphabet for ch in piece):
            pieces[i] = bytes(alphabet[ch] for ch in piece)
        elif byte_level:
            pieces[i] = piece.encode()
        else:
            spaced = piece.replace("\u2581", " ").encode
            pieces[i] = bytes([int(piece[3:5], 16)]) if is_byte else spaced()
    for t in added:
        user = USER | LSTRIP * bool(t.get("lstrip")) | RSTRIP * bool(t.get("rstrip"))
        types[t["id"]] = CONTROL if t.get("special") else user
        pieces[t["id"]] = t["content"].encode()
    return vocab, pieces, types


def ends_added(j):
    """Flags: whether its post-processor puts tokens before and behind a text."""
    first = lambda rows: [next(iter(s), "") for s in rows]
    single = first((j.get("post_processor") or {}).get("single") or [])
    for step in steps_of(j.get("post_processor"), "processors"):
        if step["type"] == "TemplateProcessing":
            single = first(step["single"])
    before = bool(single) and single[0] == "SpecialToken"
    behind = bool(single) and single[-1] == "SpecialToken"
    return ADD_BOS * before | ADD_EOS * behind
