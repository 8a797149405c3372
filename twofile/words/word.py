"""A word that kernels are written in, and what writes its instructions."""

from functools import cached_property


class Llvm:
    """llvmlite's types; it is imported when the first is asked for: most runs compile nothing."""

    f32 = cached_property(lambda ll: ll.ir.FloatType())
    f64 = cached_property(lambda ll: ll.ir.DoubleType())
    half = cached_property(lambda ll: ll.ir.HalfType())
    void = cached_property(lambda ll: ll.ir.VoidType())
    i1 = cached_property(lambda ll: ll.ir.IntType(1))
    i8 = cached_property(lambda ll: ll.ir.IntType(8))
    i16 = cached_property(lambda ll: ll.ir.IntType(16))
    i32 = cached_property(lambda ll: ll.ir.IntType(32))
    i64 = cached_property(lambda ll: ll.ir.IntType(64))
    F = cached_property(lambda ll: ll.ir.VectorType(ll.f32, 16))
    I = cached_property(lambda ll: ll.ir.VectorType(ll.i32, 16))  # noqa: E741
    H = cached_property(lambda ll: ll.ir.VectorType(ll.i16, 16))
    B = cached_property(lambda ll: ll.ir.VectorType(ll.i8, 64))

    @cached_property
    def ir(self):
        from llvmlite import ir

        return ir

    @cached_property
    def cgutils(self):
        from numba.core import cgutils

        return cgutils


LL = Llvm()


def pointer_to(b, address, kind):
    return b.inttoptr(address, kind.as_pointer())


def read_at(b, p, kind):
    return b.load(pointer_to(b, p, kind), align=1)


def write_at(b, p, value):
    b.store(value, pointer_to(b, p, value.type), align=1)


def call_llvm(b, name, result, *args):
    """One of LLVM's intrinsics, or a function of C."""
    kind = LL.ir.FunctionType(result, [a.type for a in args])
    return b.call(LL.cgutils.get_or_insert_function(b.module, kind, name), args)


def with_element(kind, element):
    """The scalar or vector type kind with other elements."""
    return LL.ir.VectorType(element, kind.count) if isinstance(kind, LL.ir.VectorType) else element


def constant(kind, value):
    """The value; in a vector, in all lanes."""
    many = isinstance(kind, LL.ir.VectorType)
    return LL.ir.Constant(kind, [value] * kind.count if many else value)


def shuffled(b, v, lanes, w=None):
    order = LL.ir.Constant(LL.ir.VectorType(LL.i32, len(lanes)), list(lanes))
    return b.shuffle_vector(v, w or v, order)


def spread_lanes(b, value, n=16):
    """A scalar, in all of n lanes."""
    nothing = LL.ir.Constant(LL.ir.VectorType(value.type, n), LL.ir.Undefined)
    return shuffled(b, b.insert_element(nothing, value, constant(LL.i32, 0)), [0] * n)


def some_lanes(b, v, i, n):
    """Lanes i * n to i * n + n - 1."""
    return shuffled(b, v, range(i * n, i * n + n))


def in_parts(b, parts, emit, *vectors):
    """emit on each of 2 or 4 parts of the vectors, joined again: for narrower registers."""
    part = lambda v, i: some_lanes(b, v, i, v.type.count // parts)
    out = [emit(*(part(v, i) for v in vectors)) for i in range(parts)]
    while len(out) > 1:
        out = [shuffled(b, x, range(2 * x.type.count), y) for x, y in zip(out[::2], out[1::2])]
    return out[0]


class Word:
    """A word of the kernels: emit(builder, operands) writes its LLVM instructions.

    The signature has a letter for each argument, an arrow, the result. F, I, N: a tile of T vectors
    of 16 float32, of 16 int32, of partial sums of few bits; B: 64 bytes; f: float32; d:
    float64; i: int32; p: int64 or an address; v: nothing; a: an address and a stride in bytes, so
    that each vector of the tile has its own address. emit sees one vector at a time. T is that of
    the widest tile among the arguments (a single vector meets a tile by repetition), or the digit
    of the result.
    """

    def __init__(self, signature, emit):
        self.signature, self.emit = signature, emit

    def __call__(self, *args):
        raise RuntimeError("words exist only inside compiled kernels")

    def write(self, machine, b, *operands):
        """-> the value that the instructions give, on that machine."""
        return self.emit(b, *operands)


class MachineWord(Word):
    """A word that machines say in different ways: emit(machine, builder, operands)."""

    def write(self, machine, b, *operands):
        return self.emit(machine, b, *operands)
