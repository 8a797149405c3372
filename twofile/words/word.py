"""Words that kernels are written in, and what writes their instructions."""

import functools
import inspect
from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Word:
    """A word of the kernels: emit(builder, operands) writes its LLVM instructions.

    The signature has a letter for each argument, an arrow, the result. F, I, N: a tile of T vectors of 16 float32, of 16
    int32, of partial sums of 4-bit products; B: 64 bytes; f: float32; d: float64; i: int32; p: int64 or an address; v:
    nothing; a: an address and a stride in bytes, so that each vector of the tile has its own address. emit sees one vector
    at a time. T is that of the widest tile among the arguments (a single vector meets a tile by repetition), or the digit
    of the result.
    """

    signature: str
    emit: object

    def __call__(self, *args):
        raise RuntimeError("words exist only inside compiled kernels")

    @functools.cached_property
    def compiled(self):
        return _intrinsic(self)


class _LL:
    """llvmlite's modules and types, and the host's isa; filled in by _prepare when something must be compiled."""


def _ptr(b, address, kind):
    return b.inttoptr(address, kind.as_pointer())


def _call(b, name, result, *args):
    kind = _LL.ir.FunctionType(result, [a.type for a in args])
    return b.call(_LL.cgutils.get_or_insert_function(b.module, kind, name), args)


def _vec(element, n):
    return _LL.ir.VectorType(element, n)


def _as(kind, element):
    """The scalar or vector type kind with other elements."""
    return _vec(element, kind.count) if isinstance(kind, _LL.ir.VectorType) else element


def _const(kind, value):
    return _LL.ir.Constant(
        kind, [value] * kind.count if isinstance(kind, _LL.ir.VectorType) else value
    )


def _shuffle(b, v, lanes, w=None):
    return b.shuffle_vector(v, w or v, _LL.ir.Constant(_vec(_LL.i32, len(lanes)), list(lanes)))


def _splat(b, value, n=16):
    one = b.insert_element(
        _LL.ir.Constant(_vec(value.type, n), _LL.ir.Undefined), value, _const(_LL.i32, 0)
    )
    return _shuffle(b, one, [0] * n)


def _piece(b, v, i, n):
    """Lanes i * n to i * n + n - 1."""
    return _shuffle(b, v, range(i * n, i * n + n))


def _split(b, parts, emit, *vectors):
    """emit on each of 2 or 4 parts of the vectors, joined again: for machines with narrower registers."""
    out = [emit(*(_piece(b, v, i, v.type.count // parts) for v in vectors)) for i in range(parts)]
    while len(out) > 1:
        out = [_shuffle(b, x, range(2 * x.type.count), y) for x, y in zip(out[::2], out[1::2])]
    return out[0]


def _get(b, p, kind):
    return b.load(_ptr(b, p, kind), align=1)


def _put(b, p, value):
    b.store(value, _ptr(b, p, value.type), align=1)


def _intrinsic(word):
    """A Word as a numba intrinsic: types its call, and emits it for each vector of the tiles."""
    import numba

    Tile = _LL.Tile
    letters, result = word.signature.split("->")
    scalars = {
        "p": numba.int64,
        "i": numba.int32,
        "f": numba.float32,
        "d": numba.float64,
        "v": numba.void,
        "B": Tile("B", 0),
    }
    count = len(letters) + letters.count("a")

    def typing(context, *given):
        width = int(result[1:] or max([0] + [g.width for g in given if isinstance(g, Tile)]))
        flat = [kind for letter in letters for kind in ("pp" if letter == "a" else letter)]
        kinds = [g if isinstance(g, Tile) else scalars[kind] for kind, g in zip(flat, given)]
        returns = scalars[result] if result in scalars else Tile(result[0], width)
        return returns(*kinds), lambda cx, b, sig, args: _emit(
            word, letters, result, width, cx, b, args
        )

    parameters = [
        inspect.Parameter(f"x{i}", inspect.Parameter.POSITIONAL_ONLY) for i in range(1 + count)
    ]
    typing.__signature__ = inspect.Signature(parameters)
    return numba.extending.intrinsic(typing)


def _emit(word, letters, result, width, context, b, args):
    """Write a word's instructions: once, or once for each of the width vectors of its tiles."""
    ir, args, operands = _LL.ir, list(args), []
    for letter in letters:
        value = args.pop(0)
        if letter == "a":
            step = args.pop(0)
            operands.append([b.add(value, b.mul(step, _const(_LL.i64, i))) for i in range(width)])
        elif letter in "FIN":
            n = value.type.count
            operands.append([b.extract_value(value, i if n > 1 else 0) for i in range(width)])
        else:
            operands.append([value] * max(width, 1))
    out = [
        word.emit(b, *(o[i] for o in operands))
        for i in range(max(width, 1) if result[0] in "vFIN" else 1)
    ]
    if result == "v":
        return context.get_dummy_value()
    if result[0] not in "FIN":
        return out[0]
    tile = ir.Constant(ir.ArrayType(out[0].type, width), ir.Undefined)
    for i, vector in enumerate(out):
        tile = b.insert_value(tile, vector, i)
    return tile
