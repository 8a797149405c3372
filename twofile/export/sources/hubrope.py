"""The angles that a config.json asks for."""

import numpy as np

from ..damage import reading
from ..families.rules import first_of
from ..rope import no_rope, rope_table


def hub_rope(j, w, c, window):
    """-> (tables, each layer's, rotated columns of a head, context beyond which the second half of
    the tables is used)."""
    if not w.family.rotary:
        return no_rope(c)
    with reading():
        old = j.get("original_max_position_embeddings")
        full, slide = both_ways(j, w, c)
        rotated = rotated_columns(j, full, w, c)
        kinds = [full if not size or full == slide else slide for size in window]
        used = [kind for i, kind in enumerate(kinds) if kind not in kinds[:i]]
    made = []
    for kind in used:
        with reading():
            known = {k: v for k, v in kind.items() if v is not None}
            theta = float(known.get("rope_theta") or 10000.0)
        known = {"original_max_position_embeddings": old, **known}
        made.append(rope_table(c.heads.size, theta, known, rotated, c.max_ctx))
    # short ones, then long
    both = [np.stack([t[min(n, len(t) - 1)] for t in made]) for n in range(max(map(len, made)))]
    table, long = np.concatenate(both), 0
    table[:, 0] *= -1 if w.family.backwards else 1
    with reading():
        if len(both) == 2:
            long = int(old or full.get("original_max_position_embeddings") or 0)
        ids = [used.index(kind) if w.form.rotates(j, i) else -1 for i, kind in enumerate(kinds)]
    return table, ids, rotated, long


def rotated_columns(j, full, w, c):
    """Columns of a head that turn."""
    share = first_of(j, "partial_rotary_factor", "rotary_pct")
    share = first_of(full, "partial_rotary_factor", otherwise=share)
    share = w.form.share if share is None else share
    return int(j["rotary_dim"]) if j.get("rotary_dim") else int(c.heads.size * share)


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
