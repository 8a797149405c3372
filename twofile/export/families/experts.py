"""Mixtures of experts, and where they keep the matrices of those."""

from .family import Family, Gguf, Hub
from .llama import NO_TYPES, granite_gguf_scales, granite_scales
from .names import Bare, in_gguf, like_llama
from .rules import beyond_some, biased, every, every_second

NO_FFN = dict(w1=None, w2=None, w3=None)
EXPERTS = dict(
    **NO_FFN,
    router="mlp.gate",
    e1="mlp.experts.{}.gate_proj",
    e2="mlp.experts.{}.down_proj",
    e3="mlp.experts.{}.up_proj",
)
SHARED_EXPERT = dict(
    w1="mlp.shared_expert.gate_proj",
    w2="mlp.shared_expert.down_proj",
    w3="mlp.shared_expert.up_proj",
    shared_gate="mlp.shared_expert_gate",
)
FUSED_EXPERTS = dict(
    e13=Bare("mlp.experts.gate_up_proj"),
    e2s=Bare("mlp.experts.down_proj"),
)
GGUF_EXPERTS = dict(
    **NO_FFN,
    router="ffn_gate_inp",
    e1="ffn_gate_exps.{}",
    e2="ffn_down_exps.{}",
    e3="ffn_up_exps.{}",
)
GGUF_SHARED_EXPERT = dict(
    w1="ffn_gate_shexp",
    w2="ffn_down_shexp",
    w3="ffn_up_shexp",
    shared_gate="ffn_gate_inp_shexp",
)


def plain_mxfp4(j):
    """Its experts may lie in MXFP4, which is read."""
    said = j.get("quantization_config")
    known = isinstance(said, dict) and said.get("quant_method") == "mxfp4"
    return {**j, "quantization_config": None} if known else j


MIXTRAL = Family(
    hub=Hub(
        label="MixtralForCausalLM",
        names=like_llama(
            NO_FFN,
            router="block_sparse_moe.gate",
            e1="block_sparse_moe.experts.{}.w1",
            e2="block_sparse_moe.experts.{}.w2",
            e3="block_sparse_moe.experts.{}.w3",
        ),
        window=every,
        ignored=(*NO_TYPES, "moe_intermediate_size"),
        biases=biased(),
        norm_topk=True,
    ),
    # as Llama's files, but that they have experts
    gguf=Gguf(arch="llama", names=in_gguf(GGUF_EXPERTS), interleaved=True, norm_topk=True),
)
QWEN2_MOE = Family(
    hub=Hub(
        label="Qwen2MoeForCausalLM",
        names=like_llama(EXPERTS, SHARED_EXPERT),
        window=beyond_some,
        defaults=dict(qkv_bias=True),
        biases=biased(qkv="qkv_bias"),
    ),
    gguf=Gguf(arch="qwen2moe", names=in_gguf(GGUF_EXPERTS, GGUF_SHARED_EXPERT)),
)
QWEN3_MOE = Family(
    hub=Hub(label="Qwen3MoeForCausalLM", names=like_llama(EXPERTS), window=beyond_some),
    gguf=Gguf(arch="qwen3moe", names=in_gguf(GGUF_EXPERTS), norm_topk=True),
)
OLMOE = Family(
    hub=Hub(
        label="OlmoeForCausalLM",
        names=like_llama(EXPERTS),
        ignored=("moe_intermediate_size",),
        refused=("clip_qkv",),
    ),
    gguf=Gguf(arch="olmoe", names=in_gguf(GGUF_EXPERTS)),
)
GPT_OSS = Family(
    hub=Hub(
        label="GptOssForCausalLM",
        names=like_llama(NO_FFN, FUSED_EXPERTS, router="mlp.router", sinks=Bare("self_attn.sinks")),
        alternate_experts=True,
        adapt=plain_mxfp4,
        window=every_second,
        act="clamped",
        ignored=("moe_intermediate_size",),
        defaults=dict(attention_bias=True),
        numbers=lambda j: dict(act_alpha=1.702, act_limit=j.get("swiglu_limit", 7.0)),
        norm_topk=True,
    ),
    gguf=Gguf(
        arch="gpt-oss",
        names=in_gguf(GGUF_EXPERTS, fn="post_attention_norm", an2=None, sinks="attn_sinks"),
        window=every_second,
        act="clamped",
        numbers=lambda j: dict(act_alpha=1.702, act_limit=7.0),
        norm_topk=True,
        yarn=dict(truncate=False),  # as its config.json says; the file does not
    ),
)
GRANITE_MOE = Family(
    hub=Hub(
        label="GraniteMoeForCausalLM",
        names=like_llama(
            NO_FFN,
            router="block_sparse_moe.router.layer",
            e13="block_sparse_moe.input_linear",
            e2="block_sparse_moe.output_linear",
        ),
        ignored=("moe_intermediate_size",),
        numbers=granite_scales,
        norm_topk=True,
    ),
    gguf=Gguf(
        arch="granitemoe",
        names=in_gguf(GGUF_EXPERTS),
        interleaved=True,
        numbers=granite_gguf_scales,
        norm_topk=True,
    ),
)
MIXTURES = (MIXTRAL, QWEN2_MOE, QWEN3_MOE, OLMOE, GPT_OSS, GRANITE_MOE)
