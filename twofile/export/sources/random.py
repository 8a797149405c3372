"""Random weights of a Llama's shape."""

import math

import numpy as np

from ...format.config import Config
from ...format.types import BLOCK, F16, GROUP, Q4_0, Q8_0, padded
from ...layers.stack import expected_tensors
from ..rope import rope_table
from ..source import Source

SHAPES = {  # dim, ffn, layers, heads, kv heads, vocab, own output matrix
    "15M": (288, 768, 6, 6, 6, 32000, False),
    "110M": (768, 2048, 12, 12, 12, 32000, False),
    "1.1B": (2048, 5632, 22, 32, 4, 32000, True),
    "7B": (4096, 11008, 32, 32, 32, 32000, True),
    "70B": (8192, 28672, 80, 64, 8, 32000, True),
}
SPREAD = {Q8_0: 74.0, Q4_0: 4.6}  # of uniform values, for numbers as large as normal ones
WHOLE = 8  # a scale that is a whole number


class RandomRows:
    """A matrix of seeded random numbers; rows are made when they are read."""

    def __init__(self, shape, seed):
        self.shape, self.seed = shape, seed

    def read(self, first, last):
        """-> float32 [last - first, cols]"""
        rng = np.random.default_rng((*self.seed, first))
        numbers = rng.standard_normal((last - first, self.shape[1]), np.float32)
        return numbers / np.float32(math.sqrt(self.shape[1]))

    def packed(self, type, first, last):
        """Rows first to last as pack.laid would give them, or None where that is no quicker; the
        numbers are uniform, which is as good here."""
        if not type.quantised:
            return None
        rng = np.random.default_rng((*self.seed, first))
        rows, cols = padded(last - first, BLOCK), padded(self.shape[1], GROUP)
        middle = (2**type.bits - 1) / 2
        spread = float(np.std(type.book)) if type.book else SPREAD.get(type, middle / 3**0.5)
        scale = 1 / (spread * math.sqrt(self.shape[1]))
        beside = {}
        for end, kind, shape in type.beside((rows, cols)):
            value = scale / (WHOLE if type.above else 1) if kind is F16 else WHOLE
            x = np.full(shape, value, kind.numpy)
            if kind is F16 and type.least:
                x[:, :, 1] *= -middle
            beside[end] = x + 16 * x if type.halves and kind is not F16 else x
        return np.frombuffer(rng.bytes(rows * cols * type.bits // 8), np.uint8), beside


def random_source(name, seed):
    """A Source of that shape of SHAPES."""
    dim, ffn, layers, heads, kv, vocab, own = SHAPES[name]
    sizes = dict(dim=dim, n_layers=layers, n_heads=heads, n_kv_heads=kv, head_dim=dim // heads)
    sizes |= dict(ffn_dim=ffn, vocab_size=vocab, max_ctx=16384)
    c = Config("llama", **sizes, head=own, bos=1, eos=2)
    tensors = {}
    for i, (key, shape, role, *_) in enumerate(expected_tensors(c)):
        if role == "matrix":
            tensors[key] = RandomRows(shape, (seed, i))
        elif key.endswith(".w"):
            tensors[key] = np.ones(shape, np.float32)
    note = f"random weights, shape {name}, seed {seed}"
    rope = rope_table(dim // heads, 10000.0)
    return Source(f"random {name}", c, rope, tensors, note=note)
