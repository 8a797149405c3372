"""What this machine has: the limits of control groups, in both versions, nested, in containers."""

import os
import subprocess
import sys

import pytest

from helpers.places import ROOT
from twofile import machine

V1_MOUNTS = (
    "30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755",
    "31 30 0:27 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct",
    "32 30 0:28 {root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory",
)
V1_GROUPS = ("5:cpu,cpuacct:{path}", "4:memory:{path}", "1:name=systemd:{path}")
CPU, MEMORY = "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory"


def v1(root, path, **files):
    """A machine with version 1: what is mounted, which group this is, and limits {folder under the trees: (quota, bytes)}."""
    made = {
        "/proc/self/mountinfo": "\n".join(V1_MOUNTS).format(root=root),
        "/proc/self/cgroup": "\n".join(V1_GROUPS).format(path=path),
    }
    for folder, (quota, most) in files.items():
        folder = folder.replace("_", "/")
        made |= {f"{CPU}{folder}/cpu.cfs_quota_us": quota, f"{CPU}{folder}/cpu.cfs_period_us": "100000"}
        made[f"{MEMORY}{folder}/memory.limit_in_bytes"] = most
    return made


FREE = ("-1", "9223372036854771712")
V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V2 = "/sys/fs/cgroup"
GB = 1 << 30
MADE = {  # {path: text}, cores, gigabytes
    "none": ({}, 8, 64),
    "v1, no limit": (v1("/", "/", **{"": FREE}), 8, 64),
    "v1, docker": (v1("/docker/abc", "/docker/abc", **{"": ("100000", f"{GB}")}), 1, 1),
    "v1, docker, not the namespace of its groups": (v1("/", "/docker/abc", **{"": ("150000", f"{3 * GB}")}), 2, 3),
    "v1, nested in a container": (
        v1("/docker/abc", "/docker/abc/sub", **{"": ("400000", f"{8 * GB}"), "_sub": ("300000", f"{2 * GB}")}),
        3,
        2,
    ),
    "v1, the group above is the narrow one": (
        v1("/", "/a/b", **{"": FREE, "_a": ("200000", f"{GB}"), "_a_b": FREE}),
        2,
        1,
    ),
    "v1, others' groups": (v1("/", "/a", **{"_a": FREE, "_b": ("100000", f"{GB}")}), 8, 64),
    "v1, part of a processor": (v1("/", "/", **{"": ("5000", f"{GB}")}), 1, 1),
    "v1, more than there is": (v1("/", "/", **{"": ("9900000", f"{999 * GB}")}), 8, 64),
    "v2, docker": ({f"{V2}/cpu.max": "150000 100000", f"{V2}/memory.max": f"{GB}"}, 2, 1),
    "v2, no limit": ({f"{V2}/cpu.max": "max 100000", f"{V2}/memory.max": "max"}, 8, 64),
    "v2, a service of systemd": (
        {
            "/proc/self/mountinfo": V2_MOUNT,
            "/proc/self/cgroup": "0::/system.slice/x.service",
            f"{V2}/system.slice/memory.max": f"{4 * GB}",
            f"{V2}/system.slice/cpu.max": "max 100000",
            f"{V2}/system.slice/x.service/memory.max": "max",
            f"{V2}/system.slice/x.service/cpu.max": "200000 100000",
        },
        2,
        4,
    ),
    "v2, out of the namespace": (
        {"/proc/self/mountinfo": V2_MOUNT, "/proc/self/cgroup": "0::/../other", f"{V2}/memory.max": f"{GB}"},
        8,
        1,
    ),
    "v2, mounted elsewhere": (
        {
            "/proc/self/mountinfo": "9 8 0:7 / /cg rw - cgroup2 none rw",
            "/proc/self/cgroup": "0::/me",
            "/cg/me/memory.max": f"{5 * GB}",
        },
        8,
        5,
    ),
    "both: processors by v1, memory by v2": (
        {
            "/proc/self/cgroup": "3:cpu:/x\n0::/x",
            "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "100000",
            "/sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "50000",
            "/sys/fs/cgroup/unified/x/memory.max": f"{6 * GB}",
        },
        2,
        6,
    ),
    "files that say nothing": ({f"{V2}/cpu.max": "", f"{V2}/memory.max": "", "/proc/self/cgroup": "wat\n\n"}, 8, 64),
    "no period": (v1("/", "/", **{"": ("100000", "0")}) | {f"{CPU}/cpu.cfs_period_us": "0"}, 8, 64),
}


@pytest.mark.parametrize("name", MADE)
def test_control_groups(name, monkeypatch):
    files, cores, gigabytes = MADE[name]
    monkeypatch.setattr(machine, "lines_of", lambda path: files.get(str(path), "").splitlines())
    monkeypatch.setattr(os.path, "isfile", lambda path: path in files)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 64 * GB >> 12, "SC_PAGE_SIZE": 1 << 12}.get)
    # so that each is a core by itself
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(10_000, 10_008), raising=False)
    machine.group_files.cache_clear()
    try:
        assert (machine.available_cores(), machine.total_memory() / GB) == (cores, gigabytes)
    finally:
        machine.group_files.cache_clear()


CPUS = "/sys/devices/system/cpu"


def sibling(cpu, text):
    return {f"{CPUS}/cpu{cpu}/topology/thread_siblings_list": text}


def each(name, values):
    return {f"{CPUS}/cpu{cpu}/{name}": str(value) for cpu, value in enumerate(values)}


TREES = {  # {path: text}, processors, cores
    "nothing is told": ({}, 8, 8),
    "two threads a core": ({k: v for n in range(8) for k, v in sibling(n, f"{n % 4},{n % 4 + 4}").items()}, 8, 4),
    "Intel's small cores": (
        {"/sys/devices/cpu_atom/cpus": "4-7"}
        | {k: v for n in range(4) for k, v in sibling(n, f"{n // 2 * 2}-{n // 2 * 2 + 1}").items()},
        8,
        2,
    ),
    "only small cores are ours": ({"/sys/devices/cpu_atom/cpus": "0-3,6-7"}, 4, 4),
    "Intel's list says nothing": ({"/sys/devices/cpu_atom/cpus": ""}, 8, 8),
    "Intel's list is none": ({"/sys/devices/cpu_atom/cpus": "wat-7"}, 8, 8),
    "big and little": (each("cpu_capacity", [446] * 4 + [1024] * 4), 8, 4),
    "big, middle and little": (each("cpu_capacity", [300] * 4 + [871] * 3 + [1024]), 8, 4),
    "all alike": (each("cpu_capacity", [1024] * 8), 8, 8),
    "by frequency": (each("cpufreq/cpuinfo_max_freq", [1_800_000] * 4 + [4_200_000] * 4), 8, 4),
    "some are a little faster": (each("cpufreq/cpuinfo_max_freq", [4_900_000] * 6 + [5_100_000] * 2), 8, 8),
    "one says nothing": (each("cpu_capacity", [446] * 7), 8, 8),
}


@pytest.mark.parametrize("name", TREES)
def test_cores_of_kinds(name, monkeypatch):
    """Threads of one core are one; efficiency cores do not count, unless there are no others."""
    files, processors, cores = TREES[name]
    monkeypatch.setattr(machine, "lines_of", lambda path: files.get(str(path), "").splitlines())
    monkeypatch.setattr(os.path, "isfile", lambda path: path in files)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(processors)), raising=False)
    machine.group_files.cache_clear()
    try:
        assert (machine.processors(), machine.available_cores()) == (processors, cores)
    finally:
        machine.group_files.cache_clear()


@pytest.mark.parametrize(
    "told, cores", [({"hw.perflevel0.physicalcpu": 4, "hw.physicalcpu": 8}, 4), ({"hw.physicalcpu": 6}, 6), ({}, 1)]
)
def test_cores_of_a_mac(told, cores, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert machine.sysctl("hw.physicalcpu") == 0  # no such function here
    monkeypatch.setattr(machine, "sysctl", lambda name: told.get(name, 0))
    assert machine.available_cores() == cores


def test_a_container_with_version_1(tmp_path):
    """For the system's own files: a made-up folder in their place, in a mount namespace."""
    for name, text in (
        ("cpu/cpu.cfs_quota_us", "100000"),
        ("cpu/cpu.cfs_period_us", "100000"),
        ("memory/memory.limit_in_bytes", f"{GB}"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    code = "import run; print(run.available_cores(), run.total_memory())"
    shell = 'mount --bind "$1" /sys/fs/cgroup || exit 77; shift; exec "$@"'
    command = ["unshare", "-m", "sh", "-c", shell, "sh", tmp_path, sys.executable, "-c", code]
    try:
        done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("only root can mount")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", str(GB)]
