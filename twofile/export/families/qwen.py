"""Qwen: as Llama, then with linear attention, the gated delta rule."""

from ...format.fields import ATTENTION, DELTA
from .experts import EXPERTS, FUSED_EXPERTS, GGUF_EXPERTS, GGUF_SHARED_EXPERT, SHARED_EXPERT
from .family import Family, Gguf, Hub
from .names import Bare, in_gguf, like_llama
from .rules import beyond_some, biased, layer_kinds

DELTA_PARTS = dict(
    conv="linear_attn.conv1d",
    mix="linear_attn.in_proj_qkv",
    z="linear_attn.in_proj_z",
    b="linear_attn.in_proj_b",
    a="linear_attn.in_proj_a",
    dn="linear_attn.norm",
    out="linear_attn.out_proj",
    rates=Bare("linear_attn.A_log"),
    dt=Bare("linear_attn.dt_bias"),
)
GGUF_DELTA_PARTS = dict(
    fn="post_attention_norm",
    an2=None,
    wqkv=None,
    conv="ssm_conv1d",
    mix="attn_qkv",
    z="attn_gate",
    b="ssm_beta",
    a="ssm_alpha",
    dn="ssm_norm",
    out="ssm_out",
    rates=Bare("ssm_a"),
    dt=Bare("ssm_dt.bias"),
)


def delta_kind(j, layer):
    linear = (layer + 1) % j.get("full_attention_interval", 4)
    return "linear_attention" if linear else "full_attention"


def delta_sizes(j):
    """The sizes of layers of the gated delta rule."""
    return dict(
        delta_k_heads=j["linear_num_key_heads"],
        delta_v_heads=j["linear_num_value_heads"],
        delta_k_dim=j["linear_key_head_dim"],
        delta_v_dim=j["linear_value_head_dim"],
        conv_len=j["linear_conv_kernel_dim"],
    )


def gguf_layers(j):
    """Without the last ones, which guess further ahead."""
    return j["block_count"] - (j.get("nextn_predict_layers") or 0)


def gguf_without_guesses(j):
    return {**j, "block_count": gguf_layers(j)}


def gguf_delta_kinds(j):
    n, linear = gguf_layers(j), j.get("attention.recurrent_layers")
    if not isinstance(linear, list):
        linear = [(i + 1) % (j.get("full_attention_interval") or 4) for i in range(n)]
    return bytes(DELTA if there else ATTENTION for there in linear[:n])


def gguf_delta_sizes(j):
    return dict(
        delta_k_heads=j["ssm.group_count"],
        delta_v_heads=j["ssm.time_step_rank"],
        delta_k_dim=j["ssm.state_size"],
        delta_v_dim=j["ssm.inner_size"] // j["ssm.time_step_rank"],
        conv_len=j["ssm.conv_kernel"],
    )


QWEN2 = Family(
    hub=Hub(label="Qwen2ForCausalLM", window=beyond_some, biases=biased(qkv=True)),
    gguf=Gguf(arch="qwen2"),
)
QWEN3 = Family(
    hub=Hub(label="Qwen3ForCausalLM", window=beyond_some),
    gguf=Gguf(arch="qwen3"),
)
HUB_DELTA = dict(
    kinds=layer_kinds(rule=delta_kind),
    plus_one=True,
    numbers=delta_sizes,
    share=0.25,
)
GGUF_DELTA = dict(
    kinds=gguf_delta_kinds,
    adapt=gguf_without_guesses,
    flat=True,
    numbers=gguf_delta_sizes,
)
QWEN35 = Family(
    gated=True,
    hub=Hub(
        label="Qwen3_5ForCausalLM",
        names=like_llama(DELTA_PARTS),
        pictures="Qwen3_5ForConditionalGeneration",
        **HUB_DELTA,
    ),
    gguf=Gguf(
        arch="qwen35",
        names=in_gguf(GGUF_DELTA_PARTS),
        delta_turns=True,
        **GGUF_DELTA,
    ),
)
QWEN35_MOE = Family(
    gated=True,
    hub=Hub(
        label="Qwen3_5MoeForCausalLM",
        names=like_llama(EXPERTS, SHARED_EXPERT, DELTA_PARTS, FUSED_EXPERTS),
        pictures="Qwen3_5MoeForConditionalGeneration",
        norm_topk=True,
        **HUB_DELTA,
    ),
    gguf=Gguf(
        arch="qwen35moe",
        names=in_gguf(GGUF_EXPERTS, GGUF_SHARED_EXPERT, GGUF_DELTA_PARTS),
        delta_turns=True,
        norm_topk=True,
        **GGUF_DELTA,
    ),
)
QWEN3_NEXT = Family(
    gated=True,
    hub=Hub(
        label="Qwen3NextForCausalLM",
        names=like_llama(
            EXPERTS,
            SHARED_EXPERT,
            DELTA_PARTS,
            mix=None,
            z=None,
            b=None,
            a=None,
            qkvz="linear_attn.in_proj_qkvz",
            ba="linear_attn.in_proj_ba",
        ),
        **HUB_DELTA,
    ),
    gguf=Gguf(
        arch="qwen3next",
        names=in_gguf(
            GGUF_EXPERTS, GGUF_SHARED_EXPERT, GGUF_DELTA_PARTS, b=None, a=None, ba="ssm_ba"
        ),
        norm_topk=True,
        **GGUF_DELTA,
    ),
)
QWENS = (QWEN2, QWEN3, QWEN35, QWEN35_MOE, QWEN3_NEXT)
