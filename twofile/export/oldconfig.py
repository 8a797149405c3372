"""TEMPORARY, until families/ reads the new Config: a config as families/build.py asks it."""

from ..format.fields import ATTENTION, ATTENTION2, CONVOLUTION, DELTA
from ..format.fields import FLAGS as ROWS

FLAGS = {flag.name: flag.bit for flag in ROWS}
CONV = CONVOLUTION


class Old:
    def __init__(self, c):
        self.__dict__.update(c.numbers(), kind=c.kind)

    def heads(self, layer):
        second = self.kind(layer) == ATTENTION2
        return (self.n_kv_heads2, self.head_dim2) if second else (self.n_kv_heads, self.head_dim)

    def attends(self, layer):
        return self.kind(layer) in (ATTENTION, ATTENTION2)

    def kv_layer(self, layer):
        own = self.n_layers - self.kv_shared
        if layer < own:
            return layer
        return max((i for i in range(own) if self.kind(i) == self.kind(layer)), default=None)

    def ffn(self, layer):
        last = layer >= self.n_layers - self.kv_shared
        return self.ffn_dim2 or self.ffn_dim if last else self.ffn_dim

    def mixed(self, layer):
        c = self
        if c.kind(layer) == CONV:
            return c.dim, 3 * c.dim, c.dim
        if c.kind(layer) == DELTA:
            values = c.delta_v_heads * c.delta_v_dim
            convolved = 2 * c.delta_k_heads * c.delta_k_dim + values
            return convolved, convolved + values, values
        kv, size = c.heads(layer)
        own = 2 * kv if c.kv_layer(layer) == layer else 0
        rows = c.n_heads + own + (c.n_heads if c.has("attn_gate") else 0)
        return 0, rows * size, c.n_heads * size

    def has(self, flag):
        return bool(self.flags & FLAGS[flag])
