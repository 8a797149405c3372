"""An index is brought up to date: by times, then by what files hold."""

import hashlib
import time

from .folder import text_of_file
from .passages import passages

RACY = 2_000_000_000  # nanoseconds in which a file may change without a new time
LOST_AT_MOST = 1.0  # seconds of work that are lost at most if this is killed
MUCH = 1 << 22  # bytes of which reading is announced


def bring_up_to_date(store, folder, notice):
    """Read what is new or changed below a Folder into a Store, and take out what is gone; -> how
    many files that were. notice(text) is told of much work. Raises sqlite3.Error."""
    known, there = store.files(), folder.look()
    gone = [name for name in known if name not in there]
    fresh = [name for name in there if not is_same(known.get(name), there[name])]
    size = sum(there[name].size for name in fresh)
    if size > MUCH:
        notice(f"memory: reading {len(fresh):,} files, {size >> 20:,} MiB, once")
    changed, at = 0, 0
    names = [*gone, *fresh]
    while at < len(names):
        with store.writing():
            until = time.monotonic() + LOST_AT_MOST
            while at < len(names) and (time.monotonic() < until):
                name = names[at]
                changed += renew(store, folder, name) if name in there else drop(store, name)
                at += 1
    none = [name for name, row in store.files().items() if row[5] < 0]
    folder.left_out["no text"].extend(name for name in none if name in there)
    if not folder.left_out["no text"]:
        del folder.left_out["no text"]
    return changed


def is_same(row, stamp):
    """Whether a file is as it was when it was read, as far as its times say."""
    return row is not None and tuple(row[:3]) == tuple(stamp) and max(stamp[1:]) + RACY < row[3]


def drop(store, name):
    store.forget(name)
    return 1


def renew(store, folder, name):
    """Read a file, and its passages if it holds something else than before -> whether it does."""
    looked, found = time.time_ns(), folder.read(name)
    row = store.db.execute("SELECT hash FROM file WHERE name = ?", (name,)).fetchone()
    if found is None:
        return drop(store, name) if row else 0
    raw, stamp = found
    digest = hashlib.sha256(raw).digest()
    if row and row[0] == digest:
        times = "UPDATE file SET size = ?, changed = ?, status = ?, looked = ? WHERE name = ?"
        store.db.execute(times, (*stamp, looked, name))
        return 0
    text = text_of_file(raw)
    odd = -1 if text is None else text[1]
    cut = () if text is None else passages(text[0])
    store.keep(name, (*stamp, looked, digest, odd), cut)
    return 1
