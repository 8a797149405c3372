"""What was typed is kept: by whom, where, for whom, and how much of it."""

import os
import threading

import pytest

from twofile.front.history import ENTRIES_MOST, ENTRY_MOST, HISTORY_PLACE, History, history_path

TEXTS = ["hello", "two\nlines\\x0a", "/set temp 0", "caf\xe9 \x1b[31m\t", "no UTF-8 \udcff"]


def test_what_is_typed_comes_back(tmp_path):
    path = tmp_path / "state" / "twofile" / "history"
    history = History(str(path))
    assert history.texts() == []
    for text in [*TEXTS, " a secret", "x" * ENTRY_MOST]:
        history.add(text)
    assert History(str(path)).texts() == TEXTS
    assert path.stat().st_mode & 0o777 == 0o600 and path.read_bytes().count(b"\n") == len(TEXTS)
    assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in (path.parent, path.parent.parent))
    assert not set(path.read_bytes()) & {0x1B, 9}  # cat shows it and nothing else


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path):
    path = tmp_path / "history"
    path.write_text("one\ntwo")  # without an end, as an editor may leave it
    path.chmod(0o644)
    History(str(path)).add("three")
    assert path.stat().st_mode & 0o777 == 0o600 and History(str(path)).texts() == ["one", "two", "three"]


def test_the_last_thousand_are_kept(tmp_path):
    path = tmp_path / "history"
    path.write_bytes(b"".join(b"%d\n" % n for n in range(ENTRIES_MOST + 500)))
    assert len(History(str(path)).texts()) == ENTRIES_MOST
    history = History(str(path))
    history.add("last")
    assert path.read_bytes().count(b"\n") == ENTRIES_MOST and os.listdir(tmp_path) == ["history"]
    assert history.texts()[-2:] == [f"{ENTRIES_MOST + 499}", "last"]


def test_conversations_at_once_lose_nothing(tmp_path):
    """Also while one of them takes the oldest lines off."""
    path = tmp_path / "history"
    path.write_bytes(b"old\n" * ENTRIES_MOST * 2)

    def talk(name):
        for n in range(20):
            History(str(path)).add(f"{name} {n}\nx")

    threads = [threading.Thread(target=talk, args=(name,)) for name in "abcdefgh"]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    kept = [text for text in History(str(path)).texts() if text != "old"]
    assert sorted(kept) == sorted(f"{name} {n}\nx" for name in "abcdefgh" for n in range(20))


def test_a_file_that_is_none_of_ours_is_left_alone(tmp_path):
    (tmp_path / "theirs").write_text("theirs\n")
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for place in ("link", "folder", "fifo", "theirs/history", "x\0y", "/dev/null/x", "/dev/null"):
        history = History(str(tmp_path / place))
        history.add("text")
        assert history.texts() == []
    assert (tmp_path / "theirs").read_text() == "theirs\n"


def test_a_full_disk_keeps_whole_lines(small_disk):
    folder, leave = small_disk
    history = History(str(folder / "history"))
    history.add("first")
    leave(0)
    for n in range(40):
        history.add(f"{n} " + "x" * 400)
    texts = history.texts()
    assert texts[0] == "first" and len(texts) < 41 and all(len(text) > 400 for text in texts[1:])
    assert sorted(p.name for p in folder.iterdir()) == ["filler", "history"]


@pytest.mark.parametrize(
    "named, state, path",
    [
        (None, None, "{home}/.local/state/twofile/history"),
        (None, "/state", "/state/twofile/history"),
        (None, "relative", "{home}/.local/state/twofile/history"),  # as the specification has it
        ("~/mine", "/state", "{home}/mine"),
        ("", "/state", None),
    ],
)
def test_where_it_lies(monkeypatch, tmp_path, named, state, path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in ((HISTORY_PLACE, named), ("XDG_STATE_HOME", state)):
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)
    assert history_path() == (path and path.format(home=tmp_path))
