"""What was read of a text, in one file."""

import hashlib
import os
import struct

import numpy as np

from .errors import MissingFile, ModelError, printable
from .files import mode_there, path_asked, read_small, replaced_as_named
from .format.table import VERSION
from .format.types import padded
from .forward import cache_bytes
from .kernels.cache import CACHE_NAMES, cache_type
from .options import whole_number
from .pages import NoPages, alike
from .program.operands import KEYS
from .prompts import whole_ids

CACHE_MAGIC = b"\x89LMK\r\n\x1a\n"
# magic, version, bytes of a number by itself, positions, model id, SHA-256 of the rest
CACHE_HEADER = struct.Struct("<8sIIQ32s32s")


def cache_head(engine, n, digest):
    """The header of a file of n positions, whose other bytes have that SHA-256."""
    one, model_id = cache_type(engine.kv).width(1), bytes.fromhex(engine.file.model_id)
    return CACHE_HEADER.pack(CACHE_MAGIC, VERSION, one, n, model_id, digest)


def save_cache(scheduler, ids, path, n=None):
    """Write what the cache has of ids, or of the first n, to a file; where there are states, up to
    where they were kept."""
    name = path_asked(path, "a prompt cache")
    ids = ids if n is None else ids[: whole_number("n", n, 0, "how many ids, or None for all")]
    engine, forward = scheduler.engine, scheduler.ready()
    with scheduler.mutex:
        found = scheduler.pages.find(ids, len(ids))
        nodes = [*found, *([found.near] if found.count else [])]
        pages = [list(forward.cache.parts(node.page)) for node in nodes]
        parts = [np.array(ids[: found.n], "<u4")]
        parts += [np.stack(part, 1) for part in zip(*pages)]  # [heads, block, bytes]
        states = found.states if found.n else [0 * part for part in forward.state(0)]
        parts = [part.tobytes() for part in (*parts, *states)]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    head = cache_head(engine, found.n, digest.digest())
    try:
        with replaced_as_named(name) as f:
            for part in (head, *parts):
                f.write(part)
    except (OSError, ValueError) as e:
        found = f"{printable(name)}: cannot be written ({getattr(e, 'strerror', None) or e})"
        if isinstance(e, FileNotFoundError):
            found = f"{found}; expected a folder that there is; choose another"
            raise MissingFile(found, name) from None
        raise ModelError(f"{found}; expected room for it; choose another") from None


def load_cache(scheduler, path, ids):
    """Put what a file has of the beginning of ids among the pages -> how many positions."""
    ids, path = whole_ids(ids, "ids", "token ids; give a list"), path_asked(path, "a prompt cache")
    if not os.path.exists(path) or mode_there(path) is None or not os.path.getsize(path):
        return 0
    engine, at = scheduler.engine, CACHE_HEADER.size
    n, raw = read_cache_file(engine, path)
    if n is None:
        return 0
    forward, known = scheduler.ready(), raw[at : at + 4 * n].view("<u4").tolist()
    same = alike(known, ids)
    if engine.recurrent:
        same = n if same == n < len(ids) else 0
    with scheduler.mutex:
        text = scheduler.pages.take(known, same)
        try:
            if text.n < same:
                text.room(same)
                put_parts(forward, text, raw[at + 4 * n :], padded(n, KEYS) // KEYS, same)
                text.grow(known[text.n : same])
                text.mark(forward.cache.states_of(raw))
        except NoPages:
            same = text.n
        text.leave()
        scheduler.last = known, same
    return same


def put_parts(forward, text, raw, blocks, same):
    """raw: the bytes of a file behind its ids, of so many blocks, into the pages of a Text, whose
    first positions, as many as are the same, are meant."""
    first, last, at = text.n // KEYS, padded(same, KEYS) // KEYS, 0
    pages = [list(forward.cache.parts(node.page)) for node in text.nodes[first:last]]
    for part in zip(*pages):
        heads, nbytes = part[0].shape
        given = raw[at : at + heads * blocks * nbytes].reshape(heads, blocks, nbytes)
        for page, block in zip(part, range(first, last)):
            page[:] = given[:, block]
        at += given.size


def read_cache_file(engine, path):
    """-> positions, uint8 array of the whole file; None instead of positions, and a notice, if it
    is cut, changed or another model's. ModelError if it is no prompt cache at all."""
    where, at, max_ctx = printable(path), CACHE_HEADER.size, engine.file.config.max_ctx
    sizes = [cache_bytes(engine.file.config, name, max_ctx) for name in CACHE_NAMES]
    most = at + 4 * max_ctx + max(sizes)  # also of another type, which is told apart below
    raw = np.frombuffer(read_small(path, "a prompt cache", most), np.uint8)
    head = raw[:at].tobytes()
    if head[:8] != CACHE_MAGIC:
        raise ModelError(
            f"{where}: starts with {head[:8]!r}, expected a prompt cache; "
            "give another name, it would be lost"
        )
    n, digest, whole = 0, b"", len(head) == at
    if whole:
        *_, n, _, digest = CACHE_HEADER.unpack(head)
    if whole and head != cache_head(engine, n, digest):
        engine.notice(f"{where}: of another model or type of cache; the prompt is read again")
        return None, raw
    whole = whole and len(raw) == at + 4 * n + engine.cache_bytes(n)
    if not whole or digest != hashlib.sha256(raw[at:]).digest():
        engine.notice(f"{where}: cut short or damaged; the prompt is read again")
        return None, raw
    return n, raw
