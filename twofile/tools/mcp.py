"""Servers of the Model Context Protocol, whose tools a model may call."""

import contextlib
import os
import re
import shlex
import tempfile
import threading

from ..errors import ModelError, printable, set_by, warn
from ..unseen import INVISIBLE
from .tool import Tool, ToolFailed

START_SECONDS, CALL_SECONDS = 20, 120
TOOLS_MAX, PAGES_MAX = 128, 16  # of a server, of its list
DESCRIPTION_MAX = 1000  # characters


class McpServer:
    """A server, started by a command, spoken to over its stdin and stdout in a thread of its own.
    Attribute listed: its tools, dicts as the protocol has them. Raises ModelError."""

    def __init__(self, command):
        import asyncio

        self.shown = f"{set_by('mcp')} {printable(command[:80])}"
        self.listed, self.session, self.failed = [], None, None
        try:
            self.words = shlex.split(command)
        except ValueError as e:
            raise self.wrong(f"cannot be split into words ({e})") from None
        if not self.words:
            raise self.wrong("no command")
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self.ready, self.loop = threading.Event(), asyncio.new_event_loop()
        self.over = asyncio.Event()
        self.thread = threading.Thread(target=self.live, daemon=True)
        self.thread.start()
        if not self.ready.wait(START_SECONDS + 5) or self.failed:
            self.close()
            raise self.wrong(self.failed or f"no answer within {START_SECONDS} seconds")

    def wrong(self, found):
        return ModelError(f"{self.shown}: {found}, expected an MCP server; try the command alone")

    def live(self):
        """The thread: the server's life, in a loop of its own."""
        import logging

        logging.getLogger("mcp").setLevel(logging.CRITICAL)  # of lines that are no messages
        try:
            self.loop.run_until_complete(self.talk())
        except BaseException as e:
            self.failed = self.failed or self.reason(e)
        finally:
            self.session = None
            self.ready.set()
            with contextlib.suppress(Exception):
                self.loop.close()

    def reason(self, error):
        """Why it ended, in a line: what the server said last, or else the error."""
        import asyncio

        while getattr(error, "exceptions", None):  # a group
            error = error.exceptions[0]
        if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
            why = f"no answer within {START_SECONDS} seconds"
        else:
            why = wrong_tool(error) or printable(str(error))[:200] or "it ended at once"
        self.errors.seek(0)
        said = self.errors.read()[-2000:].strip().splitlines()
        return f"{why} ({printable(said[-1][:200])})" if said else why

    async def talk(self):
        import asyncio

        from mcp import ClientSession, StdioServerParameters
        from mcp.client.stdio import stdio_client

        how = StdioServerParameters(command=self.words[0], args=self.words[1:])
        async with stdio_client(how, errlog=self.errors) as (read, write):
            async with ClientSession(read, write) as session:
                await asyncio.wait_for(self.begin(session), START_SECONDS)
                self.session = session
                self.ready.set()
                await self.over.wait()

    async def begin(self, session):
        """Greet the server, and ask for its tools."""
        from mcp.types import PaginatedRequestParams

        await session.initialize()
        cursor = None
        for _ in range(PAGES_MAX):
            asked = PaginatedRequestParams(cursor=cursor)
            page = (await session.list_tools(params=asked)).model_dump(by_alias=True)
            self.listed += page["tools"]
            cursor = page.get("nextCursor")
            if not cursor or len(self.listed) > TOOLS_MAX:
                break
        if cursor or len(self.listed) > TOOLS_MAX:
            raise ValueError(f"it lists more than {TOOLS_MAX} tools")

    def call(self, name, arguments):
        """Call a tool of it -> text. Raises ToolFailed."""
        import asyncio
        import concurrent.futures

        session = self.session
        if session is None:
            raise ToolFailed("the server has ended")
        asked = asyncio.wait_for(session.call_tool(name, arguments), CALL_SECONDS)
        waiting = asyncio.run_coroutine_threadsafe(asked, self.loop)
        try:
            found = waiting.result(CALL_SECONDS + 5).model_dump(by_alias=True)
        except (TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError):
            raise ToolFailed(f"no answer within {CALL_SECONDS} seconds") from None
        except Exception as e:
            raise ToolFailed(f"the server did not answer ({printable(str(e)[:200])})") from None
        finally:
            waiting.cancel()
        text = content_told(found)
        if found.get("isError"):
            raise ToolFailed(text)
        return text

    def close(self):
        """End the server."""
        with contextlib.suppress(RuntimeError):  # it has ended
            self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(5)


def wrong_tool(error):
    """Which tool of a list is none, of an error that the package mcp found in it; else None."""
    if not hasattr(error, "errors"):
        return None
    first = error.errors()[0]
    where = list(first["loc"])
    if "tools" not in where[:-1]:
        return None
    number, *inner = where[where.index("tools") + 1 :]
    within = ".".join(map(str, inner)) or "it"
    what = f"{printable(within[:80])}: {printable(first['msg'][:80])}"
    return f"tool {number + 1} of its list is not as the protocol has them ({what})"


def content_told(found):
    """What a call returned, as text; of what is no text, that it is there."""
    parts = []
    for part in found.get("content") or []:
        inner = part.get("resource") or part
        named = f"({part.get('type')}, which cannot be shown)"
        parts.append(inner["text"] if isinstance(inner.get("text"), str) else named)
    if not parts and found.get("structuredContent") is not None:
        parts.append(str(found["structuredContent"]))
    return "\n".join(parts)


def mcp_tools(commands, taken):
    """The Tools of the servers that commands start. taken: names that are taken; of two tools by
    one name, the later has its server's before it. Raises ModelError."""
    if not commands:
        return []
    try:
        import mcp  # noqa: F401
    except ImportError:
        found = f"{set_by('mcp')}: the package mcp is not installed, expected it"
        raise ModelError(f'{found}; pip install "twofile[tools]", or mcp') from None
    tools, servers = [], []
    try:
        for command in commands:
            servers.append(McpServer(command))
            tools += tools_of(servers[-1], {*taken, *(tool.name for tool in tools)})
    except BaseException:
        for server in servers:
            server.close()
        raise
    return tools


def tools_of(server, taken):
    """The Tools of one server, by names that are free; those that cannot be asked for are said."""
    tools = []
    for listed in server.listed:
        name, schema = listed["name"], listed.get("inputSchema")
        if not isinstance(schema, dict) or schema.get("type", "object") != "object":
            warn(f"{server.shown}: {printable(name[:64])} takes no object; it is left out")
            continue
        plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "tool"
        if plain in taken:
            prefix = re.sub(r"[^A-Za-z0-9_-]", "_", os.path.basename(server.words[-1]))[:20]
            plain = f"{prefix}_{plain}"[:64]
        if plain in taken:
            warn(f"{server.shown}: there is a {plain} already; this one is left out")
            continue
        taken.add(plain)
        about = INVISIBLE.sub("", listed.get("description") or listed.get("title") or name)
        run = lambda given, name=name: server.call(name, given)
        schema = {"type": "object", "properties": {}, **schema}
        tool = Tool(plain, about[:DESCRIPTION_MAX], schema, run, strict=False, close=server.close)
        tools.append(tool)
    return tools
