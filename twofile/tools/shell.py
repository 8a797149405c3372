"""The tool that runs commands of the shell, with the rights of the user."""

import os

from ..errors import ModelError, set_by
from .child import output_told, run_child
from .tool import Tool, an_object

SHELL, SHELL_SECONDS = "/bin/sh", 60


def run_shell(given):
    """The tool: a command in, what it printed out."""
    return output_told(*run_child([SHELL, "-c", given["command"]], b"", SHELL_SECONDS))


def shell_tool():
    """The tool. Raises ModelError where there is no shell."""
    if not os.access(SHELL, os.X_OK):
        found = f"{set_by('tools')} shell: there is no {SHELL}"
        raise ModelError(f"{found}, expected one; leave shell out")
    return Tool(
        "shell",
        f"Run a command in {SHELL}; what it prints is returned. {SHELL_SECONDS} seconds.",
        an_object(command={"type": "string", "description": "the command"}),
        run_shell,
        each_time=True,
    )
