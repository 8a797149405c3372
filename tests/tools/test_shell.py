"""The shell: what it prints, and that it ends."""

import json
import os
import threading
import time

import pytest

from twofile.tools import shell
from twofile.tools.shell import shell_tool
from twofile.tools.tool import result_of


def run(command):
    return result_of(shell_tool(), json.dumps({"command": command}))


def test_it_runs_with_the_rights_of_the_user(tmp_path):
    assert run(f"echo hi; echo more >&2; echo kept > {tmp_path}/x; cat") == "hi\nmore"
    assert (tmp_path / "x").read_text() == "kept\n" and not shell_tool().harmless
    assert run("exit 3") == "(exit code 3)" and run("kill -9 $$") == "(ended by SIGKILL)"


def test_it_ends(monkeypatch):
    monkeypatch.setattr(shell, "SHELL_SECONDS", 1)
    for command in ("sleep 100", "trap '' TERM; sleep 100", "exec >&- 2>&-; sleep 100"):
        began = time.monotonic()
        assert run(command) == "(ended after 1 seconds)" and time.monotonic() - began < 5
    assert run("yes").endswith("(ended: it printed more than 1,048,576 bytes)")


def test_what_it_leaves_behind_in_its_session_is_ended(tmp_path):
    began = time.monotonic()
    assert run(f"(sleep 2; echo late > {tmp_path}/x) & echo hi") == "hi"  # the pipe is still open, and nobody waits
    assert time.monotonic() - began < 1.5
    time.sleep(2.5)
    assert not (tmp_path / "x").exists()


def test_ctrl_c_stops_it(tmp_path):
    import signal

    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        run(f"sleep 2; echo late > {tmp_path}/x")
    time.sleep(2)
    assert not (tmp_path / "x").exists()


def test_where_there_is_none(monkeypatch):
    from twofile.errors import ModelError

    monkeypatch.setattr(shell, "SHELL", "/no/sh")
    with pytest.raises(ModelError, match="there is no /no/sh, expected one; leave shell out"):
        shell_tool()
