"""run.py as a process."""

import os
import re
import signal
import subprocess
import sys
import time

from helpers.places import ROOT


def call(*args, stdin=b"", **env):
    """run.py as a process; no traceback, whatever happens."""
    done = subprocess.run(
        [sys.executable, ROOT / "run.py", *map(str, args)],
        input=stdin,
        capture_output=True,
        env={**os.environ, **env},
        timeout=120,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def start(*args, **kwargs):
    command = [sys.executable, ROOT / "run.py", *map(str, args)]
    return subprocess.Popen(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs})


def refused(done, *says, code=1):
    """One line of four parts, nothing on stdout, no byte that a terminal would obey."""
    err = re.sub("run.py: compil.*\n", "", done.stderr.decode())
    assert done.returncode == code and done.stdout == b"", (done.returncode, err)
    assert all(word in err for word in says), err
    assert err.startswith(("run.py: error: ", "usage: ")) and (err.count("\n") == 1 or code == 2)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", err)


def measured(*args, stdin=None):
    """-> (what call gives, seconds, most megabytes of memory)."""
    began = time.perf_counter()
    # through a small process: what one begins with counts as its child's
    code = "import os, sys; _, s, u = os.wait4(os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:]), 0)"
    code += "; os.write(2, b'%d %d' % (os.waitstatus_to_exitcode(s), u.ru_maxrss))"
    command = [sys.executable, "-c", code, sys.executable, ROOT / "run.py", *args]
    done = subprocess.run(list(map(str, command)), stdin=stdin or subprocess.DEVNULL, capture_output=True, timeout=600)
    *err, last = done.stderr.splitlines(True)
    assert b"Traceback" not in done.stderr
    code, most = map(int, last.split())
    return subprocess.CompletedProcess(args, code, done.stdout, b"".join(err)), time.perf_counter() - began, most / 1024


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
FREED = """
import os, runpy, signal, sys

class Freed:
    def __del__(self):
        os.kill(os.getpid(), int(os.environ["SENT"]))
        for _ in range(1000):
            pass

signal.signal(signal.SIGUSR1, lambda *_: [Freed()].clear())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
