"""A word becomes LLVM's instructions, for numba or for anybody."""

import functools
import inspect

from ..words.emit import LL, constant, read_at, write_at


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
    return {"F": LL.F, "I": LL.I, "N": machine.sums4, "B": LL.B}


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
