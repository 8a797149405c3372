"""Qwen's linear attention: the gated delta rule."""

from .family import layer_kinds

DELTA_PARTS = "conv=linear_attn.conv1d mix=linear_attn.in_proj_qkv z=linear_attn.in_proj_z b=linear_attn.in_proj_b "
DELTA_PARTS += "a=linear_attn.in_proj_a dn=linear_attn.norm out=linear_attn.out_proj "
QWEN_NEXT = DELTA_PARTS + "mix= z= b= a= qkvz=linear_attn.in_proj_qkvz ba=linear_attn.in_proj_ba "
DELTA_BARE = {
    "rates": "model.layers.{}.linear_attn.A_log",
    "dt": "model.layers.{}.linear_attn.dt_bias",
}


def delta_sizes(j):
    """The sizes of layers of the gated delta rule."""
    heads = dict(delta_k_heads=j["linear_num_key_heads"], delta_v_heads=j["linear_num_value_heads"])
    sizes = dict(delta_k_dim=j["linear_key_head_dim"], delta_v_dim=j["linear_value_head_dim"])
    return heads | sizes | dict(conv_len=j["linear_conv_kernel_dim"])


LINEAR = lambda j, i: bool((i + 1) % j.get("full_attention_interval", 4))
QWEN_KINDS = layer_kinds(rule=lambda j, i: "linear_attention" if LINEAR(j, i) else "full_attention")
