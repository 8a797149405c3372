"""Files below a folder: read and found; and never what is outside, by any path, link or race."""

import json
import os
import socket
import threading
import time

import pytest

from twofile.errors import ModelError
from twofile.tools.folder import HeldFolder
from twofile.tools.reading import READ_MAX, files_tool
from twofile.tools.searching import FILES_MAX, Search, search_tool
from twofile.tools.tool import ToolFailed, result_of

SECRET = "the secret word is mellon"


@pytest.fixture
def place(tmp_path):
    """A folder with texts, beside which there is a secret."""
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "inner.txt").write_text(SECRET)
    notes = tmp_path / "notes"
    (notes / "sub").mkdir(parents=True)
    (notes / "fruit.txt").write_text("Apples cost 3.50 a kilo.\nPears cost 2.\n")
    (notes / "sub" / "arn.md").write_text("The lighthouse of Arn\nopened in 1874\n")
    return notes


@pytest.fixture
def ask(place):
    folder = HeldFolder(str(place), "--tools files")
    yield lambda **given: result_of(files_tool(folder), json.dumps(given))
    folder.close()


@pytest.fixture
def find(place):
    folder = HeldFolder(str(place), "--tools search")
    yield lambda words: result_of(search_tool(folder), json.dumps({"words": words}))
    folder.close()


def test_it_lists_and_reads(ask):
    assert ask() == "fruit.txt  39 bytes\nsub/" == ask(path=".") == ask(path="./")
    assert ask(path="sub") == "arn.md  37 bytes"
    assert ask(path="sub/arn.md") == "sub/arn.md, all 2 lines:\nThe lighthouse of Arn\nopened in 1874"
    assert ask(path="sub/arn.md", first_line=2) == "sub/arn.md, 2 to 2 of 2 lines:\nopened in 1874"
    assert "has 2 lines" in ask(path="sub/arn.md", first_line=3)
    assert ask(path="arn.md") == "error: 'arn.md' is not there; there is fruit.txt, sub"
    assert ask(path="sub/x/y") == "error: 'sub/x' is not there; there is arn.md"


def test_long_files_are_read_in_parts(ask, place):
    (place / "long.txt").write_text("".join(f"line {n}\n" for n in range(1, 5001)))
    said, seen = ask(path="long.txt"), []
    while "the next is first_line=" in said:
        head, _, rest = said.partition(":\n")
        seen += rest.split("\n")
        said = ask(path="long.txt", first_line=int(head.rpartition("=")[2]))
    seen += said.partition(":\n")[2].split("\n")
    assert seen == [f"line {n}" for n in range(1, 5001)]
    (place / "wide.txt").write_text("x" * 100_000)
    assert "(and 98,000 characters)" in ask(path="wide.txt")


def test_texts_in_other_encodings_and_what_is_no_text(ask, place):
    (place / "u16.txt").write_text("größe", "utf-16")
    (place / "latin.txt").write_bytes("größe".encode("latin-1"))
    (place / "bin").write_bytes(b"\x7fELF\0\0")
    (place / "empty").write_text("")
    assert ask(path="u16.txt").endswith("größe") and "gr\ufffd\ufffde" in ask(path="latin.txt")
    assert "is no text" in ask(path="bin") and ask(path="empty") == "empty, all 0 lines:"


def test_a_huge_file_is_begun_and_it_says_so(ask, find, place):
    with open(place / "huge.txt", "wb") as f:
        f.write(b"needle\n")
        f.seek(READ_MAX)
        f.write(b"\nhaystack\n")
    os.truncate(place / "huge.txt", 1 << 40)  # a hole of a terabyte
    with open(place / "huge.txt", "r+b") as f:
        f.write(b"needle\n" + b"x" * 8000)
    began = time.monotonic()
    assert "only its first 16 MiB are read" in ask(path="huge.txt", last_line=1)
    said = find("needle")
    assert "huge.txt:1: needle" in said and "not all was searched: of huge.txt only its first" in said
    assert time.monotonic() - began < 10


OUTSIDE = [
    "../secret.txt",
    "sub/../../secret.txt",
    "..",
    "../",
    "./../secret.txt",
    "sub/..//../secret.txt",
    "/etc/passwd",
    "//etc/passwd",
    "/proc/self/environ",
    "../notes/fruit.txt",
    "fruit.txt\0",
    "\0",
    "..\0/secret.txt",
    "\u2025/secret.txt",
    "\uff0e\uff0e/secret.txt",
    "..\\secret.txt",
    "%2e%2e/secret.txt",
    "~/secret.txt",
    "file:///etc/passwd",
    "$HOME",
    "fruit.txt/../../secret.txt",
    "fruit.txt/x",
    "a" * 100_000,
    "/".join("a" * 10_000),
    "\ud800",
    "con",
]


@pytest.mark.parametrize("path", OUTSIDE, ids=range(len(OUTSIDE)))
def test_no_path_leads_outside(ask, path):
    said = ask(path=path)
    assert said.startswith("error: ") and SECRET not in said and len(said) < 700
    assert said.isprintable()


def test_no_link_leads_outside(ask, find, place):
    (place / "link.txt").symlink_to(place.parent / "secret.txt")
    (place / "up").symlink_to("..")
    (place / "sub" / "out").symlink_to(place.parent / "outside")
    (place / "self").symlink_to(".")
    (place / "proc").symlink_to("/proc/self/cwd")
    (place / "inside.txt").symlink_to("fruit.txt")
    for path in ("link.txt", "up/secret.txt", "sub/out/inner.txt", "self/fruit.txt", "proc", "up", "inside.txt"):
        assert "is a link" in ask(path=path)
    assert "link.txt  a link" in ask() and find("mellon") == "nothing found in 2 files"


def test_devices_pipes_and_sockets_are_not_opened(ask, find, place):
    os.mkfifo(place / "pipe")
    with socket.socket(socket.AF_UNIX) as s:
        os.chdir(place)
        s.bind("socket")
        os.chdir("/")
        began = time.monotonic()
        for name in ("pipe", "socket"):
            assert "neither a file nor a folder" in ask(path=name)
        assert "pipe  no file\nsocket  no file" in ask() and "fruit.txt:1" in find("apples")
        assert time.monotonic() - began < 2


def test_a_device_is_not_read():
    folder = HeldFolder("/dev", "--tools files")
    for name in ("zero", "tty", "null"):
        assert "error: " in result_of(files_tool(folder), json.dumps({"path": name}))
    folder.close()


def test_the_folder_stays_the_one_that_was_named(ask, place):
    """Whatever its name comes to mean."""
    os.rename(place, place.parent / "moved")
    place.symlink_to(place.parent / "outside")
    assert "3.50" in ask(path="fruit.txt") and "error" in ask(path="inner.txt")


def racing(exchange, look, *kinds):
    """What look() says while something is exchanged again and again, 400 times, and until all kinds were there."""
    over = threading.Event()

    def go_on():
        while not over.is_set():
            exchange()
            time.sleep(0.0003)  # as it was, for a moment

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        said, until = [], time.monotonic() + 30
        while len(said) < 400 or not all(any(kind in text for text in said) for kind in kinds):
            assert time.monotonic() < until, (kinds, set(said))
            said.append(look())
        return said
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("part, path", [("sub", "sub/inner.txt"), ("inner.txt", "sub/inner.txt")])
@pytest.mark.parametrize("by", ["link", "pipe"])
def test_what_is_exchanged_between_looking_and_opening(ask, place, monkeypatch, part, path, by):
    """The moment that a race is about, hit for certain: what was looked at is not what is opened."""
    (place / "sub" / "inner.txt").write_text("harmless")
    of = place / ("sub" if part == "sub" else path)
    other = place.parent / "outside" / ("inner.txt" if part != "sub" else "")
    look, left = os.stat, [1]

    def stat(name, **how):
        info = look(name, **how)
        if name == part and left:
            left.pop()
            os.rename(of, place / "kept")
            of.symlink_to(other) if by == "link" else os.mkfifo(of)
        return info

    monkeypatch.setattr(os, "stat", stat)
    began = time.monotonic()
    said = ask(path=path)
    assert left == [] and said.startswith("error: ") and "mellon" not in said and time.monotonic() - began < 2


def test_a_folder_exchanged_for_a_link_meanwhile(ask, find, place):
    """Both ways in turn, as fast as it goes: it is the folder's file, or refused; never the other's."""
    (place / "sub" / "inner.txt").write_text("harmless")
    (place / "trap").symlink_to(place.parent / "outside")

    def exchange():
        os.rename(place / "sub", place / "kept")
        os.rename(place / "trap", place / "sub")
        os.rename(place / "sub", place / "trap")
        os.rename(place / "kept", place / "sub")

    said = racing(exchange, lambda: ask(path="sub/inner.txt"), "harmless")
    said += racing(exchange, lambda: find("mellon harmless"), "harmless")
    assert not [text for text in said if "mellon" in text]


def test_a_file_exchanged_for_a_link_or_a_pipe_meanwhile(ask, place):
    os.mkfifo(place / "trap")
    (place / "bait").symlink_to(place.parent / "secret.txt")
    (place / "a.txt").write_text("harmless")

    def exchange():
        for other in ("trap", "bait"):
            os.rename(place / "a.txt", place / "kept")
            os.rename(place / other, place / "a.txt")
            os.rename(place / "a.txt", place / other)
            os.rename(place / "kept", place / "a.txt")

    said = racing(exchange, lambda: ask(path="a.txt"), "harmless")
    assert not [text for text in said if "mellon" in text]


def test_search_finds_what_fits_best_first(find, place):
    (place / "prices.txt").write_text("the price of the pears\nthe price of the melons is 4\nthe the the\n")
    assert find("price of melons").split("\n")[0] == "prices.txt:2: the price of the melons is 4"
    assert find("LIGHTHOUSE opened").split("\n")[0].startswith("sub/arn.md:")
    assert find("zebra") == "nothing found in 3 files"
    assert "0 words" in find("...") and "31 words" in find("a " * 31)
    (place / "line.txt").write_text("x" * 5000 + " needle " + "y" * 5000)
    assert "needle" in find("needle") and len(find("needle")) < 400


def test_search_ends_in_time(place, monkeypatch):
    """However many files, however deep, however long a line, whatever is asked."""
    deep = place
    for _ in range(60):
        deep = deep / "d"
        deep.mkdir()
    (deep / "bottom.txt").write_text("needle")
    (place / "evil.txt").write_text("a" * 3_000_000 + "!\n" + "a needle\n" * 100_000)
    folder = HeldFolder(str(place), "--tools search")
    began = time.monotonic()
    said = result_of(search_tool(folder), json.dumps({"words": "(a+)+$ needle"}))
    assert time.monotonic() - began < 8 and said.count("\n") <= 21
    monkeypatch.setattr("twofile.tools.searching.SECONDS_MAX", -1.0)
    assert "not all was searched: -1 seconds are up" in result_of(search_tool(folder), '{"words": "needle"}')
    monkeypatch.setattr("twofile.tools.searching.SECONDS_MAX", 5.0)
    looking = Search(folder, ["needle"])
    looking.files = FILES_MAX
    looking.below()
    assert "10,000 files" in looking.told()
    folder.close()


def test_a_folder_that_is_none_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in ("", str(tmp_path / "none"), str(tmp_path / "file"), "a\0b"):
        with pytest.raises(ModelError, match="--tools files: .* expected a folder; name one"):
            HeldFolder(path, "--tools files")


def test_names_that_drive_a_terminal_are_shown_escaped(ask, place):
    (place / "a\x1b[31m\nb.txt").write_text("x")
    assert "a\\x1b[31m\\nb.txt  1 bytes" in ask()


def test_a_folder_that_goes_away(ask, place):
    import shutil

    shutil.rmtree(place)
    assert ask() == "(an empty folder)" and "is not there; there is nothing" in ask(path="fruit.txt")


def test_descriptors_are_given_back(ask, find):
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    for _ in range(50):
        ask(path="sub/arn.md"), ask(path="sub/none"), ask(path="fruit.txt/x"), ask(), find("apples")
    assert not before or len(os.listdir("/proc/self/fd")) == before


def test_what_it_raises_is_for_the_model(place):
    folder = HeldFolder(str(place), "--tools files")
    with pytest.raises(ToolFailed), folder.opened("none"):
        pass
    folder.close()


def test_a_file_that_cannot_be_read_is_left_out(ask, find, monkeypatch):
    """Others are searched on; who names it is told why."""
    fdopen = os.fdopen

    def broken(fd, *how):
        if os.readlink(f"/proc/self/fd/{fd}").endswith("fruit.txt"):
            raise OSError(5, "Input/output error")
        return fdopen(fd, *how)

    monkeypatch.setattr(os, "fdopen", broken)
    assert find("arn costs") == "sub/arn.md:1: The lighthouse of Arn"
    assert ask(path="fruit.txt") == "error: 'fruit.txt' cannot be opened (Input/output error)"


def test_lines_that_are_not_there_are_an_error(ask, place):
    (place / "empty").write_text("")
    assert ask(path="sub/arn.md", first_line=2, last_line=1).startswith("error: first_line is 2, last_line 1; expected")
    assert ask(path="empty", first_line=5) == "error: 'empty' has 0 lines, expected one of these"
    assert ask(path="empty", last_line=3) == "empty, all 0 lines:"
    assert ask(path="sub/arn.md", first_line=2, last_line=9).startswith("sub/arn.md, 2 to 2 of 2 lines:")
