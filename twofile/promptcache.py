"""A session on disk."""

import hashlib
import os
import struct

import numpy as np

from .errors import ModelError, printable
from .files import padded, read_small
from .format.table import VERSION
from .program.passes import KEYS

CACHE_MAGIC = b"\x89LMK\r\n\x1a\n"
# magic, version, bytes of a number, positions, model id, SHA-256 of the rest
CACHE_HEADER = struct.Struct("<8sIIQ32s32s")


def cache_head(engine, n, digest):
    """The header of a file of n positions, whose other bytes have that SHA-256."""
    width, model_id = 4 if engine.kv == "f32" else 2, bytes.fromhex(engine.file.model_id)
    return CACHE_HEADER.pack(CACHE_MAGIC, VERSION, width, n, model_id, digest)


def save_session(session, path, n=None):
    """Write what a Session holds to a file; see Model.save_cache."""
    fed, states = session.known(n)
    parts = [np.array(fed, "<u4"), *session.forward.cached(0, len(fed)), *states]
    parts = [part.tobytes() for part in parts]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    head = cache_head(session.engine, len(fed), digest.digest())
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as f:
            for part in (head, *parts):
                f.write(part)
        os.replace(temporary, path)
    except OSError as e:
        where = printable(str(path))
        raise ModelError(
            f"{where}: cannot be written ({e.strerror}); expected room for it; choose another"
        ) from None
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def load_session(session, path, ids):
    """Take what a file has of the beginning of ids into a Session; see Model.load_cache."""
    if not os.path.exists(path) or not os.path.getsize(path):
        return 0
    engine, at = session.engine, CACHE_HEADER.size
    n, raw = read_session(engine, path)
    if n is None:
        return 0
    known = raw[at : at + 4 * n].view("<u4").tolist()
    same = engine.of_use(known, ids[:-1] if engine.recurrent else ids)
    room, at = padded(n, KEYS), at + 4 * n
    with session.lock:
        forward = session.ready(len(ids))
        session.forget()
        for part in forward.cached(0, same):
            heads, length, width = part.shape
            size = heads * room * width
            part[:] = raw[at : at + size].reshape(heads, room, width)[:, :length]
            at += size
        for part in forward.state(0):
            part[:] = raw[at : at + len(part)]
            at += len(part)
        session.adopt(ids[:same])
    return same


def read_session(engine, path):
    """-> positions, uint8 array of the whole file; None instead of positions, and a notice, if it
    is cut, changed or another model's. ModelError if it is no prompt cache at all."""
    where, at, max_ctx = printable(str(path)), CACHE_HEADER.size, engine.file.config.max_ctx
    most = at + 4 * max_ctx + engine.cache_bytes(max_ctx)
    raw = np.frombuffer(read_small(path, "a prompt cache", most), np.uint8)
    head = raw[:at].tobytes()
    if head[:8] != CACHE_MAGIC:
        raise ModelError(
            f"{where}: starts with {head[:8]!r}, expected a prompt cache; "
            "give another name, it would be lost"
        )
    n, found = 0, b""
    if len(head) == at:
        *_, n, _, found = CACHE_HEADER.unpack(head)
    digest = hashlib.sha256(raw[at:]).digest()
    if len(raw) != at + 4 * n + engine.cache_bytes(n) or digest != found:
        engine.notice(f"{where}: cut short or damaged; the prompt is read again")
        return None, raw
    if head != cache_head(engine, n, digest):
        engine.notice(f"{where}: of another model or type of cache; the prompt is read again")
        return None, raw
    return n, raw
