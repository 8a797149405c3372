"""Layers of the gated delta rule: states that fade, learn and are read."""

import numpy as np

from ..errors import ModelError
from ..format.fields import DELTA
from ..format.types import BLOCK, padded
from ..kernels.activation import FUNCTIONS
from ..kernels.convolution import convolution_plain
from ..kernels.delta import decays, delta
from ..kernels.norm import headnorm
from .convolution import convolve_row, kept_inputs, taps_slot
from .kind import Kept, Kind, Slot, matrix_slots

SILU_GATED = FUNCTIONS["silu"][1]


class DeltaRule(Kind):
    """Layers of kind DELTA (Yang et al. 2024, as in Qwen3-Next)."""

    number = DELTA
    names = ("qkv", "conv", "ab", "decay", "dn", "o")
    convolves = True

    def check(self, c, layers):
        d = c.delta
        sizes = (d.k_heads, d.v_heads, d.k_dim, d.v_dim) if d else (0, 0, 0, 0)
        wide = max(sizes[0] * sizes[2], sizes[1] * sizes[3])
        wrong = d and (not all(sizes) or d.v_heads % d.k_heads or wide > 1 << 20)
        if bool(d) != bool(layers) or wrong:
            found = f"{sizes[0]} and {sizes[1]} heads of {sizes[2]} and {sizes[3]} in delta layers"
            wants = "sizes for such layers, the first a divisor of the second"
            raise ModelError(f"{found}, expected {wants}; export again")
        if d and d.k_dim % 4:
            raise ModelError(f"delta_k_dim is {d.k_dim}, expected a multiple of 4; export again")

    def wide(self, c, i):
        return c.delta.v_heads * c.delta.v_dim

    def convolved(self, c, i):
        """Columns that are convolved: q, k, v."""
        return 2 * c.delta.k_heads * c.delta.k_dim + self.wide(c, i)

    def rows(self, c, i):
        return self.convolved(c, i) + self.wide(c, i)

    def behind(self, c, i):
        return self.wide(c, i)

    def tensors(self, c, i):
        n = 2 * c.delta.v_heads
        return [
            *matrix_slots(f"l{i}.qkv", (self.rows(c, i), c.dim), c.heads.bias),
            taps_slot(c, i, self.convolved(c, i)),
            *matrix_slots(f"l{i}.ab", (n, c.dim), small=True),
            Slot(f"l{i}.decay", (n,), "f32"),
            Slot(f"l{i}.dn.w", (c.delta.v_dim,), "f32"),
            *matrix_slots(f"l{i}.o", (c.dim, self.wide(c, i)), c.heads.out_bias),
        ]

    def keeps(self, c, i):
        d = c.delta
        states = d.v_heads * d.k_dim * padded(d.v_dim, BLOCK)
        return [kept_inputs(c, self.convolved(c, i)), Kept("states", 1, states, cut=False)]

    def readers(self, layer):
        return [layer.qkv, layer.ab]

    def record(self, p, layer, row):
        """q, k, v convolved, q and k of length 1, the states of the heads, their norm."""
        c, d, i = p.config, p.config.delta, layer.index
        keys, values, each, wide = d.k_heads, d.v_heads, d.k_dim, self.wide(c, i)
        ab, out = p.floats("ab", 2 * values), row.columns(self.rows(c, i))
        p.matmul(ab, layer.ab)
        p.add(decays, x=ab, rates=p.vector(layer.decay.data, 16), heads=values, wait=False)
        convolve_row(p, layer, row, self.convolved(c, i), convolution_plain, {})
        # x / sqrt(sum(x^2) + 1e-6) as a norm by the mean; q also by its scale
        ones = p.constant("lengths", np.repeat([1 / each, each**-0.5], keys * each))
        more = {"heads": 2 * keys, "width": each, "eps": 1e-6 / each}
        p.add(headnorm, x=row, weight=ones, **more)
        more = {"heads": values, "group": values // keys, "keys": each, "values": d.v_dim}
        states = p.cache.place(i, "states")
        p.add(delta, x=row, rates=ab, states=states, out=out, turns=int(d.turns), **more)
        weight = p.constant(layer.dn.name, np.tile(layer.dn.floats(), values))
        more = {"heads": values, "width": d.v_dim, "eps": c.norms.eps}
        p.add(headnorm, x=out, weight=weight, **more)
        gate = row.columns(self.rows(c, i) - wide)
        return lambda: p.add(SILU_GATED, x=gate, width=wide, **p.input(layer.o))
