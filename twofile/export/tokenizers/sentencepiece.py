"""SentencePiece's models, and llama2.c's form of them."""

import math
import struct

from ...errors import ModelError, printable
from ...tokenizer.file import (
    ADD_BOS,
    ALONE,
    BYTE,
    BYTE_FALLBACK,
    CONTROL,
    LSTRIP,
    MOST_TOKENS,
    NORMAL,
    NORMED,
    PREFIX,
    PREFIX_EACH,
    PREFIX_UNLESS,
    RSTRIP,
    SPM,
    UNUSED,
    USER,
)
from ..damage import reading
from .ends import end_of
from .forms import word_rows, words_of_python


def read_llama2c_tokenizer(raw, n_vocab):
    """llama2.c's tokenizer.bin does not say how many tokens it has: the model does."""
    pieces, prio, types, at, i = [], [], [], 4, -1
    expected = "expected llama2.c's tokenizer.bin of this model"
    while at < len(raw) if n_vocab is None else i + 1 < n_vocab:
        i += 1
        if i >= MOST_TOKENS:
            raise ModelError(f"more than {MOST_TOKENS} tokens; {expected}")
        score, length = struct.unpack_from("<fi", raw, at) if at + 8 <= len(raw) else (0, -1)
        if not 0 <= length <= len(raw) - at - 8 or not math.isfinite(score):
            of = "" if n_vocab is None else f" of {n_vocab}"
            raise ModelError(f"token {i}{of} is not there; {expected}")
        piece = raw[at + 8 : at + 8 + length]
        byte = len(piece) == 6 and piece.startswith(b"<0x") and 3 <= i < 259
        types.append(CONTROL if i < 3 else BYTE if byte else NORMAL if piece else UNUSED)
        with reading():
            piece = bytes([int(piece[3:5], 16)]) if byte else piece
        pieces.append(piece.strip(b"\n") if i < 3 else piece)
        prio.append(score)
        at += 8 + length
    if at != len(raw):
        found = f"{len(raw):,} bytes, {n_vocab} tokens end at {at:,}"
        raise ModelError(f"{found}; expected the tokenizer of this model")
    flags = ADD_BOS | PREFIX | (BYTE_FALLBACK if types.count(BYTE) == 256 else 0)
    # llama2.c's own training separates stories by the begin token, so either ends a text
    ids = dict(bos=1, eos=2, unk=0, stops=(1, 2))
    return dict(kind=SPM, pieces=pieces, prio=prio, types=types, flags=flags, **ids)


def varint(raw, at):
    """A number of protobuf at that place -> it, and where the next value begins."""
    value = shift = 0
    while at < len(raw) and shift <= 63:
        byte, at = raw[at], at + 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
    raise ModelError("not a SentencePiece model: its protobuf is damaged")


def protobuf(raw):
    """[(field, value)] of one protobuf message; bytes or ints. Raises ModelError for what is not
    one."""
    out, at, end = [], 0, len(raw)
    while at < end:
        if len(out) > MOST_TOKENS:
            raise ModelError(f"not a SentencePiece model: more than {MOST_TOKENS} fields")
        key, at = (raw[at], at + 1) if raw[at] < 128 else varint(raw, at)  # most are of one byte
        wire = key & 7
        if wire == 0:
            one = at < end and raw[at] < 128
            value, at = (raw[at], at + 1) if one else varint(raw, at)
            out.append((key >> 3, value))
            continue
        if wire not in (1, 2, 5):
            raise ModelError(f"not a SentencePiece model: wire type {wire}")
        size, at = varint(raw, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
        if size > end - at:
            raise ModelError("not a SentencePiece model: a field is cut short")
        out.append((key >> 3, raw[at : at + size]))
        at += size
    return out


def read_sentencepiece(raw, hints):
    """A SentencePiece tokenizer.model (BPE): pieces 1, trainer 2, normaliser 3 of
    sentencepiece_model.proto; with the tokens that files beside it add (hints: added, settings,
    special, stops)."""
    with reading():
        fields = protobuf(raw)
        parts = lambda n: (v for k, v in fields if k == n)
        trainer, normaliser = (dict(protobuf(b"".join(parts(n)))) for n in (2, 3))
        refuse_others(trainer, normaliser)
        pieces, prio, types, unk = sentencepieces(parts(1))
        signed = lambda v: None if v >= 1 << 31 else v
        bos, eos, pad = (signed(trainer.get(k, d)) for k, d in ((41, 1), (42, 2), (43, 1 << 63)))
        prefix = PREFIX if normaliser.get(3, 1) else 0
    settings = hints.get("settings") or {}
    if settings.get("add_prefix_space") is False:
        prefix = 0
    elif prefix and settings.get("legacy") is False:  # transformers' later way
        prefix, hints["prefix_first"] = PREFIX_UNLESS, True
    flags = prefix | (BYTE_FALLBACK if BYTE in types else 0)
    ids = dict(bos=bos, eos=eos, unk=unk, pad=pad)
    fields = dict(kind=SPM, pieces=pieces, prio=prio, types=types, flags=flags, **ids)
    with reading():
        return with_added(fields, hints, settings)


def with_added(fields, hints, settings):
    """The fields of a vocabulary with what files beside it add: tokens, ends, whether a text
    begins with one."""
    pieces, prio, types = fields["pieces"], fields["prio"], fields["types"]
    if hints.get("added"):  # tokens are found as transformers does it, which has no other
        types[:] = [kind & ~NORMED for kind in types]
        fields["flags"] |= PREFIX_EACH if fields["flags"] & PREFIX else 0
    for t in sorted(hints.get("added") or (), key=lambda t: t["id"]):
        i, raw = t["id"], t["content"].encode()
        if not 0 <= i < MOST_TOKENS:
            raise ModelError(f"an added token {i}; expected 0 to {MOST_TOKENS - 1}")
        more = i + 1 - len(pieces)
        pieces += [b""] * more
        prio += [min(prio, default=0.0)] * more
        types += [UNUSED] * more
        # a token of the model's own stays what it is, but for how it is found
        own = more <= 0 and types[i] in (NORMAL, BYTE) and not t.get("special")
        types[i] = types[i] if own else CONTROL if t.get("special") else USER
        pieces[i] = pieces[i] if own else raw
        types[i] |= LSTRIP * bool(t.get("lstrip")) | RSTRIP * bool(t.get("rstrip"))
        types[i] |= ALONE * bool(t.get("single_word"))
    rows = enumerate(zip(pieces, types))
    vocab = {p.decode("utf-8", "replace"): i for i, (p, kind) in rows if kind & 15 != BYTE}
    special = hints.get("special") or {}
    fields["bos"] = vocab.get(special.get("bos_token"), fields["bos"])
    own = [] if fields["eos"] is None else [fields["eos"]]
    fields["eos"] = vocab.get(special.get("eos_token"), fields["eos"])
    ends = {*own, *end_of({**hints, "eos": fields["eos"]}, vocab)[1]}
    begins = fields["bos"] is not None and settings.get("add_bos_token", True)
    stops = [i for i in sorted(ends) if i < len(pieces)]
    if any(kind & ALONE for kind in types):
        fields["forms"] = word_rows(words_of_python())
    return {**fields, "flags": fields["flags"] | ADD_BOS * bool(begins), "stops": stops}


def refuse_others(trainer, normaliser):
    """ModelError for another algorithm than BPE, or changes of the text before it."""
    if trainer.get(3, 1) != 2:
        kinds = {1: "unigram", 3: "word", 4: "char"}
        kind = kinds.get(trainer.get(3, 1), "unknown")
        raise ModelError(f"a SentencePiece {kind} model; known: BPE")
    if normaliser.get(2) or normaliser.get(4, 1) or not normaliser.get(5, 1):
        name = printable(normaliser.get(1, b"?").decode("utf-8", "replace"))[:40]
        found = f"SentencePiece normaliser {name!r} changes the text"
        raise ModelError(f"{found}; known: identity, spaces kept")


def sentencepieces(messages):
    """-> pieces [bytes], priorities, types, the id of the unknown token or None."""
    kinds = {1: NORMAL, 2: CONTROL, 3: CONTROL, 4: USER, 5: UNUSED, 6: BYTE}
    pieces, prio, types, unk, space = [], [], [], None, "\u2581".encode()
    for i, message in enumerate(messages):
        piece = dict(protobuf(message))
        kind, text = kinds[piece.get(3, 1)], piece.get(1, b"")
        # SentencePiece looks for those it was told of where spaces are marked already
        form = NORMED if kind == USER else 0
        unk = i if piece.get(3, 1) == 2 else unk
        byte = bytes([int(text[3:5], 16)]) if kind == BYTE else None
        pieces.append(text.replace(space, b" ") if byte is None else byte)
        prio.append(struct.unpack("<f", piece.get(2, bytes(4)))[0])
        types.append(kind | form)
    return pieces, prio, types, unk
