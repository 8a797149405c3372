"""Embeddings of layers."""

import numpy as np

from twins.matmul import linear


def layers_embeddings(c, t, x, ids, int8):
    """[tokens, layers, ple_dim]: what each layer gets of the tokens."""
    own = t["ple_embed"][ids].reshape(len(ids), c.n_layers, -1) * c.ple_dim**0.5
    seen = (linear(t, "ple_proj", x, int8) * c.dim**-0.5).reshape(own.shape)
    seen = seen / np.sqrt((seen**2).mean(2, keepdims=True) + c.eps) * t["ple_norm.w"]
    return (own + seen) * 0.5**0.5
