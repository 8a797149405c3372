"""What this machine has: memory, cores, a name."""

import ctypes
import functools
import math
import os
import re
import sys
import time
from pathlib import Path

IMPORT_SECONDS = time.process_time()  # processor time since the process began
CPUS = "/sys/devices/system/cpu"


def lines_of(path):
    """The lines of a small file of the system; none where it cannot be read."""
    try:
        return Path(path).read_text(errors="surrogateescape").splitlines()
    except (OSError, ValueError):
        return []


@functools.cache
def group_files(controller, *names):
    """The files of those names, as one list of paths for each control group that has all of them,
    of those that this process is in: its own and those above, whose limits count too. In version 1
    a controller ("cpu", "memory") has a tree of its own, in version 2 all share one."""
    paths, found = {}, {}
    for line in lines_of("/proc/self/cgroup"):
        _, of, path = [*line.split(":", 2), "", ""][:3]
        paths |= dict.fromkeys(of.split(","), path)  # version 2 has no name
    trees = [("", "/", f"/sys/fs/cgroup{name}") for name in ("", "/unified")]
    trees.append((controller, "/", f"/sys/fs/cgroup/{controller}"))
    for line in lines_of("/proc/self/mountinfo"):
        mount, _, kind = line.partition(" - cgroup")
        of = "" if kind[:1] == "2" else controller
        if kind and (not of or of in kind.split()[-1].split(",")):
            trees.append((of, *mount.split()[3:5]))
    for of, root, top in trees:
        path = paths.get(of, "/")
        # a container may see the path of its host, and its own group as the top
        path = path.removeprefix(root) if f"{path}/".startswith(f"{root}/") else path
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for n in range(len(parts), -1, -1):
            files = [os.path.join(top, *parts[:n], name) for name in names]
            if all(map(os.path.isfile, files)):
                found[files[0]] = files
    return list(found.values())


def group_limits(controller, *names):
    """[[the numbers in the files of those names]] of each control group that has all of them; what
    is no number ("max") is infinite."""
    number = lambda word: int(word) if re.fullmatch(r"-?\d+", word) else math.inf
    return [
        [number(word) for file in files for line in lines_of(file) for word in line.split()]
        for files in group_files(controller, *names)
    ]


def total_memory():
    """Bytes of memory this process may use: the machine's, or its control group's if that is
    less."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 1 << 62
    limits = group_limits("memory", "memory.max") + group_limits("memory", "memory.limit_in_bytes")
    return min([memory, *(limit[0] for limit in limits if limit and limit[0] > 0)])


def processors():
    """How many processors, threads of a core apart, this process may run on."""
    return len(allowed())


def allowed():
    """The numbers of the processors that this process may run on."""
    try:
        return os.sched_getaffinity(0)
    except AttributeError:
        return set(range(os.cpu_count() or 1))


def available_cores():
    """Physical cores, of those this process may run on, within its control group's quota. Where
    some are made for little power only the others: all threads wait for the slowest."""
    if sys.platform == "darwin":
        return max(1, sysctl("hw.perflevel0.physicalcpu") or sysctl("hw.physicalcpu"))
    cores = {
        "".join(lines_of(f"{CPUS}/cpu{cpu}/topology/thread_siblings_list")) or cpu
        for cpu in fast(allowed())
    }
    limits = group_limits("cpu", "cpu.max")
    limits += group_limits("cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us")
    quotas = [x for x in limits if len(x) == 2 and 0 < min(x) <= max(x) < math.inf]
    return max(1, min([len(cores), *(-(-quota // period) for quota, period in quotas)]))


def fast(cpus):
    """Those that are no efficiency cores, as Intel's are listed; of others, those that have more
    than half of what the best has, as the system reckons or by their highest frequency."""
    small = numbers_listed("".join(lines_of("/sys/devices/cpu_atom/cpus")))
    if small:
        return set(cpus) - small or cpus
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        read = lambda cpu, name=name: "".join(lines_of(f"{CPUS}/cpu{cpu}/{name}"))
        found = {cpu: read(cpu) for cpu in cpus} if read(min(cpus)) else {}
        if found and all(text.isdecimal() for text in found.values()):
            most = max(map(int, found.values()))
            return {cpu for cpu, text in found.items() if 2 * int(text) > most}
    return cpus


def numbers_listed(text):
    """ "0-2,5" -> {0, 1, 2, 5}"""
    parts = [part.split("-") for part in text.split(",")]
    if not all(number.isdecimal() for part in parts for number in part):
        return set()
    return {n for part in parts for n in range(int(part[0]), int(part[-1]) + 1)}


def sysctl(name):
    """A number that macOS tells by that name; 0 if it tells none."""
    try:
        value, size = ctypes.c_int(0), ctypes.c_size_t(4)
        given = name.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0)
        return 0 if ctypes.CDLL(None).sysctlbyname(*given) else value.value
    except (AttributeError, OSError):
        return 0


def cpu_name():
    """The processor, as the system names it."""
    try:
        return re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        import platform

        return platform.processor() or platform.machine()


def peak_rss():
    """Most memory that this process has held, in bytes; 0 where it cannot be known."""
    try:  # not getrusage, which counts what the parent held when it started this program
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
    except (OSError, TypeError):
        pass
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
