"""Real clients, as their users use them: each is installed into an environment of its own, and runs a program of clients/.

Installing takes time: those of the packages openai, anthropic and ollama always run where a registry is reached; the others,
which bring much with them, if TWOFILE_TEST_CLIENTS is set.
"""

import json
import os
import shutil
import subprocess
import time
from contextlib import ExitStack

import pytest

from helpers.clients import LIGHT, PACKAGES, PROGRAMS, Room
from helpers.models import make_talker
from helpers.places import ROOT
from helpers.server import ask, idle, serving
from twofile.model import Model


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    with Room(tmp_path_factory.mktemp("clients")) as made:
        yield made


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """One with the bundled model, and talker, which knows who a system is; one with a key; one where one text may wait."""
    talker = make_talker(tmp_path_factory.mktemp("talker") / "talker.bin", max_ctx=512)
    with ExitStack() as stack:
        start = lambda *args, **env: stack.enter_context(serving("model.bin", *args, **env))
        yield start(f"talker={talker}"), start(TWOFILE_API_KEY="a-key-of-tests"), start("--queue", "1")


@pytest.mark.parametrize("name", [*LIGHT, "langchain", "litellm", "llm"])
def test_a_client(name, room, servers):
    """All that its program tries; nothing goes on afterwards."""
    said = room.run(name, *(server.url for server in servers))
    assert said.startswith(PACKAGES.get(name, name))
    for server in servers[::2]:
        idle(server)


def test_curl(room, servers):
    """curl -N prints each piece when it comes, not when all is there."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    url = servers[0].url
    talk = {"model": "model", "messages": [{"role": "user", "content": "Tell me a story."}], "stream": True, "ignore_eos": True}
    for path, more in (("/v1/chat/completions", {"max_tokens": 400, "n": 16}), ("/v1/messages", {"max_tokens": 400})):
        command = ["curl", "-sN", f"{url}{path}", "-d", json.dumps({**talk, **more})]
        began, came = time.monotonic(), []
        with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
            while piece := os.read(curl.stdout.fileno(), 1 << 16):
                came.append((time.monotonic() - began, piece))
        text = b"".join(piece for _, piece in came)
        assert curl.returncode == 0 and len(came) > 20 and came[0][0] < came[-1][0] / 2
        assert text.endswith(b"data: [DONE]\n\n" if "n" in more else b'{"type":"message_stop"}\n\n')
    shown = room.call(
        ["curl", "-sNi", "-m", "60", f"{url}/api/generate", "-d", '{"model":"model","prompt":"A","options":{"num_predict":3}}']
    )
    head, _, body = shown.replace("\r", "").partition("\n\n")
    assert head.startswith("HTTP/1.1 200") and "application/x-ndjson" in head
    assert [json.loads(line)["done"] for line in body.splitlines()][-1] is True
    room.call(["curl", "-sN", "-m", "0.2", f"{url}{path}", "-d", json.dumps({**talk, "max_tokens": 500})], code=28)
    idle(servers[0])


def test_lm_eval(room, servers):
    """lm-evaluation-harness' local-completions, which needs nothing but an address: its log-likelihoods are the engine's, also
    where the text would end next, and however they are asked for; so are the texts."""
    room.client("lm_eval")
    m = Model(ROOT / "model.bin", verbose=False)
    ids = lambda text: m.tokenize(text, add_bos=False)
    story = "The hen" + m.generate(ids("The hen"), temperature=0)
    but_one, last = story.rsplit(" ", 1)
    assert m(ids(story), max_tokens=1, temperature=0)["stop_reason"] == "eos"
    docs = [("Once upon a time", " there was a little fox"), ("The fox", " saw a hen."), ("Tom had a red ball.", " He")]
    docs += [("One day", "!"), (but_one, " " + last)]
    lines = (json.dumps({"question": question, "answer": answer}) + "\n" for question, answer in docs)
    (room.folder / "foxes.jsonl").write_text("".join(lines))
    made = json.loads(room.run("lm_eval", servers[0].url, room.folder).splitlines()[-1])
    want = [m.loglikelihood(ids(a), ids(a + b)[len(ids(a)) :]) for a, b in docs]
    for way in ("alone", "at once", "together"):
        assert [greedy for _, greedy in made[way]] == [greedy for _, greedy in want] and want[2][1] and want[4][1]
        assert [nats for nats, _ in made[way]] == pytest.approx([nats for nats, _ in want], abs=1e-5), way
    assert made["texts"] == [m.generate(ids(a), max_tokens=20, temperature=0, stop=["."]) for a, _ in docs]


def test_locust(room, servers):
    """Twenty users for ten seconds, four of ten of whose requests are left in the middle; none fails, nothing is lost."""
    flags = "--headless -u 20 -r 20 -t 10s --only-summary --reset-stats".split()
    room.call([room.client("locust"), "-m", "locust", "-f", PROGRAMS / "with_locust.py", *flags, "--host", servers[0].url])
    idle(servers[0])
    assert ask(servers[0], "/health")[0] == 200
