"""Rounding by trying everything, in float64, one group at a time."""

import numpy as np

LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], float)


def levels_of(name):
    """The numbers of an element before it is scaled, sorted."""
    if name.startswith("iq4"):
        return LEVELS
    zero = {"q4_0": 8, "q5_0": 16, "q3_k": 4, "q6_k": 32}.get(name, 0)
    return np.arange(2.0 ** int(name[1])) - zero


def nearest(levels, v):
    """Each element's nearest level."""
    return levels[np.abs(v[..., None] - levels).argmin(-1)]


def best_scale(x, cost, levels, tries=4000):
    """The least that a group can lose by a scale alone: very many scales, each fitted once more."""
    top = np.abs(x).max() or 1.0
    scales = np.concatenate([np.linspace(0.6, 1.5, tries) * s * top / abs(e) for e in levels[[0, -1]] for s in (-1, 1)])
    q = nearest(levels, x[None] / scales[:, None])
    fitted = (cost * q * x).sum(1) / np.maximum((cost * q * q).sum(1), 1e-300)
    return min((cost * (x - s[:, None] * q) ** 2).sum(1).min() for s in (scales, fitted))


def best_both(x, cost, levels, tries=60):
    """The least that a group can lose by a scale and a least of any sign: very many ends, each fitted once more."""
    step = (x.max() - x.min()) / levels[-1] or 1.0
    ends = np.linspace(-0.8, 1.8, tries) * step
    low, high = (a.reshape(-1, 1) for a in np.meshgrid(x.min() + ends, x.max() - ends))
    scale = (high - low) / levels[-1]
    scale = np.where(np.abs(scale) < 1e-12, 1e-12, scale)
    q = nearest(levels, (x[None] - low) / scale)
    w, wq, wx = cost.sum(), (cost * q).sum(1), (cost * x).sum()
    wqq, wqx = (cost * q * q).sum(1), (cost * q * x).sum(1)
    spread = np.maximum(w * wqq - wq * wq, 1e-300)
    s, m = (w * wqx - wq * wx) / spread, (wqq * wx - wq * wqx) / spread
    return (cost * (x - s[:, None] * q - m[:, None]) ** 2).sum(1).min()


def feeds(products):
    """Of the symmetric matrix of products of columns: how much of an error of column j each column behind it makes good
    ([j, k], negative where it must give), and what is left of the square of that error."""
    n = len(products)
    out, left = np.zeros((n, n)), np.zeros(n)
    for j in range(n):
        rest = products[j + 1 :, j + 1 :]
        out[j, j + 1 :] = np.linalg.solve(rest, products[j + 1 :, j])
        left[j] = products[j, j] - products[j, j + 1 :] @ out[j, j + 1 :]
    return out, left
