"""Models that together have every kind of record."""

from helpers.switches import SWITCHES, kinds

NEWER = "q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs".split()
# matrices in pieces: of whole bits and of numbers, with biases behind
PIECES = {
    "l0.qkv": [(80, "q4_k"), (16, "f16"), (24, "q6_k")],
    "l0.gate_up": [(16, "q2_k"), (136, "iq4_xs")],
    "l1.down": [(64, "q5_1"), (16, "f32")],
    "head": [(48, "q3_k"), (45, "bf16")],
}
EVERY = (  # models that together have every kind of record
    dict(dtype="q8_0", temp_beta=0.1, temp_len=4.0, final_cap=3.0),
    dict(dtype="q4_0", head=False, vocab_size=16, flags=128),
    dict(dtype="f32", flags=512 | 128 | 2048 | 4096, norm=1, parallel=1, act=3),
    dict(dtype="bf16", flags=32768 | 64, qk_norm=1, act=1, head_dim=2, n_heads=3, n_kv_heads=1),
    dict(dtype="f16", flags=64, qk_norm=2, act=4, n_rope=2, rope_long=50),
    dict(dtype="q8_0", n_experts=3, top_k=2, expert_ffn=8, flags=16384, norm_topk=1),
    dict(dtype="q4_0", n_experts=5, top_k=3, expert_ffn=40, shared_ffn=76, flags=8192, act=2, dim=80),
    dict(dtype="f32", n_experts=2, top_k=1, expert_ffn=8, act=5, act_limit=7.0, act_alpha=1.7, bias=False),
    dict(dtype="bf16", n_experts=2, top_k=2, expert_ffn=16, bias=False, shared_ffn=24, flags=8192),
    dict(dtype="f16", n_experts=2, top_k=2, expert_ffn=24, act=0, bias=False),
    dict(dtype="q8_0", **SWITCHES["short convolutions"]),
    dict(dtype="f32", n_layers=2, kinds=kinds(1, 2), conv_len=2, delta_k_heads=2, delta_v_heads=4, delta_k_dim=8)
    | dict(delta_v_dim=20),
    dict(dtype="q4_0", **SWITCHES["delta layers, gated attention"]),
    dict(dtype="q8_0", **SWITCHES["two kinds of heads, shared keys"]),
    dict(dtype="bf16", **SWITCHES["embeddings of layers"]),
    dict(dtype="q4_0", **SWITCHES["norms behind the rotation"]),
    *(dict(dtype=name, n_layers=1, n_experts=3, top_k=2, expert_ffn=8, bias=False) for name in NEWER),
    dict(dtype="q8_0", types=PIECES, dim=80),
)
