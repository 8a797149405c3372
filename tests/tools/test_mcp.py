"""Servers of the Model Context Protocol: what they can do, and what goes wrong with them."""

import json
import os
import re
import shlex
import sys
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("mcp", reason="the package mcp is not installed")

from twofile.errors import ModelError  # noqa: E402
from twofile.tools import mcp  # noqa: E402
from twofile.tools.mcp import mcp_tools, tools_of  # noqa: E402
from twofile.tools.tool import result_of  # noqa: E402

SERVER = """
import json, os, sys, time
LISTED = json.loads(os.environ.get("LISTED", "null")) or [
    {"name": "add", "description": "Add two numbers", "inputSchema": {"type": "object", "properties": {
        "a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}},
    *({"name": n, "inputSchema": {"type": "object"}} for n in ("calculator", "die", "hang", "fail", "picture", "noise")),
]
def answer(asked, result):
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
print("rubbish", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    method, params = asked.get("method"), asked.get("params") or {}
    if method == "initialize":
        answer(asked, {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}},
                       "serverInfo": {"name": "s", "version": "1"}})
    elif method == "tools/list":
        page = {"tools": LISTED}
        if "ENDLESS" in os.environ:
            page = {"tools": [], "nextCursor": "more"}
        answer(asked, page)
    elif method == "tools/call":
        name, given = params["name"], params.get("arguments")
        if name == "die": sys.exit("dying")
        if name == "hang": time.sleep(1000)
        if name == "noise": print("}{", flush=True); print("[1]", flush=True)
        text = str(given["a"] + given["b"]) if name == "add" else "no such thing"
        part = {"type": "text", "text": text}
        if name == "picture": part = {"type": "image", "data": "AAAA", "mimeType": "image/png"}
        answer(asked, {"content": [part], "isError": name == "fail"})
"""


@pytest.fixture
def command(tmp_path):
    path = tmp_path / "server.py"
    path.write_text(SERVER)
    return lambda **env: " ".join(["env", *(shlex.quote(f"{k}={v}") for k, v in env.items()), sys.executable, str(path)])


@pytest.fixture
def started():
    tools = []

    def start(*commands, taken=()):
        tools.extend(found := mcp_tools(commands, taken))
        return {tool.name: lambda tool=tool, **given: result_of(tool, json.dumps(given)) for tool in found}

    yield start
    for tool in tools:
        tool.close()


def test_its_tools_are_called(started, command):
    ask = started(command())
    assert ask["add"](a=2, b=3) == "5" and ask["add"](a=1, b=1) == "2"
    assert ask["add"](a="x", b=1) == 'error: a: "x", expected integer'
    assert ask["fail"]() == "error: no such thing" and ask["picture"]() == "(image, which cannot be shown)"
    assert ask["noise"]() == "no such thing"


def test_a_name_that_is_taken_has_its_servers_before_it(started, command):
    ask = started(command(), command(), taken=["calculator"])
    assert {"add", "server_py_add", "server_py_calculator"} <= set(ask) and "calculator" not in ask
    assert ask["server_py_add"](a=1, b=2) == "3"


def test_a_server_that_dies_or_hangs_is_told_to_the_model(started, command, monkeypatch):
    monkeypatch.setattr(mcp, "CALL_SECONDS", 1)
    ask = started(command())
    began = time.monotonic()
    assert ask["hang"]() == "error: no answer within 1 seconds" and time.monotonic() - began < 5
    ask = started(command())
    assert re.match(r"error: the server (did not answer|has ended)", ask["die"]())
    assert ask["add"](a=1, b=2).startswith("error: the server") and time.monotonic() - began < 12


def test_what_is_no_server_is_one_line(started, monkeypatch):
    monkeypatch.setattr(mcp, "START_SECONDS", 2)
    for wrong, says in (
        ("/no/such/program", "No such file"),
        ("true", "mcp true: "),
        ("yes rubbish", "mcp yes rubbish: "),
        ("sleep 100", "no answer within 2 seconds"),
        (f"{sys.executable} -c \"raise SystemExit('boom \\x1b[31m')\"", "boom \\x1b[31m"),
        ("'unclosed", "cannot be split into words"),
        ("", "no command"),
        ("cat", "expected an MCP server"),
        ("/", "denied"),
    ):
        began = time.monotonic()
        with pytest.raises(ModelError) as e:
            started(wrong)
        assert says in str(e.value) and re.match("mcp .*: .*, expected an MCP server; try the command alone$", str(e.value))
        assert str(e.value).isprintable() and time.monotonic() - began < 12


def test_lists_that_are_wrong(started, command, caplog):
    a_tool = lambda name, **more: {"name": name, "inputSchema": {"type": "object"}, **more}
    listed = [
        a_tool("it's/odd \u202e", description="d\u200b" + "x" * 5000),
        a_tool("add"),
        a_tool("add"),
        a_tool("server_py_add"),
    ]
    tools = mcp_tools([command(LISTED=json.dumps(listed))], ())
    for tool in tools:
        tool.close()
    assert [tool.name for tool in tools] == ["it_s_odd__", "add", "server_py_add", "server_py_server_py_add"]
    assert len(tools[0].description) == 1000 and tools[0].description.startswith("dx")
    assert tools_of(SimpleNamespace(listed=[a_tool("l", inputSchema={"type": "array"})], shown="mcp x"), set()) == []
    assert "mcp x: l takes no object; it is left out" in caplog.text
    with pytest.raises(ModelError, match="it lists more than 128 tools"):
        started(command(LISTED=json.dumps([a_tool(f"t{n}") for n in range(200)])))
    with pytest.raises(ModelError, match="it lists more than 128 tools"):
        started(command(ENDLESS="1"))
    with pytest.raises(ModelError, match="expected an MCP server") as e:
        started(command(LISTED=json.dumps([a_tool("add"), a_tool(3)])))
    assert ": tool 2 of its list is not as the protocol has them (name: Input should be a valid string)" in str(e.value)


def test_a_server_ends_with_its_tools(command):
    tools = mcp_tools([command()], ())
    path = command().split()[-1]
    running = lambda: [p for p in os.listdir("/proc") if p.isdigit() and path in cmdline(p)]
    assert len(running()) == 1
    tools[0].close()
    until = time.monotonic() + 8
    while running() and time.monotonic() < until:
        time.sleep(0.1)
    assert running() == []


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", errors="replace") as f:
            return f.read()
    except OSError:
        return ""
