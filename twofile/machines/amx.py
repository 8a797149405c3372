"""Intel's matrix unit."""

import ctypes
import struct
import sys

from ..words.emit import LL, call_llvm, constant, pointer_to
from ..words.word import Word
from .x86 import Avx512

# Intel's matrix unit (AMX) has eight tiles of 16 rows of 64 bytes. Three are one step here: 16
# tokens by 32 bytes of activations, 32 columns by 16 rows of weights, and their 16 by 16 sums;
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


def _tile_config(b):
    rows, widths = [16, 16, 8] * 2 + [0, 0], [64, 32, 64] * 2 + [0, 0]  # sums, activations, weights
    raw = struct.pack("<BB14x8H16x8B8x", 1, 0, *widths, *rows)
    where = LL.cgutils.alloca_once(b, LL.B)
    b.store(LL.ir.Constant(LL.B, list(raw)), where)
    call_llvm(b, "llvm.x86.ldtilecfg", LL.void, b.bitcast(where, LL.i8.as_pointer()))


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


tile_config = Word("->v", _tile_config)  # before the first tile_dot of a kernel, on each thread
# (activations, their step, weights [8, 64] as int8, where 16 x 16 sums go)
tile_dot = Word("pppp->v", _tile_dot(0))
tile_dot_too = Word("pppp->v", _tile_dot(3))
tile_release = Word("->v", _tile_release)  # after the last
