"""The tools that the server was started with: listed, called by who may ask."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

from ..errors import printable
from ..tools.tool import as_data, result_of
from .answers import answer
from .asked import asked
from .fields import either, text, thing
from .refusals import Refused

AT_ONCE, WAIT_MAX = 4, 16  # calls that run; that may wait for one of these to end
HANDS = ThreadPoolExecutor(AT_ONCE)  # of their own: what is slow holds up calls alone
UNDER_WAY = set()  # calls that run or wait
CALL = thing(
    "an object with a tool's name and arguments",
    {"name": text("of a tool"), "arguments": either("an object, or its JSON", text(), thing())},
    ["name"],
)


async def tools(request):
    """GET /tools"""
    return answer({"tools": [listed(tool) for tool in request.app.state.settings.tools]})


def listed(tool):
    """A tool as requests have it, and how a page is to ask for it."""
    function = {name: value for name, value in tool.described().items() if name != "strict"}
    return {"type": "function", "function": function, "each_time": tool.each_time}


async def call(request):
    """POST /tools/call: run a tool -> what a model is told, marked as data. What went wrong in it
    is told so too."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":  # others any page can send
        found = f"content-type is {printable(kind[:80]) or 'missing'}"
        raise Refused(400, f"{found}, expected application/json; send it so")
    body = await asked(request, CALL)
    known = {tool.name: tool for tool in request.app.state.settings.tools}
    tool = known.get(body["name"])
    if tool is None:
        wants = f"expected one of {', '.join(known)}" if known else "start the server with --tools"
        raise Refused(400, f"name is {body['name'][:80]!r}; {wants}; change it", "name")
    given = body.get("arguments") or {}
    arguments = given if isinstance(given, str) else json.dumps(given)
    found = await in_turn(result_of, tool, arguments)
    return answer({"name": tool.name, "content": as_data(tool.name, found), "result": found})


async def in_turn(work, *args):
    """What work(*args) returns, in one of the HANDS. Raises Refused if too many wait."""
    if len(UNDER_WAY) >= AT_ONCE + WAIT_MAX:
        found = f"tools/call: {WAIT_MAX} calls wait already"
        raise Refused(429, f"{found}, expected fewer; try again", code="queue_full", retry=1)
    running = HANDS.submit(work, *args)
    UNDER_WAY.add(running)
    running.add_done_callback(UNDER_WAY.discard)
    return await asyncio.wrap_future(running)


TOOLBOX = (("GET", "/tools", tools, None, None), ("POST", "/tools/call", call, CALL, None))
