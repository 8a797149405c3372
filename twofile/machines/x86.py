"""The processors of Intel and AMD, and Intel's matrix unit."""

import ctypes
import struct
import sys

from ..words.word import LL, Word, call_llvm, constant, in_parts, pointer_to
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
    pairwise = True

    @property
    def sums_few(self):
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

    def dot7(self, b, acc, v, p):
        # a pair is at most 2 * 127 * 127, which fits int16
        half = lambda acc, x, v: b.add(acc, _pairs(b, _maddubs(b, x, v)))
        return in_parts(b, 2, half, acc, self.four(b, p), v)

    def dot_few(self, b, acc, w, p):
        # 8 steps of 4 bits sum to at most 8 * 2 * 15 * 127, which fits int16
        half = lambda acc, w, x: b.add(acc, _maddubs(b, w, x))
        return in_parts(b, 2, half, acc, w, self.four(b, p))

    def whole(self, b, few):
        return in_parts(b, 2, lambda v: _pairs(b, v), few)

    def lookup(self, b, v, table):
        return _shuffled(b, v, table)


def _shuffled(b, v, table):
    half = LL.ir.VectorType(LL.i8, 32)
    words = LL.ir.Constant(half, table * 2)
    name = "llvm.x86.avx2.pshuf.b"
    return in_parts(b, 2, lambda v: call_llvm(b, name, half, words, v), v)


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

    def lookup(self, b, v, table):
        return _shuffled(b, v, table)


class Avx512(HalfFloats, X86):
    """Dot products of bytes in registers of 64: Intel's servers since 2019, AMD since Zen 4."""

    name = "avx512"
    needs = frozenset({"avx512vnni", "avx512bw", "avx512vl", "f16c"})

    def lookup(self, b, v, table):
        words = LL.ir.Constant(LL.B, table * 4)
        return call_llvm(b, "llvm.x86.avx512.pshuf.b.512", LL.B, words, v)

    def dot_bytes(self, b, acc, w, x):
        return call_llvm(b, "llvm.x86.avx512.vpdpbusd.512", acc.type, acc, w, x)


# Intel's matrix unit (AMX) has eight tiles of 16 rows of 64 bytes. Three are one step here: 16
# tokens by 32 (or 16) bytes of activations, as many columns by 16 rows of weights, and their sums;
# numbers 3 to 5 are a second such set.


class Amx(Avx512):
    """Servers since Sapphire Rapids, and where Linux lends the registers."""

    name = "amx"
    needs = Avx512.needs | {"amx-int8", "amx-tile"}
    tiles = True

    def usable(self):
        """Ask Linux for the matrix unit's registers: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA).
        Once for the process is enough."""
        return sys.platform == "linux" and ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0


def _tile_config(columns):
    def emit(b):
        # sums, activations, weights
        rows, widths = [16, 16, columns // 4] * 2 + [0, 0], [64, columns, 64] * 2 + [0, 0]
        raw = struct.pack("<BB14x8H16x8B8x", 1, 0, *widths, *rows)
        where = LL.cgutils.alloca_once(b, LL.B)
        b.store(LL.ir.Constant(LL.B, list(raw)), where)
        call_llvm(b, "llvm.x86.ldtilecfg", LL.void, b.bitcast(where, LL.i8.as_pointer()))

    return emit


def _tile_dot(first):
    sums, activations, weights = (first + i for i in range(3))

    def emit(b, q, q_step, w, out):
        number, row = lambda n: constant(LL.i8, n), constant(LL.i64, 64)
        place = lambda p: pointer_to(b, p, LL.i8)
        call_llvm(b, "llvm.x86.tilezero", LL.void, number(sums))
        call_llvm(b, "llvm.x86.tileloadd64", LL.void, number(activations), place(q), q_step)
        call_llvm(b, "llvm.x86.tileloadd64", LL.void, number(weights), place(w), row)
        numbers = [number(n) for n in (sums, activations, weights)]
        call_llvm(b, "llvm.x86.tdpbssd", LL.void, *numbers)
        call_llvm(b, "llvm.x86.tilestored64", LL.void, number(sums), place(out), row)

    return emit


def _tile_release(b):
    call_llvm(b, "llvm.x86.tilerelease", LL.void)


# before the first tile_dot of a kernel, on each thread: of 32 columns, or of 16
tile_config = Word("->v", _tile_config(32))
tile_config_half = Word("->v", _tile_config(16))
# (activations, their step, weights [8, 64] as int8, where 16 x 16 sums go)
tile_dot = Word("pppp->v", _tile_dot(0))
tile_dot_too = Word("pppp->v", _tile_dot(3))
tile_release = Word("->v", _tile_release)  # after the last
