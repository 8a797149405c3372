"""A child process with a limit of time, of output; ended whole."""

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time

from ..errors import printable
from .tool import ToolFailed

OUTPUT_MAX = 1 << 20  # bytes; who prints more is ended


def run_child(command, said, seconds, **how):
    """Run a command of words, in a session of its own, with bytes to read -> (what it printed,
    bytes; its exit code, negative: the signal; why it was ended, or ""). how: of Popen. Whatever
    of its session is left is killed, also when this is interrupted. Raises ToolFailed."""
    with tempfile.TemporaryFile() as source:
        source.write(said)
        source.seek(0)
        pipes = {"stdin": source, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        try:
            child = subprocess.Popen(command, **pipes, start_new_session=True, **how)
        except (OSError, ValueError) as e:
            raise ToolFailed(f"cannot be started ({printable(str(e))})") from None
    try:
        output, why = read_output(child, time.monotonic() + seconds)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.stdout.close()
        child.wait()
    if why == "late":
        why = f"ended after {seconds} seconds"
    return output, child.returncode, why


def read_output(child, until):
    """What a child prints until it ends, or time is up, or it is too much -> (bytes, why)."""
    output = bytearray()
    with selectors.DefaultSelector() as waiting:
        waiting.register(child.stdout, selectors.EVENT_READ)
        while True:
            ended = has_ended(child)  # looked at first: what it printed before is there to read
            ready = waiting.select(0 if ended else 0.05)
            block = os.read(child.stdout.fileno(), 1 << 16) if ready else b""
            output += block
            if len(output) > OUTPUT_MAX:
                return bytes(
                    output[:OUTPUT_MAX]
                ), f"ended: it printed more than {OUTPUT_MAX:,} bytes"
            if ended and not block:
                return bytes(output), ""
            if time.monotonic() > until:
                return bytes(output), "late"
            if ready and not block:
                time.sleep(0.01)  # it has closed its output, and goes on


def has_ended(child):
    """Whether it has; it stays to be waited for, so that its number is nobody else's."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, child.pid, flags) is not None


def signal_name(number):
    """As SIGKILL; those of real time have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def output_told(output, code, why):
    """What a child printed, and how it ended if that is not well, as text."""
    text = output.decode("utf-8", "replace").rstrip("\n")
    if not why and code:
        why = f"exit code {code}" if code > 0 else f"ended by {signal_name(-code)}"
        why = "ended: its seconds of computing are up" if code == -signal.SIGXCPU else why
    return "\n".join(part for part in (text, why and f"({why})") if part) or "(nothing was printed)"
