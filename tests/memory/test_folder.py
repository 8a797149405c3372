"""Which files are read: below the folder, texts, nothing by a link."""

import os
import socket

import pytest

from twofile.errors import ModelError
from twofile.memory import folder
from twofile.memory.folder import Folder, text_of_file


def test_what_is_found(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    (inside / "deep" / "er").mkdir(parents=True)
    outside.mkdir()
    for path in (inside / "a.md", inside / "deep" / "er" / "b", outside / "secret.txt", inside / ".hidden"):
        path.write_text("text")
    (inside / ".git").mkdir()
    (inside / ".git" / "c").write_text("text")
    (inside / "link.md").symlink_to(outside / "secret.txt")
    (inside / "links").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    os.mkfifo(inside / "pipe")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(os.fspath(inside / "s"))
    f = Folder(inside)
    assert sorted(f.look()) == ["a.md", "deep/er/b"]
    assert sorted(f.left_out["links"]) == ["link.md", "links", "loop"] and sorted(f.left_out["no files"]) == ["pipe", "s"]
    assert f.told().startswith("link.md, ") and " (links); " in f.told() and "\n" not in f.told()
    assert f.read("a.md")[0] == b"text" and f.read("a.md")[1] == f.look()["a.md"]


def test_what_became_a_link_is_not_read(tmp_path):
    """Between the look and the reading: the file, or a folder on the way to it."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    for path in (inside / "d", outside / "d"):
        path.mkdir(parents=True)
        (path / "x.md").write_text("secret" if path.parent == outside else "mine")
    f = Folder(inside)
    assert list(f.look()) == ["d/x.md"] and f.read("d/x.md")[0] == b"mine"
    (inside / "d" / "x.md").unlink()
    (inside / "d" / "x.md").symlink_to(outside / "d" / "x.md")
    assert f.read("d/x.md") is None
    (inside / "d" / "x.md").unlink()
    (inside / "d").rmdir()
    (inside / "d").symlink_to(outside / "d")
    assert f.read("d/x.md") is None and f.left_out["unreadable"] == ["d/x.md"] * 2


def test_a_folder_that_is_a_link_itself_is_the_users_choice(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_text("x")
    (tmp_path / "name").symlink_to(tmp_path / "real")
    assert list(Folder(tmp_path / "name").look()) == ["a"]


def test_sizes(tmp_path, monkeypatch):
    for n in range(4):
        (tmp_path / f"{n}.md").write_bytes(b"x" * 10 * (n + 1))
    for name, value, left in (("LARGEST", 25, 2), ("MOST_IN_ALL", 35, 2), ("MOST_FILES", 3, 3)):
        with monkeypatch.context() as m:
            m.setattr(folder, name, value)
            f = Folder(tmp_path)
            assert len(f.look()) == left and sum(map(len, f.left_out.values())) == 4 - left, name


def test_names(tmp_path):
    """Line ends in a name, and bytes that are no text, drive no terminal."""
    for name in (b"a\nb.md", b"\xff.md", "\u202egnp.md".encode()):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as f:
            f.write(b"x")
    f = Folder(tmp_path)
    assert sorted(f.look()) == ["a\nb.md", "\u202egnp.md"]
    assert f.told() == "\\udcff.md (names that are no text)"


@pytest.mark.parametrize("name, says", [("none", "No such file"), ("file", "is no folder"), ("nul\0", "null")])
def test_what_is_no_folder(tmp_path, name, says):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError, match=f"^memory .*{says}.*expected a folder of texts; name one"):
        Folder(os.path.join(tmp_path, name))


def test_what_is_text():
    assert text_of_file("caf\u00e9".encode()) == ("caf\u00e9", 0)
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        assert text_of_file("caf\u00e9".encode(encoding)) == ("caf\u00e9", 0), encoding
    assert text_of_file(b"one odd byte \xff in a long text of others") == ("one odd byte \ufffd in a long text of others", 1)
    assert text_of_file("its own \ufffd".encode()) == ("its own \ufffd", 0)
    for raw in (b"a\0b", b"\x89PNG\r\n", bytes(range(128, 256)), b"\xff\xfeab\0", b"\xff\xfe\0\xd8a\0"):
        assert text_of_file(raw) is None, raw
    assert text_of_file(b"") == ("", 0)


def test_an_empty_name_is_not_this_folder():
    with pytest.raises(ModelError, match="^memory '': names no folder, expected a folder of texts; name one$"):
        Folder("")


class Waits:
    """A file that has nothing to read now."""

    def __init__(self, fd, mode):
        self.fd = fd

    def read(self, size):
        return None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        os.close(self.fd)


def test_what_has_nothing_to_read_now_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("text")
    f = Folder(tmp_path)
    monkeypatch.setattr(os, "fdopen", Waits)
    assert f.read("a") is None and f.left_out == {"unreadable": ["a"]}


def test_a_file_that_grew_too_large_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("text")
    monkeypatch.setattr(folder, "LARGEST", 3)
    f = Folder(tmp_path)
    assert f.read("a") is None and f.left_out == {"unreadable": ["a"]}


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="there is no /proc")
def test_what_is_on_no_disk_is_left_out(monkeypatch):
    f = Folder("/proc")
    assert f.look() == {} and "self" in f.left_out["links"] and "version" in f.left_out["on no disk"]
    monkeypatch.setattr(folder, "NO_DISKS", ())
    f = Folder(f"/proc/{os.getpid()}")
    assert f.read("status") is None and f.left_out == {"unreadable": ["status"]}  # it says that it is empty, and is not
