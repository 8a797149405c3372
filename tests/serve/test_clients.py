"""Real clients, as their users use them: each is installed into an environment of its own, and runs a program of clients/.

Installing takes time: those of the packages openai, anthropic and ollama always run where a registry is reached; the others,
which bring much with them, if TWOFILE_TEST_CLIENTS is set.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the server's packages are not installed: pip install -r requirements-serve.txt")

from helpers.models import make_talker  # noqa: E402
from helpers.places import ROOT  # noqa: E402
from helpers.server import ask, idle, serving  # noqa: E402
from twofile.model import Model  # noqa: E402

PROGRAMS = Path(__file__).parent / "clients"
LIGHT = "openai", "anthropic", "ollama"
PACKAGES = {"langchain": "langchain-openai", "lm_eval": "lm_eval[api]"}  # else they are called as their programs
ASKED = "TWOFILE_TEST_CLIENTS"
SECONDS = 300  # for an installation
QUIET = {  # what a client would ask others for
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "NO_PROXY": "127.0.0.1",
}


class Room:
    """Environments with clients in them, in a folder."""

    def __init__(self, folder):
        self.folder, self.refused = folder, {}

    def python(self, *packages):
        """The Python that has packages, which are installed if they are not yet; or skip."""
        venv = self.folder / packages[0].partition("[")[0]
        if not venv.exists():
            self.refused[venv] = installed(venv, packages)
        if self.refused[venv]:
            pytest.skip(self.refused[venv])
        return venv / "bin" / "python"

    def client(self, name):
        """The Python that has a client."""
        if name in LIGHT:
            return self.python(*LIGHT)
        if not os.environ.get(ASKED):
            pytest.skip(f"{name} is installed and tried if {ASKED}=1 is set: it brings much with it")
        return self.python(PACKAGES.get(name, name))

    def run(self, name, *args):
        """Let a client's program run -> what it printed."""
        return self.call([self.client(name), PROGRAMS / f"with_{name}.py", *args])

    def call(self, command, code=0):
        home = {"HOME": str(self.folder), "HF_HOME": str(self.folder), "LLM_USER_PATH": str(self.folder)}
        env = {**os.environ, **QUIET, **home}
        done = subprocess.run(list(map(str, command)), env=env, cwd=self.folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-4000:]
        print(done.stdout)
        return done.stdout


def installed(venv, packages):
    """Make an environment with packages -> None, or why there is none."""
    pip = [venv / "bin" / "python", "-m", "pip", "install", "-q", "--retries", "1", "--disable-pip-version-check", *packages]
    try:
        subprocess.run([sys.executable, "-m", "venv", venv], check=True, capture_output=True, timeout=SECONDS)
        subprocess.run(pip, check=True, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"pip install {' '.join(packages)} takes longer than {SECONDS} s here"
    except subprocess.CalledProcessError as e:
        last = (e.stderr or str(e)).strip().splitlines()[-1]
        return f"pip install {' '.join(packages)} failed: {last[:200]}"


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients")
    yield Room(folder)
    shutil.rmtree(folder)  # many megabytes


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
    story = "The fox" + m.generate(ids("The fox"), temperature=0)
    docs = [("Once upon a time", " there was a little fox"), ("The fox", " saw a hen."), ("Tom had a red ball.", " He")]
    docs += [("One day", "!"), (story[:-20].rpartition(" ")[0], " " + story[len(story[:-20].rpartition(" ")[0]) + 1 :])]
    lines = (json.dumps({"question": question, "answer": answer}) + "\n" for question, answer in docs)
    (room.folder / "foxes.jsonl").write_text("".join(lines))
    made = json.loads(room.run("lm_eval", servers[0].url, room.folder).splitlines()[-1])
    want = [m.loglikelihood(ids(a), ids(a + b)[len(ids(a)) :]) for a, b in docs]
    for way in ("alone", "at once", "together"):
        assert [greedy for _, greedy in made[way]] == [greedy for _, greedy in want] and want[2][1] and want[4][1]
        assert [nats for nats, _ in made[way]] == pytest.approx([nats for nats, _ in want], abs=1e-5), way
    assert made["texts"] == [m.generate(a, max_tokens=20, temperature=0, stop=["."]) for a, _ in docs]


def test_locust(room, servers):
    """Twenty users for ten seconds, four of ten of whose requests are left in the middle; none fails, nothing is lost."""
    flags = "--headless -u 20 -r 20 -t 10s --only-summary --reset-stats".split()
    room.call([room.client("locust"), "-m", "locust", "-f", PROGRAMS / "with_locust.py", *flags, "--host", servers[0].url])
    idle(servers[0])
    assert ask(servers[0], "/health")[0] == 200
