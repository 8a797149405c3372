"""Pages that there was no room for, in files."""

import hashlib
import os
import struct

import numpy as np

from .errors import ModelError, printable, set_by
from .files import read_small, replaced
from .program.operands import KEYS

SPILL_HEADER = struct.Struct("<8s32s32s")  # magic, which page it is, SHA-256 of the rest
SPILL_MAGIC = b"\x89LMP\r\n\x1a\n"


def behind(key, ids):
    """What a page of ids is known by, behind one that is known by key."""
    return hashlib.sha256(key + np.array(ids, "<u4").tobytes()).digest()


class Spill:
    """A folder of whole pages, by what they are of: model, type of cache, and all ids from the
    first on, as one SHA-256. Runs may share it. A file that is cut or changed is taken away.

    cache: a Cache, of an Engine, whose cache_dir it is in; it has cache_size bytes at most.
    """

    def __init__(self, engine, cache):
        self.engine, self.cache, self.folder = engine, cache, os.fspath(engine.cache_dir)
        self.bound, self.since = engine.spill_size, 0
        self.where, self.broken = f"{set_by('cache_dir')} {printable(self.folder)}", False
        first = f"{engine.file.model_id} {engine.kv} {cache.page_bytes}"
        self.first = hashlib.sha256(first.encode()).digest()
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            self.used = sum(size for _, _, size in self.files())
        except OSError as e:
            found = f"{self.where}: cannot be used ({e.strerror})"
            raise ModelError(f"{found}, expected a folder to write to; choose another") from None

    def files(self):
        """(when it was last of use, its path, its bytes) of every page there."""
        with os.scandir(self.folder) as found:
            for entry in found:
                if entry.name.endswith(".page"):
                    try:
                        about = entry.stat()
                    except OSError:
                        continue  # another run took it away
                    yield about.st_mtime, entry.path, about.st_size

    def key(self, parent, ids):
        """What a page of ids behind a node is known by."""
        line = [parent]
        while line[-1].key is None and line[-1].parent:
            line.append(line[-1].parent)
        key = line[-1].key or self.first
        for node in reversed(line[:-1]):
            key = node.key = behind(key, node.ids)
        return behind(key, ids)

    def path(self, key):
        return os.path.join(self.folder, f"{key.hex()}.page")

    def keep(self, node):
        """Write a node's page, if it is whole and not there yet."""
        if len(node.ids) < KEYS or self.broken or not self.cache.page_bytes:
            return
        key = self.key(node.parent, node.ids)
        parts = [self.cache.page(node.page), *node.states.get(KEYS, ())]
        size = SPILL_HEADER.size + sum(part.nbytes for part in parts)
        try:
            if os.path.getsize(self.path(key)) >= size:
                return
        except OSError:
            pass  # it is not there; one that was kept without states gets them now
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        try:
            with replaced(self.path(key)) as f:
                f.write(SPILL_HEADER.pack(SPILL_MAGIC, key, digest.digest()))
                for part in parts:
                    f.write(part)
        except OSError as e:
            self.broken = True
            self.engine.notice(f"{self.where}: cannot be written ({e.strerror}); no more is kept")
            return
        self.touch(self.path(key), node.parent)
        self.used += size
        if self.used > self.bound:
            self.clear()

    def clear(self):
        """Take away what was of use longest ago, until a tenth of the bound is free."""
        try:
            found = sorted(self.files())
        except OSError:
            return  # the folder is gone; writing will say so
        self.used = sum(size for _, _, size in found)
        for _, path, size in found:
            if self.used <= self.bound * 0.9:
                break
            self.remove(path)
            self.used -= size

    def remove(self, path):
        try:
            os.unlink(path)
        except OSError:
            pass

    def recall(self, parent, ids):
        """The bytes of a page of ids behind a node, as they were kept; None if they were not."""
        key = self.key(parent, ids)
        path, head = self.path(key), SPILL_HEADER.size
        if not os.path.isfile(path):
            return None
        states = sum(part.nbytes for part in self.cache.state(0))
        try:
            raw = read_small(path, "a page of the cache", head + self.cache.page_bytes + states)
        except (ModelError, OSError):
            raw = b""
        raw = np.frombuffer(raw, np.uint8)
        whole = len(raw) - head in (self.cache.page_bytes, self.cache.page_bytes + states)
        said = SPILL_HEADER.pack(SPILL_MAGIC, key, hashlib.sha256(raw[head:]).digest())
        if not whole or raw[:head].tobytes() != said:
            self.engine.notice(f"{printable(path)}: cut or changed; it is taken away")
            self.remove(path)
            return None
        self.touch(path, parent)
        return raw[head:]

    def touch(self, path, parent):
        """It was of use now; a second before, for each page before it: those stay longer, since
        what is behind them is of no use alone. A second is more than one page takes."""
        depth = 0
        while parent.parent:
            parent, depth = parent.parent, depth + 1
        try:
            os.utime(path)
            at = os.stat(path).st_mtime - depth
            os.utime(path, (at, at))
        except OSError:
            pass

    def put(self, pages, node, raw):
        """Put what recall() gave into a new node's page; its states among its marks."""
        size = self.cache.page_bytes
        self.cache.page(node.page)[:] = raw[:size]
        if len(raw) > size:
            pages.mark(node, KEYS, self.cache.states_of(raw))

    def keep_all(self, pages):
        """Write all whole pages."""
        for node in pages.nodes():
            self.keep(node)
