"""Words of arithmetic and of dot products; everywhere the same bits."""

import math

from ..format.types import CODEBOOK
from .word import (
    LL,
    MachineWord,
    Word,
    call_llvm,
    constant,
    pointer_to,
    read_at,
    shuffled,
    some_lanes,
    spread_lanes,
    write_at,
)


def fused(b, x, y, z):
    """x * y + z, rounded once."""
    return call_llvm(b, "llvm.fma.v16f32", LL.F, x, y, z)


def _between(b, relation, n):
    numbers = LL.ir.Constant(LL.ir.VectorType(LL.i64, 16), list(range(16)))
    return b.icmp_signed(relation, numbers, spread_lanes(b, n))


def _store_first(b, p, v, n):
    mask, where = _between(b, "<", n), pointer_to(b, p, LL.F)
    align = constant(LL.i32, 4)
    call_llvm(b, "llvm.masked.store.v16f32.p0", LL.void, v, where, align, mask)


def _keep(b, v, first, last, other):
    inside = b.and_(_between(b, ">=", first), _between(b, "<", last))
    return b.select(inside, v, spread_lanes(b, other))


def _fold(emit):
    """Sixteen lanes to one, upper half onto lower half: the same order everywhere."""

    def fold(b, v):
        for n in (8, 4, 2, 1):
            v = emit(b, some_lanes(b, v, 0, n), some_lanes(b, v, 1, n), n)
        return b.extract_element(v, constant(LL.i32, 0))

    return fold


def _exp(b, x):
    low = b.fcmp_ordered("<", x, constant(LL.F, -87.0))
    x = b.select(b.fcmp_ordered(">", x, constant(LL.F, 88.0)), constant(LL.F, 88.0), x)
    magic = constant(LL.F, 1.5 * 2**23)  # added to it, the low bits are round(x / ln 2)
    rounded = fused(b, x, constant(LL.F, 1 / math.log(2)), magic)
    n = b.fsub(rounded, magic)
    r = fused(b, n, constant(LL.F, -0.693145751953125), x)  # ln 2 in two parts
    r = fused(b, n, constant(LL.F, -1.428606820309417e-06), r)
    y = constant(LL.F, 1 / math.factorial(7))
    for k in range(6, -1, -1):
        y = fused(b, y, r, constant(LL.F, 1 / math.factorial(k)))
    power = b.shl(b.add(b.bitcast(rounded, LL.I), constant(LL.I, 127)), constant(LL.I, 23))
    return b.select(low, constant(LL.F, 0.0), b.fmul(y, b.bitcast(power, LL.F)))


def _quantise(b, p, v, inverse):
    least, most = constant(LL.F, -127.0), constant(LL.F, 127.0)
    v = call_llvm(b, "llvm.rint.v16f32", LL.F, b.fmul(v, spread_lanes(b, inverse)))
    v = call_llvm(b, "llvm.maxnum.v16f32", LL.F, v, least)  # also turns NaN into a number
    v = b.fptosi(call_llvm(b, "llvm.minnum.v16f32", LL.F, v, most), LL.I)
    write_at(b, p, b.trunc(v, LL.ir.VectorType(LL.i8, 16)))
    return call_llvm(b, "llvm.vector.reduce.add.v16i32", LL.i32, v)


def _picked(b, v, n, mask):
    words = LL.ir.VectorType(LL.i16, 32)  # what comes from a neighbour is not in the mask
    n, wide = b.trunc(n, LL.i16), b.bitcast(v, words)
    left = b.shl(wide, spread_lanes(b, b.neg(n), 32))
    right = b.lshr(wide, spread_lanes(b, n, 32))
    found = b.select(b.icmp_signed("<", n, constant(LL.i16, 0)), left, right)
    return b.and_(b.bitcast(found, LL.B), spread_lanes(b, b.trunc(mask, LL.i8), 64))


def _sevens(b, high, low, v, inverse):
    magic = constant(LL.F, 2.0**23)  # added to it, the low bits are the rounded product
    v, bytes16 = fused(b, v, spread_lanes(b, inverse), magic), LL.ir.VectorType(LL.i8, 16)
    v, seven = b.bitcast(v, LL.I), constant(LL.I, 127)
    write_at(b, high, b.trunc(b.and_(b.lshr(v, constant(LL.I, 7)), seven), bytes16))
    write_at(b, low, b.trunc(b.and_(v, seven), bytes16))


def _power_of_two(b, n):
    return b.bitcast(b.shl(b.add(n, constant(LL.i64, 1023)), constant(LL.i64, 52)), LL.f64)


def _larger(b, x, y, n=16):
    return call_llvm(b, f"llvm.maximum.v{n}f32", x.type, x, y)


def _higher(b, x, y, n=16):
    bits = LL.ir.VectorType(LL.i32, n)
    most = call_llvm(b, f"llvm.umax.v{n}i32", bits, b.bitcast(x, bits), b.bitcast(y, bits))
    return b.bitcast(most, x.type)


def _greater(b, x, y, n=16):
    return b.select(b.fcmp_ordered(">", x, y), x, y)


def _woven(b, v):
    for n in (8, 4, 2, 1):
        signs = LL.ir.Constant(LL.F, [-1.0 if i & n else 1.0 for i in range(16)])
        v = b.fadd(shuffled(b, v, [i ^ n for i in range(16)]), b.fmul(v, signs))
    return b.fmul(v, constant(LL.F, 32**-0.5))


def _opaque(b, n):
    return b.asm(LL.ir.FunctionType(LL.i64, [LL.i64]), "", "=r,0", [n], side_effect=False)


zeros1 = Word("->F1", lambda b: constant(LL.F, 0.0))
zeros4 = Word("->F4", lambda b: constant(LL.F, 0.0))
no_sums1 = Word("->I1", lambda b: constant(LL.I, 0))
no_sums4 = Word("->I4", lambda b: constant(LL.I, 0))
zeros16 = Word("->F16", lambda b: constant(LL.F, 0.0))
splat = Word("f->F1", spread_lanes)
add = Word("FF->F", lambda b, x, y: b.fadd(x, y))
sub = Word("FF->F", lambda b, x, y: b.fsub(x, y))
mul = Word("FF->F", lambda b, x, y: b.fmul(x, y))
div = Word("FF->F", lambda b, x, y: b.fdiv(x, y))
fma = Word("FFF->F", fused)
larger = Word("FF->F", _larger)  # NaN if either is
greater = Word("FF->F", _greater)  # y if either is NaN
higher = Word("FF->F", _higher)  # of numbers that are not negative; NaN if either is
magnitude = Word("F->F", lambda b, x: call_llvm(b, "llvm.fabs.v16f32", LL.F, x))
woven = Word("F->F", _woven)  # Walsh's and Hadamard's transform of 16 lanes, times 32^-1/2
root = Word("f->f", lambda b, x: call_llvm(b, "llvm.sqrt.f32", LL.f32, x))
power_of_two = Word("p->d", _power_of_two)
store_first = Word("pFp->v", _store_first)  # only the first n lanes are written
keep = Word("Fppf->F", _keep)  # lanes outside [first, last) become other
total = Word("F->f", _fold(lambda b, x, y, n: b.fadd(x, y)))
largest = Word("F->f", _fold(_larger))
greatest = Word("F->f", _fold(_greater))
highest = Word("F->f", _fold(_higher))
# 0 below -87, as if 88 above it; our own polynomial: the same bits on every machine
exp = Word("F->F", _exp)
# write round(v * inverse) as 16 int8 in -127..127; -> their sum
quantise = Word("pFf->i", _quantise)
# write round(v * inverse), 0 to 2^14 - 1, as 16 bytes of its high seven bits, 16 of its low seven
sevens = Word("ppFf->v", _sevens)
# every byte less n
lowered = Word("Bp->B", lambda b, v, n: b.sub(v, spread_lanes(b, b.trunc(n, LL.i8), 64)))
low_nibbles = Word("B->B", lambda b, v: b.and_(v, constant(LL.B, 15)))
high_nibbles = Word("B->B", lambda b, v: b.lshr(v, constant(LL.B, 4)))
# bits of a plane: shifted right (by -n if n is negative: left), and those of a mask kept
picked = Word("Bpp->B", _picked)
both = Word("BB->B", lambda b, v, w: b.or_(v, w))
# numbers 0..15 as what they stand for in CODEBOOK, plus 128
booked = MachineWord("B->B", lambda m, b, v: m.lookup(b, v, [n + 128 for n in CODEBOOK]))
# the same number, unknown to the compiler: a loop of so many steps is not unrolled
opaque = Word("p->p", _opaque)


def _joined(b, acc, high, low, p):
    sums = b.sitofp(b.add(b.shl(high, constant(LL.I, 7)), low), LL.F)
    return fused(b, sums, spread_lanes(b, read_at(b, p, LL.f32)), acc)


def _scaled(b, acc, sums, scales, p):
    sums = b.sitofp(sums, LL.F)
    return fused(b, sums, b.fmul(scales, spread_lanes(b, read_at(b, p, LL.f32))), acc)


def _spread_sums(b, like, sums, scales):
    total = b.sitofp(read_at(b, sums, LL.i32), LL.f32)
    return spread_lanes(b, b.fmul(total, read_at(b, scales, LL.f32)))


# sums before the first dot, from the group's sum of activations (int32)
start = MachineWord("Fa->I", lambda m, b, like, p: m.start(b, p))
# sums + (weights - 128) * activations, once start has corrected for the 128
dot = MachineWord("IBa->I", lambda m, b, acc, w, p: m.dot(b, acc, w, p))
# sums + int8 * the 4 bytes 0..127 at an address
dot7 = MachineWord("IBa->I", lambda m, b, acc, v, p: m.dot7(b, acc, v, p))
start_few = MachineWord("F->N", lambda m, b, like: constant(m.sums_few, 0))
# as dot, for weights of few bits, of which so many that they fit
dot_few = MachineWord("NBa->N", lambda m, b, acc, w, p: m.dot_few(b, acc, w, p))
# sums before the first of them, of weights that are a number too large
less = MachineWord("Fap->I", lambda m, b, like, p, zero: m.times_sum(b, p, b.neg(zero)))
# sums + what some dot_few add up to
gathered = MachineWord("IN->I", lambda m, b, acc, few: b.add(acc, m.whole(b, few)))
# in all lanes: sums of activations (int32), times their scale
spread_sums = Word("Faa->F", _spread_sums)
# acc + sums * (the rows' scales * the activations' scale)
scaled = Word("FIFa->F", _scaled)
# acc + (the sums of high sevens and those of low ones, as one) * the scale at an address
joined = Word("FIIa->F", _joined)
