"""The server as a process, and plain requests to it."""

import collections
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace

from helpers.places import ROOT


@contextlib.contextmanager
def serving(*args, **env):
    """A server of models and flags, as started() has it."""
    command = [sys.executable, "-m", "twofile", "serve", *map(str, args), "--port", "0"]
    with started(command, r"^twofile: (http://127\.0\.0\.1:(\d+))$", **env) as about:
        yield about


@contextlib.contextmanager
def started(command, says, **env):
    """A server, once it says its url and port -> url, port, pid, log (a function: what it said). At last it is told to end, and
    does."""
    with tempfile.TemporaryFile("ab+") as err:
        environment = {**os.environ, **env}
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=err)
        log = lambda: os.pread(err.fileno(), 1 << 24, 0).decode()
        end = time.monotonic() + 120
        try:
            while not (found := re.search(says, log(), re.M)):
                assert server.poll() is None and time.monotonic() < end, log()
                time.sleep(0.02)
            about = SimpleNamespace(url=found[1], port=int(found[2]), pid=server.pid, log=log, process=server, ended=False)
            yield about
            if about.ended:
                return
            assert server.poll() is None, log()
            server.send_signal(signal.SIGTERM)
            code = server.wait(60)
            assert code in (0, -signal.SIGTERM, 128 + signal.SIGTERM) and "Traceback" not in log(), (code, log())
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()


def ask(server, path, body=None, **headers):
    """-> (status, headers, body as JSON or else as text)."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        raw = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, raw, headers)
        response = connection.getresponse()
        text = response.read().decode()
    is_json = response.headers.get_content_type() == "application/json"
    return response.status, response.headers, json.loads(text) if is_json else text


def gauges(server):
    """What /metrics says of all models now: {name: number}."""
    found = collections.Counter()
    for name, value in re.findall(r'^twofile_(\w+)\{model="\w+"\} (\S+)$', ask(server, "/metrics")[2], re.M):
        found[name] += float(value)
    return found


def until(ready, within=30):
    """Return when ready() says so."""
    end = time.monotonic() + within
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)


def idle(server):
    """Return when nothing is written, and nothing waits."""
    until(lambda: not any(gauges(server)[name] for name in ("texts_active", "texts_waiting")))


def events(server, path, body):
    """The JSON of each event or line of a stream."""
    status, headers, text = ask(server, path, body)
    assert status == 200, text
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line and not line.startswith("event: ")]
    kind = "application/x-ndjson" if path.startswith("/api/") else "text/event-stream"
    assert headers.get_content_type() == kind
    if path.endswith("completions"):
        assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]
