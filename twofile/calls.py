"""Tools that a model may call: told, held to their schemas, read back."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .callform import CallForm, grammar
from .callreader import Reader, ToolCall
from .errors import WrongType, WrongValue, shown
from .options import yes_or_no
from .plain import is_list, plain_json
from .structure import STYLE
from .told import CallObject

CHOICE_WORDS = "auto", "none", "required"
TOOL_NAME = re.compile(r"[\w./:-]{1,128}", re.ASCII)


@dataclass
class Tools:
    """What may be called. tools: [{"name", "description", "parameters", "strict"}]. must: a call is
    asked for, of the tool named only, if one is. several: whether there may be more than one."""

    tools: list[dict[str, Any]]
    must: bool = False
    only: str | None = None
    several: bool = True

    def __post_init__(self) -> None:
        if not is_list(self.tools):
            raise WrongType(f"tools is {shown(self.tools)}, expected a list of functions; give one")
        self.tools = [checked_tool(tool, i) for i, tool in enumerate(self.tools)]
        names = [tool["name"] for tool in self.tools]
        if len(set(names)) < len(names):
            raise WrongValue("tools: two of one name, expected one each; rename one")
        self.must, self.several = yes_or_no("must", self.must), yes_or_no("several", self.several)
        if self.only is not None and self.only not in names:
            raise WrongValue(f"only is {shown(self.only)}, expected one of the tools; name one")
        if self.must and not names:
            raise WrongValue("must is True, expected tools; give some")

    def grammar(self, form: CallForm, schema: Mapping[str, Any] | None = None) -> str:
        """What may be written, in a CallForm: text (or JSON, as schema says), text and calls."""
        some = [tool for tool in self.tools if self.only in (None, tool["name"])]
        return grammar(form, some, self.must, self.several, schema, STYLE)

    def form(self, form: CallForm, asked: tuple[str, str] | None) -> tuple[str, str]:
        """The form of a text with calls as a CallForm has them -> (tools, a grammar). asked: the
        form of text that form_asked() says, or None. Raises ModelError."""
        name, text = asked or ("schema", "null")
        if name not in ("schema", "response_format"):
            raise WrongValue(f"{name}: beside tools, expected one form of the text; leave one out")
        return "tools", self.grammar(form, json.loads(text))


def call_object(call: ToolCall) -> CallObject:
    """A ToolCall in OpenAI's form."""
    inside = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": inside}


def tools_asked(given, choice=None, several=True):
    """The Tools of a request in OpenAI's form (or Tools, which a choice changes), or None. choice:
    auto, none, required, or the function's object. Raises ModelError."""
    if isinstance(given, Tools):
        if choice is None:
            return tools_given(given)
        given = given.tools
    tools = Tools([] if given is None else given).tools
    if isinstance(choice, Mapping):
        inside = choice.get("function", choice)
        only = inside.get("name") if isinstance(inside, Mapping) else None
        if only not in [tool["name"] for tool in tools]:
            found = f"tool_choice is {shown(choice)}"
            raise WrongValue(f"{found}, expected one of the tools; name one")
        return Tools(tools, True, only, False)
    if choice is not None and not (isinstance(choice, str) and choice in CHOICE_WORDS):
        found = f"tool_choice is {shown(choice)}, expected auto, none, required or a function"
        raise (WrongValue if isinstance(choice, str) else WrongType)(f"{found}; change it")
    if choice == "required" and not tools:
        raise WrongValue("tool_choice is required, expected tools; give some")
    return Tools(tools, choice == "required", None, several) if tools and choice != "none" else None


def tools_given(tools):
    """Tools as they are, of a list as OpenAI has it Tools, None of none. Raises ModelError."""
    if isinstance(tools, Tools):
        return tools if tools.tools else None
    return tools_asked(tools)


def checked_tool(tool, number):
    """A tool's name, description and parameters."""
    where = f"tools[{number}]"
    kind = tool.get("type", "function") if isinstance(tool, Mapping) else None
    if kind not in ("function", "custom") or kind == "custom" and "input_schema" not in tool:
        raise WrongValue(f"{where}: {shown(tool)}, expected type function; leave it out")
    inside = tool.get("function", tool)
    name = inside.get("name") if isinstance(inside, Mapping) else None
    if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
        found = f"{where}: its name is {shown(name)}"
        raise WrongValue(f"{found}, expected 1 to 128 letters, digits and _-./:; rename it")
    parameters = inside.get("parameters", inside.get("input_schema"))
    parameters = {"type": "object"} if parameters is None else parameters
    try:
        parameters = plain_json(parameters)
        good = isinstance(parameters, dict)
    except (TypeError, ValueError, RecursionError):
        good = False
    kind = parameters.get("type", "object") if good else None
    if not good or kind != "object" and not (isinstance(kind, list) and "object" in kind):
        found = f"{where}: parameters is {type(parameters).__name__ if not good else shown(kind)}"
        raise WrongValue(f"{found}, expected a JSON schema of an object; give one")
    about = str(inside.get("description") or "")
    strict = bool(inside.get("strict"))
    return {"name": name, "description": about, "parameters": parameters, "strict": strict}


def reader(form, tools):
    """A Reader of what is written with these Tools, or list of them."""
    given = tools_given(tools)
    return Reader(form, [tool["name"] for tool in given.tools] if given else [])


def answered(w):
    """What a finished Writer says -> (its text, None if there is none; its calls)."""
    return split(w.written, w.calls, w.tools) if w.tools else (w.written, [])


def split(text, form, tools):
    """A whole text -> (its text or None, [calls])."""
    parts = reader(form, tools).push(text, True)
    said = "".join(part for part in parts if isinstance(part, str))
    return said or None, [part for part in parts if not isinstance(part, str)]
