"""Llama and those that differ from it by a switch or a name."""

from .family import Family, Form, Gguf, Hub
from .names import META_NAMES, in_gguf, like_llama
from .rules import beyond_some, biased, but_every_fourth, every, tempered

META = Form(
    names=META_NAMES, interleaved=True, skip=(".attention.mask",)
)  # as Meta's checkpoints and llama2.c have it
BOTH = biased(qkv="attention_bias", o="attention_bias", mlp="mlp_bias")
NO_TYPES = ("layer_types",)  # of classes whose layers are all alike
UNGATED_GGUF = in_gguf(w1=None)
FUSED_GGUF = in_gguf(w1=None, w3=None, w13="ffn_up")


def ministral_temper(j):
    rope = j["rope_parameters"]
    length = rope["original_max_position_embeddings"] if rope["llama_4_scaling_beta"] else 0
    return tempered(rope["llama_4_scaling_beta"], length)


def ministral_gguf_temper(j):
    length = j.get("rope.scaling.original_context_length")
    return tempered(j.get("attention.temperature_scale"), length)


def smollm3_rotates(j, layer):
    known = j.get("no_rope_layers")
    return bool(known[layer]) if known else bool((layer + 1) % j.get("no_rope_layer_interval", 4))


def granite_scales(j):
    return dict(
        attn_scale=j["attention_multiplier"],
        embed_scale=j["embedding_multiplier"],
        resid_scale=j["residual_multiplier"],
        logit_scale=1 / j["logits_scaling"],
    )


def granite_gguf_scales(j):
    return dict(
        embed_scale=j.get("embedding_scale", 0),
        resid_scale=j.get("residual_scale", 0),
        attn_scale=j.get("attention.scale", 0),
        logit_scale=1 / j["logit_scale"] if j.get("logit_scale") else 0,
    )


LLAMA = Family(
    hub=Hub(label="LlamaForCausalLM", biases=BOTH),
    gguf=Gguf(arch="llama", interleaved=True),
)
# their GGUFs say llama
MISTRAL = Family(
    hub=Hub(
        label="MistralForCausalLM",
        window=every,
        biases=biased(),
        pictures="Mistral3ForConditionalGeneration",
    ),
)
MINISTRAL = Family(hub=Hub(label="MinistralForCausalLM", window=every, biases=biased()))
MINISTRAL3 = Family(
    hub=Hub(
        label="Ministral3ForCausalLM",
        window=every,
        ignored=NO_TYPES,
        biases=biased(),
        numbers=ministral_temper,
        pictures="Mistral3ForConditionalGeneration",
    ),
    gguf=Gguf(
        arch="mistral3",
        interleaved=True,
        numbers=ministral_gguf_temper,
        yarn=dict(attention_factor=1.0),  # mscale and mscale_all_dim are the same
    ),
)
SMOLLM3 = Family(
    hub=Hub(
        label="SmolLM3ForCausalLM",
        window=beyond_some,
        rotates=smollm3_rotates,
        biases=BOTH,
        tied=True,
    ),
    gguf=Gguf(arch="smollm3", interleaved=True, rotates=lambda j, i: bool((i + 1) % 4)),
)
PHI3 = Family(
    hub=Hub(
        label="Phi3ForCausalLM",
        names=like_llama(w1=None, w3=None, w13="mlp.gate_up_proj", wqkv="self_attn.qkv_proj"),
        window=every,
        ignored=NO_TYPES,
        biases=biased(),
        share=1,
    ),
    gguf=Gguf(arch="phi3", names=FUSED_GGUF, window=every),
)
GRANITE = Family(
    hub=Hub(label="GraniteForCausalLM", numbers=granite_scales, biases=BOTH),
    gguf=Gguf(arch="granite", interleaved=True, numbers=granite_gguf_scales),
)
SEED_OSS = Family(
    hub=Hub(
        label="SeedOssForCausalLM",
        defaults=dict(attention_bias=True),
        biases=biased(qkv="attention_bias", o="attention_out_bias", mlp="mlp_bias"),
    ),
    gguf=Gguf(arch="seed_oss", names=in_gguf(fn="post_attention_norm", an2=None)),
)
ERNIE = Family(
    hub=Hub(
        label="Ernie4_5ForCausalLM",
        interleaved=True,
        biases=biased(qkv="use_bias", o="use_bias", mlp="use_bias"),
        tied=True,
    ),
    gguf=Gguf(arch="ernie4_5", interleaved=True),
)
HELIUM = Family(
    hub=Hub(
        label="HeliumForCausalLM",
        interleaved=True,
        biases=biased(qkv="attention_bias", mlp="mlp_bias"),
    )
)
CWM = Family(
    hub=Hub(label="CwmForCausalLM", window=but_every_fourth, biases=biased(mlp="mlp_bias"))
)
ARCEE = Family(
    hub=Hub(
        label="ArceeForCausalLM",
        names=like_llama(w1=None),
        defaults=dict(hidden_act="relu2"),
        biases=BOTH,
    ),
    gguf=Gguf(arch="arcee", names=UNGATED_GGUF, interleaved=True, act="relu2"),
)
GLM = Family(
    hub=Hub(
        label="GlmForCausalLM",
        names=like_llama(w1=None, w3=None, w13="mlp.gate_up_proj"),
        interleaved=True,
        defaults=dict(attention_bias=True),
        biases=biased(qkv="attention_bias"),
        share=0.5,
    ),
    gguf=Gguf(arch="chatglm", names=FUSED_GGUF, interleaved=True),
)
HUNYUAN = Family(
    hub=Hub(
        label="HunYuanDenseV1ForCausalLM",
        names=like_llama(qn="self_attn.query_layernorm", kn="self_attn.key_layernorm"),
        numbers=lambda j: dict(qk_after=1),
    ),
    gguf=Gguf(arch="hunyuan-dense", numbers=lambda j: dict(qk_after=1)),
)
LLAMAS = (
    LLAMA,
    MISTRAL,
    MINISTRAL,
    MINISTRAL3,
    SMOLLM3,
    PHI3,
    GRANITE,
    SEED_OSS,
    ERNIE,
    HELIUM,
    CWM,
    ARCEE,
    GLM,
    HUNYUAN,
)
