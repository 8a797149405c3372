"""Who may come in, and how the server begins and ends."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from helpers.places import ROOT
from helpers.server import ask, serving, until
from twofile.serve.main import parsed_args

KEY = "a-key-of-the-tests"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """A server with two keys, in a file, that another page may ask."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"{KEY}\nanother-long-key\n")
    with serving(ROOT / "model.bin", "--api-key", keys, "--cors", "https://page.example", "--allow-host", "Model.Example") as s:
        yield s


def test_keys(keyed):
    for given in (KEY, "another-long-key"):
        assert ask(keyed, "/v1/models", Authorization=f"Bearer {given}")[0] == 200
    assert ask(keyed, "/v1/models", **{"x-api-key": KEY})[0] == 200
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {KEY}x"}, {"Authorization": f"Basic {KEY}"}):
        status, more, value = ask(keyed, "/v1/models", **headers)
        assert status == 401 and more["www-authenticate"] == "Bearer" and value["error"]["code"] == "invalid_api_key"
    status, _, value = ask(keyed, "/v1/messages", {}, **{"x-api-key": "wrong"})
    assert status == 401 and value["error"]["type"] == "authentication_error"
    for closed in ("/metrics", "/openapi.json", "/api/tags", "/nowhere"):
        assert ask(keyed, closed)[0] == 401
    assert ask(keyed, "/health")[0] == ask(keyed, "/")[0] == 200
    assert KEY not in keyed.log()


@pytest.mark.parametrize(
    "host, good",
    [("localhost", 1), ("127.0.0.1:1", 1), ("[::1]:80", 1), ("model.example", 1), ("10.0.0.7:8080", 1), ("evil.example", 0)]
    + [("localhost.evil.example", 0), ("127.0.0.1.evil.example", 0), ("localhost@evil.example", 0), ("", 0), ("a b", 0)],
)
def test_hosts(keyed, host, good):
    """A name of somebody's that leads here is none of this server's (DNS rebinding)."""
    status, _, value = ask(keyed, "/v1/models", Host=host, Authorization=f"Bearer {KEY}")
    assert status == (200 if good else 403) or (status == 400 and not good), value


def test_origins(keyed):
    """A page of others may not ask, unless it was named."""
    ours = f"http://localhost:{keyed.port}"
    asking = lambda **more: ask(keyed, "/v1/models", Authorization=f"Bearer {KEY}", Host=f"localhost:{keyed.port}", **more)
    assert asking(Origin=ours)[0] == 200 and "access-control-allow-origin" not in asking(Origin=ours)[1]
    for origin in ("https://evil.example", "null", "http://localhost:1", "https://page.example.evil.example"):
        status, headers, _ = asking(Origin=origin)
        assert status == 403 and "access-control-allow-origin" not in headers
    status, headers, _ = asking(Origin="https://page.example")
    assert status == 200 and headers["access-control-allow-origin"] == "https://page.example" and headers["vary"] == "Origin"
    for origin, want in (("https://page.example", 204), ("https://evil.example", 403)):
        connection = http.client.HTTPConnection("127.0.0.1", keyed.port)
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Host": "localhost"}
        connection.request("OPTIONS", "/v1/chat/completions", headers=asked)
        response = connection.getresponse()
        assert response.status == want and (want == 403) == bool(response.read())
        assert (response.headers["access-control-allow-headers"] is None) == (want == 403)


def test_the_page_has_a_policy(keyed):
    status, headers, text = ask(keyed, "/")
    policy = headers["content-security-policy"]
    assert status == 200 and "default-src 'none'" in policy and "sha256-" in policy and "unsafe" not in policy
    assert "<script" in text and 'src="http' not in text


REFUSED = [
    (["--host", "0.0.0.0"], 2, "--host 0.0.0.0 without a key lets everybody in"),
    (["--host", "example.invalid"], 2, "without a key"),
    (["--port", "70000"], 2, "--port is 70000, expected 0 to 65535"),
    (["--max-body", "much"], 2, "--max-body is 'much'"),
    (["--queue", "0"], 2, "--queue is 0, expected 1"),
    (["--timeout", "nan"], 2, "--timeout is nan"),
    (
        ["--api-key", "a-key-itself"],
        2,
        "--api-key: no such file, expected one of keys",
    ),
    (["-t", "many"], 2, "-t is many"),
    (["--frobnicate"], 2, "--frobnicate"),
    (["-c", "100000000"], 1, "context of 100000000 tokens"),
]


def started(*args, **env):
    command = [sys.executable, "-m", "twofile", "serve", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("args, code, says", REFUSED, ids=[" ".join(row[0]) for row in REFUSED])
def test_what_cannot_begin(args, code, says):
    done = started("model.bin", *args)
    assert "a-key-itself" not in done.stderr
    assert done.returncode == code and says in done.stderr and "Traceback" not in done.stderr and done.stdout == ""


def test_wrong_files(tmp_path):
    (tmp_path / "short").write_text("abc")
    (tmp_path / "keys").write_text("short\n")
    for args, says in (
        ([ROOT / "README.md"], "README.md"),
        ([tmp_path / "short"], "short"),
        ([tmp_path / "none.bin"], "none.bin"),
        (["model.bin", "model.bin"], "two models by the name of model"),
        (["model.bin", "--api-key", tmp_path / "keys"], "a key of fewer than 8 characters"),
    ):
        done = started(*args)
        assert done.returncode in (1, 2) and says in done.stderr and "Traceback" not in done.stderr


def test_without_a_model_there_is_the_bundled_one(monkeypatch, capsys):
    """Or, if it is gone, wrong usage."""
    assert parsed_args(["--port", "0"]).models == [str(ROOT / "model.bin")]
    monkeypatch.setattr("twofile.serve.main.bundled", lambda: None)
    with pytest.raises(SystemExit) as caught:
        parsed_args([])
    assert caught.value.code == 2 and "give one model file or more: twofile serve model.bin" in capsys.readouterr().err


def test_an_address_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as s:
        done = started("model.bin", "--port", s.getsockname()[1])
    assert done.returncode == 1 and "expected an address that is free; choose another" in done.stderr


def test_packages_that_are_missing():
    """All of them, in one line, with the command."""
    hidden = "import sys, runpy; sys.modules['uvicorn'] = sys.modules['starlette'] = None\n"
    script = hidden + "import importlib.util as u; f = u.find_spec\n"
    script += "u.find_spec = lambda n, *a: None if n in ('uvicorn', 'starlette') else f(n, *a)\n"
    script += "sys.argv = ['twofile', 'serve', 'model.bin']; runpy.run_module('twofile', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and "starlette, uvicorn" in line and 'pip install "twofile[serve]"' in line


def test_run_py_says_which_command():
    done = subprocess.run([sys.executable, "run.py", "model.bin", "--serve"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "python -m twofile serve" in done.stderr


def test_models_come_and_go(tmp_path):
    """Opened when they are asked for, closed when nobody does for a while; gone files are told of."""
    other = tmp_path / "second.bin"
    for path in (other, other.with_name("tokenizer.bin")):
        path.write_bytes((ROOT / path.name.replace("second", "model")).read_bytes())
    with serving(ROOT / "model.bin", other, "--idle", "0.4") as server:
        loaded = lambda: [m["loaded"] for m in ask(server, "/v1/models")[2]["data"]]
        asks = lambda name: ask(server, "/v1/completions", {"prompt": "A fox", "max_tokens": 3, "model": name})
        assert loaded() == [True, False] and asks("second")[0] == 200 and loaded()[1]
        end = time.monotonic() + 20
        while loaded() != [False, False]:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert asks("model")[0] == asks("second")[0] == 200
        assert ask(server, "/api/generate", {"model": "second", "prompt": "", "keep_alive": 0})[2]["done_reason"] == "unload"
        other.unlink()
        time.sleep(1)
        status, _, value = asks("second")
        assert (
            status == 503
            and str(tmp_path) not in json.dumps(value)
            and "second.bin" in server.log()
            and asks("model")[0] == 200
        )


@pytest.mark.parametrize("grace, whole", [(20, True), (0.05, False)])
def test_texts_are_finished_at_the_end(grace, whole):
    """SIGTERM: what is being written goes on, for as long as grace; then it ends as it is, and its client is told so."""
    with serving(ROOT / "model.bin", "--grace", grace, "-t", 1) as server:
        body = {"messages": [{"role": "user", "content": "Tell me a story"}], "ignore_eos": True, "stream": True, "n": 16}
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", "/v1/chat/completions", json.dumps({**body, "max_tokens": 300}))
        response = connection.getresponse()
        first = response.readline()
        os.kill(server.pid, signal.SIGTERM)
        rest = (first + response.read()).decode()
        assert server.process.wait(30) == 0
        server.ended = True
    chunks = [json.loads(event[6:])["choices"][0] for event in rest.split("\n\n") if event.startswith("data: {")]
    ends = [c["finish_reason"] for c in chunks if c["finish_reason"]]
    assert rest.rstrip().endswith("[DONE]") and ends == ["length"] * 16
    assert (sum("content" in c["delta"] for c in chunks) > 16 * 250) == whole


def test_what_comes_at_the_end_is_told_so():
    """Texts that have no places yet, and those that are read: each client gets an answer."""
    with serving(ROOT / "model.bin", "--grace", 0.3, "-t", 1) as server:
        got = {}

        def client(name, path, body):
            got[name] = ask(server, path, body)[::2]

        many = {"prompt": ["Once upon a time"] * 600, "ignore_eos": True}
        vectors = {"input": ["fox " * 300] * 300}
        threads = [threading.Thread(target=client, args=("many", "/v1/completions", many))]
        threads += [threading.Thread(target=client, args=("vectors", "/v1/embeddings", vectors))]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        os.kill(server.pid, signal.SIGTERM)
        for thread in threads:
            thread.join(30)
        assert server.process.wait(30) == 0
        server.ended = True
    assert got["many"][0] == 200 and len(got["many"][1]["choices"]) == 600
    assert got["vectors"][0] == 503, got["vectors"]


def test_nobody_writes_into_the_log(keyed):
    forged = "/v1/models/a%0Atwofile:%2010.0.0.1%20GET%20fake%1b%5B31m"
    assert ask(keyed, forged, Authorization=f"Bearer {KEY}", **{"X-Forwarded-For": "\x1b[31m"})[0] == 404
    until(lambda: "an unknown path 404" in keyed.log())
    assert "fake" not in keyed.log() and "\x1b" not in keyed.log()


def test_documents_tell_of_every_flag_and_address():
    told = (ROOT / "docs" / "serve.md").read_text()
    shown = subprocess.run(
        [sys.executable, "-m", "twofile", "serve", "--help"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    flags = re.findall(r"^  (?:-\w(?: [A-Z]+)?, )?(--?[a-z-]+)", shown, re.M)
    assert len(flags) > 15 and [flag for flag in flags if f"`{flag}" not in told and flag != "--help"] == []
    from twofile.serve.app import ADDRESSES

    paths = {path.partition("/{")[0] for _, path, *_ in ADDRESSES} - {"/favicon.ico"}
    assert [path for path in paths if f"`{path}`" not in told] == []
