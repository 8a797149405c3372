"""Whether a call may run: it is shown, asked for, and perhaps edited."""

import json

from ..errors import ModelError, printable
from ..tools.tool import ToolFailed, read_arguments
from .editor import editor_named, in_editor
from .text import tame

ANSWERS = ("once", "always", "never", "edit")


def call_shown(name, arguments):
    """A call as a terminal shows it: each argument as it is, with nothing in it that could drive
    the terminal, or hide."""
    lines = [f"{name}:"]
    for key, value in json.loads(arguments).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        first, *more = tame(text.replace("\t", "    ")).split("\n")
        lines += [f"  {printable(key)} = {first}", *(f"  | {line}" for line in more)]
    return "\n".join(lines) + "\n"


class Consent:
    """What a user allows tools to do, in one conversation. show(text) writes to the terminal;
    read(prompt, text) reads a line there, text stands in it to be edited. free: all is allowed."""

    def __init__(self, show, read, free=False):
        self.show, self.read, self.free = show, read, free
        self.always, self.never = set(), set()

    def allowed(self, tool, arguments):
        """The arguments with which a call may run, JSON text, edited or as they were; None if it
        may not. Ctrl-C goes on."""
        self.show(call_shown(tool.name, arguments))
        while not (self.free or tool.name in self.always):
            if tool.name in self.never:
                return None
            given = [word for word in ANSWERS if word != "always" or not tool.each_time]
            offered = ", ".join(f"[{word[0]}]{word[1:]}" for word in given)
            said = self.read(f"run it? {offered}: ", "").strip().lower()
            word = next((word for word in given if said and word.startswith(said)), None)
            if word == "once":
                break
            if word == "always":
                self.always.add(tool.name)
            elif word == "never":
                self.never.add(tool.name)
            elif word == "edit":
                arguments = self.edited(tool, arguments)
                self.show(call_shown(tool.name, arguments))
        return arguments

    def edited(self, tool, arguments):
        """The arguments as the user changes them; as they were if that are none for the tool."""
        editor = editor_named()
        try:
            if editor:
                pretty = json.dumps(json.loads(arguments), ensure_ascii=False, indent=1)
                saved = in_editor(editor, pretty, "arguments.json")
                text = arguments if saved is None else saved
            else:
                text = self.read("", arguments)
            return json.dumps(read_arguments(tool, text), ensure_ascii=False)
        except (ToolFailed, ModelError) as e:
            self.show(f"({printable(str(e))}; nothing is changed)\n")
            return arguments
