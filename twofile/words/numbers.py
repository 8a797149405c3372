"""Words of arithmetic, lane by lane; the same bits on every machine."""

import math

from .word import _LL, Word, _call, _const, _piece, _ptr, _put, _splat, _vec

# arithmetic, lane by lane
zeros1 = Word("->F1", lambda b: _const(_LL.F, 0.0))
zeros4 = Word("->F4", lambda b: _const(_LL.F, 0.0))
zeros16 = Word("->F16", lambda b: _const(_LL.F, 0.0))
splat = Word("f->F1", _splat)
add = Word("FF->F", lambda b, x, y: b.fadd(x, y))
sub = Word("FF->F", lambda b, x, y: b.fsub(x, y))
mul = Word("FF->F", lambda b, x, y: b.fmul(x, y))
div = Word("FF->F", lambda b, x, y: b.fdiv(x, y))
fma = Word("FFF->F", lambda b, x, y, z: _fma(b, x, y, z))
larger = Word(
    "FF->F", lambda b, x, y: _call(b, "llvm.maximum.v16f32", _LL.F, x, y)
)  # NaN if either is
magnitude = Word("F->F", lambda b, x: _call(b, "llvm.fabs.v16f32", _LL.F, x))
root = Word("f->f", lambda b, x: _call(b, "llvm.sqrt.f32", _LL.f32, x))


def _fma(b, x, y, z):
    return _call(b, "llvm.fma.v16f32", _LL.F, x, y, z)


def _lanes(b, relation, n):
    return b.icmp_signed(
        relation, _LL.ir.Constant(_vec(_LL.i64, 16), list(range(16))), _splat(b, n)
    )


def _store_first(b, p, v, n):
    mask = _lanes(b, "<", n)
    _call(
        b,
        "llvm.masked.store.v16f32.p0",
        _LL.ir.VoidType(),
        v,
        _ptr(b, p, _LL.F),
        _const(_LL.i32, 4),
        mask,
    )


def _keep(b, v, first, last, other):
    return b.select(b.and_(_lanes(b, ">=", first), _lanes(b, "<", last)), v, _splat(b, other))


def _fold(emit):
    """Sixteen lanes to one, upper half onto lower half: the same order everywhere."""

    def fold(b, v):
        for n in (8, 4, 2, 1):
            v = emit(b, _piece(b, v, 0, n), _piece(b, v, 1, n), n)
        return b.extract_element(v, _const(_LL.i32, 0))

    return fold


def _exp(b, x):
    low = b.fcmp_ordered("<", x, _const(_LL.F, -87.0))
    x = b.select(b.fcmp_ordered(">", x, _const(_LL.F, 88.0)), _const(_LL.F, 88.0), x)
    magic = _fma(
        b, x, _const(_LL.F, 1 / math.log(2)), _const(_LL.F, 1.5 * 2**23)
    )  # its low bits are round(x / ln 2)
    n = b.fsub(magic, _const(_LL.F, 1.5 * 2**23))
    r = _fma(b, n, _const(_LL.F, -0.693145751953125), x)  # ln 2 in two parts
    r = _fma(b, n, _const(_LL.F, -1.428606820309417e-06), r)
    y = _const(_LL.F, 1 / math.factorial(7))
    for k in range(6, -1, -1):
        y = _fma(b, y, r, _const(_LL.F, 1 / math.factorial(k)))
    power = b.shl(b.add(b.bitcast(magic, _LL.I), _const(_LL.I, 127)), _const(_LL.I, 23))
    return b.select(low, _const(_LL.F, 0.0), b.fmul(y, b.bitcast(power, _LL.F)))


def _quantise(b, p, v, inverse):
    v = _call(b, "llvm.rint.v16f32", _LL.F, b.fmul(v, _splat(b, inverse)))
    v = _call(
        b, "llvm.maxnum.v16f32", _LL.F, v, _const(_LL.F, -127.0)
    )  # also turns NaN into a number
    v = b.fptosi(_call(b, "llvm.minnum.v16f32", _LL.F, v, _const(_LL.F, 127.0)), _LL.I)
    _put(b, p, b.trunc(v, _vec(_LL.i8, 16)))
    return _call(b, "llvm.vector.reduce.add.v16i32", _LL.i32, v)


power_of_two = Word(
    "p->d",
    lambda b, n: b.bitcast(b.shl(b.add(n, _const(_LL.i64, 1023)), _const(_LL.i64, 52)), _LL.f64),
)
store_first = Word("pFp->v", _store_first)  # only the first n lanes are written
keep = Word("Fppf->F", _keep)  # lanes outside [first, last) become other
total = Word("F->f", _fold(lambda b, x, y, n: b.fadd(x, y)))
largest = Word("F->f", _fold(lambda b, x, y, n: _call(b, f"llvm.maximum.v{n}f32", x.type, x, y)))
exp = Word(
    "F->F", _exp
)  # 0 below -87, as if 88 above it; our own polynomial: the same bits on every machine
quantise = Word(
    "pFf->i", _quantise
)  # write round(v * inverse) as 16 int8 in -127..127; -> their sum
lowered = Word(
    "Bp->B", lambda b, v, n: b.sub(v, _splat(b, b.trunc(n, _LL.i8), 64))
)  # every byte less n
low_nibbles = Word("B->B", lambda b, v: b.and_(v, _const(_LL.B, 15)))
high_nibbles = Word("B->B", lambda b, v: b.lshr(v, _const(_LL.B, 4)))


def _opaque(b, n):
    return b.asm(_LL.ir.FunctionType(_LL.i64, [_LL.i64]), "", "=r,0", [n], side_effect=False)


opaque = Word(
    "p->p", _opaque
)  # the same number, unknown to the compiler: a loop of so many steps is not unrolled
