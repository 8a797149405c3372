"""Mixtures of experts, token by token."""

import numpy as np

from twins.activation import BY_NUMBER, CURVES
from twins.matmul import linear


def mixture(c, t, i, h, int8):
    """Token by token: the chosen experts by weight, and the shared one. The router and the shared gate read h unrounded."""
    act, out = CURVES.get(BY_NUMBER[c.act]), np.zeros_like(h)
    up_bias = t.get(f"l{i}.experts_up.b", np.zeros(c.n_experts * 2 * c.expert_ffn)).reshape(c.n_experts, -1)
    down_bias = t.get(f"l{i}.experts_down.b", np.zeros(c.n_experts * c.dim)).reshape(c.n_experts, -1)
    up = t[f"l{i}.experts_up"].reshape(c.n_experts, 2 * c.expert_ffn, c.dim)
    down = t[f"l{i}.experts_down"].reshape(c.n_experts, c.dim, c.expert_ffn)
    scores = h @ t[f"l{i}.router"].T + t.get(f"l{i}.router.b", 0)
    for n, row in enumerate(np.exp(scores - scores.max(1, keepdims=True))):
        row = row / row.sum()
        chosen = np.argsort(-row, kind="stable")[: c.top_k]
        weights = row[chosen] / (row[chosen].sum() if c.norm_topk else 1)
        for expert, weight in zip(chosen, weights):
            y = linear({"w": up[expert], "w.b": up_bias[expert]}, "w", h[n : n + 1], int8)
            gate, value = y[:, : c.expert_ffn], y[:, c.expert_ffn :]
            if c.act == 5:
                gate, value = np.minimum(gate, c.act_limit), np.clip(value, -c.act_limit, c.act_limit) + 1
                y = gate / (1 + np.exp(-c.act_alpha * gate)) * value
            else:
                y = act(gate) * value
            out[n] += weight * linear({"w": down[expert], "w.b": down_bias[expert]}, "w", y, int8)[0]
    if c.shared_ffn:
        y = linear(t, f"l{i}.gate_up", h, int8)
        y = linear(t, f"l{i}.down", act(y[:, : c.shared_ffn]) * y[:, c.shared_ffn :], int8)
        out += y / (1 + np.exp(-h @ t[f"l{i}.shared_gate"].T)) if f"l{i}.shared_gate" in t else y
    return out
