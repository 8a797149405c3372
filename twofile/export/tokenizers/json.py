"""tokenizer.json."""

import json

from ...errors import ModelError, printable
from ...tokenizer.file import (
    ADD_BOS,
    ALONE,
    BYTE,
    BYTE_BPE,
    BYTE_FALLBACK,
    CONTROL,
    IGNORE_MERGES,
    LSTRIP,
    MOST_TOKENS,
    NFC,
    NORMAL,
    PRINTED,
    RSTRIP,
    SPM,
    UNK_EACH,
    UNUSED,
    USER,
    WOVEN,
)
from ..damage import reading, worded
from ..sandbox import ENGINE, bounded
from .ends import begin_of, end_of
from .pack import explicit_if_needed
from .rules import BYTES, classes_of, forms_of_library, text_rules, words_of_library
from .splits import class_runs

LATIN = {ord(ch): byte for ch, byte in BYTES.items()}


def read_tokenizer_json(text, hints):
    """A Hugging Face tokenizer.json: byte-level BPE, or BPE in SentencePiece's manner -> (fields of
    pack_tokenizer, engine or None)."""
    with worded("tokenizer.json: ", "; expected what the tokenizers library writes; is it whole?"):
        with reading():
            fields, rows = json_fields(json.loads(text), hints)
        bytewise = fields["kind"] == BYTE_BPE
        if any(kind & ALONE for kind in fields["types"]):
            fields["forms"] = words_of_library()
        if fields["flags"] & NFC:
            fields["forms"] = [*fields.get("forms", ()), *forms_of_library()]
        if not bytewise:
            if fields["pretok"]:  # a space, which no engine has to look for
                fields["classes"] = class_runs(None, fields["pretok"])
            return explicit_if_needed(fields, rows), None
        fields["classes"] = classes_of(fields["pretok"])
        return explicit_if_needed(fields, rows), lambda texts: encoded(text, texts)


def encoded(text, texts):
    """ids of texts by the library that writes such a tokenizer.json."""
    try:
        return bounded(ENGINE, {"json": text, "texts": texts}, 4 << 30, 60)
    except ModelError as e:
        found = f"tokenizer.json: its own library cannot use it ({printable(str(e))[:90]})"
        raise ModelError(f"{found}; expected what that writes; is it whole?") from None


def json_fields(j, hints):
    """-> (fields of pack_tokenizer but for classes and forms, [(id, id)] of the merges by rank)."""
    if not isinstance(j["model"]["vocab"], dict):
        raise ModelError("tokenizer.json: its vocabulary is no table of names; known: BPE")
    model, added = j["model"], j.get("added_tokens") or []
    if model.get("type", "BPE") != "BPE":
        found = f"tokenizer.json: model {printable(str(model.get('type')))[:40]!r}"
        raise ModelError(f"{found}; known: BPE")
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(name):
            raise ModelError(f"tokenizer.json: {name} is not supported; expected none")
    rules = text_rules(j)
    hints["prefix_first"] = rules.first
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    made = {a + b for a, b in merges}
    vocab, pieces, types = token_table(model, added, rules, made)
    unk = vocab.get(model.get("unk_token"))
    flags = rules.flags | (IGNORE_MERGES if model.get("ignore_merges") else 0)
    # in some vocabularies it is switched on with no byte tokens to fall back on
    flags |= BYTE_FALLBACK if model.get("byte_fallback") and BYTE in types else 0
    flags |= UNK_EACH if unk is not None and not model.get("fuse_unk") else 0
    n, rows = len(pieces), [(vocab[a], vocab[b]) for a, b in merges]
    prio = [-float(n)] * n
    for rank, (a, b) in reversed(list(enumerate(merges))):
        prio[vocab[a + b]] = -float(rank)
    begins, bos = begin_of(j, hints, vocab)
    eos, stops = end_of(hints, vocab)
    fields = dict(kind=rules.kind, pieces=pieces, prio=prio, types=types, pretok=rules.pretok)
    fields |= dict(flags=flags | (ADD_BOS if begins else 0), bos=bos, eos=eos)
    fields |= dict(unk=unk, stops=[i for i in stops if i < n])
    return fields | (dict(begins=begins) if begins and begins != [bos] else {}), rows


def token_table(model, added, rules, made):
    """-> ({text: id}, pieces [bytes], types) of all tokens. made: texts that merges make."""
    vocab = {**model["vocab"], **{t["content"]: t["id"] for t in added}}
    n = max(vocab.values()) + 1
    if n > MOST_TOKENS or min(vocab.values()) < 0:
        found = f"tokenizer.json: ids from {min(vocab.values())} to {n - 1}"
        raise ModelError(f"{found}; expected 0 to {MOST_TOKENS - 1}")
    pieces, types = [b""] * n, [UNUSED] * n
    of = byte_piece if rules.kind == BYTE_BPE else spaced_piece
    for text, i in model["vocab"].items():
        pieces[i], types[i] = of(text, model) if text else (b"", UNUSED)
    for t in added:
        i, text = t["id"], t["content"]
        whole = len(text) == 1 or text in made or model.get("ignore_merges")
        woven = types[i] == NORMAL and whole and model["vocab"].get(text) == i
        woven = woven and (rules.kind == SPM or pieces[i] == text.encode())
        types[i] = CONTROL if t.get("special") else WOVEN if woven else USER
        types[i] |= LSTRIP * bool(t.get("lstrip")) | RSTRIP * bool(t.get("rstrip"))
        types[i] |= ALONE * bool(t.get("single_word"))
        types[i] |= rules.normed * bool(t.get("normalized", not t.get("special")))
        pieces[i] = text.encode()
    return vocab, pieces, types


def byte_piece(text, model):
    """A byte-level vocabulary's token -> its bytes, its type. One that is written in characters
    that stand for no byte is never found in a text."""
    if BYTES.keys() >= set(text):
        return text.translate(LATIN).encode("latin-1"), NORMAL
    return text.encode(), PRINTED


def spaced_piece(text, model):
    """A token in SentencePiece's manner -> its bytes, its type. One with a space as it is typed is
    never found, where a text has none when it comes to merging."""
    if model.get("byte_fallback") and len(text) == 6 and text.startswith("<0x"):
        return bytes([int(text[3:5], 16)]), BYTE
    return text.replace("\u2581", " ").encode(), PRINTED if " " in text else NORMAL
