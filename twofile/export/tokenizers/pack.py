"""Fields become a tokenizer.bin."""

import hashlib
import random
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ...errors import ModelError, printable
from ...format.fields import NONE
from ...format.table import ENDIAN, VERSION
from ...format.types import padded
from ...tokenizer.file import (
    BYTE,
    BYTE_BPE,
    EXPLICIT,
    MARK,
    NORMAL,
    TOKENIZER_HEADER,
    TOKENIZER_MAGIC,
    USER,
    WOVEN,
    merged_pieces,
)
from ...tokenizer.tokenizer import Tokenizer
from ..damage import reading
from ..say import say


def pack_tokenizer(
    kind,
    pieces,
    prio,
    types,
    flags=0,
    pretok=0,
    bos=None,
    eos=None,
    unk=None,
    pad=None,
    stops=(),
    classes=(),
    merges=(),
    tests=(),
    chat=b"",
    begins=(),
    forms=(),
):
    """-> the bytes of a tokenizer.bin. pieces: [bytes]; prio: floats, higher merges first; types:
    NORMAL, BYTE, …; classes: [(first, last, class)]; merges: [(id, id)] by rank, with the flag
    EXPLICIT; tests: [(text, ids)]; chat: as pack_chat makes it; begins: ids before a text, if not
    bos alone; forms: [four numbers], the rows of FormC, with the flag NFC."""
    offsets = np.cumsum([0, *(len(p) for p in pieces)]).astype("<u4")
    selftest = struct.pack("<I", len(tests))
    for text, ids in tests:
        raw = text.encode()
        selftest += struct.pack("<II", len(raw), len(ids)) + raw + np.array(ids, "<u4").tobytes()
    u4 = lambda rows: np.array(rows, "<u4").tobytes()
    parts = [
        offsets.tobytes(),
        b"".join(pieces),
        np.array(prio, "<f4").tobytes(),
        bytes(types),
        u4(sorted(stops)),
    ]
    more = u4([len(begins), *begins]) + u4(forms) if len(begins) or len(forms) else b""
    parts += [u4(classes), u4(merges), chat, selftest, more]
    table, body, at = b"", b"", 256
    for part in parts:
        table += struct.pack("<QQ", at, len(part))
        body += part.ljust(padded(len(part), 64), b"\0")
        at += padded(len(part), 64)
    ids = [NONE if i is None else i for i in (bos, eos, unk, pad)]
    fields = (TOKENIZER_MAGIC, VERSION, ENDIAN, at, kind, len(pieces), flags, pretok, *ids, 0)
    raw = TOKENIZER_HEADER.pack(*fields, bytes(32)) + table.ljust(160, b"\0") + body
    return raw[:0x40] + hashlib.sha256(raw).digest() + raw[0x60:]


def check_ids(fields):
    """What a file, or a config.json beside it, says of special tokens must fit its place."""
    ids = [fields.get(key) for key in ("bos", "eos", "unk", "pad")]
    with reading():
        np.array(sorted([*fields.get("stops", ()), *fields.get("begins", ())]), "<u4")
        struct.pack("<4I", *(NONE if i is None else i for i in ids))


def random_texts(rng, pieces, sizes):
    """Texts of so many pieces each."""
    with reading():  # a vocabulary may have none
        return ["".join(rng.choice(pieces) for _ in range(n())) for n in sizes]


TEXTS = [
    "Once upon a time",
    " two  spaces ",
    "It's 2026, isn't it?\n\n\tYes!",
    "\r\n \x00",
    "x" * 50,
    "naïve 🙂 안녕 C\u1eeda Vi\u1ec7t",
]
STORED = 64  # tests that a file takes with it


def finish_tokenizer(fields, reference=None):
    """Pack, with self-test vectors: from reference(texts) -> [ids] where the source has an engine,
    which run.py's own must agree with, else from that."""
    check_ids(fields)
    rng, kinds = random.Random(1), zip(fields["pieces"], fields["types"])
    rows = [(p.decode("utf-8", "ignore"), kind & 15) for p, kind in kinds]
    pieces = [p for p, kind in rows if kind == NORMAL]
    found = [p for p, kind in rows if kind in (USER, WOVEN, MARK) and len(p) < 100]
    texts = TEXTS + random_texts(rng, pieces, [lambda: 6] * (STORED - 8 - len(TEXTS)))
    texts += random_texts(rng, pieces + found, [lambda: 6] * 8) if found else []
    more = random_texts(rng, pieces + found, [lambda: rng.randint(1, 9)] * 400)
    with ThreadPoolExecutor(1) as pool:  # the engine is another process
        wanted = pool.submit(reference or list, texts + more)
        own = Tokenizer(pack_tokenizer(**fields))
        ids = [own.encode(t, add_bos=False) for t in (texts + more if reference else texts)]
    if reference:
        for text, got, want in zip(texts + more, ids, wanted.result()):
            if got != want and max(want, default=0) < len(fields["pieces"]):
                found = f"it makes other tokens of {text[:40]!r} than its own library"
                raise ModelError(f"{found}: {got[:9]}, expected {want[:9]}; please report it")
    return pack_tokenizer(**fields, tests=list(zip(texts, ids)))


def explicit_if_needed(fields, rows):
    """Merging by the priority of the result is the same as by the list of merges for every known
    vocabulary, but no theorem: try it, and store the list where it is not. Pieces no merge makes
    must not be merged."""
    pieces = merged_pieces(fields["pieces"], fields["types"], fields["kind"])
    made = {pieces[a] + pieces[b] for a, b in rows}
    code = "latin-1" if fields["kind"] == BYTE_BPE else "utf-8"
    normal = [p for p, t in zip(pieces, fields["types"]) if t & 15 in (NORMAL, WOVEN)]
    exact = {**fields, "flags": fields["flags"] | EXPLICIT, "merges": rows}
    if any(len(p.decode(code)) > 1 and p not in made for p in normal):
        return exact
    check_ids(fields)
    quick, slow = (Tokenizer(pack_tokenizer(**f)) for f in (fields, exact))
    rng, words = random.Random(0), [p.decode("utf-8", "ignore") for p in normal if len(p) <= 256]
    texts = random_texts(rng, words, [lambda: rng.randint(1, 4)] * 2000)
    return fields if all(quick.encode(t) == slow.encode(t) for t in texts) else exact


def fitted(fields, n):
    """The fields of a tokenizer for a model of n tokens. Added tokens beyond those are left out, as
    a model without a row for a picture's token is a model of text; ModelError for any other."""
    if n is None or len(fields["pieces"]) <= n:
        return fields
    beyond = list(zip(fields["pieces"], fields["types"]))[n:]
    if any(kind & 15 in (NORMAL, BYTE) for _, kind in beyond):
        found = f"the tokenizer has {len(fields['pieces'])} tokens, the model {n}"
        raise ModelError(f"{found}; expected the model's own; choose with --tokenizer")
    names = [printable(p.decode("utf-8", "replace"))[:40] for p, kind in beyond if p]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    some = ", ".join(names[:3]) + more
    say(f"tokenizer: the model has no row for {some}, which it leaves out: {n} tokens")
    cut = {key: fields[key][:n] for key in ("pieces", "prio", "types")}
    cut["stops"] = [i for i in fields.get("stops", ()) if i < n]
    cut["begins"] = [i for i in fields.get("begins", ()) if i < n]
    ids = {k: v for k in ("bos", "eos", "unk", "pad") if (v := fields.get(k)) is not None}
    return {**fields, **cut, **{k: v if v < n else None for k, v in ids.items()}}
