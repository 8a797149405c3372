"""Fields become a tokenizer.bin."""

import hashlib
import random
import struct

import numpy as np

from ...format.fields import NONE
from ...format.table import ENDIAN, VERSION
from ...format.types import padded
from ...tokenizer.file import BYTE_BPE, EXPLICIT, NORMAL, TOKENIZER_HEADER, TOKENIZER_MAGIC
from ...tokenizer.tokenizer import Tokenizer
from ..damage import reading


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
):
    """-> the bytes of a tokenizer.bin. pieces: [bytes]; prio: floats, higher merges first; types:
    NORMAL, BYTE, …; classes: [(first, last, class)]; merges: [(id, id)] by rank, with the flag
    EXPLICIT; tests: [(text, ids)]; chat: as pack_chat makes it."""
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
    parts += [u4(classes), u4(merges), chat, selftest, b""]
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
        np.array(sorted(fields.get("stops", ())), "<u4")
        struct.pack("<4I", *(NONE if i is None else i for i in ids))


def random_texts(rng, pieces, sizes):
    """Texts of so many pieces each."""
    with reading():  # a vocabulary may have none
        return ["".join(rng.choice(pieces) for _ in range(n())) for n in sizes]


def finish_tokenizer(fields, reference=None):
    """Pack, adding self-test vectors: from reference(texts) -> [ids] where the source has an
    engine, else from run.py's own."""
    check_ids(fields)
    own = Tokenizer(pack_tokenizer(**fields))
    rng, kinds = random.Random(1), zip(fields["pieces"], fields["types"])
    pieces = [p.decode("utf-8", "ignore") for p, kind in kinds if kind == NORMAL]
    texts = [
        "Once upon a time",
        " two  spaces ",
        "It's 2026, isn't it?\n\n\tYes!",
        "\r\n \x00",
        "x" * 50,
        "naïve 🙂 안녕 C\u1eeda Vi\u1ec7t",
    ]
    texts += random_texts(rng, pieces, [lambda: 6] * (64 - len(texts)))
    ids = reference(texts) if reference else [own.encode(t, add_bos=False) for t in texts]
    return pack_tokenizer(**fields, tests=list(zip(texts, ids)))


def explicit_if_needed(fields, rows):
    """Merging by the priority of the result is the same as by the list of merges for every known
    vocabulary, but no theorem: try it, and store the list where it is not. Pieces no merge makes
    must not be merged."""
    made = {fields["pieces"][a] + fields["pieces"][b] for a, b in rows}
    code = "latin-1" if fields["kind"] == BYTE_BPE else "utf-8"
    normal = [p for p, t in zip(fields["pieces"], fields["types"]) if t == NORMAL]
    exact = {**fields, "flags": fields["flags"] | EXPLICIT, "merges": rows}
    if any(len(p.decode(code)) > 1 and p not in made for p in normal):
        return exact
    check_ids(fields)
    quick, slow = (Tokenizer(pack_tokenizer(**f)) for f in (fields, exact))
    rng, words = random.Random(0), [p.decode("utf-8", "ignore") for p in normal if len(p) <= 256]
    texts = random_texts(rng, words, [lambda: rng.randint(1, 4)] * 2000)
    return fields if all(quick.encode(t) == slow.encode(t) for t in texts) else exact
