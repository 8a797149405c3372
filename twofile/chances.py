"""Logits become chances."""

import numpy as np


def log_softmax(logits):
    """float32 logits [..., vocab] -> float64 log-probabilities (natural)."""
    x = logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def likeliest(chances, n):
    """The ids [..., n] of the n largest of chances [..., vocab], best first, equals by id."""
    if not n:
        return np.zeros((*chances.shape[:-1], 0), np.int64)
    return np.argsort(-chances, kind="stable")[..., :n]
