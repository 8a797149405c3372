"""Processors of ARM with dot products of bytes."""

from ..words.emit import LL, call_llvm, constant, in_parts
from .machine import HalfFloats, Machine


class Neon(HalfFloats, Machine):
    """Both weights and activations are signed; registers of 16 bytes."""

    name = "neon"
    needs = frozenset({"dotprod"})

    def start(self, b, p):
        return constant(LL.I, 0)

    def dot(self, b, acc, w, p):
        return super().dot(b, acc, b.xor(w, constant(LL.B, -128)), p)

    def dot_bytes(self, b, acc, w, x):
        def quarter(acc, w, x):
            return call_llvm(b, "llvm.aarch64.neon.sdot.v4i32.v16i8", acc.type, acc, w, x)

        return in_parts(b, 4, quarter, acc, w, x)
