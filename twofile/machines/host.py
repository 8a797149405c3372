"""Which instruction set this machine has."""

import os

from .amx import _may_use_tiles


def host_isa():
    """-> (the instruction set of the words, LLVM's cpu name, its features). NUMBA_CPU_NAME and _FEATURES override the host."""
    from llvmlite import binding

    cpu, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    narrow = {"haswell": "avx2", "x86-64-v3": "avx2", "x86-64": "generic", "generic": "generic"}
    if cpu in narrow and not features:
        return narrow[cpu], cpu, ""
    cpu = cpu or binding.get_host_cpu_name()
    features = binding.get_host_cpu_features().flatten() if features is None else features
    has = {f[1:] for f in features.split(",") if f.startswith("+")}
    for isa, needs in (
        ("amx", {"amx-int8", "amx-tile", "avx512vnni", "avx512bw", "avx512vl", "f16c"}),
        ("avx512", {"avx512vnni", "avx512bw", "avx512vl", "f16c"}),
        ("avxvnni", {"avxvnni", "avx2", "fma", "f16c"}),
        ("avx2", {"avx2", "fma", "f16c"}),
        ("neon", {"dotprod"}),
    ):
        if needs <= has and (isa != "amx" or _may_use_tiles()):
            return isa, cpu, features
    return "generic", cpu, features
