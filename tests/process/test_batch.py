"""Many texts at once: in order, whatever a line holds, and after a kill."""

import contextlib
import functools
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from helpers.models import PROMPTS
from helpers.places import ROOT
from helpers.process import call, start
from twofile.front.modes import parse_args
from twofile.front.requests import read_request
from twofile.model import Model
from twofile.options import line_seed


def lines(*values):
    return b"".join(v if isinstance(v, bytes) else json.dumps(v).encode() + b"\n" for v in values)


def test_every_line_has_its_answer_in_order(tiny):
    asked = lines(
        "the fox",
        b"\n",
        {"prompt": "a", "id": "second", "max_tokens": 3, "temperature": 0},
        b"this is no JSON \x1b[31m\n",
        {"prompt": "a", "messages": []},
        {"prompt": "x" * 300, "id": 5},
        {"prompt": "the", "frobnicate": 1},
        {"prompt": 7},
        {"prompt": ["a"]},
        {"prompt": [5, 6, 99999]},
        {"prompt": "the", "temperature": -1},
        {"prompt": "the", "max_tokens": "many"},
        {"prompt": "the", "seed": True},
        [1, 2],
        {"custom_id": "r1", "url": "/v1/completions", "body": {"model": "m", "prompt": "the", "max_tokens": 2}},
        {"custom_id": "r2", "method": "POST", "url": "/v1/completions", "body": 3},
        {"prompt": [5, 6, 7], "seed": 11, "stop": "e", "logprobs": 1, "id": "\ud800"},
    )
    done = call(tiny, "--batch", "-", "-n", "8", "-s", "3", "-np", "3", "--ignore-eos", stdin=asked)
    got = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1 and len(got) == 16 and b"16 lines (12 failed)" in done.stderr
    ids = [g.get("custom_id", g.get("id")) for g in got]
    assert ids == [1, "second", 4, 5, 5, *range(7, 15), "r1", "r2", "\ud800"]
    failed = [i for i, g in enumerate(got) if g.get("error")]
    assert failed == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14]
    for i, says in (
        (2, "line 4: 'this is no JSON \\x1b[31m' is no JSON, expected a string or an object; write a text in quotes"),
        (4, "300 tokens"),
        (5, "frobnicate"),
        (9, "temperature is -1"),
    ):
        assert says in got[i]["error"]
    assert b"\x1b" not in done.stdout and got[14]["response"] is None and got[14]["id"] == "batch_req_r2"
    assert "object" in got[14]["error"]["message"]
    m = Model(tiny, verbose=False)
    for row, prompt, how in (
        (got[0], "the fox", dict(max_tokens=8)),
        (got[1], "a", dict(max_tokens=3, temperature=0)),
        (got[13]["response"]["body"], "the", dict(max_tokens=2)),
        (got[15], [5, 6, 7], dict(max_tokens=8, stop="e", logprobs=1)),
    ):
        whole = m(prompt, seed=row["seed"], ignore_eos=True, **how)
        text = row["text"] if "text" in row else row["choices"][0]["text"]
        assert text == whole["choices"][0]["text"]
        plain = {name: n for name, n in whole["usage"].items() if name != "prompt_tokens_details"}
        assert plain.items() <= row["usage"].items() and ("text" not in row or row["usage"] == plain)
    assert got[0]["seed"] == line_seed(3, 1) and got[15]["seed"] == 11
    assert got[15]["logprobs"]["token_logprobs"] == whole["choices"][0]["logprobs"]["token_logprobs"]


def test_a_line_alone_gives_the_same_text(tiny, tmp_path):
    """The seed that an answer reports reproduces it on the command line; order, number at once and threads do not matter."""
    (tmp_path / "in").write_bytes(lines(*[p for p in PROMPTS if p]))
    one, *others = (
        call(tiny, "--batch", tmp_path / "in", "-n", "12", "-s", "5", *more).stdout
        for more in (["-np", "1"], ["-np", "5"], ["-np", "16", "-t", "1"])
    )
    assert others == [one, one]
    for prompt, row in list(zip([p for p in PROMPTS if p], map(json.loads, one.splitlines())))[:3]:
        assert call(tiny, "-p", prompt, "-n", "12", "-s", row["seed"], "-q").stdout.decode().removesuffix("\n") == row["text"]


def test_messages(talker):
    ask = [{"role": "user", "content": "the fox"}]
    body = {"custom_id": "x", "body": {"messages": ask, "max_tokens": 9, "seed": 2}}
    asked = lines({"messages": ask, "max_tokens": 9, "seed": 2}, {"messages": []}, body, "the fox")
    done = call(talker, "--batch", "-", stdin=asked)
    got = [json.loads(line) for line in done.stdout.splitlines()]
    m = Model(talker, verbose=False)
    want = m.generate(m.encode_chat(ask), 9, seed=2)
    (choice,) = got[2]["response"]["body"]["choices"]
    assert got[0]["text"] == want == choice["message"]["content"] and "roles none" in got[1]["error"]
    assert got[3]["text"] == m.generate(m.encode_chat(ask), seed=got[3]["seed"])


def answers(model, *bodies, **around):
    """What a batch of OpenAI's form answers to each body, in one run."""
    asked = lines(*({"custom_id": f"r{n}", **around, "body": body} for n, body in enumerate(bodies)))
    rows = [json.loads(row) for row in call(model, "--batch", "-", "-n", "3", "-s", "1", "-q", stdin=asked).stdout.splitlines()]
    assert [row["custom_id"] for row in rows] == [f"r{n}" for n in range(len(bodies))]
    return rows


ASK = {"messages": [{"role": "user", "content": "the fox"}], "max_tokens": 9, "seed": 2, "ignore_eos": True}
SAID = {"prompt": "the fox", "max_tokens": 9, "seed": 2, "ignore_eos": True}


def test_objects_are_those_of_the_url(talker):
    """chat.completion with a message, or text_completion with a text; without a url by what is asked. A prompt
    for the url of texts is continued as it is, as the server does; without a url it is a message, as on the command line."""
    m = Model(talker, verbose=False)
    how = dict(max_tokens=9, seed=2, ignore_eos=True)
    ids = m.encode_chat([{"role": "user", "content": SAID["prompt"]}])
    message, raw = m(ids, **how), m(SAID["prompt"], **how)
    assert message["choices"] != raw["choices"]
    for urls in (("/v1/chat/completions", "/v1/completions"), (None, None), ()):
        want = m.create_chat_completion(ASK["messages"], **how), raw if all(urls or [None]) else message
        for body, whole, url in zip((ASK, SAID), want, urls or ("", "")):
            (row,) = answers(talker, body, **({"url": url, "method": "POST"} if urls else {}))
            got = row["response"]["body"]
            assert row["error"] is None and row["response"]["status_code"] == 200
            assert got.keys() == whole.keys() and got["object"] == whole["object"]
            assert got["choices"] == whole["choices"]
            assert got["id"].startswith("chatcmpl-") == (got["object"] == "chat.completion")
            said, there = ({**value["usage"], "prompt_tokens_details": None} for value in (got, whole))
            assert said == there and ("message" in got["choices"][0]) == (body is ASK)
    for around, says in (
        ({"url": "/v1/completions"}, "url is '/v1/completions', expected /v1/chat/completions with a field messages"),
        ({"url": "/v1/embeddings"}, "url is '/v1/embeddings', expected /v1/chat/completions or /v1/completions"),
        ({"method": "GET"}, "method is 'GET', expected POST"),
        ({"url": 5}, "url is 5"),
    ):
        (row,) = answers(talker, ASK, **around)
        assert row["response"] is None and says in row["error"]["message"]
    (row,) = answers(talker, SAID, url="/v1/chat/completions")
    assert "expected /v1/completions with a field prompt" in row["error"]["message"]


NOTHING = [
    *(
        {name: None}
        for name in ("stop", "seed", "temperature", "max_tokens", "n", "stream", "logprobs", "top_logprobs", "user")
    ),
    *({name: None} for name in ("prompt", "tools", "tool_choice", "response_format", "logit_bias", "audio", "of_tomorrow")),
    {"presence_penalty": 0, "frequency_penalty": 0.0, "n": 1, "stream": False, "logit_bias": {}, "best_of": 1},
    {"tools": [], "tool_choice": "none", "parallel_tool_calls": True, "functions": [], "function_call": "auto"},
    {"response_format": {"type": "text"}, "modalities": ["text"], "verbosity": "medium"},
    {"model": "gpt-4o", "user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "safety_identifier": "x"},
    {"logprobs": False, "top_logprobs": 0, "stop": []},
    {"max_tokens": None, "max_completion_tokens": 9},
    {"max_tokens": 9, "max_completion_tokens": 9, "n_predict": None},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "the fox"}]}]},
    {"messages": [{"role": "user", "content": "the fox", "name": None}]},
]


def test_fields_that_change_nothing(talker):
    """Null, or at OpenAI's defaults: the answer is that of the request without them."""
    usual = {**ASK, "temperature": 3}
    rows = answers(talker, usual, *({**usual, **more} for more in NOTHING))
    assert [row["error"] for row in rows] == [None] * len(rows)
    texts = [row["response"]["body"]["choices"][0]["message"]["content"] for row in rows]
    free = [n for n, more in enumerate(NOTHING, 1) if {"seed", "temperature"} & more.keys()]  # others' seed, temperature
    free.append(1 + NOTHING.index({"max_tokens": None}))  # ... and limit: -n
    assert len(free) == 3 and all(texts[n] == texts[0] for n in range(len(rows)) if n not in free)
    assert rows[free[-1]]["response"]["body"]["usage"]["completion_tokens"] == 3
    rows = answers(talker, SAID, {**SAID, "echo": False, "suffix": "", "logprobs": None, "messages": None})
    assert rows[0]["response"]["body"]["choices"] == rows[1]["response"]["body"]["choices"]


@pytest.mark.parametrize(
    "body, says",
    [
        ({"presence_penalty": -101}, "presence_penalty is -101, expected -100 to 100"),
        ({"n": 2}, "n is 2"),
        ({"stream": True}, "stream is True"),
        ({"echo": True}, "echo is True"),
        ({"response_format": {"type": "xml"}}, "response_format is {'type': 'xml'}, expected type text, json_object"),
        ({"regex": "a", "schema": {}}, "schema and regex: expected one form of the text"),
        ({"tools": [{"type": "function"}]}, "tools[0]: its name is None"),
        ({"tool_choice": "required"}, "tool_choice is required, expected tools"),
        ({"logit_bias": {"500": 1}}, "logit_bias: a key is 500, expected a token's id, 0 to 265"),
        ({"logit_bias": "5"}, "field logit_bias: '5', expected an object or a list"),
        ({"audio": {"voice": "x"}}, "field audio: unknown"),
        ({"top_logprobs": 2}, "top_logprobs is 2 without logprobs"),
        ({"logprobs": True, "top_logprobs": 101}, "101 logprobs; expected at most 100"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs is -1"),
        ({"logprobs": True, "top_logprobs": True}, "field top_logprobs: True, expected a whole number"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens 5, max_completion_tokens 6; expected one limit"),
        ({"max_tokens": None, "max_completion_tokens": -2}, "max_completion_tokens is -2, expected a whole number"),
        ({"max_tokens": "many"}, "field max_tokens: 'many', expected a whole number"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "a part of type 'image_url'"),
        ({"messages": None}, "expected one of prompt and messages"),
        ({"prompt": "x"}, "expected one of prompt and messages"),
        ({"messages": "x"}, "field messages: 'x', expected a list"),
    ],
)
def test_what_cannot_be_done_is_said_by_name(talker, body, says):
    made = read_request(
        model_of(talker), parse_args([str(talker), "--batch", "f"]), json.dumps({"body": {**ASK, **body}}).encode(), 1, 1
    )
    assert made.failed and says in str(made.found) and made.answer()["response"] is None


@functools.cache
def model_of(path):
    return Model(path, verbose=False)


def test_log_probabilities_of_a_chat(talker):
    """logprobs true, as many of the likeliest as top_logprobs says; a number for a prompt, as OpenAI has it."""
    rows = answers(talker, {**ASK, "logprobs": True, "top_logprobs": 2}, {**ASK, "logprobs": True}, {**SAID, "logprobs": 2})
    m, how = Model(talker, verbose=False), dict(max_tokens=9, seed=2, ignore_eos=True)
    want = m.create_chat_completion(ASK["messages"], logprobs=True, top_logprobs=2, **how)["choices"][0]["logprobs"]
    told = [row["response"]["body"]["choices"][0]["logprobs"] for row in rows]
    assert told[0] == want and len(want["content"]) == 9 and {len(x["top_logprobs"]) for x in want["content"]} == {2}
    assert [x["logprob"] for x in told[1]["content"]] == [x["logprob"] for x in want["content"]]
    assert len(told[2]["token_logprobs"]) == 9 and told[2].keys() == {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
    (row,) = answers(talker, {**SAID, "logprobs": True})
    assert "field logprobs: true, expected a number with a prompt" in row["error"]["message"]


def test_shards_are_a_partition(tiny, tmp_path):
    (tmp_path / "in").write_bytes(lines(*("the fox " + str(i) for i in range(10))))
    run_it = lambda *args, **env: call(tiny, "--batch", tmp_path / "in", "-n", "4", "-s", "1", *args, **env).stdout.splitlines()
    whole, parts = run_it(), [run_it("--shard", f"{i}/3") for i in range(3)]
    assert [len(p) for p in parts] == [4, 3, 3]
    assert whole == [parts[n % 3][n // 3] for n in range(10)]
    slurm = dict(SLURM_ARRAY_TASK_ID="5", SLURM_ARRAY_TASK_COUNT="3", SLURM_ARRAY_TASK_MIN="4")
    assert run_it(**slurm) == parts[1] and run_it("--shard", "0/1", **slurm) == whole


def test_output_and_resume(tiny, tmp_path):
    """The final name appears when the work is done; what a kill has left is gone on with, to the same bytes."""
    source, out = tmp_path / "in", tmp_path / "out.jsonl"
    source.write_bytes(lines(*("the fox " + str(i) for i in range(40))))
    args = (tiny, "--batch", source, "-n", "30", "-s", "1", "--ignore-eos")
    want = call(*args).stdout
    done = call(*args, "-o", out)
    assert done.returncode == 0 and done.stdout == b"" and out.read_bytes() == want
    done = call(*args, "-o", out)
    assert done.returncode == 1 and b"exists" in done.stderr and out.read_bytes() == want
    assert b"nothing to do" in call(*args, "-o", out, "--resume").stderr
    out.unlink()
    part = tmp_path / "out.jsonl.part"
    for kept in (0, 100, want.index(b"\n") + 1, len(want) - 1):
        part.write_bytes(want[:kept])
        assert call(*args, "-o", out).returncode == 1  # it asks for --resume
        assert call(*args, "-o", out, "--resume").returncode == 0 and out.read_bytes() == want and not part.exists()
        out.unlink()


def test_killed_and_resumed(tiny, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.write_bytes(lines(*("the fox " + str(i) for i in range(300))))
    args = (tiny, "--batch", source, "-n", "60", "-s", "1", "--ignore-eos", "-o", out, "-q")
    p = start(*args)
    while not (tmp_path / "out.part").exists() or (tmp_path / "out.part").stat().st_size < 2000:
        time.sleep(0.01)
        assert p.poll() is None
    p.send_signal(signal.SIGSTOP)
    assert call(*args, "--resume").returncode == 1  # the other one is at it
    p.send_signal(signal.SIGKILL)
    p.communicate()
    assert call(*args, "--resume").returncode == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["id"] for r in rows] == list(range(1, 301)) and {r["usage"]["completion_tokens"] for r in rows} == {60}


def test_a_conversation_over_a_pipe(tiny):
    """One line in, its answer out, before the next line is there."""
    p = start(tiny, "--batch", "-", "-n", "5", "-q", stdin=subprocess.PIPE)
    for i in range(3):
        p.stdin.write(lines({"prompt": "the", "id": i}))
        p.stdin.flush()
        assert json.loads(p.stdout.readline())["id"] == i
    p.stdin.close()
    assert p.wait(30) == 0 and p.stderr.read() == b""


@pytest.mark.parametrize("sig, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(tiny, sig, code):
    p = start(tiny, "--batch", "-", "-n", "5", "-q", stdin=subprocess.PIPE)
    p.stdin.write(lines("the"))
    p.stdin.flush()
    assert p.stdout.readline()
    p.send_signal(sig)
    _, err = p.communicate(timeout=30)
    assert p.returncode == code and err == b""


def test_no_such_file_and_no_folder(tiny, tmp_path):
    done = call(tiny, "--batch", tmp_path / "none")
    assert done.returncode == 1 and b"not found" in done.stderr
    done = call(tiny, "--batch", "-", "-o", tmp_path / "no" / "folder", stdin=lines("a"))
    assert done.returncode == 1 and b"cannot be written" in done.stderr
    assert call(tiny, "--batch", "-", stdin=b"").returncode == 0
    done = call(tiny, "--batch", "-", "-np", "17", stdin=lines("a"))
    assert done.returncode == 2 and b"expected 1 to 16" in done.stderr


def test_a_full_disk(tiny):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "wb") as full:
        command = [sys.executable, ROOT / "run.py", tiny, "--batch", "-", "-q"]
        done = subprocess.run(command, input=lines("the"), stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and b"cannot be written" in done.stderr and b"Traceback" not in done.stderr


def test_progress_on_a_terminal(tiny, tmp_path):
    """Lines written, of how many, and the time left; in a pipe nothing but the last line."""
    (tmp_path / "in.jsonl").write_bytes(lines(*["the fox"] * 200))
    options = ["--batch", tmp_path / "in.jsonl", "-n", "190", "--ignore-eos", "-t", "1", "-np", "4", "-s", "1"]
    ours, theirs = pty.openpty()
    with start(tiny, *options, stderr=theirs, stdout=subprocess.DEVNULL) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # the other side closes at the end
            while block := os.read(ours, 4096):
                seen += block
        assert process.wait() == 0
    os.close(ours)
    assert re.search(rb"\r\d+ lines of 200, \d+ s left", seen) and re.search(rb"\r200 lines \(0 failed\)", seen)
    assert call(tiny, *options).stderr.count(b"\n") == 1
