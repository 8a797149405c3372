"""Sizes and switches that together have every kind of layer."""

from twofile.format.fields import FLAGS

F = {flag.name: flag.bit for flag in FLAGS}
kinds = lambda *of: bytes(of).ljust(224, b"\0")
SWITCHES = {
    "layer norms, no gate, parallel, positions": dict(norm=1, act=2, parallel=1)
    | dict(flags=F["ungated"] | F["positions"] | F["norm_bias"] | F["head_bias"]),
    "norms before and behind, caps": dict(flags=F["post_norm"], qk_norm=1, act=1, attn_cap=3.0, final_cap=5.0, embed_scale=2.0),
    "norms behind only": dict(flags=F["post_norm"] | F["no_pre_norm"], qk_norm=2, act=3, window=[7, 0]),
    "layer norms behind, parallel": dict(norm=1, parallel=1, flags=F["post_norm"] | F["norm_bias"], act=0, qk_norm=2),
    "experts": dict(n_experts=5, top_k=2, expert_ffn=24, norm_topk=1),
    "experts and a shared one": dict(n_experts=7, top_k=3, expert_ffn=40, shared_ffn=52, resid_scale=0.5),
    "experts and a gated one": dict(n_experts=4, top_k=4, expert_ffn=8, shared_ffn=33, flags=F["shared_gate"]),
    "experts with biases, sinks": dict(n_experts=6, top_k=2, expert_ffn=32, norm_topk=1, act=5, act_alpha=1.7, act_limit=0.9)
    | dict(flags=F["expert_bias"] | F["sinks"]),
    "queries that grow": dict(temp_beta=0.8, temp_len=7.0, attn_scale=0.4),
    "norms behind the rotation": dict(qk_norm=1, qk_after=1, temp_beta=0.5, temp_len=9.0),
    "one norm behind the rotation, shared keys": dict(n_layers=3, qk_norm=2, qk_after=1, kinds=kinds(0, 3, 3), head_dim2=20)
    | dict(n_kv_heads2=1, kv_shared=1),
    "short convolutions": dict(n_layers=4, kinds=kinds(0, 1, 1, 0), conv_len=3, qk_norm=1, window=[0, 0, 0, 7]),
    "one tap": dict(n_layers=2, kinds=kinds(1, 0), conv_len=1, resid_scale=0.7),
    "delta layers, gated attention": dict(n_layers=4, kinds=kinds(2, 2, 0, 2), conv_len=4, qk_norm=1, flags=F["attn_gate"])
    | dict(delta_k_heads=2, delta_v_heads=4, delta_k_dim=12, delta_v_dim=20),
    "value heads in turns": dict(n_layers=2, kinds=kinds(2, 2), conv_len=4, flags=F["delta_turns"])
    | dict(delta_k_heads=2, delta_v_heads=6, delta_k_dim=8, delta_v_dim=16),
    "a state of one head, all layers": dict(n_layers=3, kinds=kinds(2, 1, 2), conv_len=2, final_cap=3.0)
    | dict(delta_k_heads=1, delta_v_heads=1, delta_k_dim=4, delta_v_dim=33),
    "delta layers and experts": dict(n_layers=2, kinds=kinds(0, 2), conv_len=4, delta_k_heads=3, delta_v_heads=3, delta_k_dim=8)
    | dict(delta_v_dim=16, n_experts=5, top_k=2, expert_ffn=24, shared_ffn=20, flags=F["shared_gate"] | F["attn_gate"]),
    "two kinds of heads, shared keys": dict(n_layers=7, kinds=kinds(0, 0, 3, 0, 3, 0, 3), head_dim2=20, n_kv_heads2=1)
    | dict(kv_shared=3, window=[7, 7, 0, 7, 0, 7, 0], ffn_dim2=100, qk_norm=1, attn_scale=0.5, act=1)
    | dict(flags=F["v_norm"] | F["post_norm"]),
    "embeddings of layers": dict(n_layers=2, kinds=kinds(3, 3), head_dim2=8, n_kv_heads2=3, kv_shared=1, ple_dim=16, act=1)
    | dict(flags=F["v_norm"] | F["post_norm"] | F["layer_scale"], qk_norm=1, embed_scale=2.0),
    "normed embedding, squared relu": dict(act=4, flags=F["embed_norm"] | F["ungated"], qk_norm=1, attn_scale=0.7),
}
HYBRIDS = {
    "convolutions": dict(n_layers=3, kinds=kinds(1, 0, 1), conv_len=3),
    "delta rule": dict(n_layers=3, kinds=kinds(2, 0, 2), conv_len=4, flags=F["attn_gate"], qk_norm=1)
    | dict(delta_k_heads=1, delta_v_heads=3, delta_k_dim=12, delta_v_dim=20),
    "shared keys": dict(n_layers=4, kinds=kinds(0, 3, 0, 3), head_dim2=20, n_kv_heads2=1, kv_shared=2, window=[9, 0, 9, 0]),
}
