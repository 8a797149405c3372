"""The forward in float64, whole sequence at once, no cache: the slow twin of run.py's. Shares no code with it."""

import naive
import numpy as np

UNGATED, POST_NORM, NO_PRE_NORM, ATT_GATE, V_NORM, TURNS = 64, 128, 256, 1 << 16, 1 << 17, 1 << 19  # bits of config.flags
CONV, DELTA, SECOND = 1, 2, 3  # kinds of layers


def logits(config, tensors, ids, int8=False):
    """float64 [len(ids), vocab]. tensors: name -> float64 array of true shape (naive.read dequantises a model.bin).
    int8: round the inputs of every matrix to int8 by groups of 32, as the kernels do for q8_0 and q4_0."""
    c, t = config, tensors
    x = t["embed"][ids] * (c.embed_scale or 1)
    if "positions" in t:
        x = x + t["positions"][: len(ids)]
    if "embed_norm.w" in t:
        x = norm(c, t, "embed_norm", x)
    parts, seen = layers_embeddings(c, t, x, ids, int8) if c.ple_dim else None, {}
    for i in range(c.n_layers):
        h = x if c.flags & NO_PRE_NORM else norm(c, t, f"l{i}.an", x)
        kind = c.kinds[i]
        a = short_conv(c, t, i, h, int8) if kind == CONV else delta(c, t, i, h, int8) if kind == DELTA else None
        a = linear(t, f"l{i}.o", attention(c, t, i, h, int8, seen) if a is None else a, int8)
        a = norm(c, t, f"l{i}.an2", a) if c.flags & POST_NORM else a * (c.resid_scale or 1)
        y = x if c.parallel else x + a
        h = y if c.flags & NO_PRE_NORM else norm(c, t, f"l{i}.fn", y)
        if c.n_experts:
            x = x + a + mixture(c, t, i, h, int8) * (c.resid_scale or 1)
            continue
        h = linear(t, f"l{i}.gate_up", h, int8)
        act = naive.ACTIVATIONS[("silu", "gelu_tanh", "gelu_erf", "relu", "relu2")[c.act]]
        h = act(h) if c.flags & UNGATED else act(h[:, : h.shape[1] // 2]) * h[:, h.shape[1] // 2 :]
        h = linear(t, f"l{i}.down", h, int8)
        x = x + a + (norm(c, t, f"l{i}.fn2", h) if c.flags & POST_NORM else h * (c.resid_scale or 1))
        if c.ple_dim:
            h = linear(t, f"l{i}.ple_up", act(linear(t, f"l{i}.ple_gate", x, int8)) * parts[:, i], int8)
            x = x + norm(c, t, f"l{i}.pn", h)
        x = x * t.get(f"l{i}.scale", 1)
    x = norm(c, t, "out_norm", x)
    head = {"head": t.get("head", t["embed"]), **({"head.b": t["head.b"]} if "head.b" in t else {})}
    x = linear(head, "head", x, int8) * (c.logit_scale or 1)
    return c.final_cap * np.tanh(x / c.final_cap) if c.final_cap else x


def layers_embeddings(c, t, x, ids, int8):
    """[tokens, layers, ple_dim]: what each layer gets of the tokens."""
    own = t["ple_embed"][ids].reshape(len(ids), c.n_layers, -1) * c.ple_dim**0.5
    seen = (linear(t, "ple_proj", x, int8) * c.dim**-0.5).reshape(own.shape)
    seen = seen / np.sqrt((seen**2).mean(2, keepdims=True) + c.eps) * t["ple_norm.w"]
    return (own + seen) * 0.5**0.5


def convolve(c, t, i, x):
    """Every column by itself: the sum of its last conv_len rows by the taps, the last of which is the row's own."""
    taps = t[f"l{i}.conv"].reshape(c.conv_len, -1)
    before = np.concatenate([np.zeros((c.conv_len - 1, x.shape[1])), x])
    return sum(before[k : k + len(x)] * taps[k] for k in range(c.conv_len))


def short_conv(c, t, i, h, int8):
    b, gate, x = np.split(linear(t, f"l{i}.qkv", h, int8), 3, axis=1)
    return gate * convolve(c, t, i, b * x)


def delta(c, t, i, h, int8):
    """The gated delta rule, position after position, head after head."""
    n, heads, silu = len(h), c.delta_v_heads, naive.ACTIVATIONS["silu"]
    row = linear(t, f"l{i}.qkv", h, int8)
    width, gate = row.shape[1] - heads * c.delta_v_dim, row[:, -heads * c.delta_v_dim :].reshape(n, heads, -1)
    mixed = silu(convolve(c, t, i, row[:, :width]))
    q, k = (x.reshape(n, c.delta_k_heads, -1) for x in np.split(mixed[:, : 2 * c.delta_k_heads * c.delta_k_dim], 2, axis=1))
    v = mixed[:, 2 * c.delta_k_heads * c.delta_k_dim :].reshape(n, heads, -1)
    q, k = (x / np.sqrt((x**2).sum(2, keepdims=True) + 1e-6) for x in (q, k))
    owner = np.arange(heads) % c.delta_k_heads if c.flags & TURNS else np.arange(heads) // (heads // c.delta_k_heads)
    q, k = q[:, owner], k[:, owner]
    b, a = np.split(h @ t[f"l{i}.ab"].T, 2, axis=1)
    slope, bias = np.split(t[f"l{i}.decay"], 2)
    rate, keep = 1 / (1 + np.exp(-b)), np.exp(slope * np.logaddexp(0, a + bias))
    state, out = np.zeros((heads, c.delta_k_dim, c.delta_v_dim)), np.zeros((n, heads, c.delta_v_dim))
    for p in range(n):
        for j in range(heads):
            s = state[j] * keep[p, j]
            state[j] = s + np.outer(k[p, j], rate[p, j] * (v[p, j] - k[p, j] @ s))
            out[p, j] = q[p, j] @ state[j] * c.delta_k_dim**-0.5
    out = out / np.sqrt((out**2).mean(2, keepdims=True) + c.eps) * t[f"l{i}.dn.w"] * silu(gate)
    return out.reshape(n, -1)


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


def attention(c, t, i, h, int8, seen):
    """seen: {kind of layer: the last keys and values}, for layers that have none of their own."""
    n, second = len(h), c.kinds[i] == SECOND
    hd, kv = (c.head_dim2, c.n_kv_heads2) if second else (c.head_dim, c.n_kv_heads)
    parts = linear(t, f"l{i}.qkv", h, int8).reshape(n, -1, hd)
    gate = parts[:, -c.n_heads :].reshape(n, -1) if c.flags & ATT_GATE else None
    rms = lambda x, w, over=(2,): x / np.sqrt((x**2).mean(over, keepdims=True) + c.eps) * w.reshape(1, -1, hd)
    turn = lambda x: x
    if t["rope_id"][i] >= 0:
        turn = lambda x: rotate(x, t["rope2"][0] if second else t["rope"][int(t["rope_id"][i])])
    over = (2,) if c.qk_norm == 1 else (1, 2)
    q = parts[:, : c.n_heads]
    normed = lambda x, w: x if not c.qk_norm else rms(x, w, over)
    ready = lambda x, w: normed(turn(x), w) if c.qk_after else turn(normed(x, w))
    wq, wk = np.split(t[f"l{i}.qk.w"], [c.n_heads * hd]) if c.qk_norm else (None, None)
    q = ready(q, wq)
    if i < c.n_layers - c.kv_shared:
        k, v = parts[:, c.n_heads : c.n_heads + kv], parts[:, c.n_heads + kv : c.n_heads + 2 * kv]
        seen[c.kinds[i]] = ready(k, wk), rms(v, np.ones(kv * hd)) if c.flags & V_NORM else v
    k, v = seen[c.kinds[i]]
    if c.temp_beta:
        q = q * (1 + c.temp_beta * np.log(1 + np.arange(n) // c.temp_len))[:, None, None]
    att = np.zeros((n, c.n_heads, hd))
    far = int(t["window"][i]) or n
    near = np.tri(n, dtype=bool) & ~np.tri(n, k=-far, dtype=bool)
    for head in range(c.n_heads):
        scores = q[:, head] @ k[:, head // (c.n_heads // kv)].T * (c.attn_scale or hd**-0.5)
        scores = c.attn_cap * np.tanh(scores / c.attn_cap) if c.attn_cap else scores
        scores = np.where(near, scores, -np.inf)
        sink = np.full((n, 1), t[f"l{i}.sinks"][head]) if f"l{i}.sinks" in t else np.full((n, 1), -np.inf)
        top = np.maximum(scores.max(1, keepdims=True), sink)
        weights = np.exp(scores - top)
        weights /= weights.sum(1, keepdims=True) + np.exp(sink - top)
        att[:, head] = weights @ v[:, head // (c.n_heads // kv)]
    att = att.reshape(n, -1)
    return att if gate is None else att / (1 + np.exp(-gate))


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
