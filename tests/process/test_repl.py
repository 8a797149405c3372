"""A conversation in a terminal: what is typed, what is shown, what is computed again."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from conftest import ROOT, make_talker

import run


class Terminal:
    """run.py --chat with a terminal of its own."""

    def __init__(self, *args):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 50, 2000, 0, 0))  # no line is folded
        command = [sys.executable, ROOT / "run.py", *map(str, args), "--chat"]
        env = {**os.environ, "TERM": "dumb"}
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True, close_fds=True
        )
        os.close(theirs)
        self.fd, self.seen = ours, ""

    def until(self, pattern, seconds=60):
        """What came up to and with the first match of pattern."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen, re.S)):
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            try:
                block = os.read(self.fd, 65536) if ready else b""
            except OSError:  # the other side has closed
                block = b""
            assert block, f"waited for {pattern!r}, saw {self.seen!r}"
            self.seen += block.decode("utf-8", "replace").replace("\r\n", "\n")
        text, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return text

    def say(self, line):
        """Type a line -> what is shown up to the next prompt."""
        os.write(self.fd, line.encode() + b"\n")
        self.until(re.escape(line.split("\n")[-1]) + "\n")  # its echo
        return self.until(r"(?:^|(?<=\n))> $")[:-2]

    def leave(self):
        code = self.process.wait(30)
        os.close(self.fd)
        return code


@pytest.fixture
def terminal(talker):
    opened = []

    def open_one(*args):
        opened.append(Terminal(talker, "-s", "7", "-n", "12", *args))
        opened[-1].until(r"> $")
        return opened[-1]

    yield open_one
    for t in opened:
        if t.process.poll() is None:
            t.process.kill()
            t.process.wait()


def answers(talker, messages, turn=0, **options):
    m = run.Model(talker, verbose=False)
    seed = run.line_seed(7, turn) if turn else 7
    return m.generate(m.encode_chat(messages), max_tokens=12, seed=seed, **options)


def talk(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(texts)]


def test_a_conversation(terminal, talker, tmp_path):
    t = terminal("-sys", "be kind")
    system = [{"role": "system", "content": "be kind"}]
    first = answers(talker, system + talk("the fox"))
    assert t.say("the fox") == run.tame(first) + "\n"
    second = answers(talker, system + talk("the fox", first.strip(), "and\nthe hen"), 1)
    os.write(t.fd, b"and\\\n")
    t.until(r"\. $")
    assert t.say("the hen") == run.tame(second) + "\n"
    third = answers(talker, system + talk("the fox", first.strip(), "and\nthe hen"), 2)
    assert t.say("/regen") == run.tame(third) + "\n"
    assert re.fullmatch(r"\d+ of 200 tokens in the context, \d+ written at [\d.]+ t/s, seed 7\n", t.say("/stats"))
    kept = tmp_path / "kept.json"
    assert t.say(f"/save {kept}") == ""
    messages = system + talk("the fox", first.strip(), "and\nthe hen", third.strip())
    assert json.loads(kept.read_text()) == messages and os.listdir(tmp_path) == ["kept.json"]
    t.say("/reset")
    assert t.say("hen") == run.tame(answers(talker, system + talk("hen"), 3)) + "\n"
    t.say("/system")
    assert t.say("hen") == run.tame(answers(talker, talk("hen"), 4)) + "\n"
    assert t.say(f"/load {kept}") == ""
    assert t.say("x") == run.tame(answers(talker, messages + talk("x"), 5)) + "\n"
    assert all(word in t.say("/help") for word in "/system /reset /regen /save /load /stats /exit".split())
    os.write(t.fd, b"/exit\n")
    assert t.leave() == 0


def test_wrong_commands_are_told_and_end_nothing(terminal, tmp_path):
    t = terminal()
    assert "no answer yet" in t.say("/regen") and "not a command" in t.say("/frobnicate")
    assert "/help" in t.say("/save") and "cannot be written" in t.say(f"/save {tmp_path}/no/such")
    assert "error" in t.say(f"/load {tmp_path}/none.json")
    for text in ('{"role": 1}', "[3]", '[{"role": "assistant", "content": "x"}]', "no JSON", ""):
        (tmp_path / "bad.json").write_text(text)
        assert "run.py: error:" in t.say(f"/load {tmp_path}/bad.json")
    assert "error" in t.say("the fox " * 80)  # longer than the context; it and its answer are not kept
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


class Silent:
    """run.Chat without a terminal: what it says in a list."""

    def __init__(self, path, **args):
        self.said, defaults = [], dict(system=None, seed=3, n_predict=12, stop=[], ignore_eos=True, how={})
        self.model = run.Model(path, verbose=False)
        self.talk = run.Chat(self.model, run.SimpleNamespace(**{**defaults, **args}), self.said.append)


def test_only_what_is_new_is_computed(talker):
    chat = Silent(talker, n_predict=6)
    read = []
    chat.talk.message("the fox and the hen")
    forward = chat.model.forward
    call = type(forward).__call__

    class Counting(type(forward)):
        def __call__(self, tokens, *rest):
            read.append(len(tokens))
            return call(self, tokens, *rest)

    forward.__class__ = Counting
    known = len(chat.model.fed)
    chat.talk.message("and?")
    ids = chat.model.encode_chat(chat.talk.messages[:-1])
    assert read[0] <= len(ids) - known + 8 < len(ids)  # the last answer may be spelt by other tokens when it is read


def test_the_oldest_turns_are_dropped_whole(talker):
    chat = Silent(talker, system="be kind", n_predict=10)
    for i in range(30):
        chat.talk.message(f"the fox {i}")
    assert any("forgotten" in text for text in chat.said)
    messages = chat.talk.messages
    assert messages[0] == {"role": "system", "content": "be kind"} and messages[-2]["content"] == "the fox 29"
    assert [m["role"] for m in messages[1:]] == ["user", "assistant"] * (len(messages) // 2)
    assert 3 < len(messages) < 30 and len(chat.model.encode_chat(messages[:-1])) + 10 <= chat.model.n_ctx


def test_what_a_terminal_would_obey_is_shown(talker):
    assert run.tame("a\x1b[31m\x07\tb\n\x9b\u202ec") == "a\\x1b[31m\\x07\tb\n\\x9b\\u202ec"
