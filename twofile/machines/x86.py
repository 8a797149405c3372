"""Processors of Intel and AMD."""

from ..words.emit import LL, call_llvm, constant, in_parts
from .machine import HalfFloats, Machine


class X86(Machine):
    """Any of them, down to SSE2."""

    def usable(self):
        from llvmlite import binding

        return binding.get_process_triple().startswith(("x86", "i686", "amd64"))

    def pause(self, b):
        call_llvm(b, "llvm.x86.sse2.pause", LL.void)


class Avx2(HalfFloats, X86):
    """Since 2013. Products of bytes are summed in pairs, in int16: they must not be too large."""

    name = "avx2"
    needs = frozenset({"avx2", "fma", "f16c"})

    @property
    def sums4(self):
        return LL.ir.VectorType(LL.i16, 32)

    def start(self, b, p):
        return constant(LL.I, 0)

    def dot(self, b, acc, w, p):
        def half(acc, w, x):
            # |w| * (x with the sign of w): a pair is at most 2 * 128 * 127, which fits int16
            x = call_llvm(b, "llvm.x86.avx2.psign.b", x.type, x, w)
            size = call_llvm(b, "llvm.abs.v32i8", w.type, w, constant(LL.i1, 0))
            return b.add(acc, _pairs(b, _maddubs(b, size, x)))

        w = b.xor(w, constant(LL.B, -128))
        return in_parts(b, 2, half, acc, w, self.four(b, p))

    def dot4(self, b, acc, w, p):
        # the 8 steps of a group sum to at most 8 * 2 * 15 * 127, which fits int16
        half = lambda acc, w, x: b.add(acc, _maddubs(b, w, x))
        return in_parts(b, 2, half, acc, w, self.four(b, p))

    def finish4(self, b, acc, p):
        return super().finish4(b, in_parts(b, 2, lambda v: _pairs(b, v), acc), p)


def _maddubs(b, w, x):
    return call_llvm(b, "llvm.x86.avx2.pmadd.ub.sw", LL.H, w, x)


def _pairs(b, v):
    sums = LL.ir.VectorType(LL.i32, 8)
    return call_llvm(b, "llvm.x86.avx2.pmadd.wd", sums, v, constant(LL.H, 1))


class AvxVnni(HalfFloats, X86):
    """Dot products of bytes in registers of 32: Intel since Alder Lake."""

    name = "avxvnni"
    needs = frozenset({"avxvnni", "avx2", "fma", "f16c"})

    def dot_bytes(self, b, acc, w, x):
        def half(acc, w, x):
            return call_llvm(b, "llvm.x86.avx512.vpdpbusd.256", acc.type, acc, w, x)

        return in_parts(b, 2, half, acc, w, x)


class Avx512(HalfFloats, X86):
    """Dot products of bytes in registers of 64: Intel's servers since 2019, AMD since Zen 4."""

    name = "avx512"
    needs = frozenset({"avx512vnni", "avx512bw", "avx512vl", "f16c"})

    def dot_bytes(self, b, acc, w, x):
        return call_llvm(b, "llvm.x86.avx512.vpdpbusd.512", acc.type, acc, w, x)
