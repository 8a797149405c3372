"""Logits and one number in [0, 1) become the next id."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .errors import WrongType, shown
from .kernels.pick import ACTING, PICK
from .narrowing import OFF, Narrowing
from .options import bias_asked, number_between
from .program.buffers import Buffer


def log_softmax(logits):
    """float32 logits [..., vocab] -> float64 log-probabilities (natural)."""
    x = logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def chances_of(chances, ids):
    """The log-probabilities float64 [rows] of ids, int [rows], each in its row of chances [rows,
    n]; none (-inf) for ids that are not below n."""
    ids, n = np.asarray(ids, np.int64), chances.shape[-1]
    own = np.take_along_axis(chances, np.minimum(ids, n - 1)[:, None], 1)[:, 0]
    return np.where(ids < n, own, -np.inf)


def likeliest(chances, n):
    """The ids [..., n] of the n largest of chances [..., vocab], best first, equals by id."""
    if not n:
        return np.zeros((*chances.shape[:-1], 0), np.int64)
    return np.argsort(-chances, kind="stable")[..., :n]


class Rule(NamedTuple):
    """A rule of sampling: its name here and in JSON, its flag, its number's type and range."""

    name: str
    flag: str
    kind: type
    default: float
    least: float
    most: float
    metavar: str
    help: str


# In the order of Sampling's fields. What a rule does stands in Sampler.penalised(), for those that
# change logits by what came before, in kernels/pick.py, for those that choose, or in narrowing.
# fmt: off
RULES = (
    Rule("temperature", "--temp", float, 0.8, 0, 100, "X",
         "temperature, 0 = most likely (default the model's, or 0.8)"),
    Rule("top_k", "--top-k", int, 40, 0, 1 << 31, "N",
         "of the N likeliest, 0 = all (default the model's, or 40)"),
    Rule("top_p", "--top-p", float, 0.95, 0, 1, "X",
         "of the likeliest with this share (the model's, or 0.95)"),
    Rule("min_p", "--min-p", float, 0.05, 0, 1, "X",
         "at least X times the best chance (default 0.05)"),
    Rule("repeat_penalty", "--repeat-penalty", float, 1.0, 0.001, 1000, "X",
         "against recent tokens, 1 = off (default)"),
    Rule("repeat_last_n", "--repeat-last-n", int, 64, -1, 1 << 31, "N",
         "how many are recent, -1 = all (default 64)"),
    Rule("presence_penalty", "--presence-penalty", float, 0.0, -100, 100, "X",
         "off the logit of each recent token, 0 = off (default)"),
    Rule("frequency_penalty", "--frequency-penalty", float, 0.0, -100, 100, "X",
         "the same, for each time that it was there"),
    Rule("top_n_sigma", "--top-n-sigma", float, -1.0, -1, 100, "X",
         "at most X standard deviations below the best, -1 = off (default)"),
    Rule("typical_p", "--typical", float, 1.0, 0, 1, "X",
         "of the most typical with this share, 1 = off (default)"),
    Rule("xtc_probability", "--xtc-probability", float, 0.0, 0, 1, "X",
         "how often all likely ones but the last are left out (default 0)"),
    Rule("xtc_threshold", "--xtc-threshold", float, 0.1, 0, 1, "X",
         "... which have at least this chance (default 0.1)"),
    Rule("mirostat", "--mirostat", int, 0, 0, 2, "N",
         "Mirostat 1 or 2 instead of top-k to min-p, 0 = off (default)"),
    Rule("mirostat_tau", "--mirostat-ent", float, 5.0, 0, 100, "X",
         "... surprise that it aims at, in bits (default 5)"),
    Rule("mirostat_eta", "--mirostat-lr", float, 0.1, 0, 10, "X",
         "... how fast it learns (default 0.1)"),
)
# fmt: on
# rules on recent tokens: at which number each does nothing
PENALTIES = {"repeat_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0}


class InRange:
    """A number for each of RULES, by its name; ModelError for one out of its range."""

    def __post_init__(self) -> None:
        for rule in RULES:
            value = getattr(self, rule.name)
            wants = f"{rule.least} to {rule.most}, {rule.kind.__name__}; change it"
            number = number_between(rule.name, value, rule.least, rule.most, wants)
            if rule.kind is int and not isinstance(number, int):
                raise WrongType(f"{rule.name} is {shown(value)}, expected {wants}")
            object.__setattr__(self, rule.name, number)


@dataclass(frozen=True)
class Sampling(InRange):
    """How the next token is chosen: biases, penalties, top-n-sigma, top-k, typical, top-p, min-p,
    XTC, then the temperature; 0 = the most likely. As RULES, which say what each may be."""

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_n_sigma: float = -1.0
    typical_p: float = 1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1


def sampling_asked(model, asked):
    """Sampling as asked, {field: value}; what is None is as a Model's file has it. Raises
    ModelError."""
    if not hasattr(model, "sampling"):
        raise WrongType(f"model is {shown(model)}, expected a Model; give Model(PATH)")
    given = {name: value for name, value in asked.items() if value is not None}
    return Sampling(**{**model.sampling, **given})


class Sampler:
    """Logits to ids, as how says, for a vocabulary of n tokens. code: a Code with the kernel
    "pick". bias: {id: what is added to its logit, -inf = it is never chosen}."""

    def __init__(self, how, n, code, bias=None):
        if not isinstance(how, Sampling):
            raise WrongType(f"how is {shown(how)}, expected Sampling; give such")
        self.how, self.n, self.pick = how, n, code.function("pick")
        bias = bias_asked(bias, n)
        finite = {i: value for i, value in bias.items() if value > -np.inf}
        self.raised, self.by = np.array([*finite], np.int64), np.array([*finite.values()], "f4")
        self.free = None  # the ids that can be chosen, if not all can
        if len(finite) < len(bias):
            self.free = np.setdiff1d(np.arange(n), [i for i in bias if i not in finite])
        self.k = 1 if how.temperature == 0 else min((not how.mirostat and how.top_k) or n, n)
        narrow = how.temperature and any(getattr(how, name) != off for name, off in OFF.items())
        self.narrowing = Narrowing(how) if narrow else None
        self.block = Buffer(PICK.best + 16 * self.k)
        self.settings = self.block.view(np.float64, PICK.best // 8)
        for name in ACTING:
            self.settings[getattr(PICK, name) // 8] = getattr(how, name)
        if narrow and self.narrowing.finish:
            self.settings[[PICK.top_p // 8, PICK.min_p // 8]] = 1, 0
        self.settings.view(np.int64)[PICK.k // 8] = self.k

    def __call__(self, logits, recent, coin, allowed=None):
        """float32 logits [n or more], the ids so far, a number in [0, 1) -> the next id, or -1 if a
        logit is not finite. allowed: int [some], those of which it is one, in their order."""
        logits = self.penalised(logits[: self.n], recent)
        free = self.free if allowed is None else allowed
        if free is None:
            return self.chosen(logits, coin)
        at = self.chosen(logits[free], coin)
        return int(free[at]) if at >= 0 else at

    def chosen(self, logits, coin):
        """Which of float32 logits is chosen, or -1 if one is not finite."""
        self.settings[PICK.coin // 8] = coin
        if self.k <= 1024 and not self.narrowing:
            return self.pick(logits.ctypes.data, len(logits), self.block.address, 0)
        if not np.isfinite(logits).all():
            return -1
        # so many are faster sorted than inserted
        order = np.argsort(-logits, kind="stable")[: self.k]
        if self.narrowing:
            order, self.settings[PICK.coin // 8] = self.narrowing(logits, order, coin)
        words = self.block.view(np.float32, PICK.best // 4 + 2 * self.k)[PICK.best // 4 :]
        words[: len(order)] = logits[order]
        words[self.k :].view(np.int32)[: len(order)] = order
        token = self.pick(0, len(order), self.block.address, 1)
        if self.narrowing:
            self.narrowing.chosen(order.tolist().index(token))
        return token

    def penalised(self, logits, recent):
        """The logits after biases and penalties: the same array if there are none, or else a
        copy."""
        how = self.how
        idle = all(getattr(how, name) == nothing for name, nothing in PENALTIES.items())
        idle = idle or not how.repeat_last_n
        if idle and not len(self.raised):
            return logits
        logits = logits.copy()
        logits[self.raised] += self.by
        if idle:
            return logits
        penalty = np.float32(how.repeat_penalty)
        last = recent if how.repeat_last_n < 0 else recent[-how.repeat_last_n :]
        seen, times = np.unique(np.array(last, np.int64), return_counts=True)
        seen, times = seen[seen < self.n], times[seen < self.n].astype(np.float32)
        was = logits[seen]
        less = times * np.float32(how.frequency_penalty) + np.float32(how.presence_penalty)
        logits[seen] = np.where(was > 0, was / penalty, was * penalty) - less
        return logits
