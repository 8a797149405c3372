"""Words of integer dot products: 16 rows of 4 weights meet 4 activations.

The sums are exact, so every machine gets the same.
"""

from .emit import LL, constant, read_at, spread_lanes
from .numbers import fused
from .word import MachineWord, Word


def _scaled(b, acc, sums, scales, p):
    sums = b.sitofp(sums, LL.F)
    return fused(b, sums, b.fmul(scales, spread_lanes(b, read_at(b, p, LL.f32))), acc)


# sums before the first dot, from the group's sum of activations (int32)
start = MachineWord("Fa->I", lambda m, b, like, p: m.start(b, p))
# sums + (weights - 128) * activations, once start has corrected for the 128
dot = MachineWord("IBa->I", lambda m, b, acc, w, p: m.dot(b, acc, w, p))
start4 = MachineWord("F->N", lambda m, b, like: constant(m.sums4, 0))
# as dot, for weights 0..15
dot4 = MachineWord("NBa->N", lambda m, b, acc, w, p: m.dot4(b, acc, w, p))
# what the group's dot4 add up to, less 8 times its sum of activations
finish4 = MachineWord("Na->I", lambda m, b, acc, p: m.finish4(b, acc, p))
# acc + sums * (the rows' scales * the activations' scale)
scaled = Word("FIFa->F", _scaled)
