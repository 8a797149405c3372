"""The angles of positions: frequencies and what stretches them."""

import math

import numpy as np

from ..errors import ModelError, printable


def rope_table(head_dim, theta, scaling=None, rotated=None, max_ctx=0):
    """float32 [n, 2, head_dim / 2]: inverse frequencies (float64, rounded once) and amplitudes. n is 2 for longrope: for short
    contexts and for long ones, else 1. Columns beyond rotated are left alone: frequency 0, amplitude 1.

    yarn: Peng et al. 2023; longrope: Ding et al. 2024; llama3: Llama 3.1's code; as transformers computes them.
    """
    scaling = scaling or {}
    if (
        rotated is not None
        and (rotated % 2 or not 0 <= rotated <= head_dim)
        or not 0 < theta < math.inf
    ):
        text = f"rotates {rotated} of {head_dim} columns, base {theta}"
        raise ModelError(f"{text}; expected an even number of them; is the configuration damaged?")
    kind, rotated = (
        scaling.get("rope_type", scaling.get("type", "default")),
        head_dim if rotated is None else rotated,
    )
    if kind == "proportional":
        # frequencies as if the whole head turned, but only the first of them do
        f = 1 / theta ** (np.arange(0, head_dim, 2) / head_dim) / scaling.get("factor", 1.0)
        f[int(scaling.get("partial_rotary_factor", 1.0) * head_dim // 2) :] = 0
        return np.stack((f, np.ones(head_dim // 2)))[None].astype(np.float32)
    f, amplitude = 1 / theta ** (np.arange(0, rotated, 2) / rotated), 1.0
    old = scaling.get("original_max_position_embeddings") or max_ctx
    if kind == "linear":
        f = f / scaling["factor"]
    elif kind == "llama3":  # slow waves are stretched, fast ones kept, those between blended
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        blend = np.clip((old * f / (2 * math.pi) - low) / (high - low), 0, 1)
        f = (1 - blend) * f / scaling["factor"] + blend * f
    elif kind == "yarn":
        factor, grow = (
            scaling["factor"],
            lambda m: 0.1 * m * math.log(scaling["factor"]) + 1 if scaling["factor"] > 1 else 1.0,
        )
        turns = lambda n: rotated * math.log(old / (n * 2 * math.pi)) / (2 * math.log(theta))
        low, high = turns(scaling.get("beta_fast") or 32), turns(scaling.get("beta_slow") or 1)
        if scaling.get("truncate", True):
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, rotated - 1)
        ramp = np.clip((np.arange(rotated // 2) - low) / max(high - low, 0.001), 0, 1)
        f = f / factor * ramp + f * (1 - ramp)
        both = scaling.get("mscale") and scaling.get("mscale_all_dim")
        amplitude = grow(scaling["mscale"]) / grow(scaling["mscale_all_dim"]) if both else grow(1)
        amplitude = scaling.get("attention_factor") or amplitude
    elif kind == "dynamic" and scaling.get("alpha"):
        # HunYuan's, which does not change with the length
        f = 1 / (theta * scaling["alpha"] ** (head_dim / (head_dim - 2))) ** (
            np.arange(0, head_dim, 2) / head_dim
        )
    elif kind == "longrope":
        factor = (
            max_ctx / old
            if scaling.get("original_max_position_embeddings")
            else scaling.get("factor", 1.0)
        )
        grown = math.sqrt(1 + math.log(factor) / math.log(old)) if factor > 1 else 1.0
        amplitude = scaling.get("attention_factor") or grown
        f = np.stack([f / np.array(scaling[key], float) for key in ("short_factor", "long_factor")])
    elif kind != "default":
        name = printable(str(kind))[:60]
        raise ModelError(
            f"rope type {name!r} is not supported; known: default, linear, llama3, yarn, longrope, proportional"
        )
    f = np.atleast_2d(f)
    table = np.zeros((len(f), 2, head_dim // 2))
    table[:, 1] = 1
    table[:, 0, : rotated // 2], table[:, 1, : rotated // 2] = f, amplitude
    return table.astype(np.float32)


def second_rope(j, c):
    """The table of layers of the second kind of attention."""
    rope = {"rope_type": "proportional", "partial_rotary_factor": 0.25}
    rope = (j.get("rope_parameters") or {}).get("full_attention") or rope
    return rope_table(c.head_dim2, float(rope.get("rope_theta") or 1e6), rope, None, c.max_ctx)
