"""The tensors of a file, in order."""

from ..format.config import DELTA


def tensor_plan(c):
    """[(name, shape, role)] of every tensor in file order; export.py writes exactly this list.

    Roles: "matrix" (rows = outputs; any of MATRIX_TYPES, q8_0 and q4_0 followed by NAME.s), "f32", "i32", "u8".
    The length of "tokenizer" is not known from the config: its shape is (0,).
    """
    plan = [
        ("rope", (c.n_rope, 2, c.head_dim // 2), "f32"),  # inverse frequency, amplitude
        ("window", (c.n_layers,), "i32"),  # keys a layer sees, 0 = all
        ("rope_id", (c.n_layers,), "i32"),  # which rope table, -1 = none
        *(
            [("rope2", (1, 2, c.head_dim2 // 2), "f32")] if c.head_dim2 else []
        ),  # of layers of kind ATTENTION2
        ("embed", (c.vocab_size, c.dim), "matrix"),
    ]
    plan += [("positions", (c.max_ctx, c.dim), "matrix")] if c.has("positions") else []
    plan += _norm(c, "embed_norm", c.has("embed_norm"))
    if c.ple_dim:  # every layer's part of a token's embedding for it
        wide = c.n_layers * c.ple_dim
        plan += [
            ("ple_embed", (c.vocab_size, wide), "matrix"),
            ("ple_proj", (wide, c.dim), "matrix"),
        ]
        plan += [("ple_norm.w", (c.ple_dim,), "f32")]
    for i in range(c.n_layers):
        plan += _norm(c, f"l{i}.an", not c.has("no_pre_norm"))
        plan += _mixer(c, i)
        plan += _norm(c, f"l{i}.an2", c.has("post_norm"))
        plan += _norm(c, f"l{i}.fn", not c.has("no_pre_norm"))
        if c.n_experts:  # the rows of expert after expert
            plan += _linear(c, f"l{i}.router", (c.n_experts, c.dim), "expert_bias")
            plan += _linear(
                c, f"l{i}.experts_up", (c.n_experts * 2 * c.expert_ffn, c.dim), "expert_bias"
            )
            plan += _linear(
                c, f"l{i}.experts_down", (c.n_experts * c.dim, c.expert_ffn), "expert_bias"
            )
            plan += [(f"l{i}.shared_gate", (1, c.dim), "matrix")] if c.has("shared_gate") else []
        if c.shared_ffn or not c.n_experts:
            ffn = c.shared_ffn or c.ffn(i)
            plan += _linear(
                c, f"l{i}.gate_up", (ffn if c.has("ungated") else 2 * ffn, c.dim), "gate_up_bias"
            )
            plan += _linear(c, f"l{i}.down", (c.dim, ffn), "down_bias")
        plan += _norm(c, f"l{i}.fn2", c.has("post_norm"))
        if c.ple_dim:
            plan += [
                (f"l{i}.ple_gate", (c.ple_dim, c.dim), "matrix"),
                (f"l{i}.ple_up", (c.dim, c.ple_dim), "matrix"),
            ]
            plan += _norm(c, f"l{i}.pn", True)
        plan += [(f"l{i}.scale", (1,), "f32")] if c.has("layer_scale") else []
    plan += _norm(c, "out_norm", True)
    if c.has("head"):
        plan += _linear(c, "head", (c.vocab_size, c.dim), "head_bias")
    if c.has("tokenizer"):
        plan += [("tokenizer", (0,), "u8")]
    return plan


def _mixer(c, i):
    """The part of the plan of layer i where tokens learn of each other."""
    convolved, rows, wide = c.mixed(i)
    plan = _linear(c, f"l{i}.qkv", (rows, c.dim), "qkv_bias")
    if c.attends(i):
        kv, size = c.heads(i)
        normed = c.n_heads + (kv if c.kv_layer(i) == i else 0)
        plan += [(f"l{i}.qk.w", (normed * size,), "f32")] if c.qk_norm else []
        plan += [(f"l{i}.sinks", (c.n_heads,), "f32")] if c.has("sinks") else []
    else:
        plan += [
            (f"l{i}.conv", (c.conv_len * convolved,), "f32")
        ]  # tap after tap, the last for the token itself
    if c.kind(i) == DELTA:
        plan += [
            (f"l{i}.ab", (2 * c.delta_v_heads, c.dim), "matrix"),
            (f"l{i}.decay", (2 * c.delta_v_heads,), "f32"),
        ]
        plan += [(f"l{i}.dn.w", (c.delta_v_dim,), "f32")]
    return plan + _linear(c, f"l{i}.o", (c.dim, wide), "o_bias")


def _norm(c, name, there):
    parts = ("w", "b") if c.has("norm_bias") else ("w",)
    return [(f"{name}.{part}", (c.dim,), "f32") for part in parts if there]


def _linear(c, name, shape, bias_flag):
    bias = [(f"{name}.b", shape[:1], "f32")] if c.has(bias_flag) else []
    return [(name, shape, "matrix")] + bias
