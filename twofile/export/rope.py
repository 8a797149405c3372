"""The angles of positions: frequencies and what stretches them."""

import math
from dataclasses import dataclass

import numpy as np

from ..errors import ModelError, printable
from .damage import reading


@dataclass(frozen=True)
class Turn:
    """What a table of angles is made for, before anything stretches it."""

    head_dim: int
    rotated: int  # columns of a head that turn
    theta: float
    old: float  # positions before it was stretched
    max_ctx: int

    @property
    def frequencies(self):
        """float64 [rotated / 2]"""
        return 1 / self.theta ** (np.arange(0, self.rotated, 2) / self.rotated)


# Each: a Turn and what config.json says of the scaling -> frequencies float64 [pairs], or
# [2, pairs] for short contexts and for long ones; amplitude.


def plain(turn, said):
    return turn.frequencies, 1.0


def linear(turn, said):
    return turn.frequencies / said["factor"], 1.0


def llama3(turn, said):
    """Llama 3.1: slow waves are stretched, fast ones kept, those between blended."""
    low, high, f = said["low_freq_factor"], said["high_freq_factor"], turn.frequencies
    blend = np.clip((turn.old * f / (2 * math.pi) - low) / (high - low), 0, 1)
    return (1 - blend) * f / said["factor"] + blend * f, 1.0


def yarn(turn, said):
    """Peng et al. 2023."""
    f, factor = turn.frequencies, said.get("factor") or turn.max_ctx / turn.old
    grow = lambda m: 0.1 * m * math.log(factor) + 1 if factor > 1 else 1.0

    def column(turns):
        size = turn.rotated * math.log(turn.old / (turns * 2 * math.pi))
        return size / (2 * math.log(turn.theta))

    low, high = column(said.get("beta_fast") or 32), column(said.get("beta_slow") or 1)
    if said.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, turn.rotated - 1)
    ramp = np.clip((np.arange(turn.rotated // 2) - low) / max(high - low, 0.001), 0, 1)
    f = f / factor * ramp + f * (1 - ramp)
    both = said.get("mscale") and said.get("mscale_all_dim")
    amplitude = grow(said["mscale"]) / grow(said["mscale_all_dim"]) if both else grow(1)
    return f, said.get("attention_factor") or amplitude


def longrope(turn, said):
    """Ding et al. 2024."""
    factor = said.get("factor") or turn.max_ctx / turn.old
    grown = math.sqrt(1 + math.log(factor) / math.log(turn.old)) if factor > 1 else 1.0
    both = said["short_factor"], said["long_factor"]
    f = np.stack([turn.frequencies / np.array(factors, float) for factors in both])
    return f, said.get("attention_factor") or grown


def dynamic(turn, said):
    """Frequencies that change with the length of a text beyond those it was trained for: of texts
    within, and of the longest."""
    dim, factor = turn.rotated, said["factor"]
    longer = max(factor * turn.max_ctx / turn.old - (factor - 1), 1)
    base = turn.theta * longer ** (dim / (dim - 2))
    f = turn.frequencies
    return (f if longer == 1 else np.stack((f, 1 / base ** (np.arange(0, dim, 2) / dim)))), 1.0


def by_alpha(turn, said):
    """HunYuan's, which does not change with the length."""
    dim = turn.head_dim
    theta = turn.theta * said["alpha"] ** (dim / (dim - 2))
    return 1 / theta ** (np.arange(0, dim, 2) / dim), 1.0


STRETCHES = (  # by rope_type; what it must say
    ("default", plain, ()),
    ("linear", linear, ("factor",)),
    ("llama3", llama3, ("factor", "low_freq_factor", "high_freq_factor")),
    ("yarn", yarn, ()),
    ("longrope", longrope, ("short_factor", "long_factor")),
    ("dynamic", dynamic, ("factor",)),
)
# what some are called too: that of pictures turns a text alone as any other
ALSO = {"su": "longrope", "mrope": "default", "none": "default"}
OLD = "original_max_position_embeddings"


def rope_kind(said):
    """The rope_type of what a source says, by one of its names."""
    kind = said.get("rope_type") or said.get("type") or "default"
    if kind == "yarn" and said.get("short_factor") is not None:  # so called in some of Phi 3
        return "longrope"
    return ALSO.get(kind, kind)


def stretched(said, old, trained):
    """Positions with those that are added by what is said of the scaling; old: before, None = as
    many as it was trained for. A reading line."""
    kind, factor = rope_kind(said), float(said.get("factor") or 1)
    if kind in ("yarn", "longrope"):
        return max(trained, int((old or trained) * factor))
    if kind == "dynamic" and not said.get("alpha"):
        return max(trained, int(trained * factor))
    return trained


def rope_table(head_dim, theta, scaling=None, rotated=None, max_ctx=0):
    """float32 [n, 2, head_dim / 2]: inverse frequencies (float64, rounded once) and amplitudes. n
    is 2 for longrope and dynamic: for short contexts and for long ones, else 1. Columns beyond
    rotated are left alone: frequency 0, amplitude 1. All as transformers computes them. Raises
    ModelError."""
    said = scaling or {}
    partly = rotated is not None and (rotated % 2 or not 0 <= rotated <= head_dim)
    if partly or not 0 < theta < math.inf:
        text = f"rotates {rotated} of {head_dim} columns, base {theta}"
        raise ModelError(f"{text}; expected an even number of them; is the configuration damaged?")
    with reading():
        kind = rope_kind(said)
    rotated = head_dim if rotated is None else rotated
    if kind == "proportional":
        return proportional(head_dim, theta, said)
    stretch, needs = next((row[1:] for row in STRETCHES if row[0] == kind), (None, ()))
    if kind == "dynamic" and said.get("alpha"):
        stretch, needs = by_alpha, ()
    if stretch is None:
        known = ", ".join([*(row[0] for row in STRETCHES), "proportional"])
        found = f"rope type {printable(str(kind))[:60]!r} is not supported"
        raise ModelError(f"{found}; known: {known}")
    lacks = [key for key in needs if said.get(key) is None]
    if lacks:
        found = f"rope type {kind} does not say {', '.join(lacks)}"
        raise ModelError(f"{found}; expected it to; complete rope_scaling as its makers have it")
    old = said.get(OLD) or max_ctx
    with reading():
        f, amplitude = stretch(Turn(head_dim, rotated, theta, old, max_ctx), said)
        f = np.atleast_2d(f)
        table = np.zeros((len(f), 2, head_dim // 2))
        table[:, 1] = 1
        table[:, 0, : rotated // 2], table[:, 1, : rotated // 2] = f, amplitude
        return table.astype(np.float32)


def proportional(head_dim, theta, said):
    """Frequencies as if the whole head turned, but only the first of them do."""
    with reading():
        f = 1 / theta ** (np.arange(0, head_dim, 2) / head_dim) / said.get("factor", 1.0)
        f[int(said.get("partial_rotary_factor", 1.0) * head_dim // 2) :] = 0
    return np.stack((f, np.ones(head_dim // 2)))[None].astype(np.float32)


def second_rope(j, c):
    """The table of layers of the second kind of attention, by a config.json."""
    rope = {"rope_type": "proportional", "partial_rotary_factor": 0.25}
    with reading():
        rope = (j.get("rope_parameters") or {}).get("full_attention") or rope
        theta = float(rope.get("rope_theta") or 1e6)
    return rope_table(c.second.size, theta, rope, None, c.max_ctx)


def no_rope(c):
    """What hub_rope and gguf_rope give where nothing turns."""
    return rope_table(c.heads.size, 1.0, rotated=0), [-1] * c.n_layers, 0, 0
