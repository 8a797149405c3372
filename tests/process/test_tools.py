"""Tools in a conversation, by processes: asked for in a terminal, refused in a pipe, all on one command line."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from helpers.models import make_talker
from helpers.places import ROOT
from helpers.terminal import Terminal
from twofile.model import Model

pytest.importorskip("llguidance", reason="the package llguidance is not installed")
ASKS = r"run it\? \[o\]nce, \[a\]lways, \[n\]ever, \[e\]dit: $"


PROGRAM = f"""import functools, sys
sys.path.insert(0, {str(ROOT)!r})
from twofile.front import usage
from twofile.front.main import launch
usage.Tools = functools.partial(usage.Tools, must=True)
launch()
"""


@pytest.fixture(scope="module")
def caller(tmp_path_factory):
    """A program whose model always calls, and by a bias without arguments -> (the program, what it is given)."""
    folder = tmp_path_factory.mktemp("caller")
    (folder / "program.py").write_text(PROGRAM)
    path = make_talker(folder / "model.bin", max_ctx=6000)
    end = Model(path, verbose=False).tokenize("}", add_bos=False)[-1]
    return folder / "program.py", [path, "--logit-bias", f"{end}+100", "-n", "200", "--temp", "0"]


@pytest.fixture
def notes(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "fruit.txt").write_text("apples\n")
    return tmp_path / "notes"


@pytest.fixture
def terminal(caller):
    opened = []

    def open_one(*args):
        opened.append(Terminal(*caller[1], *args, program=caller[0]))
        opened[-1].until(r"> $")
        return opened[-1]

    yield open_one
    for t in opened:
        if t.process.poll() is None:
            t.process.kill()
            t.process.wait()


def say(t, line, pattern):
    os.write(t.fd, line.encode() + b"\n")
    t.until(re.escape(line) + "\n")
    return t.until(pattern)


def test_a_call_is_asked_for_in_a_terminal(terminal, notes):
    t = terminal("--tools", f"files={notes}")
    assert say(t, "look", ASKS).startswith("files:\n")
    said = say(t, "o", r"\n> $")
    assert "  = fruit.txt  7 bytes\n" in said and "(no more calls: what was returned is put to the question)" in said
    assert "files (asked for): List the folder" in t.say("/tools")
    say(t, "look", ASKS)
    say(t, "a", r"\n> $")
    assert "= fruit.txt" in t.say("look") and "files (always)" in t.say("/tools")  # not asked for any more
    os.write(t.fd, b"/exit\n")
    assert t.leave() == 0


def test_what_is_never_allowed_does_not_run_and_ctrl_c_stops_the_answer(terminal, notes):
    t = terminal("--tools", f"files={notes}")
    say(t, "look", ASKS)
    time.sleep(0.5)  # readline does not see a signal that comes before it waits
    t.process.send_signal(signal.SIGINT)
    assert "(stopped)" in t.until(r"\n> $")
    say(t, "look", ASKS)
    said = say(t, "n", r"\n> $")
    assert "(never allowed)" in said and "fruit" not in said and "files (never)" in t.say("/tools")
    os.write(t.fd, b"\x04")
    assert t.leave() == 0


def test_arguments_are_edited_in_the_line_editor(terminal, notes):
    t = terminal("--tools", f"files={notes}")
    say(t, "look", ASKS)
    os.write(t.fd, b"e\n")
    t.until(r"\{\}")
    os.write(t.fd, b'\x15{"path": "fruit.txt"}\n')
    assert "  path = fruit.txt\n" in t.until(ASKS)
    assert "  = apples\n" in say(t, "o", r"\n> $")


def hanging(folder):
    """The command of an MCP server whose tool never ends."""
    server = folder / "server.py"
    server.write_text((ROOT / "tests" / "tools" / "test_mcp.py").read_text().split('SERVER = """')[1].split('"""')[0])
    listed = '[{"name": "hang", "inputSchema": {"type": "object", "properties": {}, "additionalProperties": false}}]'
    return f"env 'LISTED={listed}' {sys.executable} {server}"


def test_ctrl_c_in_a_tool_stops_the_tool_and_not_the_program(terminal, tmp_path):
    pytest.importorskip("mcp", reason="the package mcp is not installed")
    t = terminal("--mcp", hanging(tmp_path))
    say(t, "go", ASKS)
    os.write(t.fd, b"o\n")
    time.sleep(1.5)
    t.process.send_signal(signal.SIGINT)
    assert "= error: the user stopped it" in t.until(r"\n> $")
    os.write(t.fd, b"/exit\n")
    assert t.leave() == 0


def test_ctrl_c_in_a_pipe_ends_it(caller, tmp_path):
    pytest.importorskip("mcp", reason="the package mcp is not installed")
    flags = ["--chat", "-p", "x", "--yes", "--mcp", hanging(tmp_path)]
    command = [sys.executable, caller[0], *map(str, caller[1]), *flags]
    program = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    for line in program.stderr:
        if b"hang:" in line:
            break
    time.sleep(0.5)
    program.send_signal(signal.SIGINT)
    assert program.wait(20) == 130
    program.stderr.close(), program.stdout.close()


def run(caller, *args, rc=0):
    command = [sys.executable, caller[0], *map(str, [*caller[1], *args])]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    assert done.returncode == rc, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_in_a_pipe_what_is_harmless_runs(caller, notes):
    done = run(caller, "--chat", "--tools", f"files={notes}", "-p", "look")
    assert done.stdout.strip() and "files:" in done.stderr and "= fruit.txt  7 bytes" in done.stderr
    assert "(no more calls" in done.stderr and "prompt " in done.stderr
    assert "fruit" not in run(caller, "--chat", "--tools", f"files={notes}", "-p", "look", "-q").stderr


def test_in_a_pipe_the_rest_needs_consent(caller, tmp_path):
    done = run(caller, "--chat", "--tools", "calculator,shell", "-p", "x", rc=1)
    assert done.stdout == "" and "shell: in a pipe nobody can be asked" in done.stderr and "--yes" in done.stderr
    run(caller, "--chat", "--tools", "shell", "--yes", "-p", "x", "-n", "1")


@pytest.mark.parametrize(
    "args, rc, says",
    [
        (["--tools", "calculator"], 2, "--tools does nothing with plain text"),
        (["--chat", "--yes"], 2, "--yes lets tools run unasked; name some"),
        (["--chat", "--tools", "eval"], 1, "eval is no tool, expected some of calculator"),
        (["--chat", "--tools", "files"], 1, "write files=FOLDER"),
        (["--chat", "--tools", "calculator", "--regex", "a"], 1, "expected one form of the text"),
        (["--chat", "--mcp", "/no/such"], 1, "--mcp"),
    ],
)
def test_what_is_wrong_is_one_line(caller, args, rc, says):
    done = run(caller, *args, "-p", "x", rc=rc)
    assert says in done.stderr and done.stdout == ""
    assert rc == 2 or len([line for line in done.stderr.splitlines() if "error" in line]) == 1
