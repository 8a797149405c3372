"""The index: what changes is read again, whatever happens to its file."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from helpers.places import ROOT
from twofile.memory import index, store
from twofile.memory.folder import Stamp
from twofile.memory.memory import Memory


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "twofile" / "memory"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "texts").mkdir()
    return tmp_path / "texts"


def files(memory, question):
    return {p.file for p in memory.find(question)}


def test_what_changes_is_read_again(folder, monkeypatch):
    (folder / "boats.md").write_text("The ferry leaves at nine.")
    (folder / "trains.md").write_text("The train leaves at noon.")
    read = []
    monkeypatch.setattr(index, "text_of_file", lambda raw, real=index.text_of_file: read.append(raw) or real(raw))
    with Memory(folder, None) as m:
        assert files(m, "ferry") == {"boats.md"} and len(read) == 2
        assert m.update() == 0 and len(read) == 2
        (folder / "boats.md").write_text("The ferry leaves at five.")  # of the same size, within a tick of the clock
        assert [p.text for p in m.find("ferry")] == ["The ferry leaves at five."]
        os.rename(folder / "boats.md", folder / "ships.md")
        assert files(m, "ferry") == {"ships.md"}
        (folder / "ships.md").unlink()
        assert m.find("ferry") == [] and files(m, "train") == {"trains.md"} and len(read) == 4
        os.utime(folder / "trains.md", (1, 1))
        assert m.update() == 0 and len(read) == 4  # another time, the same text
    with Memory(folder, None) as m:
        assert files(m, "train") == {"trains.md"} and len(read) == 4  # it was kept


def test_quiet_files_are_not_even_opened(folder, monkeypatch):
    (folder / "a.md").write_text("a ferry")
    with Memory(folder, None) as m:
        monkeypatch.setattr(index, "RACY", -(10**12))
        monkeypatch.setattr(m.folder, "read", lambda name: pytest.fail("it was opened"))
        assert m.update() == 0 and files(m, "ferry") == {"a.md"}


def test_a_time_too_near_to_the_reading_is_not_trusted():
    """Within it the file may have changed again without another time."""
    stamp, looked = Stamp(3, 10**18, 10**18), 10**18 + index.RACY
    assert not index.is_same((*stamp, looked, b"", 0), stamp) and index.is_same((*stamp, looked + 1, b"", 0), stamp)
    assert not index.is_same((*stamp, looked + 1, b"", 0), stamp._replace(size=4)) and not index.is_same(None, stamp)


def test_a_damaged_index_is_made_again(folder, cache):
    (folder / "a.md").write_text("a ferry")
    Memory(folder, None).close()
    (path,) = cache.glob("*.sqlite")
    raw = path.read_bytes()
    page = raw.index(b"a ferry") // 4096 * 4096
    harms = [b"", b"x", b"SQLite format 3\0" + bytes(200), raw[:4096], raw[:5000], os.urandom(len(raw))]
    harms += [raw[:page] + bytes(4096) + raw[page + 4096 :], raw[:60] + b"\0\0\0\7" + raw[64:]]  # ... and of another version
    harms += [raw[:at] + os.urandom(4096) + raw[at + 4096 :] for at in range(0, len(raw), 4096)]
    for harm in harms:
        path.write_bytes(harm)
        with Memory(folder, None) as m:
            assert files(m, "ferry") <= {"a.md"}
            (folder / "b.md").write_text("a ferry too")
            assert "b.md" in files(m, "ferry") and m.store.why is None, harm[:40]
        (folder / "b.md").unlink()


def test_an_index_that_fails_in_the_middle_is_made_again(folder, cache):
    (folder / "a.md").write_text("a ferry")
    with Memory(folder, None) as m:
        m.store.db.execute("DROP TABLE passage")
        assert files(m, "ferry") == {"a.md"} and m.store.path


def test_where_nothing_can_be_kept_it_is_in_memory_and_that_is_said(folder, tmp_path, monkeypatch):
    (folder / "a.md").write_text("a ferry")
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    said = []
    with Memory(folder, said.append) as m:
        assert files(m, "ferry") == {"a.md"} and m.store.path is None
        (folder / "a.md").write_text("a raft")
        assert files(m, "raft") == {"a.md"} and files(m, "ferry") == set()
    assert len(said) == 1 and "its index is in memory and made again each time: " in said[0]


def test_a_full_disk_ends_nothing(folder, small_disk, monkeypatch):
    disk, leave = small_disk
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(disk))
    for n in range(40):
        (folder / f"{n}.md").write_text(f"ferry {n} " + f"word{n} " * 4000)
    said = []
    leave(300_000)
    with Memory(folder, said.append) as m:
        assert len(m.find("ferry", 100)) == 40 and m.store.path is None
    assert any("full" in text for text in said), said


def test_old_indexes_go(folder, cache, tmp_path):
    (tmp_path / "gone").mkdir()
    for place in (folder, tmp_path / "gone"):
        Memory(place, None).close()
    assert len(list(cache.glob("*.sqlite"))) == 2
    (cache / "mine.txt").write_text("x")
    shutil.rmtree(tmp_path / "gone")
    Memory(folder, None).close()
    assert [p.name for p in cache.glob("*.sqlite")] == [f"{store.name_of(str(folder))}.sqlite"]
    assert (cache / "mine.txt").exists()


def test_the_folder_is_not_written_and_the_index_is_private(folder, cache):
    (folder / "a.md").write_text("a ferry")
    os.chmod(folder, 0o500)
    Memory(folder, None).close()
    assert os.listdir(folder) == ["a.md"] and [p.stat().st_mode & 0o077 for p in cache.glob("*")] == [0]
    os.chmod(folder, 0o700)


INDEX = "import sys; sys.path.insert(0, sys.argv[1]); from twofile import Memory; m = Memory(sys.argv[2], None)\n"
INDEX += "print(len(m.find('ferry', 1000)), m.store.why)"


def started(folder):
    return subprocess.Popen([sys.executable, "-c", INDEX, ROOT, folder], stdout=subprocess.PIPE, text=True)


def test_killed_at_any_moment_it_goes_on(folder, cache):
    for n in range(300):
        (folder / f"{n}.md").write_text(f"ferry {n} " + f"word{n} other " * 1500)
    for wait in (0.5, 0.7, 0.9, 1.1, 1.3):
        process = started(folder)
        time.sleep(wait)
        process.kill()
        process.wait()
    with Memory(folder, None) as m:
        assert {p.file for p in m.find("ferry", 1000)} == {f"{n}.md" for n in range(300)} and m.store.path
        assert m.store.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        m.store.db.execute("INSERT INTO word (word) VALUES ('integrity-check')")
        rows = m.store.db.execute("SELECT count(*) FROM passage").fetchone()[0]
    again = Path(folder).parent / "again"
    shutil.copytree(folder, again)
    with Memory(again, None) as m:
        assert m.store.count() == rows


def test_two_processes_at_once(folder):
    for n in range(100):
        (folder / f"{n}.md").write_text(f"ferry {n} " + f"word{n} " * 500)
    both = [started(folder) for _ in range(3)]
    assert [p.communicate(timeout=100)[0] for p in both] == ["100 None\n"] * 3


def test_threads_and_a_fork(folder):
    (folder / "a.md").write_text("a ferry")
    m, found = Memory(folder, None), []
    work = [threading.Thread(target=lambda: found.append(files(m, "ferry"))) for _ in range(8)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert found == [{"a.md"}] * 8
    child = os.fork()
    if not child:
        (folder / "b.md").write_text("another ferry")
        os._exit(files(m, "ferry") != {"a.md", "b.md"})
    assert os.waitpid(child, 0)[1] == 0 and files(m, "ferry") == {"a.md", "b.md"}
    m.close()


def test_a_file_that_is_no_text_is_told_once(folder):
    (folder / "a.png").write_bytes(b"\x89PNG\0")
    said = []
    with Memory(folder, said.append) as m:
        m.update()
        assert m.find("png") == [] and said == [f"memory: {folder}: left out: a.png (no text)"]
        (folder / "a.png").write_text("a picture of a ferry")
        assert files(m, "ferry") == {"a.png"}


def test_an_sqlite_of_a_stranger_is_never_opened(folder, monkeypatch):
    """The index is in the user's own folder; a database among the texts is a file that is no text."""
    opened = []
    monkeypatch.setattr(store, "connect", lambda path, real=store.connect: opened.append(path) or real(path))
    with sqlite3.connect(folder / "x.sqlite") as db:
        db.execute("CREATE TABLE t (x)")
    Memory(folder, None).close()
    assert opened and not any(str(path).startswith(str(folder)) for path in opened)
