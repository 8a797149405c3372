"""A conversation in a terminal: what is typed, what is shown."""

import json
import os
import re
import signal
import time

import pytest

from helpers.models import make_talker
from helpers.process import call
from helpers.terminal import Terminal
from twofile.front.text import tame
from twofile.model import Model
from twofile.options import line_seed


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


def test_a_single_turn(terminal, talker):
    """-st: the answer, then the end; elsewhere one turn is all there is."""
    t = terminal("-st")
    os.write(t.fd, b"the fox\n")
    t.until(re.escape(tame(answers(talker, talk("the fox")).splitlines()[0])))
    assert t.leave() == 0
    assert call(talker, "the fox", "-st", "-n", "3", "-q", "-s", "7").returncode == 0
