"""Words that rounding needs beside those of the kernels."""

from ...words.word import LL, Word, call_llvm, read_at, spread_lanes, write_at


def _function(name):
    return lambda b, *v: call_llvm(b, f"llvm.{name}.v16f32", LL.F, *v)


def _store_bytes(b, p, v):
    write_at(b, p, b.trunc(v, LL.ir.VectorType(LL.i8, 16)))


def _by(method):
    """Each lane with a number, which the compiler knows."""
    return lambda b, v, n: getattr(b, method)(v, spread_lanes(b, b.trunc(n, LL.i32)))


nearest = Word("F->F", _function("rint"))  # whole numbers, ties to even
smaller = Word("FF->F", _function("minimum"))
# where x < y: a, else b; also where one is no number
where_less = Word("FFFF->F", lambda b, x, y, v, w: b.select(b.fcmp_ordered("<", x, y), v, w))
# x + step where x is not below a bound
counted = Word(
    "FFFF->F",
    lambda b, n, x, bound, step: b.select(b.fcmp_ordered(">=", x, bound), b.fadd(n, step), n),
)
whole = Word("F->I", lambda b, v: b.fptosi(v, LL.I))
load_words = Word("p->I1", lambda b, p: read_at(b, p, LL.I))
store_words = Word("pI->v", write_at)
store_few = Word("pI->v", _store_bytes)  # the lowest byte of each lane
joined_bits = Word("II->I", lambda b, v, w: b.or_(v, w))
left = Word("Ip->I", _by("shl"))
right = Word("Ip->I", _by("lshr"))
masked = Word("Ip->I", _by("and_"))
