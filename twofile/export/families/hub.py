"""The families as the Hub's folders name them."""

from .cohere import COHERE_SCALE
from .experts import EXPERTS, FUSED_EXPERTS, GPT_OSS, GRANITE_EXPERTS, MIXTRAL, SHARED
from .family import ALL, EVEN, FIVE, FOUR, HF_NAMES, NEVER, SOME, like_llama, slides, tempered
from .gemma import GEMMA, GEMMA4, GEMMA4_KINDS, GEMMA_CAPS, GEMMA_SCALES, ROOT_SCALE, gemma4_sizes
from .gpt import FALCON, GPT2_NAMES, GPTJ, NEO, NEOX, OPT, neo_local
from .lfm import LFM2, LFM2_KINDS, lfm2_width
from .llama import (
    FUSED,
    GLM4,
    NANOCHAT,
    ONE_NORM,
    PHI,
    PHI3,
    POST_ONLY,
    STARCODER2,
    UNGATED,
    granite_scales,
    smollm3_rope,
)
from .qwen import DELTA_BARE, DELTA_PARTS, QWEN_KINDS, QWEN_NEXT, delta_sizes

FAMILIES = {
    "LlamaForCausalLM": (HF_NAMES, {}),
    "MistralForCausalLM": (HF_NAMES, dict(window=ALL)),
    "MinistralForCausalLM": (HF_NAMES, dict(window=ALL)),
    "Ministral3ForCausalLM": (
        HF_NAMES,
        dict(
            window=NEVER,
            more=lambda j: tempered(
                j["rope_parameters"]["llama_4_scaling_beta"], j["rope_parameters"]
            ),
        ),
    ),
    "Qwen2ForCausalLM": (HF_NAMES, dict(window=SOME)),
    "Qwen3ForCausalLM": (HF_NAMES, dict(window=SOME)),
    "SmolLM3ForCausalLM": (HF_NAMES, dict(window=SOME, rotates=smollm3_rope)),
    "Phi3ForCausalLM": (PHI3, dict(window=ALL)),
    "GraniteForCausalLM": (HF_NAMES, dict(more=granite_scales)),
    "SeedOssForCausalLM": (HF_NAMES, {}),
    "MixtralForCausalLM": (like_llama(MIXTRAL), dict(window=ALL, mixed=dict(norm_topk=1))),
    "Qwen2MoeForCausalLM": (like_llama(EXPERTS + " " + SHARED), dict(window=SOME, mixed={})),
    "Qwen3MoeForCausalLM": (like_llama(EXPERTS), dict(window=SOME, mixed={})),
    "OlmoeForCausalLM": (like_llama(EXPERTS), dict(mixed={})),
    "GptOssForCausalLM": (
        like_llama(GPT_OSS),
        dict(window=EVEN, act="clamped", mixed=dict(norm_topk=1))
        | dict(more=lambda j: dict(act_alpha=1.702, act_limit=j.get("swiglu_limit", 7.0))),
    ),
    "GraniteMoeForCausalLM": (
        like_llama(GRANITE_EXPERTS),
        dict(mixed=dict(norm_topk=1), more=granite_scales),
    ),
    "Ernie4_5ForCausalLM": (HF_NAMES, dict(interleaved=True)),
    "HeliumForCausalLM": (HF_NAMES, dict(interleaved=True)),
    "CwmForCausalLM": (HF_NAMES, dict(window=NEVER)),
    "ArceeForCausalLM": (UNGATED, {}),
    "GemmaForCausalLM": (HF_NAMES, dict(plus_one=True, act="gelu_tanh", more=ROOT_SCALE)),
    "Gemma2ForCausalLM": (
        GEMMA,
        dict(plus_one=True, window=EVEN, more=lambda j: GEMMA_SCALES(j) | GEMMA_CAPS(j)),
    ),
    "Gemma3ForCausalLM": (
        GEMMA,
        dict(plus_one=True, window=FIVE, more=lambda j: GEMMA_SCALES(j) | GEMMA_CAPS(j)),
    ),
    "OlmoForCausalLM": (HF_NAMES, dict(norm="layer", ones=True)),
    "Olmo2ForCausalLM": (POST_ONLY, {}),
    "Olmo3ForCausalLM": (POST_ONLY, dict(window=FOUR)),
    "GlmForCausalLM": (FUSED, dict(interleaved=True)),
    "Glm4ForCausalLM": (GLM4, dict(interleaved=True)),
    "Exaone4ForCausalLM": (
        POST_ONLY,
        dict(window=FOUR, rotates=lambda j, i: not j.get("sliding_window") or slides(j, i, FOUR)),
    ),
    "CohereForCausalLM": (
        ONE_NORM,
        dict(norm="layer", interleaved=True, parallel=True, more=COHERE_SCALE),
    ),
    "Cohere2ForCausalLM": (
        ONE_NORM,
        dict(
            norm="layer",
            interleaved=True,
            parallel=True,
            window=FOUR,
            rotates=lambda j, i: slides(j, i, FOUR),
        )
        | dict(more=COHERE_SCALE),
    ),
    "NemotronForCausalLM": (UNGATED, dict(norm="layer", plus_one=True)),
    "GPT2LMHeadModel": (
        GPT2_NAMES,
        dict(norm="layer", turned=True, rotary=0, skip=(".attn.bias", ".attn.masked_bias")),
    ),
    "GPTNeoForCausalLM": (
        NEO,
        dict(
            norm="layer",
            rotary=0,
            window=neo_local,
            skip=(".attention.bias", ".attention.masked_bias"),
        )
        | dict(more=lambda j: dict(attn_scale=1.0)),
    ),
    "GPTNeoXForCausalLM": (
        NEOX,
        dict(
            norm="layer",
            grouped=True,
            parallel="use_parallel_residual",
            skip=(".attention.bias", ".masked_bias"),
        ),
    ),
    "GPTJForCausalLM": (
        GPTJ,
        dict(norm="layer", interleaved=True, parallel=True, skip=(".attn.bias", ".masked_bias")),
    ),
    "PhiForCausalLM": (PHI, dict(norm="layer", parallel=True)),
    "StableLmForCausalLM": (HF_NAMES, dict(norm="layer", parallel="use_parallel_residual")),
    "Starcoder2ForCausalLM": (STARCODER2, dict(norm="layer", window=ALL)),
    "FalconForCausalLM": (
        FALCON,
        dict(norm="layer", grouped=True, parallel="parallel_attn", act="gelu_erf"),
    ),
    "OPTForCausalLM": (OPT, dict(norm="layer", rotary=0, shift=2)),
    "HunYuanDenseV1ForCausalLM": (
        like_llama("qn=self_attn.query_layernorm kn=self_attn.key_layernorm"),
        dict(more=lambda j: dict(qk_after=1)),
    ),
    "Lfm2ForCausalLM": (
        LFM2,
        dict(
            kinds=LFM2_KINDS, ffn=lfm2_width, defaults=dict(rope_theta=1e6), refused=("conv_bias",)
        )
        | dict(more=lambda j: dict(conv_len=j.get("conv_L_cache", 3))),
    ),
    "Gemma4ForCausalLM": (
        GEMMA4,
        dict(
            kinds=GEMMA4_KINDS,
            window=FIVE,
            more=gemma4_sizes,
            refused=("enable_moe_block",),
            v_norm=True,
        ),
    ),
    "Qwen3_5ForCausalLM": (
        like_llama(DELTA_PARTS) | DELTA_BARE,
        dict(kinds=QWEN_KINDS, plus_one=True, gated=True, more=delta_sizes),
    ),
    "Qwen3_5MoeForCausalLM": (
        like_llama(EXPERTS + " " + SHARED + " " + DELTA_PARTS) | DELTA_BARE | FUSED_EXPERTS,
        dict(
            kinds=QWEN_KINDS, plus_one=True, gated=True, more=delta_sizes, mixed=dict(norm_topk=1)
        ),
    ),
    "Qwen3NextForCausalLM": (
        like_llama(EXPERTS + " " + SHARED + " " + QWEN_NEXT) | DELTA_BARE,
        dict(kinds=QWEN_KINDS, plus_one=True, gated=True, more=delta_sizes, mixed={}),
    ),
    "NanoChatForCausalLM": (
        NANOCHAT,
        dict(ones=True, qk_ones=True, embed_norm=True, backwards=True, more=GEMMA_CAPS),
    ),
}

# unless config.json says
TIED = "GPT2 GPTNeo Gemma Gemma2 Gemma3 Gemma4 Cohere Cohere2 OPT Falcon Starcoder2 SmolLM3 Lfm2"

# share of a head, unless it says
ROTATED = dict(Phi=0.5, StableLm=0.25, GPTNeoX=0.25, Nemotron=0.5, Glm=0.5, Glm4=0.5)
ROTATED |= dict(Qwen3_5=0.25, Qwen3_5Moe=0.25, Qwen3Next=0.25)
