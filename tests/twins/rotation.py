"""Positions as angles, by complex numbers."""

import numpy as np


def rotate(x, table):
    """Half-split rotary embedding by complex multiplication; the angle is the float32 product the format prescribes."""
    half = x.shape[2] // 2
    frequency, amplitude = table.astype(np.float32)
    angle = (np.arange(len(x), dtype=np.float32)[:, None] * frequency).astype(np.float64)
    turn = (np.exp(1j * angle) * amplitude.astype(np.float64))[:, None]
    z = (x[..., :half] + 1j * x[..., half:]) * turn
    return np.concatenate([z.real, z.imag], axis=-1)
