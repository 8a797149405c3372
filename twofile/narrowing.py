"""Rules of sampling that few ask for: which of the likeliest are left."""

import math

import numpy as np

from .kernels.pick import EXP

OFF = {"top_n_sigma": -1, "typical_p": 1, "xtc_probability": 0, "mirostat": 0}  # they do nothing
ZIPF = 100  # tokens from whose chances the first Mirostat estimates how fast chances fall


def exp_alike(x):
    """e^x of float64 <= 0, of + and * alone: the same on every machine, which np.exp is not."""
    x = np.maximum(x, -700.0)
    n = np.floor(x * 1.4426950408889634 + 0.5)
    r = x - n * 0.693147180369123816490 - n * 1.90821492927058770002e-10
    y = np.zeros_like(x)
    for c in EXP:
        y = y * r + c
    return np.ldexp(y, n.astype(np.int64))


def summed(x):
    """The sum, one after the other: the same on every machine, which np.sum is not."""
    return float(np.cumsum(x)[-1])


def chances_in(x):
    """Logits in falling order -> their chances."""
    weights = exp_alike(x - x[0])
    return weights / summed(weights)


class Narrowing:
    """What the rules of how in OFF leave of the likeliest; Mirostat remembers how surprising its
    text was. With finish, top-p and min-p stand in here too, since a rule comes behind them or,
    with Mirostat, they are not used."""

    def __init__(self, how):
        self.how, self.wanted = how, 2 * how.mirostat_tau
        self.finish = bool(how.mirostat or how.xtc_probability)
        self.left = None  # float64 logits of the last choice, over the temperature

    def __call__(self, logits, order, coin):
        """float32 logits [n], ids in falling order, a number in [0, 1) -> (those ids that are left,
        a number in [0, 1) that is still free)."""
        how, x = self.how, logits[order].astype(np.float64)
        if how.mirostat:
            self.left = x / how.temperature
            n = (self.at_zipf if how.mirostat == 1 else self.at_surprise)(len(logits))
            self.left = self.left[:n]
            return order[:n], coin
        for stays in (self.within_sigmas, self.typical, self.by_share):
            kept = stays(x, logits)
            order, x = order[kept], x[kept]
        if how.xtc_probability:
            acts = coin < how.xtc_probability
            likely = int((chances_in(x) >= how.xtc_threshold).sum())
            order = order[max(likely - 1, 0) if acts else 0 :]
            low, wide = (0, how.xtc_probability) if acts else (how.xtc_probability, 1)
            coin = (coin - low) / (wide - low)
        return order, coin

    def within_sigmas(self, x, logits):
        """--top-n-sigma: at most so many standard deviations of all logits below the largest."""
        if self.how.top_n_sigma <= 0:
            return slice(None)
        every = logits.astype(np.float64)
        away = every - summed(every) / len(every)
        return x >= x[0] - self.how.top_n_sigma * math.sqrt(summed(away * away) / len(every))

    def typical(self, x, _):
        """--typical: those whose surprise is nearest to the mean, with this share."""
        if self.how.typical_p >= 1:
            return slice(None)
        chances = chances_in(x)
        nearest = np.argsort(np.abs(summed(chances * x) - x), kind="stable")
        sums = np.cumsum(chances[nearest])
        return np.sort(nearest[: 1 + np.searchsorted(sums[:-1], self.how.typical_p, "right")])

    def by_share(self, x, _):
        """Top-p, then min-p."""
        if not self.finish:
            return slice(None)
        weights, n = exp_alike(x - x[0]), len(x)
        if self.how.top_p < 1:
            sums = np.cumsum(weights)
            n = 1 + int(np.searchsorted(sums[:-1], self.how.top_p * sums[-1]))
        return slice(min(n, int((weights >= self.how.min_p).sum())))

    def at_zipf(self, n):
        """--mirostat 1 -> how many are left: as many as, of chances that fall like Zipf's, surprise
        as is wanted. n: how many tokens there are."""
        few = self.left[:ZIPF].tolist()
        steps = [math.log((i + 2) / (i + 1)) for i in range(len(few) - 1)]
        steep = sum(t * (a - b) for t, a, b in zip(steps, few, few[1:]))
        if steep <= 0:
            return n  # all are alike
        steep /= sum(t * t for t in steps)
        beyond = steep - 1
        spread = beyond / (1 - n**-beyond) if beyond else 1 / math.log(n)
        bits = (self.wanted + math.log2(spread)) / steep
        return max(1, int(2**bits)) if bits < math.log2(n) else n

    def at_surprise(self, _):
        """--mirostat 2 -> how many are left: those that surprise no more than is wanted."""
        least = 2.0 ** -max(self.wanted, 0.0)
        return max(1, int((chances_in(self.left) >= least).sum()))

    def chosen(self, at):
        """Learn which of those that were left was chosen."""
        if self.how.mirostat:
            surprise = -math.log2(chances_in(self.left)[at])
            self.wanted -= self.how.mirostat_eta * (surprise - self.how.mirostat_tau)
