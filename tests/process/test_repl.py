"""A conversation in a terminal: what is typed, what is shown."""

import fcntl
import json
import os
import re
import signal
import struct
import termios
import time

import pytest

from helpers.models import make_talker
from helpers.places import ROOT
from helpers.process import call
from helpers.terminal import Terminal
from twofile.front.text import tame
from twofile.model import Model
from twofile.options import line_seed


@pytest.fixture
def terminal(talker):
    opened = []

    def open_one(*args, **how):
        opened.append(Terminal(talker, "-s", "7", "-n", "12", *args, **how))
        opened[-1].until(r"> $")
        return opened[-1]

    yield open_one
    for t in opened:
        if t.process.poll() is None:
            t.process.kill()
            t.process.wait()


def answers(talker, messages, turn=0, **options):
    m = Model(talker, verbose=False)
    seed = line_seed(7, turn) if turn else 7
    return m.generate(m.encode_chat(messages), max_tokens=12, seed=seed, **options)


def talk(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(texts)]


def test_a_conversation(terminal, talker, tmp_path):
    t = terminal("-sys", "be kind")
    system = [{"role": "system", "content": "be kind"}]
    first = answers(talker, system + talk("the fox"))
    assert t.say("the fox") == tame(first) + "\n"
    second = answers(talker, system + talk("the fox", first.strip(), "and\nthe hen"), 1)
    os.write(t.fd, b"and\\\n")
    t.until(r"\. $")
    assert t.say("the hen") == tame(second) + "\n"
    third = answers(talker, system + talk("the fox", first.strip(), "and\nthe hen"), 2)
    assert t.say("/regen") == tame(third) + "\n"
    assert re.fullmatch(r"\d+ of 200 tokens in the context, \d+ written at [\d.]+ t/s, seed 7\n", t.say("/stats"))
    kept = tmp_path / "kept.json"
    assert t.say(f"/save {kept}") == f"saved 5 messages to {kept}\n"
    messages = system + talk("the fox", first.strip(), "and\nthe hen", third.strip())
    assert json.loads(kept.read_text()) == messages and os.listdir(tmp_path) == ["kept.json"]
    assert t.say("/reset") == t.say("/clear") == "begun again, with the same system message\n"
    assert t.say("hen") == tame(answers(talker, system + talk("hen"), 3)) + "\n"
    assert t.say("/system") == "begun again, with no system message\n"
    assert t.say("hen") == tame(answers(talker, talk("hen"), 4)) + "\n"
    assert t.say(f"/load {kept}") == f"loaded 5 messages from {kept}\n"
    assert t.say("x") == tame(answers(talker, messages + talk("x"), 5)) + "\n"
    assert all(word in t.say("/help") for word in "/system /reset /regen /save /load /stats /exit".split())
    os.write(t.fd, b"/exit\n")
    assert t.leave() == 0


def test_wrong_commands_are_told_and_end_nothing(terminal, tmp_path):
    """In the words of a conversation, not of a program that ends."""
    t = terminal()
    first = t.say("the hen")
    assert t.say("/hlep") == "/hlep is not a command; /help lists them\n"
    assert t.say("/save") == "/save needs a file behind it\n"
    assert t.say(f"/save {tmp_path}/no/such") == f"{tmp_path}/no/such cannot be written (No such file or directory)\n"
    assert t.say(f"/load {tmp_path}/x") == f"{tmp_path}/x: not found; expected a kept conversation; check the path\n"
    for text in ('{"role": 1}', "[3]", '[{"role": "assistant", "content": "x"}]', "no JSON", ""):
        (tmp_path / "bad.json").write_text(text)
        said = t.say(f"/load {tmp_path}/bad.json")
        assert said.startswith(f"{tmp_path}/bad.json") and said.count("\n") == 1 and "error" not in said
    said = t.say("the fox " * 80)
    assert re.fullmatch("the message has 4.. tokens, and 19. fit; nothing is forgotten for it; say it shorter\n", said)
    assert t.say("/undo") == 'took back "the hen" and its answer; messages left: 0\n' and first
    assert "Traceback" not in t.say("the fox")
    os.write(t.fd, b"\x04")
    assert t.leave() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(tmp_path):
    long = make_talker(tmp_path / "model.bin", max_ctx=100_000)
    t = Terminal(long, "-s", "7", "--ignore-eos", "-t", "1")
    t.until(r"> $")
    os.write(t.fd, b"hen\n")
    t.until("hen\n.")  # the answer has begun
    t.process.send_signal(signal.SIGINT)
    assert t.until(r"\n> $").endswith(" (stopped)\n> ")
    time.sleep(0.5)  # readline does not see a signal that comes before it waits
    t.process.send_signal(signal.SIGINT)  # at the prompt: a new line
    t.until(r"\n> $")
    assert re.match(r"\d+ of 100000 tokens", t.say("/stats"))
    os.write(t.fd, b"/exit\n")
    assert t.leave() == 0


def typed(t, keys, pattern=r"\n(?:\x1b\[\?2004h)?> $"):
    """Press keys -> what is shown up to the next prompt, or another pattern."""
    os.write(t.fd, keys.encode())
    return t.until(pattern)


def said_in(path):
    return [m["content"] for m in json.loads(path.read_text()) if m["role"] == "user"]


PASTE = "\x1b[200~one\r/exit\r\ttwo \x1b[31m\x1b[201~"


def test_what_is_typed_and_pasted(terminal, tmp_path):
    """A paste is one message, and so is what stands in quotes; both come back by the arrow keys, in the next run too."""
    kept, history = tmp_path / "kept.json", tmp_path / "state" / "history"
    how = {"TERM": "xterm", "TWOFILE_HISTORY": str(history)}
    t = terminal(**how)
    typed(t, PASTE + "\r")
    typed(t, '"""three\r', r"\. $")
    typed(t, "\r", r"\. $")
    typed(t, '/four"""\r')
    typed(t, '"""/five"""\r')
    typed(t, "//six\r")
    assert "several lines at once are a message" in typed(t, "/system \x1b[200~a\rb\x1b[201~\r")
    typed(t, '"""given\r', r"\. $")
    assert "given up" in typed(t, "\x04")
    typed(t, '"""given\r', r"\. $")
    for says in ("\n", "/exit or Ctrl-D leaves\n"):
        time.sleep(0.5)  # readline does not see a signal that comes before it waits
        t.process.send_signal(signal.SIGINT)
        assert says in t.until(r"> $")
    typed(t, " secret\r")
    assert "begun again" in typed(t, "/cl\t\r")  # completed
    typed(t, "a\tb\r")  # in a message a tab is a tab
    typed(t, "\x1b[A\r")
    typed(t, f"/save {kept}\r")
    assert said_in(kept) == ["a\tb"] * 2
    typed(t, "/exit\r", re.escape("\x1b[?2004l"))  # the terminal is as it was
    assert t.leave() == 0
    pasted = r"one\x0a/exit\x0a\x09two \x1b[31m"
    lines = [
        pasted,
        r"three\x0a\x0a/four",
        '"""/five"""',
        "//six",
        r"/system a\x0ab",
        "/clear",
        r"a\x09b",
        f"/save {kept}",
        "/exit",
    ]
    assert history.read_text().splitlines() == lines and history.stat().st_mode & 0o777 == 0o600
    t = terminal(**how)
    typed(t, "\x1b[A" * len(lines) + "\r")
    typed(t, "\x1b[A" * len(lines) + "\r")  # one further back, now
    typed(t, f"/save {kept}\r")
    assert said_in(kept) == ["one\n/exit\n\ttwo \x1b[31m", "three\n\n/four"]


NO_EDITOR = f"""import runpy, sys
sys.modules["readline"] = None
sys.argv[:] = sys.argv[1:]
sys.path.insert(0, {str(ROOT)!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_paste_without_readline(talker, tmp_path):
    """Lines that come at once are one message, also if the last of them has not ended."""
    (tmp_path / "program.py").write_text(NO_EDITOR)
    t = Terminal(ROOT / "run.py", talker, "-n", "2", program=tmp_path / "program.py")
    t.until(r"> $")
    typed(t, "one\r/exit\rtwo", "two")
    time.sleep(0.1)
    typed(t, "\r")
    typed(t, "three\r/four\r")
    typed(t, "five\r")
    typed(t, f"/save {tmp_path}/kept.json\r")
    assert said_in(tmp_path / "kept.json") == ["one\n/exit\ntwo", "three\n/four", "five"]
    os.write(t.fd, b"\x04")
    assert t.leave() == 0


def test_answers_are_broken_between_words(tmp_path):
    """At the width that the terminal has when they begin; what is kept is as it was written."""
    t = Terminal(ROOT / "model.bin", "-s", "1", "-n", "60", columns=30, cwd=tmp_path)
    t.until(r"> $")
    narrow = t.say("Tell me of a fox.")
    fcntl.ioctl(t.fd, termios.TIOCSWINSZ, struct.pack("4H", 50, 19, 0, 0))
    t.say("/clear")
    t.say("/set seed 1")
    whole = t.say("Tell me of a fox.")
    assert narrow.split() == whole.split() and max(map(len, narrow.split("\n"))) <= 29 < max(map(len, whole.split("\n")))
    t.say("/save k.json")
    assert json.loads((tmp_path / "k.json").read_text())[1]["content"] == whole.strip()
    t.process.kill()
    t.leave()


def test_a_single_turn(terminal, talker, tmp_path):
    """-st: the answer, then the end, whatever sent the message; elsewhere one turn is all there is."""
    (tmp_path / "notes").write_text("the hen")
    t = terminal("-st")
    t.say(f"/file {tmp_path}/notes")
    os.write(t.fd, f"/file {tmp_path}/notes and?\n".encode())
    assert t.leave() == 0
    t = terminal("-st")
    os.write(t.fd, b"the fox\n")
    t.until(re.escape(tame(answers(talker, talk("the fox")).splitlines()[0])))
    assert t.leave() == 0
    assert call(talker, "the fox", "-st", "-n", "3", "-q", "-s", "7").returncode == 0
