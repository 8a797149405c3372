"""Every instruction set gives the same bits."""

import os
import subprocess
import sys

from helpers.models import make_model
from helpers.places import ROOT
from helpers.switches import HYBRIDS
from twofile.machines.host import host

SAME_BITS = """
import sys, zlib
sys.path[:0] = [{root!r}, {tests!r}]
import numpy as np, run
from run import host
ids = np.random.default_rng(1).integers(0, 93, 87).tolist()  # tiles of 16, 4 and 1
for path in sys.argv[1:]:
    for kv in (None, "q8_0"):
        model = run.Model(path, n_threads=1, kv=kv, verbose=False)
        print(zlib.crc32(model.logits(ids).tobytes()), host().machine.name)
"""


def machines():
    """{instruction set: variables that choose it}, of those that this machine can run."""
    from llvmlite import binding

    here, features = host().machine.name, binding.get_host_cpu_features()
    without = lambda *names: ",".join(f"{'+-'[not on or n.startswith(names)]}{n}" for n, on in features.items())
    if here == "neon":
        return {"neon": {}}
    found = {here: {}, "avx2": {"NUMBA_CPU_NAME": "haswell"}, "generic": {"NUMBA_CPU_NAME": "x86-64"}}
    if here == "amx":
        found["avx512"] = {"NUMBA_CPU_FEATURES": without("amx")}
    if here in ("amx", "avx512") and features.get("avxvnni"):
        found["avxvnni"] = {"NUMBA_CPU_FEATURES": without("amx", "avx512", "avx10")}
    return found


def test_every_instruction_set_gives_the_same_bits(models, tmp_path):
    """Those that the host has, down to plain SSE2 without half floats or fused multiply-add in hardware."""

    hybrids = {name: make_model(tmp_path / f"{n}.bin", "q8_0", **sizes) for n, (name, sizes) in enumerate(HYBRIDS.items())}
    models = {**models, **hybrids}
    script = SAME_BITS.format(root=str(ROOT), tests=str(ROOT / "tests"))
    found = {}
    for isa, variables in machines().items():
        command = [sys.executable, "-c", script, *map(str, models.values())]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        rows = [line.split() for line in done.stdout.splitlines()]
        found[isa] = tuple(r[0] for r in rows)
        assert {r[1] for r in rows} == {isa}
    assert len(set(found.values())) == 1, found
    assert len(set(found[isa])) == 2 * len(models)
