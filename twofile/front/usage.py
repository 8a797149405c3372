"""Tools of a conversation: which there are, what calls of them give back."""

import json
import random
import re

from ..callreader import ToolCall
from ..calls import Tools, call_object
from ..errors import ModelError, say
from ..tools.mcp import mcp_tools
from ..tools.tool import RESULT_MAX, as_data, result_of
from ..tools.toolbox import BUILT_IN, built_in
from .mode import Flag
from .text import tame

TOOLS = Flag(
    "--tools",
    some=True,
    action="append",
    metavar="NAME,…",
    help=f"what the model may call: {', '.join(BUILT_IN)}; files=FOLDER, search=FOLDER",
)
MCP = Flag(
    "--mcp",
    some=True,
    action="append",
    metavar="COMMAND",
    help="start an MCP server, whose tools it may call too; repeatable",
)
YES = Flag(
    "--yes",
    some=True,
    action="store_true",
    needs=(TOOLS, MCP),
    lacks="--yes lets tools run unasked; name some with --tools or --mcp",
    help="let tools run without being asked for",
)
CALLS_MAX = 8  # of an answer
CALL_AS_TEXT = re.compile(r"(?:```\w*\s*)?(\{.*\})(?:\s*```)?", re.DOTALL)
SHOWN_LINES, SHOWN_CHARACTERS = 8, 600  # of a result, in the terminal


def tools_of_line(args):
    """The Tools that a command line asks for -> [Tool]. Raises ModelError."""
    tools = built_in(args[TOOLS] or ())
    return tools + mcp_tools(args[MCP] or (), {tool.name for tool in tools})


def held(model, tools):
    """Those of [Tool] whose schemas a model's calls can be held to; of servers' tools, others are
    said. Raises ModelError."""
    model.need_tokenizer()
    kept = []
    for tool in tools:
        try:
            form = Tools([tool.described()]).form(model.calls, None)
            model.forms.structure(form, (), model.calls.names)
            kept.append(tool)
        except ModelError as e:
            if tool.strict:
                raise
            say(f"{tool.name}: no call can be held to its schema, it is left out ({e})")
    return kept


def check_unasked(tools, args):
    """All may run where nobody can be asked: in a pipe. Raises ModelError."""
    names = [tool.name for tool in tools if not tool.harmless]
    if names and not args[YES]:
        found = f"{', '.join(names)}: in a pipe nobody can be asked whether it may run"
        raise ModelError(f"{found}, expected a terminal, or --yes; add it if it may")


class Usage:
    """Tools in a conversation. tools: [Tool]. consent: a Consent. show(text) tells the user.
    screen: a Screen, notice(text) tells what it found, marks: of the model's template.
    n_ctx: tokens of the context, of which a result may have a part."""

    def __init__(self, tools, consent, show, screen, notice, n_ctx, marks=()):
        self.tools = {tool.name: tool for tool in tools}
        self.consent, self.show, self.screen, self.notice = consent, show, screen, notice
        self.marks, self.most = marks, min(RESULT_MAX, n_ctx)  # a third of it, or so
        told = [tool.described() for tool in tools]  # one call at a time: small models repeat them
        self.offered = Tools(told, several=False) if tools else None

    def calls_in(self, text):
        """The call that a text is, as a whole: some models write it as JSON, in a fence or bare,
        instead of in their own form -> [ToolCall] of one or none."""
        found = CALL_AS_TEXT.fullmatch(text)
        try:
            value = json.loads(found[1]) if found and self.tools else None
            name, arguments = value["name"], value["arguments"]
            if name in self.tools and isinstance(arguments, dict):
                return [
                    ToolCall(name, json.dumps(arguments), f"call_{random.getrandbits(96):024x}")
                ]
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        return []

    def called(self, calls, left):
        """Run calls, of which only so many may be left -> the messages of them all: the
        assistant's with calls as they ran, and the results. Ctrl-C stops a tool that runs; while
        it is asked for, it goes on."""
        ran, results = [], []
        for number, call in enumerate(calls):
            arguments, text = call.arguments, f"error: not called, at most {CALLS_MAX} an answer"
            if number < left:
                arguments, text = self.run(call)
            ran.append(call_object(ToolCall(call.name, arguments, call.id)))
            results.append({"role": "tool", "tool_call_id": call.id, "content": text})
        return ran, results

    def run(self, call):
        """-> (the arguments that it ran with, what the model is told)"""
        tool = self.tools[call.name]
        arguments = self.consent.allowed(tool, call.arguments)
        if arguments is None:
            self.show("(never allowed)\n")
            return call.arguments, "error: the user does not allow it"
        try:
            text = result_of(tool, arguments)
        except KeyboardInterrupt:
            text = "error: the user stopped it"
        self.screen(text)
        self.screen.report(self.notice, text, self.marks, f"what {tool.name} returned")
        self.show(result_shown(text))
        return arguments, as_data(tool.name, text, self.screen.clean, self.most)

    def listed(self):
        """What /tools shows."""
        lines = []
        for name, tool in self.tools.items():
            state = "always" if name in self.consent.always or self.consent.free else "asked for"
            state = "never" if name in self.consent.never else state
            lines.append(f"{name} ({state}): {tool.description[:200]}\n")
        return "".join(lines) or "no tools; --tools and --mcp name some\n"


def result_shown(text):
    """The beginning of a result, for the terminal."""
    lines = tame(text[:SHOWN_CHARACTERS]).split("\n")
    more = len(text) > SHOWN_CHARACTERS or len(lines) > SHOWN_LINES
    shown = "".join(f"  = {line}\n" for line in lines[:SHOWN_LINES])
    return shown + ("  …\n" if more else "")
