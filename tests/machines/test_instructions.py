"""Words become the instructions that they are meant for, of machines that are not here too."""

import pytest

from twofile.compiler.compile import _prepare
from twofile.compiler.kernel import KERNELS
from twofile.machines.amx import _tile_config, _tile_dot
from twofile.words.dots import _dot, _dot4
from twofile.words.word import _LL


@pytest.mark.parametrize(
    "isa, triple, cpu, features, wants",
    [
        ("avx512", "x86_64-linux-gnu", "znver4", "", "vpdpbusd"),
        ("avxvnni", "x86_64-linux-gnu", "alderlake", "", "vpdpbusd"),
        ("avx2", "x86_64-linux-gnu", "haswell", "", "vpmaddubsw"),
        ("neon", "aarch64-linux-gnu", "generic", "+dotprod", "sdot"),
    ],
)
def test_dot_selects_the_instruction(isa, triple, cpu, features, wants, monkeypatch):
    """The words of other machines compile, from here, to the instruction they are meant for."""
    from llvmlite import binding, ir

    _prepare()
    monkeypatch.setattr(_LL, "isa", isa)
    monkeypatch.setattr(_LL, "N", ir.VectorType(ir.IntType(16), 32) if isa == "avx2" else _LL.I)
    module = ir.Module()
    i64, pointer = ir.IntType(64), _LL.I.as_pointer()
    for name, word, acc in (("dot", _dot, _LL.I), ("dot4", _dot4, _LL.N)):
        f = ir.Function(module, ir.FunctionType(ir.VoidType(), [i64, i64, i64]), name)
        b = ir.IRBuilder(f.append_basic_block())
        at, w, x = f.args
        value = word(
            b,
            b.load(b.inttoptr(at, acc.as_pointer()), align=4),
            b.load(b.inttoptr(w, _LL.B.as_pointer()), align=4),
            x,
        )
        b.store(value, b.inttoptr(at, acc.as_pointer()), align=4)
        b.ret_void()
    assert pointer is not None
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    parsed = binding.parse_assembly(str(module))
    machine = binding.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features)
    assembly = machine.emit_assembly(parsed)
    assert assembly.count(wants) >= 2


def test_amx_multiplies_on_its_tiles(monkeypatch):
    """The words compile, from here, to the tile instructions; with AMX the quantised matmuls are made of them."""
    from llvmlite import binding, ir

    _prepare()
    if not _LL.x86:
        pytest.skip("not an x86 processor")
    module, i64 = ir.Module(), ir.IntType(64)
    b = ir.IRBuilder(ir.Function(module, ir.FunctionType(ir.VoidType(), [i64] * 4), "dot").append_basic_block())
    _tile_config(b)
    _tile_dot(0)(b, *b.function.args)
    b.ret_void()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple("x86_64-linux-gnu").create_target_machine(cpu="sapphirerapids")
    assembly = machine.emit_assembly(binding.parse_assembly(str(module)))
    assert all(assembly.count(name) == n for name, n in {"ldtilecfg": 1, "tileloadd": 2, "tdpbssd": 1, "tilestored": 1}.items())
    for isa, maker in (("amx", "matmul_tiles"), ("avx512", "matmul_quantised")):
        monkeypatch.setattr(_LL, "isa", isa)
        for kind in ("q8_0", "q4_0"):
            assert KERNELS[f"matmul_{kind}"]().__qualname__.startswith(maker)
