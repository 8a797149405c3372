"""Which machine this is; Neon, whose lines are few."""

import os
from typing import NamedTuple

from ..words.word import LL, call_llvm, constant, in_parts
from .machine import HalfFloats, Machine
from .x86 import X86, Amx, Avx2, Avx512, AvxVnni


class Neon(HalfFloats, Machine):
    """Both weights and activations are signed; registers of 16 bytes."""

    name = "neon"
    needs = frozenset({"dotprod"})

    def start(self, b, p):
        return constant(LL.I, 0)

    def dot(self, b, acc, w, p):
        return super().dot(b, acc, b.xor(w, constant(LL.B, -128)), p)

    def dot_bytes(self, b, acc, w, x):
        def quarter(acc, w, x):
            return call_llvm(b, "llvm.aarch64.neon.sdot.v4i32.v16i8", acc.type, acc, w, x)

        return in_parts(b, 4, quarter, acc, w, x)

    def lookup(self, b, v, table):
        quarter, name = LL.ir.VectorType(LL.i8, 16), "llvm.aarch64.neon.tbl1.v16i8"
        words = LL.ir.Constant(quarter, table)
        return in_parts(b, 4, lambda v: call_llvm(b, name, quarter, words, v), v)

    def pause(self, b):
        call_llvm(b, "llvm.aarch64.hint", LL.void, constant(LL.i32, 1))  # yield


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
