"""A kernel becomes object code, by numba; what a word is to numba."""

import contextvars
import functools
import inspect

from ..machines.host import host
from ..words.word import LL, Word, constant, read_at, write_at
from .kernel import Inline


@functools.cache
def _tile_type():
    """Numba's type of a tile: width vectors of LLVM's type vector; of width 0, one alone."""
    from numba import types
    from numba.extending import models, register_model

    class Tile(types.Type):
        def __init__(self, vector, width):
            self.vector, self.width = vector, width
            super().__init__(f"tile of {width} {vector}")

    @register_model(Tile)
    class TileModel(models.PrimitiveModel):
        def __init__(self, dmm, tile):
            whole = LL.ir.ArrayType(tile.vector, tile.width) if tile.width else tile.vector
            super().__init__(dmm, tile, whole)

    return Tile


def _vectors(machine):
    """LLVM's types of the vectors of a signature, by letter."""
    return {"F": LL.F, "I": LL.I, "N": machine.sums_few, "B": LL.B}


@functools.cache
def intrinsic(word, machine):
    """A Word as a numba intrinsic: types its call, and emits it for each vector of the tiles."""
    import numba

    Tile, vector = _tile_type(), _vectors(machine)
    letters, result = word.signature.split("->")
    scalars = {"p": numba.int64, "i": numba.int32, "f": numba.float32, "d": numba.float64}
    scalars.update(v=numba.void, B=Tile(LL.B, 0))
    flat = letters.replace("a", "pp")

    def typing(context, *given):
        width = int(result[1:] or max([0] + [g.width for g in given if isinstance(g, Tile)]))
        kinds = [g if isinstance(g, Tile) else scalars[kind] for kind, g in zip(flat, given)]
        returns = scalars[result] if result in scalars else Tile(vector[result[0]], width)

        def emit(context, b, signature, args):
            value = _write(word, machine, width, b, args)
            return context.get_dummy_value() if value is None else value

        return returns(*kinds), emit

    only = inspect.Parameter.POSITIONAL_ONLY
    names = [inspect.Parameter(f"x{i}", only) for i in range(1 + len(flat))]
    typing.__signature__ = inspect.Signature(names)
    return numba.extending.intrinsic(typing)


def _write(word, machine, width, b, args):
    """Write a word's instructions: once, or once for each of the width vectors of its tiles. -> the
    value, or None if it gives nothing."""
    letters, result = word.signature.split("->")
    args, operands = list(args), []
    for letter in letters:
        value = args.pop(0)
        if letter == "a":
            step = args.pop(0)
            operands.append([b.add(value, b.mul(step, constant(LL.i64, i))) for i in range(width)])
        elif letter in "FIN":
            n = value.type.count
            operands.append([b.extract_value(value, i if n > 1 else 0) for i in range(width)])
        else:
            operands.append([value] * max(width, 1))
    times = max(width, 1) if result[0] in "vFIN" else 1
    out = [word.write(machine, b, *(o[i] for o in operands)) for i in range(times)]
    if result == "v":
        return None
    if result[0] not in "FIN":
        return out[0]
    tile = LL.ir.Constant(LL.ir.ArrayType(out[0].type, width), LL.ir.Undefined)
    for i, vector in enumerate(out):
        tile = b.insert_value(tile, vector, i)
    return tile


def spoken(word, machine):
    """-> LLVM's text of a module in which the function `word` says the word, once, on that machine.

    Its arguments are the word's, addresses (int64) in the place of vectors and of strided
    addresses; a vector that it gives is written to where its last argument says. Any host can make
    it, and compile it for any processor.
    """
    vector = _vectors(machine)
    scalars = {"p": LL.i64, "i": LL.i32, "f": LL.f32, "d": LL.f64, "v": LL.void}
    letters, result = word.signature.split("->")
    kinds = [scalars.get(letter, LL.i64) for letter in letters]
    out = vector.get(result[0])
    returns = LL.void if out else scalars[result]
    kind = LL.ir.FunctionType(returns, kinds + [LL.i64] * bool(out))
    module = LL.ir.Module()
    function = LL.ir.Function(module, kind, "word")
    b = LL.ir.IRBuilder(function.append_basic_block())
    operands = [
        read_at(b, value, vector[letter]) if letter in vector else value
        for letter, value in zip(letters, function.args)
    ]
    value = word.write(machine, b, *operands)
    if out:
        write_at(b, function.args[-1], value)
    if returns == LL.void:
        b.ret_void()
    else:
        b.ret(value)
    return str(module)


COMPILED_FOR = contextvars.ContextVar("COMPILED_FOR")  # the one that a kernel is being compiled for


@functools.cache
def teach_numba():
    """Import numba and tell it what a Word and an Inline are: not the object that it finds, but
    what that is on the machine compiled for. Once, and only if something must be compiled."""
    import numba
    from numba.core import registry
    from numba.extending import typeof_impl

    _, numba.config.CPU_NAME, numba.config.CPU_FEATURES = host()
    numba.config.DISABLE_JIT = 0  # the words are instructions: there is no Python to run instead
    context = registry.cpu_target.typing_context

    def stands_for(meaning):
        def kind_of(thing, _):
            compiled = meaning(thing, COMPILED_FOR.get())
            context.refresh()  # an intrinsic is known from the next refresh on
            return context.resolve_value_type(compiled)

        return kind_of

    typeof_impl.register(Word)(stands_for(intrinsic))
    typeof_impl.register(Inline)(stands_for(_inlined))


@functools.cache
def _inlined(inline, machine):
    import numba

    return numba.njit(error_model="numpy", forceinline=True)(inline.function)


def compile_kernel(kernel, machine):
    """-> (symbol, object code) of a kernel, in the words of that machine, for the cpu that host()
    tells. Takes numba about a second."""
    teach_numba()
    import numba

    signature = numba.int64(*[numba.int64] * 4)
    jit = numba.njit(signature, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    token = COMPILED_FOR.set(machine)
    try:
        compiled = jit(kernel.make(machine)).overloads[signature.args]
    finally:
        COMPILED_FOR.reset(token)
    outside = {f.name for f in compiled.library._final_module.functions if f.is_declaration}
    outside = {f for f in outside if not f.startswith("llvm.")} - {"sched_yield", "SwitchToThread"}
    if outside:
        raise RuntimeError(f"kernel {kernel.name} calls {outside}, which stored code cannot")
    return compiled.fndesc.llvm_func_name, compiled.library._get_compiled_object()
