"""Which machine this is."""

import os
from typing import NamedTuple

from .amx import Amx
from .machine import Machine
from .neon import Neon
from .x86 import X86, Avx2, Avx512, AvxVnni

MACHINES = (Amx(), Avx512(), AvxVnni(), Avx2(), Neon(), X86(), Machine())  # the best first

# Features of cpus that are named to compile for less than the host has.
NARROW = {
    "haswell": Avx2.needs,
    "x86-64-v3": Avx2.needs,
    "x86-64": X86.needs,
    "generic": Machine.needs,
}


class Host(NamedTuple):
    """The machine that says the words; what LLVM calls the cpu and its features."""

    machine: Machine
    cpu: str
    features: str


def host():
    """-> Host. NUMBA_CPU_NAME and NUMBA_CPU_FEATURES override what the host is."""
    from llvmlite import binding

    cpu, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    if cpu in NARROW and not features:
        has, features = NARROW[cpu], ""
    else:
        cpu = cpu or binding.get_host_cpu_name()
        features = binding.get_host_cpu_features().flatten() if features is None else features
        has = {f[1:] for f in features.split(",") if f.startswith("+")}
    machine = next(m for m in MACHINES if m.needs <= has and m.usable())
    return Host(machine, cpu, features)
