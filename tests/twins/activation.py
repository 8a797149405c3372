"""The curves of the feed-forward part, in float64."""

import math

import numpy as np

BY_NUMBER = ("silu", "gelu_tanh", "gelu_erf", "relu", "relu2", "clamped")  # as the file counts them
erf = np.vectorize(math.erf, otypes=[float])
CURVES = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "gelu_erf": lambda x: x / 2 * (1 + erf(x / math.sqrt(2))),
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
}
