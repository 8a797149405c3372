"""Python in a cell: what it computes; and all that it must not do, tried."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from helpers.places import ROOT
from twofile.errors import ModelError
from twofile.tools import cell, child, python
from twofile.tools.python import python_tool
from twofile.tools.tool import result_of

try:
    TOOL = python_tool()
except ModelError as e:
    pytest.skip(str(e), allow_module_level=True)


def run(code):
    return result_of(TOOL, json.dumps({"code": code}))


def has_landlock():
    libc = ctypes.CDLL(None)
    return libc.syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), ctypes.c_int(1)) > 0


def test_it_computes():
    assert run("print('hi')\n2 ** 100") == "hi\n1267650600228229401496703205376"
    assert run("import statistics, decimal, fractions, datetime, re, json, sqlite3, zoneinfo, ctypes\n1") == "1"
    assert run("import numpy as np\nprint(np.linalg.inv(2 * np.eye(3)).sum())") == "1.5"
    assert run("None") == "(nothing was printed)" and run("if 1:\n    print('größe \\u20ac')") == "größe €"
    assert run("__name__") == "'__main__'" and run("def f(n): return n and n + f(n - 1)\nf(10)") == "55"
    assert run("x = 'a'\nclass C:\n    y = x\nC.y") == "'a'"


def test_what_goes_wrong_is_told_in_the_lines_of_the_code():
    assert run("x = 1\nx / 0").startswith('Traceback (most recent call last):\n  File "<code>", line 2, in <module>\n    x / 0')
    assert run("def f(:").startswith('  File "<code>", line 1\n    def f(:') and "exit code 1" in run("def f(:")
    assert run("import sys; sys.exit(3)") == "(exit code 3)" and "EOFError" in run("input()")
    assert run("import os; os.abort()").endswith("(ended by SIGABRT)")
    assert run("import ctypes; ctypes.string_at(0)").endswith("(ended by SIGSEGV)")
    assert "RecursionError" in run("def f(): f()\nf()")
    assert run("'\\ud800'.encode('utf-8', 'surrogatepass').decode('latin-1')") and "no code" in run(" \n")
    assert "expected at most" in run("#" * 200_000) and "null bytes" in run("1\0")


NETWORK = [
    "import socket; socket.socket()",
    "import socket; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)",
    "import socket; socket.socket(socket.AF_UNIX)",
    "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "import socket; socket.socket(socket.AF_VSOCK)",
    "import socket; socket.socketpair()",
    "import socket; socket.create_connection(('127.0.0.1', 1))",
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:1')",
]
PROCESSES = [
    "import os; os.fork()",
    "import os; os.forkpty()",
    "import subprocess; subprocess.run(['true'])",
    "import os; os.execv('/bin/sh', ['sh'])",
    "import os; os.posix_spawn('/bin/true', ['true'], {})",
    "import threading; threading.Thread(target=print).start()",
    "import multiprocessing; multiprocessing.Pool(2)",
    "import os; os.kill(os.getppid(), 9)",
    "import os; os.kill(-1, 9)",
    "import os; os.killpg(os.getpgid(os.getppid()), 9)",
    "import signal; signal.pidfd_send_signal(__import__('os').pidfd_open(__import__('os').getppid()), 9)",
    "import os; os.setsid()",
    "import os; os.nice(5)",
    "import os; os.setpriority(os.PRIO_PROCESS, os.getppid(), 5)",
    "import os; os.sched_setaffinity(os.getppid(), {0})",
    "import resource as r, os; r.prlimit(os.getppid(), r.RLIMIT_NOFILE)",
]
FILES = [
    "open('x', 'w')",
    "open('/tmp/twofile-escaped', 'w')",
    "open('/dev/shm/twofile-escaped', 'wb')",
    "open('/dev/null', 'w')",
    "import os; os.open('.', os.O_RDWR | os.O_TMPFILE)",
    "import os; os.mkdir('d')",
    "import os; os.rmdir('.')",
    "import os; os.unlink('/tmp')",
    "import os; os.rename('.', '../x')",
    "import os; os.symlink('/', 'l')",
    "import os; os.link('/etc/hostname', 'l')",
    "import os; os.mkfifo('f')",
    "import os; os.chmod('.', 0o777)",
    "import os; os.chown('.', 0, 0)",
    "import os; os.utime('.')",
    "import os; os.truncate('/etc/hostname', 0)",
    "import os; os.setxattr('.', 'user.x', b'')",
    "import os; os.memfd_create('m')",
    "import tempfile; tempfile.TemporaryFile()",
    "from multiprocessing.shared_memory import SharedMemory as S; S(create=True, size=9)",
    "import os; os.chroot('/')",
    "import fcntl; fcntl.flock(open('/dev/urandom'), fcntl.LOCK_EX)",
    "import fcntl, os; fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
    "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSTI, b'x')",
    "import fcntl, os; fcntl.fcntl(1, 1031, 1 << 20)",
]


@pytest.mark.parametrize("code", [*NETWORK, *PROCESSES, *FILES])
def test_no_network_no_processes_no_writing(code):
    said = run(f"{code}\nprint('escaped')")
    assert said.endswith("(exit code 1)") and "\nescaped" not in said, said
    assert not os.path.exists("/tmp/twofile-escaped") and not os.path.exists("/dev/shm/twofile-escaped")


CALLS = {  # by number, past Python: each must fail with EPERM
    "io_uring_setup": (425, "8, buffer"),
    "readlink": (89, "b'/proc/self/exe', buffer, 256"),
    "readlinkat": (267, "-100, b'/proc/self/exe', buffer, 256"),
    "clone3": (435, "buffer, 88"),
    "clone": (56, "17, 0, 0, 0, 0"),
    "ptrace": (101, "16, os.getppid(), 0, 0"),
    "process_vm_readv": (310, "os.getppid(), buffer, 1, buffer, 1, 0"),
    "open_by_handle_at": (304, "-100, buffer, 0"),
    "openat2": (437, "-100, buffer, buffer, 24"),
    "unshare": (272, "0x10000000"),
    "setns": (308, "0, 0"),
    "mount": (165, "buffer, buffer, buffer, 0, 0"),
    "bpf": (321, "0, buffer, 72"),
    "keyctl": (250, "0, -3, 0"),
    "shmget": (29, "0, 4096, 0o1600"),
    "msgget": (68, "0, 0o1600"),
    "prctl": (157, "1, 0, 0, 0, 0"),
    "seccomp": (317, "1, 0, buffer"),
    "userfaultfd": (323, "0"),
    "perf_event_open": (298, "buffer, 0, -1, -1, 0"),
    "socket of the x32 kind": (0x40000029, "2, 1, 0"),
    "one that will be": (600, "0, 0"),
    "another": (-1, "0"),
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
@pytest.mark.parametrize("name", CALLS)
def test_calls_by_number_are_refused(name):
    number, args = CALLS[name]
    said = run(
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nbuffer = ctypes.create_string_buffer(256)\n"
        f"print(libc.syscall(ctypes.c_long({number}), {args}), ctypes.get_errno())"
    )
    assert said == "-1 1", said


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="code of x86-64")
def test_calls_of_the_32_bit_kind_end_it():
    """int 0x80 has numbers of its own; the filter ends whoever uses them."""
    code = (
        "import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\n"
        "m.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')\n"  # mov eax, 20; int 0x80; ret
        "f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\nprint(f(), 'escaped')"
    )
    assert run(code).endswith(("(ended by SIGSYS)", "(ended by SIGSEGV)"))


@pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock")
def test_nothing_of_the_user_is_read(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("mellon")
    monkeypatch.setenv("TWOFILE_SECRET", "mellon")
    home = os.path.expanduser("~")
    for code in (
        f"open({str(tmp_path / 'secret')!r}).read()",
        f"import os; os.listdir({str(tmp_path)!r})",
        f"import os; os.listdir({home!r})",
        f"open({str(ROOT / 'README.md')!r}).read()",
        "open('/etc/passwd').read()",
        "open('/proc/self/environ').read()",
        "open(f'/proc/{__import__(\"os\").getppid()}/environ').read()",
        "open(f'/proc/{__import__(\"os\").getppid()}/cmdline').read()",
        "open(f'/proc/{__import__(\"os\").getppid()}/fd/0').read()",
        "import os; os.listdir('/')",
        "import os; os.listdir('/proc/self/fd')",
        "import os; os.listdir('..')",
        "import os; os.chdir('/'); os.listdir('.')",
    ):
        said = run(code)
        assert "Permission" in said and said.endswith("(exit code 1)") and "mellon" not in said, (code, said)
    assert "mellon" not in run("import os; dict(os.environ)")
    assert run("import os; os.listdir('.'), os.listdir(os.path.expanduser('~'))") == "([], [])"


def test_no_descriptor_is_inherited(tmp_path):
    with open(tmp_path / "secret", "w+") as f:
        os.set_inheritable(f.fileno(), True)
        said = run(
            "import os\nfound = []\nfor n in range(64):\n  try: os.fstat(n); found.append(n)\n  except OSError: pass\nfound"
        )
    assert said == "[0, 1, 2]"


def test_memory_is_bounded():
    for code in (
        "bytearray(10 ** 10)",
        "x = []\nwhile True: x.append(bytes(10 ** 6))",
        "x = 'a'\nwhile True: x += x",
        "import mmap\nx = [mmap.mmap(-1, 1 << 28) for _ in range(99)]",
    ):
        began = time.monotonic()
        assert "MemoryError" in (said := run(code)) or "Cannot allocate memory" in said, said
        assert time.monotonic() - began < 10
    raised = run("import resource as r\nr.setrlimit(r.RLIMIT_AS, (r.RLIM_INFINITY, r.RLIM_INFINITY))")
    assert raised.endswith("(exit code 1)")
    assert "Too many open files" in run("import os\nx = [os.pipe() for _ in range(99)]")


def test_output_is_bounded(monkeypatch):
    for code in ("while True: print('x' * 1000)", "import os\nwhile True: os.write(2, bytes(65536))"):
        began = time.monotonic()
        assert run(code).endswith("(ended: it printed more than 1,048,576 bytes)")
        assert time.monotonic() - began < 5


def test_time_is_bounded(monkeypatch):
    monkeypatch.setattr(python, "SECONDS", 2)
    for code in (
        "while True: pass",
        "import time; time.sleep(100)",
        "import signal\nfor s in (2, 14, 15, 24): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
        "import os, time; os.close(1); os.close(2)\ntime.sleep(100)",
        "9 ** 9 ** 9",
        "import re; re.match('(a+)+$', 'a' * 99 + '!')",
        "import os; os.read(os.pipe()[0], 1)",
    ):
        began = time.monotonic()
        assert run(code).endswith("(ended after 2 seconds)"), code
        assert time.monotonic() - began < 6


def test_computing_is_bounded(monkeypatch):
    monkeypatch.setattr(cell, "CPU_SECONDS", 1)
    assert run("while True: pass") == "(ended: its seconds of computing are up)"
    caught = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    assert run(caught) == "(ended by SIGKILL)"


def children(pid):
    """Processes that a process has started, and not waited for."""
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return f.read().split()


def test_nothing_is_left_when_it_is_interrupted(monkeypatch, tmp_path):
    """Ctrl-C stops the tool: the child is dead, its folder gone, and the interrupt goes on."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = children(os.getpid())
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run("import time; time.sleep(100)")
    assert time.monotonic() - began < 5
    assert children(os.getpid()) == before and os.listdir(tmp_path) == []


def test_it_ends_with_the_program(tmp_path):
    """Which is killed, and can do nothing for it any more."""
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom twofile.tools.python import run_python\n"
        "run_python({'code': 'import time\\ntime.sleep(15)'})"
    )
    program = subprocess.Popen([sys.executable, "-c", script])
    until = time.monotonic() + 20
    while not (pids := children(program.pid)) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1)
    program.kill()
    program.wait()
    until = time.monotonic() + 5
    while os.path.exists(f"/proc/{pids[0]}") and time.monotonic() < until:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pids[0]}")


def test_where_code_cannot_be_locked_in_there_is_no_tool(monkeypatch):
    for old, new in (
        ('"x86_64"', '"vax"'),
        ("prctl(22, 2", "prctl(38, 1, 0, 0, 0) or (lambda *_: 0)(22, 2"),
    ):
        monkeypatch.setattr(cell, "CELL", python_text.replace(old, new))
        with pytest.raises(ModelError, match=r"code cannot be locked in here \(.*\); expected Linux .*; leave python out"):
            python_tool()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ModelError, match=r"this system \(darwin\) cannot lock code in"):
        python_tool()


python_text = cell.CELL


def test_where_reading_cannot_be_locked_it_says_so(monkeypatch, caplog):
    monkeypatch.setattr(cell, "CELL", python_text.replace("is_held = lock_reading()", "is_held = False"))
    assert python_tool().name == "python"
    assert "no Landlock: code may read what you can read" in caplog.text
    said = run("open('/etc/passwd').read()[:4]")
    assert said == "'root'"  # so the test of reading above holds what it says
    assert "Operation not permitted" in run("open('/tmp/twofile-escaped', 'w')")


def test_a_child_that_cannot_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such")
    assert "error: cannot be started" in run("1")
    assert child.output_told(b"", 0, "") == "(nothing was printed)"
