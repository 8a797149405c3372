"""Logits and one number in [0, 1) become the next id."""

from dataclasses import dataclass

import numpy as np

from .errors import ModelError
from .kernels.pick import BEST, COIN, TOP_K
from .program.buffers import Buffer


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: penalties, then top-k, top-p, min-p, then the temperature; 0 = the most likely."""

    temperature: float = 0.8
    top_k: int = 40  # 0 = all
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64  # 0 = none, -1 = the whole context

    def __post_init__(self):
        limits = {
            "temperature": (0, 100),
            "top_k": (0, 1 << 31),
            "top_p": (1e-9, 1),
            "min_p": (0, 1),
            "repeat_penalty": (1e-3, 1e3),
            "repeat_last_n": (-1, 1 << 31),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ModelError(f"{name} is {getattr(self, name)}, expected {low:g} to {high:g}")


class Sampler:
    """Logits to ids, as how says, for a vocabulary of n tokens. code: a Code with the kernel "pick"."""

    def __init__(self, how, n, code):
        self.how, self.n, self.pick = how, n, code.function("pick")
        self.k = 1 if how.temperature == 0 else min(how.top_k or n, n)
        self.block = Buffer(BEST + 16 * self.k)
        self.settings = self.block.view(np.float64, BEST // 8)
        self.settings[:3] = how.temperature, how.top_p, how.min_p
        self.settings.view(np.int64)[TOP_K // 8] = self.k

    def __call__(self, logits, recent, coin):
        """float32 logits [n or more], the ids so far, a number in [0, 1) -> the next id, or -1 if a logit is not finite."""
        logits, how = logits[: self.n], self.how
        if how.repeat_penalty != 1.0 and how.repeat_last_n:
            seen = np.unique(
                recent if how.repeat_last_n < 0 else recent[-how.repeat_last_n :]
            ).astype(np.int64)
            seen = seen[seen < self.n]
            logits = logits.copy()
            was, penalty = logits[seen], np.float32(how.repeat_penalty)
            logits[seen] = np.where(was > 0, was / penalty, was * penalty)
        self.settings[COIN // 8] = coin
        if self.k <= 1024:
            return self.pick(logits.ctypes.data, self.n, self.block.address, 0)
        order = np.argsort(-logits, kind="stable")[
            : self.k
        ]  # so many are faster sorted than inserted
        words = self.block.view(np.float32, BEST // 4 + 2 * self.k)[BEST // 4 :]
        words[: self.k], words[self.k :].view(np.int32)[:] = logits[order], order
        return self.pick(0, self.k, self.block.address, 1) if np.isfinite(logits).all() else -1


@dataclass(frozen=True)
class Rule:
    """A rule of sampling: a field of Sampling, a flag, a field of a request in JSON."""

    name: str
    flag: str
    kind: type  # int or float
    default: float
    least: float
    most: float
    metavar: str
    help: str


RULES = (
    Rule(
        "temperature",
        "--temp",
        float,
        0.8,
        0,
        100,
        "X",
        "temperature, 0 = most likely (default the model's, or 0.8)",
    ),
    Rule(
        "top_k",
        "--top-k",
        int,
        40,
        0,
        1 << 31,
        "N",
        "of the N likeliest, 0 = all (default the model's, or 40)",
    ),
    Rule(
        "top_p",
        "--top-p",
        float,
        0.95,
        1e-9,
        1,
        "X",
        "of the likeliest with this share (the model's, or 0.95)",
    ),
    Rule(
        "min_p",
        "--min-p",
        float,
        0.05,
        0,
        1,
        "X",
        "at least X times the best chance (default 0.05)",
    ),
    Rule(
        "repeat_penalty",
        "--repeat-penalty",
        float,
        1.0,
        1e-3,
        1e3,
        "X",
        "against recent tokens, 1 = off (default)",
    ),
    Rule(
        "repeat_last_n",
        "--repeat-last-n",
        int,
        64,
        -1,
        1 << 31,
        "N",
        "how many are recent, -1 = all (default 64)",
    ),
)
