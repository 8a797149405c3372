"""The angles that a config.json asks for."""

import numpy as np

from ..damage import reading
from ..families.rules import first_of
from ..rope import OLD, no_rope, rope_kind, rope_table, stretched
from ..say import say

CONTEXT = "max_position_embeddings", "n_positions", "n_ctx"


def trained_context(j):
    return int(first_of(j, *CONTEXT, otherwise=2048))


def hub_context(j):
    """Positions that a model is for: with those that a scaling adds which a user wrote into
    config.json, as model cards tell, beside the length that it was trained for."""
    both = j.get("rope_parameters") or j.get("rope_scaling") or {}
    rope = both.get("full_attention") or both
    said = j.get("max_sequence_length") if rope_kind(rope) == "linear" else 0  # as Vicuna's
    return max(stretched(rope, old_context(j, rope), trained_context(j)), int(said or 0))


def old_context(j, rope):
    """Positions before a scaling, as transformers takes them; None = as many as there are."""
    kind, trained = rope_kind(rope), trained_context(j)
    if kind == "dynamic":
        return trained
    said = j.get(OLD) or rope.get(OLD)
    return said or (trained if kind in ("yarn", "longrope") else None)


def hub_rope(j, w, c, window):
    """-> (tables, each layer's, rotated columns of a head, context beyond which the second half of
    the tables is used)."""
    if not w.family.rotary:
        return no_rope(c)
    with reading():
        full, slide = both_ways(j, w, c)
        rotated = rotated_columns(j, full, w, c)
        kinds = [full if not size or full == slide else slide for size in window]
        used = [kind for i, kind in enumerate(kinds) if kind not in kinds[:i]]
    made = []
    for kind in used:
        with reading():
            known = {k: v for k, v in kind.items() if v is not None}
            theta = float(known.get("rope_theta") or 10000.0)
            known[OLD] = old_context(j, known)
        made.append(rope_table(c.heads.size, theta, known, rotated, c.max_ctx))
    # short ones, then long
    both = [np.stack([t[min(n, len(t) - 1)] for t in made]) for n in range(max(map(len, made)))]
    table, long = np.concatenate(both), 0
    table[:, 0] *= -1 if w.family.backwards else 1
    with reading():
        if len(both) == 2:
            long = int(old_context(j, full))
        ids = [used.index(kind) if w.form.rotates(j, i) else -1 for i, kind in enumerate(kinds)]
        if long and rope_kind(full) == "dynamic":
            say_dynamic(long, c.max_ctx)
    return table, ids, rotated, long


def say_dynamic(trained, longest):
    """What a table for a text's length becomes where there is one for all lengths."""
    found = f"rope type dynamic: a context to {trained:,} tokens turns as trained"
    say(f"{found}, a longer one by the angles of {longest:,} from its first token on")


def rotated_columns(j, full, w, c):
    """Columns of a head that turn."""
    if w.form.columns:
        return int(j.get(w.form.columns) or c.heads.size)
    if w.form.share is None:
        return c.heads.size
    share = first_of(j, "partial_rotary_factor", "rotary_pct")
    share = first_of(full, "partial_rotary_factor", otherwise=share)
    return int(c.heads.size * (w.form.share if share is None else share))


def both_ways(j, w, c):
    """What is said of the layers that see everything, and of those with a window."""
    given = j.get("rope_parameters") or {}
    rope = given or {
        "rope_theta": first_of(j, "rope_theta", "rotary_emb_base"),
        **(j.get("rope_scaling") or {}),
    }
    full, slide = (rope.get(k, rope) for k in ("full_attention", "sliding_attention"))
    if j.get("rope_local_base_freq"):  # Gemma 3 as on the Hub: the scaling is for the global layers
        slide = {"rope_theta": j["rope_local_base_freq"]}
    elif w.form.window_unscaled and not given:
        slide = {"rope_theta": rope["rope_theta"]}
    if c.second:  # layers that see everything have a table of their own
        full = slide
    return full, slide
