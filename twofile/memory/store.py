"""Passages in one file of SQLite, which may be lost at any moment."""

import contextlib
import hashlib
import os
import re
import sqlite3

from ..compiler.kept import cache_folder
from ..errors import printable
from ..machines.host import host

SCHEMA = 1  # of the tables: a file of another is made again
PATIENCE = 60  # seconds that another process may be writing
INDEX_TABLES = """
CREATE TABLE folder (path TEXT);
CREATE TABLE file (name TEXT PRIMARY KEY, size INT, changed INT, status INT, looked INT,
    hash BLOB, odd INT);
CREATE TABLE passage (id INTEGER PRIMARY KEY, file TEXT, line INT, heading TEXT, text TEXT);
CREATE INDEX of_file ON passage (file);
CREATE VIRTUAL TABLE word USING fts5(file, heading, text, content='',
    tokenize="porter unicode61 remove_diacritics 2");
"""
UNSPACED = re.compile(
    "([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)
PASSING = (
    "locked",
    "busy",
    "full",
    "readonly",
    "read-only",
    "unable to open",
    "disk i/o",
    "interrupt",
)


class Store:
    """The index of a folder, in this user's cache folder or, where that cannot be, in memory.

    folder: its real path. Attributes: db (an sqlite3.Connection), path (None in memory), why (it is
    in memory, or None).
    """

    def __init__(self, folder):
        self.folder, self.path, self.why, self.db = folder, None, None, None
        try:
            self.path = os.path.join(index_folder(), f"{name_of(folder)}.sqlite")
            self.open()
        except (OSError, sqlite3.Error) as e:
            self.in_memory(e)

    def open(self):
        """Open the file, or make it. Raises sqlite3.Error."""
        for last in (False, True):
            try:
                self.db = connect(self.path or ":memory:")
                if self.path:
                    os.chmod(self.path, 0o600)
                    self.db.execute("PRAGMA journal_mode = WAL")
                    self.db.execute("PRAGMA synchronous = NORMAL")
                self.tables()
                return
            except sqlite3.Error as e:
                if last or passing(e):
                    raise
                self.delete()

    def tables(self):
        """Make the tables, unless they are there. Raises sqlite3.Error."""
        with self.writing():
            (version,) = self.db.execute("PRAGMA user_version").fetchone()
            (there,) = self.db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if version == SCHEMA:
                for table in ("folder", "file", "passage", "word"):
                    self.db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()
                return
            if there:
                raise sqlite3.DatabaseError(f"tables of version {version}")
            for statement in INDEX_TABLES.split(";\n"):
                self.db.execute(statement)
            path = self.folder.encode("utf-8", "surrogateescape")
            self.db.execute("INSERT INTO folder VALUES (?)", (path,))
            self.db.execute(f"PRAGMA user_version = {SCHEMA}")

    def mended(self, error):
        """After an sqlite3.Error: begin again with an empty index, in memory if the file cannot be
        written."""
        if self.path and not passing(error):
            try:
                self.delete()
                return self.open()
            except (OSError, sqlite3.Error) as e:
                error = e
        self.in_memory(error)

    def in_memory(self, error):
        self.close()
        self.path, self.why = None, printable(getattr(error, "strerror", None) or str(error))
        self.open()

    def delete(self):
        self.close()
        discard(self.path)

    def close(self):
        if self.db:
            with contextlib.suppress(sqlite3.Error):
                self.db.close()
        self.db = None

    def forked(self):
        """In a child: a connection of its own; the parent's is left alone, for its locks."""
        if self.path:
            self.parents, self.db = self.db, None
            try:
                self.open()
            except (OSError, sqlite3.Error) as e:
                self.in_memory(e)

    @contextlib.contextmanager
    def writing(self):
        """All that is done inside is done, or nothing. Raises sqlite3.Error."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self.db.execute("ROLLBACK")
            raise

    def files(self):
        """{name: (size, changed, status, looked, hash, odd)} of what is known."""
        return {row[0]: row[1:] for row in self.db.execute("SELECT * FROM file")}

    def forget(self, name):
        """Take a file out; within writing()."""
        rows = self.db.execute(
            "SELECT id, file, heading, text FROM passage WHERE file = ?", (name,)
        ).fetchall()
        out = "INSERT INTO word (word, rowid, file, heading, text) VALUES ('delete', ?, ?, ?, ?)"
        self.db.executemany(out, [(row[0], *map(spaced, row[1:])) for row in rows])
        self.db.execute("DELETE FROM passage WHERE file = ?", (name,))
        self.db.execute("DELETE FROM file WHERE name = ?", (name,))

    def keep(self, name, about, found):
        """Put a file in, in the place of what was known of it; within writing(). about: as in
        files(). found: its Passages."""
        self.forget(name)
        self.db.execute("INSERT INTO file VALUES (?, ?, ?, ?, ?, ?, ?)", (name, *about))
        for p in found:
            row = name, p.line, p.heading, p.text
            put = "INSERT INTO passage (file, line, heading, text) VALUES (?, ?, ?, ?)"
            number = self.db.execute(put, row).lastrowid
            words = number, spaced(name), spaced(p.heading), spaced(p.text)
            self.db.execute(
                "INSERT INTO word (rowid, file, heading, text) VALUES (?, ?, ?, ?)", words
            )

    def count(self):
        """How many passages there are."""
        return self.db.execute("SELECT count(*) FROM passage").fetchone()[0]


def spaced(text):
    """A text as it is indexed: characters of scripts that have no spaces are words of their own."""
    return text if text.isascii() else UNSPACED.sub(r" \1 ", text)


def connect(path):
    return sqlite3.connect(path, PATIENCE, isolation_level=None, check_same_thread=False)


def passing(error):
    """Whether an sqlite3.Error tells of the disk, or of others, and of no damage."""
    return any(word in str(error).lower() for word in PASSING)


def name_of(folder):
    return hashlib.sha256(folder.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def index_folder():
    """The folder of all indexes, made if need be. Raises OSError."""
    said = []
    kept = cache_folder(host(), said.append)
    if kept is None:
        raise OSError(said[0].partition("(")[2].rpartition(")")[0])
    place = kept.parent / "memory"
    place.mkdir(mode=0o700, exist_ok=True)
    return os.fspath(place)


def discard(path):
    """Delete an index. Raises OSError."""
    for end in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + end)


def sweep_indexes(place):
    """Delete the indexes in a folder whose own folder is no longer there."""
    for name in os.listdir(place):
        path = os.path.join(place, name)
        if not re.fullmatch(r"[0-9a-f]{24}\.sqlite", name):
            continue
        with contextlib.suppress(OSError, sqlite3.Error):
            with contextlib.closing(sqlite3.connect(path, 0)) as db:
                (raw,) = db.execute("SELECT path FROM folder").fetchone() or (b"",)
            if raw and not os.path.isdir(raw.decode("utf-8", "surrogateescape")):
                discard(path)
