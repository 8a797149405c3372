"""The forward in float64, whole sequence at once, no cache: the slow twin of run.py's. Shares no code with it."""

import naive
import numpy as np

UNGATED, POST_NORM, NO_PRE_NORM = 64, 128, 256  # bits of config.flags


def logits(config, tensors, ids, int8=False):
    """float64 [len(ids), vocab]. tensors: name -> float64 array of true shape (naive.read dequantises a model.bin).
    int8: round the inputs of every matrix to int8 by groups of 32, as the kernels do for q8_0 and q4_0."""
    c, t = config, tensors
    x = t["embed"][ids] * (c.embed_scale or 1)
    if "positions" in t:
        x = x + t["positions"][: len(ids)]
    if "embed_norm.w" in t:
        x = norm(c, t, "embed_norm", x)
    for i in range(c.n_layers):
        h = x if c.flags & NO_PRE_NORM else norm(c, t, f"l{i}.an", x)
        a = linear(t, f"l{i}.o", attention(c, t, i, h, int8), int8)
        a = norm(c, t, f"l{i}.an2", a) if c.flags & POST_NORM else a * (c.resid_scale or 1)
        y = x if c.parallel else x + a
        h = y if c.flags & NO_PRE_NORM else norm(c, t, f"l{i}.fn", y)
        if c.n_experts:
            x = x + a + mixture(c, t, i, h, int8) * (c.resid_scale or 1)
            continue
        h = linear(t, f"l{i}.gate_up", h, int8)
        act = naive.ACTIVATIONS[("silu", "gelu_tanh", "gelu_erf", "relu", "relu2")[c.act]]
        h = act(h) if c.flags & UNGATED else act(h[:, : c.ffn_dim]) * h[:, c.ffn_dim :]
        h = linear(t, f"l{i}.down", h, int8)
        x = x + a + (norm(c, t, f"l{i}.fn2", h) if c.flags & POST_NORM else h * (c.resid_scale or 1))
    x = norm(c, t, "out_norm", x)
    head = {"head": t.get("head", t["embed"]), **({"head.b": t["head.b"]} if "head.b" in t else {})}
    x = linear(head, "head", x, int8) * (c.logit_scale or 1)
    return c.final_cap * np.tanh(x / c.final_cap) if c.final_cap else x


def mixture(c, t, i, h, int8):
    """Token by token: the chosen experts by weight, and the shared one. The router and the shared gate read h unrounded."""
    silu, out = naive.ACTIVATIONS["silu"], np.zeros_like(h)
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
                y = silu(gate) * value
            out[n] += weight * linear({"w": down[expert], "w.b": down_bias[expert]}, "w", y, int8)[0]
    if c.shared_ffn:
        y = linear(t, f"l{i}.gate_up", h, int8)
        y = linear(t, f"l{i}.down", silu(y[:, : c.shared_ffn]) * y[:, c.shared_ffn :], int8)
        out += y / (1 + np.exp(-h @ t[f"l{i}.shared_gate"].T)) if f"l{i}.shared_gate" in t else y
    return out


def attention(c, t, i, h, int8):
    n, hd = len(h), c.head_dim
    qkv = linear(t, f"l{i}.qkv", h, int8).reshape(n, -1, hd)
    q, k, v = np.split(qkv, [c.n_heads, c.n_heads + c.n_kv_heads], axis=1)
    if c.qk_norm:
        wq, wk = np.split(t[f"l{i}.qk.w"], [c.n_heads * hd])
        over = (2,) if c.qk_norm == 1 else (1, 2)
        rms = lambda x, w: x / np.sqrt((x**2).mean(over, keepdims=True) + c.eps) * w.reshape(1, -1, hd)
        q, k = rms(q, wq), rms(k, wk)
    if t["rope_id"][i] >= 0:
        table = t["rope"][int(t["rope_id"][i])]
        q, k = rotate(q, table), rotate(k, table)
    if c.temp_beta:
        q = q * (1 + c.temp_beta * np.log(1 + np.arange(n) // c.temp_len))[:, None, None]
    att = np.zeros((n, c.n_heads, hd))
    far = int(t["window"][i]) or n
    seen = np.tri(n, dtype=bool) & ~np.tri(n, k=-far, dtype=bool)
    for head in range(c.n_heads):
        scores = q[:, head] @ k[:, head // (c.n_heads // c.n_kv_heads)].T * (c.attn_scale or hd**-0.5)
        scores = c.attn_cap * np.tanh(scores / c.attn_cap) if c.attn_cap else scores
        scores = np.where(seen, scores, -np.inf)
        sink = np.full((n, 1), t[f"l{i}.sinks"][head]) if f"l{i}.sinks" in t else np.full((n, 1), -np.inf)
        top = np.maximum(scores.max(1, keepdims=True), sink)
        weights = np.exp(scores - top)
        weights /= weights.sum(1, keepdims=True) + np.exp(sink - top)
        att[:, head] = weights @ v[:, head // (c.n_heads // c.n_kv_heads)]
    return att.reshape(n, -1)


def linear(t, name, x, int8):
    if int8:
        values, scales = naive.int8_activations(x)
        x = (values * scales.astype(float)[..., None]).reshape(len(x), -1)[:, : x.shape[1]]
    return x @ t[name].T + t.get(name + ".b", 0)


def norm(c, t, name, x):
    x = x - x.mean(1, keepdims=True) if c.norm else x
    return x / np.sqrt((x**2).mean(1, keepdims=True) + c.eps) * t[name + ".w"] + t.get(name + ".b", 0)


def rotate(x, table):
    """Half-split rotary embedding by complex multiplication; the angle is the float32 product the format prescribes."""
    half = x.shape[2] // 2
    frequency, amplitude = table.astype(np.float32)
    angle = (np.arange(len(x), dtype=np.float32)[:, None] * frequency).astype(np.float64)
    turn = (np.exp(1j * angle) * amplitude.astype(np.float64))[:, None]
    z = (x[..., :half] + 1j * x[..., half:]) * turn
    return np.concatenate([z.real, z.imag], axis=-1)
