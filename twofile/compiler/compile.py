"""A kernel becomes object code, by numba."""

from types import SimpleNamespace

from ..machines.host import host_isa
from ..words.word import _LL, Word, _vec
from .kernel import Inline


def _prepare():
    """Import numba and tell it what a Word and an inline function compile to. Once, and only if needed."""
    if hasattr(_LL, "ir"):
        return
    _LL.isa, cpu, features = host_isa()
    import numba
    from llvmlite import binding, ir
    from numba.core import cgutils, registry
    from numba.extending import models, register_model, typeof_impl

    numba.config.CPU_NAME, numba.config.CPU_FEATURES = cpu, features
    numba.config.DISABLE_JIT = 0  # the words are instructions: there is no Python to run instead
    _LL.ir, _LL.cgutils, _LL.x86 = (
        ir,
        cgutils,
        binding.get_process_triple().startswith(("x86", "i686", "amd64")),
    )
    _LL.f32, _LL.f64, _LL.half = ir.FloatType(), ir.DoubleType(), ir.HalfType()
    _LL.i1, _LL.i8, _LL.i16, _LL.i32, _LL.i64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
    _LL.F, _LL.I, _LL.H, _LL.B = (
        _vec(_LL.f32, 16),
        _vec(_LL.i32, 16),
        _vec(_LL.i16, 16),
        _vec(_LL.i8, 64),
    )
    _LL.N = _vec(_LL.i16, 32) if _LL.isa == "avx2" else _LL.I

    class Tile(numba.types.Type):
        def __init__(self, letter, width):
            self.letter, self.width = letter, width
            super().__init__(f"{letter}{width}")

    @register_model(Tile)
    class TileModel(models.PrimitiveModel):
        def __init__(self, dmm, tile):
            vector = getattr(_LL, tile.letter)
            super().__init__(dmm, tile, ir.ArrayType(vector, tile.width) if tile.width else vector)

    _LL.Tile, context = Tile, registry.cpu_target.typing_context

    def kind_of_value(value, c):
        compiled = value.compiled
        context.refresh()  # an intrinsic is known from the next refresh on
        return context.resolve_value_type(compiled)

    typeof_impl.register(Word)(kind_of_value)
    typeof_impl.register(Inline)(kind_of_value)


def compile_kernel(kernel):
    """-> (symbol, object code) of one kernel. Takes numba about a second."""
    _prepare()
    import numba

    signature = numba.int64(*[numba.int64] * 4)
    jit = numba.njit(signature, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    compiled = jit(kernel.make(SimpleNamespace(tiles=_LL.isa == "amx"))).overloads[signature.args]
    outside = {f.name for f in compiled.library._final_module.functions if f.is_declaration}
    outside = {f for f in outside if not f.startswith("llvm.")} - {"sched_yield", "SwitchToThread"}
    if outside:
        raise RuntimeError(f"kernel {kernel.name} calls {outside}, which stored code cannot")
    return compiled.fndesc.llvm_func_name, compiled.library._get_compiled_object()
