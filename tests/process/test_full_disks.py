"""A full disk under all that writes. Row X10 of the list of harms."""

import gc
import io
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

import twofile.export.main as export_main
import twofile.serve.main as serve_main
from helpers.places import ROOT
from helpers.process import call, refused
from twofile.command.topics import PARSERS, parser_of
from twofile.errors import ModelError, say
from twofile.export.main import main
from twofile.front.commands import Commands


def test_a_full_disk_everywhere(small_disk, tiny, talker, tmp_path, capfd):
    """X10: export, --batch -o, --prompt-cache, kernels and /save on a full disk: words, no half file under a final name."""
    folder, leave = small_disk
    names = lambda: sorted(p.name for p in folder.iterdir() if p.name != "filler")
    for n in (0, 8192, 300_000):
        leave(n)
        code = main(["--random", "15M", "-o", str(folder / "m.bin")])
        err = capfd.readouterr().err
        assert code == 1 and "No space left" in err and "nothing was changed" in err and names() == []
    (tmp_path / "in").write_text('"the fox"\n' * 400)
    args = (tiny, "--batch", tmp_path / "in", "-n", "30", "-s", "1")
    leave(20_000)
    refused(call(*args, "-o", folder / "out", "-q"), "out.part: cannot be written (No space left", "--resume")
    assert names() == ["out.part"]
    leave(400_000)
    done = call(*args, "-o", folder / "out", "--resume", "-q")
    assert done.returncode == 0 and (folder / "out").read_bytes() == call(*args, "-q").stdout
    (folder / "out").unlink()
    for n in (0, 4096):
        leave(n)
        done = call(tiny, "-p", "the fox and " * 9, "-n", "3", "-s", "1", "-q", "--prompt-cache", folder / "cache")
        assert done.returncode == 1 and b"cannot be written (No space left" in done.stderr and names() == []
        chat = Commands(SimpleNamespace(messages=[{"role": "user", "content": "x" * 9000}]), None, None)
        with pytest.raises(ModelError, match="cannot be written .*No space left"):
            chat.command(f"/save {folder}/kept")
        assert names() == []


@pytest.fixture
def full():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with io.TextIOWrapper(open("/dev/full", "wb", buffering=0), write_through=True) as stream:
        yield stream


@pytest.mark.parametrize("name", PARSERS)
def test_help_that_cannot_be_written(name, full, monkeypatch, capsys):
    """Is an error, though argparse itself says nothing of it."""
    moved = []
    monkeypatch.setattr(os, "dup2", lambda *ends: moved.append(ends[1]))
    monkeypatch.setattr(sys, "stdout", full)
    with pytest.raises(SystemExit) as caught:
        parser_of(name).parse_args(["--help"])
    assert caught.value.code == 1 and moved == [1]
    assert "error: standard output cannot be written (No space left" in capsys.readouterr().err


def test_a_short_text_that_cannot_be_written(full):
    """As long as a buffer is not full, that is seen at the end."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "twofile", "--version"]
    done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, env=environment)
    assert done.returncode == 1 and done.stderr.startswith(b"twofile: error: standard output cannot be written")


def test_notices_of_the_server_and_the_exporter_that_cannot_be_written(full, monkeypatch):
    """Stop neither."""
    for owner, name in ((signal, "signal"), (gc, "set_threshold")):
        monkeypatch.setattr(owner, name, lambda *_: None)
    for owner, name in ((export_main, "main"), (serve_main, "serve")):
        monkeypatch.setattr(owner, name, lambda _: say("a notice") or 0)
    monkeypatch.setattr(serve_main, "FLAG_OF", {})
    monkeypatch.setattr(sys, "unraisablehook", None)
    for begin in (serve_main.launch_server, export_main.launch_exporter):
        monkeypatch.setattr(sys, "stderr", full)
        with pytest.raises(SystemExit) as caught:
            begin([])
        assert caught.value.code == 0
