"""Random weights of a Llama's shape."""

import math
from types import SimpleNamespace

import numpy as np

from ...files import padded
from ...format.config import FLAGS, Config
from ...format.types import BITS, BLOCK, GROUP
from ...layers.plan import tensor_plan
from ..rope import rope_table

SHAPES = {  # dim, ffn, layers, heads, kv heads, vocab, tied
    "15M": (288, 768, 6, 6, 6, 32000, True),
    "110M": (768, 2048, 12, 12, 12, 32000, True),
    "1.1B": (2048, 5632, 22, 32, 4, 32000, False),
    "7B": (4096, 11008, 32, 32, 32, 32000, False),
    "70B": (8192, 28672, 80, 64, 8, 32000, False),
}


class RandomRows:
    """A matrix of seeded random numbers; rows are made when they are read. packed() makes quantised blocks at once."""

    def __init__(self, shape, seed):
        self.shape, self.seed = shape, seed

    def read(self, first, last):
        rng = np.random.default_rng((*self.seed, first))
        return rng.standard_normal((last - first, self.shape[1]), np.float32) / np.float32(
            math.sqrt(self.shape[1])
        )

    def packed(self, dtype, first, last):
        """-> bytes and scales of rows first to last as pack() would give; the numbers are uniform, which is as good here."""
        rng, rows, cols = (
            np.random.default_rng((*self.seed, first)),
            padded(last - first, BLOCK),
            padded(self.shape[1], GROUP),
        )
        spread = 74.0 if dtype == "q8_0" else 4.6
        n = rows * cols * BITS[dtype] // 8
        scales = np.full(
            (rows // BLOCK, cols // GROUP, BLOCK), 1 / (spread * math.sqrt(self.shape[1])), "<f2"
        )
        return np.frombuffer(rng.bytes(n), np.uint8), scales


def random_source(name, seed):
    dim, ffn, layers, heads, kv, vocab, tied = SHAPES[name]
    flags = 0 if tied else FLAGS["head"]
    c = Config(
        "llama",
        dim,
        layers,
        heads,
        kv,
        dim // heads,
        ffn,
        vocab,
        max_ctx=16384,
        flags=flags,
        bos=1,
        eos=2,
    )
    tensors = {}
    for i, (key, shape, role) in enumerate(tensor_plan(c)):
        if role == "matrix":
            tensors[key] = RandomRows(shape, (seed, i))
        elif key.endswith(".w"):
            tensors[key] = np.ones(shape, np.float32)
    note = f"random weights, shape {name}, seed {seed}"
    return SimpleNamespace(
        kind=f"random {name}",
        config=c,
        rope=rope_table(dim // heads, 10000.0),
        tensors=tensors,
        note=note,
    )
