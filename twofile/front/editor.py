"""A text in the user's own editor."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

from ..errors import ModelError, printable
from .text import as_text, read_text


def editor_named():
    """The command of the editor that the environment names, or None."""
    return os.environ.get("VISUAL") or os.environ.get("EDITOR") or None


def usual_editor():
    """The editor for where none is named. Raises ModelError."""
    found = [name for name in ("vi", "nano", "ed") if shutil.which(name)]
    if not found:
        raise ModelError("there is no editor; put the command of one into EDITOR")
    return found[0]


def in_editor(command, text, name):
    """A text as an editor leaves it, in a file of this name that nobody else can read; None if the
    editor saved nothing. Raises ModelError."""
    with contextlib.ExitStack() as stack:
        try:
            folder = tempfile.TemporaryDirectory(prefix="twofile-", ignore_cleanup_errors=True)
            path = os.path.join(stack.enter_context(folder), name)
            with open(path, "w", encoding="utf-8", errors="replace") as f:
                f.write(text)
            os.utime(path, (0, 0))  # whatever is saved is younger
        except OSError as e:
            raise ModelError(f"no file for the editor can be made ({e.strerror})") from None
        stack.enter_context(terminal_kept())
        shown = printable(command)
        try:
            code = subprocess.run([*shlex.split(command), path], check=False).returncode
        except (OSError, ValueError) as e:
            found = printable(getattr(e, "strerror", None) or str(e))
            raise ModelError(f"the editor {shown} cannot be run ({found})") from None
        if code:
            raise ModelError(f"the editor {shown} ended with {code}; what it saved is not taken")
        if not os.path.isfile(path):
            raise ModelError(f"the editor {shown} left no file")
        saved = os.stat(path).st_mtime_ns != 0
        return as_text(read_text(path), "what the editor saved") if saved else None


@contextlib.contextmanager
def terminal_kept():
    """Ctrl-C is for the program that is run inside; the terminal is then as it was before."""
    heard = signal.signal(signal.SIGINT, lambda *_: None)
    termios = state = None
    with contextlib.suppress(ImportError, OSError, ValueError, AttributeError):
        import termios

        with contextlib.suppress(termios.error):
            state = termios.tcgetattr(sys.stdin.fileno())
    try:
        yield
    finally:
        if state:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, state)
        signal.signal(signal.SIGINT, heard)
