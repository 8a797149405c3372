"""Intel's matrix unit."""

import ctypes
import struct
import sys

from ..words.word import _LL, Word, _call, _const, _ptr

# Intel's matrix unit (AMX) has eight tiles of 16 rows of 64 bytes. Three are one step here: 16 tokens by 32 bytes of
# activations, 32 columns by 16 rows of weights, and their 16 by 16 sums; numbers 3 to 5 are a second such set.


def _tile_config(b):
    rows, widths = [16, 16, 8] * 2 + [0, 0], [64, 32, 64] * 2 + [0, 0]  # sums, activations, weights
    raw = struct.pack("<BB14x8H16x8B8x", 1, 0, *widths, *rows)
    where = _LL.cgutils.alloca_once(b, _LL.B)
    b.store(_LL.ir.Constant(_LL.B, list(raw)), where)
    _call(b, "llvm.x86.ldtilecfg", _LL.ir.VoidType(), b.bitcast(where, _LL.i8.as_pointer()))


def _tile_dot(first):
    sums, activations, weights = (first + i for i in range(3))

    def emit(b, q, q_step, w, out):
        void, number, row = _LL.ir.VoidType(), lambda n: _const(_LL.i8, n), _const(_LL.i64, 64)
        _call(b, "llvm.x86.tilezero", void, number(sums))
        _call(b, "llvm.x86.tileloadd64", void, number(activations), _ptr(b, q, _LL.i8), q_step)
        _call(b, "llvm.x86.tileloadd64", void, number(weights), _ptr(b, w, _LL.i8), row)
        _call(b, "llvm.x86.tdpbssd", void, number(sums), number(activations), number(weights))
        _call(b, "llvm.x86.tilestored64", void, number(sums), _ptr(b, out, _LL.i8), row)

    return emit


tile_config = Word("->v", _tile_config)  # before the first tile_dot of a kernel, on each thread
tile_dot = Word(
    "pppp->v", _tile_dot(0)
)  # (activations, their step, weights [8, 64] as int8, where 16 x 16 sums go)
tile_dot_too = Word("pppp->v", _tile_dot(3))
tile_release = Word(
    "->v", lambda b: _call(b, "llvm.x86.tilerelease", _LL.ir.VoidType())
)  # after the last


def _may_use_tiles():
    """Ask Linux for the matrix unit's registers: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA). Once for the process is enough."""
    return sys.platform == "linux" and ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0
