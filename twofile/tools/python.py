"""The tool that runs Python in a child, which is locked in."""

import os
import sys
import tempfile

from ..errors import ModelError, printable, set_by, warn
from .cell import ADDRESSES, CPU_SECONDS, SECONDS, cell
from .child import output_told, run_child
from .tool import Tool, ToolFailed, an_object

CODE_MAX = 100_000  # characters


def in_cell(code):
    """Run Python code in a cell -> (bytes printed, exit code, why it was ended or "")."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="twofile-") as folder:
        environment = {"HOME": folder, "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", **kept}
        command = [sys.executable, "-I", "-B", "-X", "utf8", "-c", cell()]
        text = code.encode("utf-8", "replace")
        return run_child(command, text, SECONDS, cwd=folder, env=environment)


def run_python(given):
    """The tool: code in, what it printed out."""
    code = given["code"]
    if not code.strip():
        raise ToolFailed("there is no code")
    if len(code) > CODE_MAX:
        raise ToolFailed(f"{len(code):,} characters of code, expected at most {CODE_MAX:,}")
    output, status, why = in_cell(code)
    return output_told(output, status, why)


def python_tool():
    """The tool; it is tried first. Raises ModelError where code cannot be locked in."""
    found = ""
    if not sys.platform.startswith("linux") or not sys.executable:
        found = f"this system ({sys.platform}) cannot lock code in"
    else:
        try:
            output, status, why = in_cell("")
            said = printable(output.decode("utf-8", "replace").strip()[-200:])
            if status or why:
                found = f"code cannot be locked in here ({said or why or status})"
        except ToolFailed as e:
            found = str(e)
    if found:
        wants = "expected Linux with seccomp, on x86-64 or ARM"
        raise ModelError(f"{set_by('tools')} python: {found}; {wants}; leave python out")
    if said != "reads nothing of the user":
        found = f"{set_by('tools')} python: this kernel has no Landlock"
        warn(f"{found}: code may read what you can read")
    return Tool(
        "python",
        f"Run Python code; what it prints is returned. {CPU_SECONDS} seconds, "
        f"{ADDRESSES >> 20} MiB, no network, no files, no other processes.",
        an_object(code={"type": "string", "description": "a whole program; print the result"}),
        run_python,
    )
