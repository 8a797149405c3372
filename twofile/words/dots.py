"""Words of integer dot products: 16 rows of 4 weights meet 4 activations. The sums are exact, so every machine gets the same."""

from .numbers import _fma
from .word import _LL, Word, _call, _const, _get, _splat, _split, _vec

# integer dot products: 16 rows of 4 weights meet 4 activations. The sums are exact, so every machine gets the same.


def _four(b, p):
    """The 4 bytes at p in all 16 lanes."""
    return b.bitcast(_splat(b, _get(b, p, _LL.i32)), _LL.B)


def _dot_plain(b, acc, w, x):
    w, x = b.bitcast(w, _LL.I), b.bitcast(x, _LL.I)
    for j in (0, 8, 16, 24):
        weight = b.and_(b.lshr(w, _const(_LL.I, j)), _const(_LL.I, 255))
        acc = b.add(acc, b.mul(weight, b.ashr(b.shl(x, _const(_LL.I, 24 - j)), _const(_LL.I, 24))))
    return acc


def _dot_unsigned(b, acc, w, x):
    """Weights 0..255, or for neon -128..127, times int8."""
    name, parts = {
        "amx": ("llvm.x86.avx512.vpdpbusd.512", 1),
        "avx512": ("llvm.x86.avx512.vpdpbusd.512", 1),
        "avxvnni": ("llvm.x86.avx512.vpdpbusd.256", 2),
        "neon": ("llvm.aarch64.neon.sdot.v4i32.v16i8", 4),
    }.get(_LL.isa, (None, 1))
    if not name:
        return _dot_plain(b, acc, w, x)
    return _split(b, parts, lambda acc, w, x: _call(b, name, acc.type, acc, w, x), acc, w, x)


def _maddubs(b, w, x):
    return _call(b, "llvm.x86.avx2.pmadd.ub.sw", _vec(_LL.i16, 16), w, x)


def _pairs(b, v):
    return _call(b, "llvm.x86.avx2.pmadd.wd", _vec(_LL.i32, 8), v, _const(_vec(_LL.i16, 16), 1))


def _dot(b, acc, w, p):
    if _LL.isa in ("avx2", "neon"):
        w = b.xor(w, _const(_LL.B, -128))
    if _LL.isa != "avx2":
        return _dot_unsigned(b, acc, w, _four(b, p))

    def half(
        acc, w, x
    ):  # |w| * (x with the sign of w): a pair is at most 2 * 128 * 127, which fits int16
        x = _call(b, "llvm.x86.avx2.psign.b", x.type, x, w)
        return b.add(
            acc, _pairs(b, _maddubs(b, _call(b, "llvm.abs.v32i8", w.type, w, _const(_LL.i1, 0)), x))
        )

    return _split(b, 2, half, acc, w, _four(b, p))


def _dot4(b, acc, w, p):
    if _LL.isa != "avx2":
        return _dot_unsigned(b, acc, w, _four(b, p))
    # the 8 steps of a group sum to at most 8 * 2 * 15 * 127, which fits int16
    return _split(b, 2, lambda acc, w, x: b.add(acc, _maddubs(b, w, x)), acc, w, _four(b, p))


def _offset(b, p, times):
    return _splat(b, b.mul(_get(b, p, _LL.i32), _const(_LL.i32, times)))


def _start(b, like, p):
    return _const(_LL.I, 0) if _LL.isa in ("avx2", "neon") else _offset(b, p, -128)


def _finish4(b, acc, p):
    sums = _split(b, 2, lambda v: _pairs(b, v), acc) if _LL.isa == "avx2" else acc
    return b.add(sums, _offset(b, p, -8))


def _scaled(b, acc, sums, scales, p):
    return _fma(b, b.sitofp(sums, _LL.F), b.fmul(scales, _splat(b, _get(b, p, _LL.f32))), acc)


start = Word(
    "Fa->I", _start
)  # sums before the first dot, from the group's sum of activations (int32)
dot = Word(
    "IBa->I", _dot
)  # sums + (weights - 128) * activations, once start has corrected for the 128
start4 = Word("F->N", lambda b, like: _const(_LL.N, 0))
dot4 = Word("NBa->N", _dot4)  # as dot, for weights 0..15
finish4 = Word(
    "Na->I", _finish4
)  # what the group's dot4 add up to, less 8 times its sum of activations
scaled = Word("FIFa->F", _scaled)  # acc + sums * (the rows' scales * the activations' scale)
