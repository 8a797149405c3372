"""What this machine has: memory, cores, a name."""

import os
import re
import sys
import time
from pathlib import Path

IMPORT_SECONDS = time.process_time()  # processor time since the process began


def total_memory():
    """Bytes of memory this process may use: the machine's, or its control group's if that is
    less."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        limit = Path("/sys/fs/cgroup/memory.max")
        return (
            min(memory, int(limit.read_text()))
            if limit.exists() and limit.read_text().strip() != "max"
            else memory
        )
    except (AttributeError, OSError, ValueError):
        return 1 << 62


def available_cores():
    """Physical cores, of those this process may run on, within its control group's quota."""
    try:
        cpus = os.sched_getaffinity(0)
    except AttributeError:
        cpus = range(os.cpu_count() or 1)
    cores = set()
    for cpu in cpus:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.exists() else cpu)
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        most, period = quota.read_text().split()
        if most != "max":
            return max(1, min(len(cores), -(-int(most) // int(period))))
    return max(1, len(cores))


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
