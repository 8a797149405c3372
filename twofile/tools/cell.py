"""What a child of the tool python begins with: it locks itself in.

What it may ask of the system is listed, by number; all else fails (seccomp): there is no call in
the list that opens a socket, starts a process or a thread, writes or removes a file, sends a
signal to others. What it may read is listed too (Landlock): Python itself, and nothing of the
user's. Neither can be undone. Numbers are those of Linux, for each processor.
"""

SECONDS, CPU_SECONDS = 15, 10  # in all, of computing
ADDRESSES = 1 << 30  # bytes of address space
LOCKED_OUT = 97  # exit code of a cell that could not be locked

CELL = r'''
import ast, ctypes, linecache, os, resource, struct, sys, traceback

CALLS = {  # arch, what is allowed, and by name what is allowed in part
    "x86_64": (0xC000003E, "0-1 3-15 17 19-25 27-28 32-39 60-61 63 78-81 95-100 102 104 107-108 "
        "110-111 115 118 120-121 124 127-128 130-131 137-138 158 186 201-202 204 213 217-219 221 "
        "228-233 247 262 269-271 273-274 281 290-293 295 309 318 324 332 334 439",
        {"open": 2, "openat": 257, "fcntl": 72, "ioctl": 16, "prlimit64": 302, "tgkill": 234}),
    "aarch64": (0xC00000B7, "17 19-24 43-44 48-50 57 59 61-67 69 72-73 79-80 93-96 98-103 113-115 "
        "123-124 128 132-137 139 148 150 153 155-156 158 160 163 165-166 168-169 172-179 214-216 "
        "222-223 226 232-233 260 278 283 291 293 439",
        {"openat": 56, "fcntl": 25, "ioctl": 29, "prlimit64": 261, "tgkill": 131}),
}
WRITING = 0o3 | 0o100 | 0o1000  # flags of files that are opened: to write, create, cut
OPENING = {"open": 1, "openat": 2}  # in which place they are
PARTLY = {  # the words of arguments that are looked at: in which place, one of these
    "fcntl": [(1, (0, 1, 2, 3, 4, 1030, 1032))],  # descriptors, their flags
    "ioctl": [(1, (0x5401, 0x5413, 0x5421, 0x541B, 0x5450, 0x5451))],  # is it a terminal, how big
    "prlimit64": [(0, (0,)), (2, (0,)), (2.5, (0,))],  # what the own limits are
    "tgkill": [(0, (os.getpid(),))],
}
LOAD, EQUAL, GREATER, AT_LEAST, ANY_OF, RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x06
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000
libc = ctypes.CDLL(None, use_errno=True)


def line(code, k, yes=0, no=0):
    return struct.pack("HBBI", code, yes, no, k)


def load(place):
    return line(LOAD, 16 + int(8 * place))


def filter_of(machine):
    arch, ranges, numbers = CALLS[machine]
    lines = [line(LOAD, 4), line(EQUAL, arch, 1), line(RETURN, KILL), line(LOAD, 0)]
    for part in ranges.split():
        first, _, last = part.partition("-")
        lines += [line(AT_LEAST, int(first), 0, 2), line(GREATER, int(last or first), 1)]
        lines += [line(RETURN, ALLOW)]
    for name, number in numbers.items():
        if name in PARTLY:
            checks = []
            for place, values in PARTLY[name]:
                checks.append(load(place))
                checks += [line(EQUAL, v, len(values) - n) for n, v in enumerate(values)]
                checks.append(line(RETURN, REFUSE))
        else:
            checks = [load(OPENING[name]), line(ANY_OF, WRITING, 0, 1), line(RETURN, REFUSE)]
        checks.append(line(RETURN, ALLOW))
        lines += [line(EQUAL, number, 0, len(checks)), *checks]
    lines.append(line(RETURN, REFUSE))
    return lines


def call(what, *args):
    found = what(*args)
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def readable():
    ours = [os.path.join(p, "") for p in (sys.prefix, sys.base_prefix, "/usr")]
    paths = [p for p in sys.path if any(p.startswith(own) for own in ours)]
    paths += [os.path.join(sys.base_prefix, lib) for lib in ("lib", "lib64")]
    paths += ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", os.getcwd()]
    return paths + ["/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/urandom"]


def lock_reading():
    """Whether the kernel has Landlock, and it is on."""
    syscall = lambda n, *args: call(libc.syscall, ctypes.c_long(n), *args)
    try:
        version = syscall(444, None, ctypes.c_size_t(0), ctypes.c_int(1))
    except OSError:
        return False
    rights = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    wanted = ctypes.create_string_buffer(struct.pack("Q", rights), 8)
    rules = syscall(444, wanted, ctypes.c_size_t(8), ctypes.c_int(0))
    for path in readable():
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        reads = 4 | 8 * os.path.isdir(path)  # files, and lists of folders
        beneath = ctypes.create_string_buffer(struct.pack("=Qi", reads, fd), 12)
        syscall(445, ctypes.c_int(rules), ctypes.c_int(1), beneath, ctypes.c_int(0))
        os.close(fd)
    syscall(446, ctypes.c_int(rules), ctypes.c_int(0))
    os.close(rules)
    return True


def lock():
    """All that can be locked -> whether reading is."""
    most = {"CPU": CPU, "AS": ADDRESSES, "FSIZE": 0, "CORE": 0, "NOFILE": 64}
    for name, n in most.items():
        more = name == "CPU"  # first a signal that tells of it
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (n, n + more))
    prctl = lambda *args: call(libc.prctl, *map(ctypes.c_ulong, args))
    prctl(1, 9, 0, 0, 0)  # it ends with whoever started it
    prctl(38, 1, 0, 0, 0)  # no more rights than these, ever
    is_held = lock_reading()
    lines = filter_of(os.uname().machine)
    text = ctypes.create_string_buffer(b"".join(lines))
    head = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(text))
    program = ctypes.create_string_buffer(head)
    prctl(22, 2, ctypes.addressof(program), 0, 0)
    if libc.socket(1, 1, 0) >= 0 or libc.fork() >= 0 or libc.creat(b"x", 0o600) >= 0:
        raise OSError(0, "the list of calls has no effect")
    return is_held


def run(text):
    """Run a text as a notebook runs a cell: the value of a last expression is printed."""
    linecache.cache["<code>"] = len(text), None, text.splitlines(True), "<code>"
    names = {"__name__": "__main__", "__builtins__": __builtins__}
    try:
        tree = ast.parse(text, "<code>")
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "<code>", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<code>", "eval"), names)
            if value is not None:
                print(repr(value))
    except SystemExit:
        raise
    except BaseException as e:
        sys.stdout.flush()
        place = e.__traceback__
        while place and place.tb_frame.f_code.co_filename != "<code>":
            place = place.tb_next
        traceback.print_exception(type(e), e, place)
        raise SystemExit(1) from None


text = sys.stdin.buffer.read().decode()
nothing = os.open(os.devnull, os.O_RDONLY)
os.dup2(nothing, 0)
os.close(nothing)
try:
    is_held = lock()
except Exception as e:
    print(f"{type(e).__name__}: {e}")
    raise SystemExit(LOCKED_OUT)
if text:
    run(text)
else:
    print("reads nothing of the user" if is_held else "reads all")
'''


def cell():
    """The program's text, with its limits."""
    limits = f"CPU, ADDRESSES, LOCKED_OUT = {CPU_SECONDS}, {ADDRESSES}, {LOCKED_OUT}\n"
    return limits + CELL
