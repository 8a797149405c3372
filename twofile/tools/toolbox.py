"""The tools that a command line asks for, by name."""

from ..errors import ModelError, printable
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
    wanted = {}
    for word in (word for text in texts for word in text.split(",")):
        name, equals, folder = word.strip().partition("=")
        if name not in BUILT_IN:
            found = f"{printable(name[:80]) or 'an empty name'} is no tool"
            raise ModelError(f"--tools: {found}, expected some of {', '.join(BUILT_IN)}; change it")
        if name in wanted:
            raise ModelError(f"--tools: {name} stands there twice, expected once; leave one out")
        if equals and name not in BELOW:
            raise ModelError(f"--tools {name}: a folder, expected none; write {name} alone")
        wanted[name] = folder
    tools = []
    folders = [wanted[name] for name in BELOW if wanted.get(name)]
    for name, folder in wanted.items():
        if name not in BELOW:
            tools.append(BUILT_IN[name]())
        elif folder or folders:
            tools.append(BUILT_IN[name](HeldFolder(folder or folders[0], f"--tools {name}")))
        else:
            found = f"--tools {name}: no folder is named"
            raise ModelError(f"{found}, expected the one to read below; write {name}=FOLDER")
    return tools
