"""One text in the cache: read, written, taken back, kept on disk."""

import hashlib
import os
import struct
import threading

import numpy as np

from .errors import ModelError, printable
from .files import read_small, replaced
from .forks import RENEWED
from .format.table import VERSION
from .format.types import padded
from .forward import cache_bytes
from .guess import Lookup, generate
from .kernels.cache import CACHE_NAMES, cache_type
from .program.operands import CHUNK, KEYS, WANTED_MAX


class Session:
    """One text in the cache of a Forward of an Engine: what is read again is not computed again.

    Attributes: forward (None until ready()), fed (the ids whose keys and values are in the cache),
    owner (the list they were taken from), kept (a number of those ids, and the states after them,
    since states cannot be cut as keys and values can), lock (held while a text is read on).
    """

    def __init__(self, engine):
        self.engine, self.recurrent = engine, engine.recurrent
        self.forward, self.lock = None, threading.RLock()
        self.fed, self.owner, self.kept = [], None, (0, [])
        RENEWED.add(self)

    def forked(self):
        """In a child: a thread of the parent may have held the lock. It is held while fed is less
        than what the cache has, never more, so that the child can go on from there."""
        self.lock = threading.RLock()

    def ready(self, n_ctx):
        """A Forward of at least n_ctx positions: the next power of two, so that growing prompts
        seldom need a new one. Raises ModelError if memory has no room for it."""
        if self.forward is None or self.forward.n_ctx < n_ctx:
            n_ctx = min(self.engine.n_ctx, max(256, 1 << (n_ctx - 1).bit_length()))
            self.forward, self.fed = self.engine.build(n_ctx, 1), []
            self.owner, self.kept = None, (0, [])
        return self.forward

    def keep(self):
        """Keep the states as they are now, so that the cache can be taken back to here."""
        self.kept = len(self.fed), [part.copy() for part in self.forward.state(0)]

    def back(self, n):
        """Take the cache back to its first n ids; where there are states, to where they were kept,
        or to nothing. -> how many are left."""
        fed = self.fed
        if n < len(fed) and self.recurrent:
            self.fed = []  # Ctrl-C may come at any time: states must not be taken for others
            n = self.kept[0] if self.kept[0] <= n else 0
            for part, before in zip(self.forward.state(0), self.kept[1] if n else []):
                part[:] = before
        if n < self.kept[0]:
            self.kept = 0, []
        del fed[n:]
        self.fed = fed
        return n

    def step(self, text, ids, position, wanted):
        """Logits after each of the last wanted of ids, which begin at position of text (a list of
        ids, of which those before position count). What the cache holds of them is not computed
        again."""
        if self.owner is not text:  # another text was here since
            ids, position, self.owner = text[:position] + ids, 0, text
        n, end = position, position + len(ids)
        while n < end - wanted and n < len(self.fed) and self.fed[n] == ids[n - position]:
            n += 1
        n = self.back(n)
        if n < position:
            ids, position = text[:position] + ids, 0
        while n < end:
            left = end - n
            # those wanted are all in the last pass; with states alone there: what comes before them
            # may be wanted again
            whole = left <= CHUNK and not (self.recurrent and left > wanted)
            size = left if whole else min(CHUNK, left - wanted)
            part = ids[n - position : n - position + size]
            rows = range(size - wanted, size) if size == left else []
            fed, self.fed = self.fed, [] if self.recurrent else self.fed
            logits = self.engine.play(self.forward, part, range(n, n + size), [0] * size, rows)
            fed += part
            self.fed, n = fed, n + size
            if self.recurrent and left - size == wanted:
                self.keep()
        return logits

    def logits(self, ids):
        """float32 [len(ids), vocab_size]: row i is the model's opinion of what follows
        ids[: i + 1]."""
        with self.lock:
            self.ready(len(ids))
            ends = [min(n + WANTED_MAX, len(ids)) for n in range(0, len(ids), WANTED_MAX)]
            return np.concatenate(
                [self.step(ids, ids[:n], 0, (n - 1) % WANTED_MAX + 1).copy() for n in ends]
            )

    def write(self, w, lookup=True):
        """Yield the Chunks of a Writer as they are made. lookup: guess what repeats; changes the
        speed, nothing else."""
        with self.lock:
            self.ready(len(w.ids) + w.limit)

        def step(ids, position, n):
            rows = self.step(w.ids, ids, position, n)
            return rows.copy() if n > 1 else rows  # more than one row outlives the lock

        # states could not forget what was guessed wrong
        guess = Lookup() if lookup and not self.recurrent else lambda ids: []
        tokens = generate(step, w.ids, w.ends, w.limit, w.choose, guess)
        while w.reason is None:
            with self.lock:
                token = next(tokens, None)
            yield w.push(token)

    def not_finite(self, position):
        """The ModelError for logits at that position, of the pass before, that are no numbers."""
        error = self.engine.not_finite(position)
        if self.recurrent:
            self.forget()  # states have seen the pass twice
        return error

    def forget(self):
        """What is in the cache is of no text."""
        self.fed = []

    def adopt(self, ids):
        """What was put into the cache is of these ids."""
        self.fed, self.owner = ids, None
        self.keep()

    def known(self, n=None):
        """-> the ids in the cache, or the first n of them, and the states after them; where there
        are states, as many ids as they were kept for."""
        if self.recurrent:
            fed, states = self.fed[: self.kept[0]], self.kept[1]
        else:
            fed, states = self.fed[:n], []
        return fed, states or list(self.forward.state(0))


CACHE_MAGIC = b"\x89LMK\r\n\x1a\n"
# magic, version, bytes of a number by itself, positions, model id, SHA-256 of the rest
CACHE_HEADER = struct.Struct("<8sIIQ32s32s")


def cache_head(engine, n, digest):
    """The header of a file of n positions, whose other bytes have that SHA-256."""
    one, model_id = cache_type(engine.kv).width(1), bytes.fromhex(engine.file.model_id)
    return CACHE_HEADER.pack(CACHE_MAGIC, VERSION, one, n, model_id, digest)


def save_session(session, path, n=None):
    """Write what a Session holds to a file; see Model.save_cache."""
    fed, states = session.known(n)
    parts = [np.array(fed, "<u4"), *session.forward.cached(0, len(fed)), *states]
    parts = [part.tobytes() for part in parts]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    head = cache_head(session.engine, len(fed), digest.digest())
    try:
        with replaced(path) as f:
            for part in (head, *parts):
                f.write(part)
    except OSError as e:
        where = printable(str(path))
        raise ModelError(
            f"{where}: cannot be written ({e.strerror}); expected room for it; choose another"
        ) from None


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
