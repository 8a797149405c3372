"""Files of editors and of PowerShell: a byte order mark is no text, and what it marks is decoded."""

import codecs
import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from helpers.process import call, refused, start
from twofile.errors import ModelError
from twofile.files import Unmarked
from twofile.front.keep import kept_talk
from twofile.front.requests import read_lines
from twofile.front.text import read_text

TEXT = "Öne day, 🙂\ufeff the fox"  # a mark within a text stays
SAVED = {
    "utf-8": TEXT.encode(),
    "utf-8 with a mark": codecs.BOM_UTF8 + TEXT.encode(),
    "utf-16-le": codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
    "utf-16-be": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "utf-32-le": codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
    "utf-32-be": codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
}
HOW = dict(argvalues=SAVED, argnames="name")


@pytest.mark.parametrize(**HOW)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_in_any_blocks(name, size):
    unmarked, raw = Unmarked("a file"), SAVED[name]
    blocks = [raw[i : i + size] for i in range(0, len(raw), size)]
    assert b"".join(map(unmarked, blocks)) + unmarked(b"", final=True) == TEXT.encode()


@pytest.mark.parametrize("raw", [b"", b"\xef", b"\xef\xbb", b"a", b"\xef\xbb\xbe", b"\xfe", b"\xff", b"a\xff\xfe", b"\x00\x00"])
def test_what_has_no_mark_stays_as_it_is(raw):
    unmarked = Unmarked("a file")
    assert unmarked(raw) + unmarked(b"", final=True) == raw == Unmarked("a file")(raw, final=True)


@pytest.mark.parametrize("raw", [b"\xff\xfea", b"\xff\xfe\x00\xd8a\x00", b"\xfe\xff\xdc\x00\x00a", b"\xff\xfe\0\0\0\0\0\x11"])
def test_what_is_not_as_its_mark_says(raw):
    with pytest.raises(ModelError, match="^a file: begins as UTF-.* and goes on otherwise .*; save it as UTF-8$"):
        Unmarked("a file")(raw, final=True)


@pytest.mark.parametrize(**HOW)
def test_a_prompt(name, tmp_path, monkeypatch):
    """From a file and a pipe, with a line end."""
    end = "\r\n".encode(name) if name.startswith(("utf-16", "utf-32")) else b"\r\n"
    path = tmp_path / "saved.txt"
    path.write_bytes(SAVED[name] + end)
    assert read_text(str(path)) == TEXT.encode()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(path.read_bytes())))
    assert read_text("-") == TEXT.encode()


def test_every_mode_that_reads_a_prompt(tiny, tmp_path):
    path, plain = tmp_path / "saved.txt", tmp_path / "plain.txt"
    plain.write_bytes(TEXT.encode())
    path.write_bytes(SAVED["utf-16-le"])
    for args in (["-n", "5", "-s", "1", "-q", "--echo"], ["--score", "-q"], ["--choices", "a", "b", "-q"], ["--tokenize"]):
        want = call(tiny, "-f", plain, *args).stdout
        assert want and call(tiny, "-f", path, *args).stdout == want
    assert call(tiny, *args, stdin=path.read_bytes()).stdout == want
    both = call(tiny, "-f", path, "-p", "x", "--tokenize").stdout
    assert both == call(tiny, "-p", TEXT + "\nx", "--tokenize").stdout


def test_a_system_prompt(talker, tmp_path):
    (tmp_path / "s").write_bytes(codecs.BOM_UTF16_LE + "be kind\r\n".encode("utf-16-le"))
    same = lambda *args: call(talker, "-p", "x", *args, "-n", "9", "-s", "4", "-q").stdout
    assert same("-sysf", tmp_path / "s") == same("-sys", "be kind")


@pytest.mark.parametrize(**HOW)
def test_requests(name, tmp_path):
    """Numbered and cut as they are without a mark."""
    lines = "".join(json.dumps({"prompt": f"{TEXT}{i}"}, ensure_ascii=False) + "\r\n" for i in range(3000))
    saved = {"utf-8": "", "utf-8 with a mark": "\ufeff"}.get(name, "\ufeff") + lines
    (tmp_path / "in").write_bytes(saved.encode("utf-8" if name.startswith("utf-8") else name))
    got, fd = [], os.open(tmp_path / "in", os.O_RDONLY)
    read_lines(fd, (1, 3), got.append)
    os.close(fd)
    assert got == [*((n, line) for n, line in enumerate(lines.encode().split(b"\n"), 1) if n % 3 == 2), None]


def test_a_pipe_with_a_mark_answers_a_line_at_a_time(tiny):
    """The shortest of lines is not held back to see whether it becomes a mark."""
    for first in (b"", codecs.BOM_UTF8):
        p = start(tiny, "--batch", "-", "-n", "1", "-q", stdin=subprocess.PIPE)
        for line in (first + b"7\n", b'"a"\n'):
            p.stdin.write(line)
            p.stdin.flush()
            assert json.loads(p.stdout.readline())
        p.stdin.close()
        assert (
            p.wait(30) == 1
            and p.stderr.read() == b"run.py: error: 1 of 2 lines failed; expected none; read their field error\n"
        )


def test_a_file_that_lies(tiny, tmp_path):
    (tmp_path / "p").write_bytes(b"\xff\xfeabc")
    says = "begins as UTF-16-LE", "expected text in one encoding; save it as UTF-8"
    refused(call(tiny, "-f", tmp_path / "p"), str(tmp_path / "p"), *says)
    refused(call(tiny, stdin=b"\xff\xfeabc"), "standard input: ", *says)
    refused(call(tiny, "--batch", tmp_path / "p"), "--batch: ", *says)
    (tmp_path / "p").write_bytes(codecs.BOM_UTF8)
    refused(call(tiny, "-f", tmp_path / "p"), "p is empty, expected a prompt", code=2)


def test_a_kept_conversation(tmp_path):
    """As an editor may have saved it again."""
    talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le")):
        (tmp_path / "talk.json").write_bytes(mark + json.dumps(talk).encode(encoding))
        assert kept_talk(str(tmp_path / "talk.json")) == talk
