"""Weights of tiny models, made from their names: the same here and where transformers' logits were computed."""

import zlib

import numpy as np

KEPT = [0, 5, 11, 17, 23]  # positions whose logits are kept


def tokens():
    return np.random.default_rng(5).integers(3, 72, 24).tolist()


def weights(shapes):
    """{name: [shape, what its first value is before training]} -> {name: float32}. No bias and no norm stays at its zero."""
    out = {}
    for name, (shape, begin) in shapes.items():
        x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
        out[name] = np.float32(begin) + x / 3 if len(shape) == 1 else x * np.float32(1.5 / shape[-1] ** 0.5)
    return out
