"""Words of integer dot products: 16 rows of 4 weights meet 4 activations.

The sums are exact, so every machine gets the same.
"""

from .emit import LL, constant, read_at, spread_lanes
from .numbers import fused
from .word import MachineWord, Word


def _four(b, p):
    """The 4 bytes at p in all 16 lanes."""
    return b.bitcast(spread_lanes(b, read_at(b, p, LL.i32)), LL.B)


def _scaled(b, acc, sums, scales, p):
    both = b.fmul(scales, spread_lanes(b, read_at(b, p, LL.f32)))
    return fused(b, b.sitofp(sums, LL.F), both, acc)


# sums before the first dot, from the group's sum of activations (int32)
start = MachineWord("Fa->I", lambda m, b, like, p: m.start(b, p))
# sums + (weights - 128) * activations, once start has corrected for the 128
dot = MachineWord("IBa->I", lambda m, b, acc, w, p: m.dot(b, acc, w, _four(b, p)))
start4 = MachineWord("F->N", lambda m, b, like: constant(m.sums4, 0))
# as dot, for weights 0..15
dot4 = MachineWord("NBa->N", lambda m, b, acc, w, p: m.dot4(b, acc, w, _four(b, p)))
# what the group's dot4 add up to, less 8 times its sum of activations
finish4 = MachineWord("Na->I", lambda m, b, acc, p: m.finish4(b, acc, p))
# acc + sums * (the rows' scales * the activations' scale)
scaled = Word("FIFa->F", _scaled)
