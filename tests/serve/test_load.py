"""A server under load: clients that leave in the middle, clients that do not read, more than may wait."""

import contextlib
import http.client
import json
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers.places import ROOT
from helpers.server import ask, gauges, idle, serving, until
from twofile.model import Model

TALES = ["Once upon a time", "The fox and the hen", "Tom had a red ball", "It was dark in the wood"]
LIMITS = {"/v1/responses": "max_output_tokens", "/api/chat": "num_predict", "/api/generate": "num_predict"}
ADDRESSES = "/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat", "/api/generate"


def request_of(path, number):
    """A body for an address, of which the seed is its number."""
    tale, how = TALES[number % len(TALES)], {"seed": number, "temperature": 0.9, LIMITS.get(path, "max_tokens"): 20 + number}
    about = {"model": "model", "stream": True}
    how = {"options": how} if path.startswith("/api/") else how
    talk = {"messages": [{"role": "user", "content": tale}]}
    if path == "/v1/responses":
        talk = {"input": tale}
    elif path in ("/v1/completions", "/api/generate"):
        talk = {"prompt": tale}
    return {**about, **how, **talk}


def text_of(path, raw):
    """The text that a stream says, which must be whole."""
    if path.startswith("/api/"):
        lines = [json.loads(line) for line in raw.splitlines()]
        assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True], raw
        return "".join(line["message"]["content"] if "message" in line else line["response"] for line in lines)
    events = [line[6:] for line in raw.split("\n") if line.startswith("data: ")]
    last = events.pop() if path in ADDRESSES[:2] else events[-1]
    assert last == "[DONE]" or json.loads(last)["type"] in ("response.completed", "response.incomplete", "message_stop"), raw
    events = [json.loads(event) for event in events]
    if path == "/v1/completions":
        return "".join(event["choices"][0]["text"] for event in events)
    if path == "/v1/chat/completions":
        return "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    if path == "/v1/responses":
        return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    return "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")


def choices_of(raw):
    """{index: text} of a stream of several."""
    texts = {}
    for line in raw.split("\n"):
        if line.startswith("data: {"):
            (choice,) = json.loads(line[6:])["choices"]
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    return texts


class Crowd:
    """Clients, some of whom leave. wrong: what was not as it should be; whole, left: how many."""

    def __init__(self, server, seed):
        self.server, self.rng, self.lock = server, random.Random(seed), threading.Lock()
        self.wrong, self.whole, self.left = [], 0, 0
        asked = [(path, number) for path in ADDRESSES for number in range(8)]
        self.alone = {pair: text_of(pair[0], ask(server, pair[0], request_of(*pair))[2]) for pair in asked}

    def run(self, requests, threads=12):
        todo = [random.Random(self.rng.random()) for _ in range(requests)]
        crowd = [threading.Thread(target=self.work, args=(todo,)) for _ in range(threads)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()

    def work(self, todo):
        with contextlib.suppress(IndexError):
            while rng := todo.pop():
                try:
                    self.one(rng)
                except Exception as e:
                    self.wrong.append(repr(e))

    def one(self, rng):
        """A request, which is read to its end, or left: before an answer, after its head, or after some of it; now, or late."""
        pair = path, _ = rng.choice(list(self.alone))
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        leaves = rng.choice([None, None, "at once", "at its head", "later", "late"])
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(request_of(*pair)))
            if leaves == "late":
                time.sleep(rng.random() / 20)
            elif leaves != "at once":
                response = connection.getresponse()
                if leaves == "later":
                    response.read(rng.randrange(1, 1500))
                elif leaves is None and text_of(path, response.read().decode()) != self.alone[pair]:
                    self.wrong.append(pair)
        with self.lock:
            self.whole, self.left = self.whole + (leaves is None), self.left + (leaves is not None)


def resident(pid):
    """The memory that a process holds, in megabytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="what a process holds is read from /proc")
def test_a_thousand_requests_many_of_which_are_left():
    """Each that is read to its end is as if it were alone; nothing is lost, neither places nor memory. There are pages for one
    context and one more: a text of a whole context is written in the end, so all are there but for one at most."""
    whole = Model(ROOT / "model.bin", verbose=False)
    with serving("model.bin", "-q", "-c", "512", "--cache-size", whole.cache_bytes(512)) as server:
        crowd = Crowd(server, 1)
        crowd.run(300)
        idle(server)
        early = resident(server.pid)
        crowd.run(700)
        idle(server)
        late = resident(server.pid)
        assert crowd.wrong == [] and crowd.whole + crowd.left == 1000 and min(crowd.whole, crowd.left) > 200
        body = {"prompt": "Once", "max_tokens": -1, "ignore_eos": True, "seed": 1, "temperature": 0.9}
        status, _, value = ask(server, "/v1/completions", body)
        assert status == 200 and value["usage"]["total_tokens"] == 512 and gauges(server)["pages"] == 9
        assert value["choices"][0]["text"] == whole("Once", seed=1, temperature=0.9, ignore_eos=True)["choices"][0]["text"]
        assert late < 1.03 * early + 4, (early, late)


@contextlib.contextmanager
def raw(server, path, body):
    """A connection of a few kilobytes on which something was asked, by HTTP 1.0: its end is the answer's."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(60)
    sock.connect(("127.0.0.1", server.port))
    content = json.dumps(body).encode()
    sock.sendall(b"POST %s HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(content)) + content)
    with sock:
        yield sock


def rest(sock):
    """What is read of a connection until its end, without the head."""
    with sock.makefile("rb") as file:
        return file.read().decode().partition("\r\n\r\n")[2]


def test_who_does_not_read_holds_up_nobody():
    """Megabytes are left unread by seventeen texts, one more than has places: they wait, others are written meanwhile. Some go
    on to their ends when they are read at last, the others end with their connection."""
    slow = {"prompt": "Once", "max_tokens": 500, "ignore_eos": True, "seed": 3, "logprobs": 100, "stream": True}
    quick = {"prompt": "The fox", "max_tokens": 20, "seed": 4, "temperature": 0}
    with serving("model.bin", "-q") as server:
        want = choices_of(ask(server, "/v1/completions", {**slow, "n": 5})[2])
        alone = ask(server, "/v1/completions", quick)[2]["choices"]
        with raw(server, "/v1/completions", {**slow, "n": 5}) as some, raw(server, "/v1/completions", {**slow, "n": 12}):
            until(lambda: gauges(server)["texts_waiting"] > 0)
            for _ in range(20):
                assert ask(server, "/v1/completions", quick)[2]["choices"] == alone
            assert gauges(server)["texts_active"] + gauges(server)["texts_waiting"] == 17
            assert choices_of(rest(some)) == want and len(want) == 5
        idle(server)


def test_more_than_may_wait():
    """They are told when to ask again, in the words of each API; who waits gets his text."""
    long = {"prompt": "Once", "max_tokens": 480, "ignore_eos": True, "seed": 3, "temperature": 0.9, "n": 16}
    short = {"prompt": "The fox", "max_tokens": 20, "seed": 4}
    with serving("model.bin", "-q", "--queue", "1") as server, ThreadPoolExecutor() as pool:
        alone = ask(server, "/v1/completions", short)[2]["choices"]
        first = pool.submit(ask, server, "/v1/completions", long)
        until(lambda: gauges(server)["texts_active"] == 16)
        second = pool.submit(ask, server, "/v1/completions", short)
        until(lambda: gauges(server)["texts_waiting"] == 1)
        for path in ADDRESSES:
            for stream in (True, False):
                status, headers, value = ask(server, path, {**request_of(path, 1), "stream": stream})
                assert status == 429 and int(headers["retry-after"]) >= 1, (path, value)
                assert path.startswith("/api/") or value["error"]["type"] == "rate_limit_error"
        assert not first.done() and not second.done()
        assert second.result()[2]["choices"] == alone and len(first.result()[2]["choices"]) == 16
        idle(server)
