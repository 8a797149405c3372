"""Words become the instructions that they are meant for, of machines that are not here too."""

import re

import numpy as np
import pytest

from helpers.kernels import quantised_input
from twofile.compiler.code import Code
from twofile.compiler.compile import spoken
from twofile.export.pack import PACKERS
from twofile.format.types import type_of
from twofile.kernels.matmul import MATMULS
from twofile.machines.host import MACHINES, host
from twofile.machines.x86 import Amx, Avx512, tile_config, tile_dot
from twofile.program.operands import COUNT, N_TOKENS, RECORD_BYTES, SCRATCH
from twofile.words.memory import atomic_add, atomic_store, call_c, pause
from twofile.words.numbers import dot, dot7, dot_few


def assembly(word, machine, triple, cpu, features=""):
    """What a processor would run for a word that a machine says."""
    from llvmlite import binding

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features)
    return target.emit_assembly(binding.parse_assembly(spoken(word, machine)))


@pytest.mark.parametrize(
    "isa, triple, cpu, features, wants",
    [
        ("avx512", "x86_64-linux-gnu", "znver4", "", "vpdpbusd"),
        ("avxvnni", "x86_64-linux-gnu", "alderlake", "", "vpdpbusd"),
        ("avx2", "x86_64-linux-gnu", "haswell", "", "vpmaddubsw"),
        ("neon", "aarch64-linux-gnu", "generic", "+dotprod", "sdot"),
    ],
)
def test_dot_selects_the_instruction(isa, triple, cpu, features, wants):
    """The words of other machines compile, from here, to the instruction they are meant for."""
    (machine,) = (m for m in MACHINES if m.name == isa)
    for word in (dot, dot7, dot_few):
        assert assembly(word, machine, triple, cpu, features).count(wants) >= 1


def test_amx_multiplies_on_its_tiles():
    """The words compile, from here, to the tile instructions; with AMX the quantised matmuls are made of them."""
    say = lambda word: assembly(word, Amx(), "x86_64-linux-gnu", "sapphirerapids")
    assert say(tile_config).count("ldtilecfg") == 1
    assert all(say(tile_dot).count(name) == n for name, n in {"tileloadd": 2, "tdpbssd": 1, "tilestored": 1}.items())
    for machine, maker in ((Amx(), "matmul_tiles"), (Avx512(), "matmul_quantised")):
        for kind in ("q8_0", "q4_0"):
            assert MATMULS[type_of(kind)].make(machine).__qualname__.startswith(maker)


@pytest.mark.parametrize(
    "isa, triple, cpu, features, wants",
    [
        ("avx2", "x86_64-linux-gnu", "haswell", "", {atomic_add: "lock", atomic_store: "xchg", pause: "pause"}),
        ("neon", "aarch64-linux-gnu", "generic", "+dotprod", {atomic_add: "ldaxr", atomic_store: "stlr", pause: "yield"}),
    ],
)
def test_threads_meet_by_the_instructions_meant_for_it(isa, triple, cpu, features, wants):
    """In one order for all; a function of C is called by its address, on Linux as one of any number of arguments."""
    (machine,) = (m for m in MACHINES if m.name == isa)
    for word, instruction in wants.items():
        assert instruction in assembly(word, machine, triple, cpu, features), instruction
    call = r"\sbl?r\s" if isa == "neon" else r"callq\s+\*%r"
    assert re.search(call, assembly(call_c, machine, triple, cpu, features))


def test_machines_are_what_they_say():
    """Best first, each with all that the next of its family needs; two of one class are one machine."""
    assert [m.name for m in MACHINES] == ["amx", "avx512", "avxvnni", "avx2", "neon", "generic", "generic"]
    assert MACHINES[-1].needs == frozenset() and MACHINES[-1].usable()
    assert all(type(m)() == m and hash(type(m)()) == hash(m) for m in MACHINES) and len(set(MACHINES)) == len(MACHINES)
    assert host().machine in MACHINES


def test_one_process_compiles_for_several_machines(tmp_path, monkeypatch):
    """In turn, and each gets its own: the sums of 4-bit products are int16 on one, int32 on the others."""
    has, found = set(host().features.split(",")), {}
    usable = [m for m in MACHINES if {f"+{n}" for n in m.needs} <= has and m.usable()]
    usable = [usable[0], *[m for m in usable if m.name == "avx2"], usable[-1], usable[0]]
    rng, kind = np.random.default_rng(0), type_of("q4_0")
    w, x = rng.standard_normal((40, 70)).astype(np.float32), rng.standard_normal((21, 70)).astype(np.float32)
    data, beside, _ = PACKERS[kind].pack(w)
    scales = beside[".s"]
    operands, keep, _, _ = quantised_input(x)
    kernel = MATMULS[kind]
    for turn, machine in enumerate(usable):
        out, scratch = np.zeros((21, 48), np.float32), np.zeros(1 << 16, np.uint8)
        every = {**operands, "w": data.ctypes.data, "scales": scales.ctypes.data, "n_rows": 48, "cols": 96}
        every |= {"out": out.ctypes.data, "out_step": 4 * 48, "gain": int(np.float32(1).view(np.int32))}
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / str(turn)))  # compile each time
        call = Code([kernel], lambda text: None, machine).function(kernel.name)
        pas, record = np.zeros(64, np.int64), np.zeros(RECORD_BYTES // 8, np.int64)
        pas[N_TOKENS // 8], pas[SCRATCH // 8], record[COUNT // 8] = 21, scratch.ctypes.data + 64, pas.ctypes.data
        for name, value in every.items():
            record[getattr(kernel.operands, name) // 8] = value
        call(record.ctypes.data, pas.ctypes.data, 0, 1)
        found[turn] = out.tobytes()
    assert len(usable) > 2 and len(set(found.values())) == 1
    assert np.frombuffer(found[0], np.float32).any() and keep
