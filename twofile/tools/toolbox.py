"""The tools that a command line asks for, by name."""

from ..errors import WrongValue, printable, set_by
from .calculator import calculator
from .dates import date_tool
from .folder import HeldFolder
from .python import python_tool
from .reading import files_tool
from .searching import search_tool
from .shell import shell_tool

BUILT_IN = {
    "calculator": calculator,
    "date": date_tool,
    "python": python_tool,
    "files": files_tool,
    "search": search_tool,
    "shell": shell_tool,
}
BELOW = "files", "search"  # those that read below a folder


def built_in(texts):
    """The Tools that texts name, as "calculator,files=notes,search": in their order. files and
    search read below the folder that stands behind their name, or else behind the other's. Raises
    ModelError."""
    wanted, flag = {}, set_by("tools")
    for word in (word for text in texts for word in text.split(",")):
        name, equals, folder = word.strip().partition("=")
        if name not in BUILT_IN:
            found = f"{printable(name[:80]) or 'an empty name'} is no tool"
            raise WrongValue(f"{flag}: {found}, expected some of {', '.join(BUILT_IN)}; change it")
        if name in wanted:
            raise WrongValue(f"{flag}: {name} stands there twice, expected once; leave one out")
        if equals and name not in BELOW:
            raise WrongValue(f"{flag} {name}: a folder, expected none; write {name} alone")
        wanted[name] = folder
    tools = []
    folders = [wanted[name] for name in BELOW if wanted.get(name)]
    for name, folder in wanted.items():
        if name not in BELOW:
            tools.append(BUILT_IN[name]())
        elif folder or folders:
            tools.append(BUILT_IN[name](HeldFolder(folder or folders[0], f"{flag} {name}")))
        else:
            found = f"{flag} {name}: no folder is named"
            raise WrongValue(f"{found}, expected the one to read below; write {name}=FOLDER")
    return tools
