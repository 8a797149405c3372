"""Liquid's LFM2: short convolutions between layers of attention."""

from ...format.fields import ATTENTION, CONVOLUTION
from ...format.types import padded
from .family import Family, Gguf, Hub
from .names import in_gguf, like_llama
from .rules import NEEDED, biased, first_of, layer_kinds


def lfm2_kind(j, layer):
    return "full_attention" if layer in j.get("full_attn_idxs", [layer]) else "conv"


def lfm2_width(j):
    """Hidden width of the feed-forward part: two thirds of what config.json says, rounded up, if it
    says so."""
    width = int(first_of(j, "block_ff_dim", "intermediate_size", otherwise=NEEDED))
    if not j.get("block_auto_adjust_ff_dim", True):
        return width
    factor, multiple = j.get("block_ffn_dim_multiplier", 1.0), int(j.get("block_multiple_of", 256))
    width = int(2 * width / 3)
    return padded(int(factor * width), multiple) if factor is not None else width


def gguf_lfm2_kinds(j):
    """Layers that convolve have no heads of keys."""
    return bytes(ATTENTION if n else CONVOLUTION for n in j["attention.head_count_kv"])


def gguf_lfm2(j):
    return {**j, "attention.head_count_kv": max(j["attention.head_count_kv"])}


LFM2 = Family(
    hub=Hub(
        label="Lfm2ForCausalLM",
        names=like_llama(
            out_norm="embedding_norm",
            an="operator_norm",
            fn="ffn_norm",
            wo="self_attn.out_proj",
            qn="self_attn.q_layernorm",
            kn="self_attn.k_layernorm",
            w1="feed_forward.w1",
            w2="feed_forward.w2",
            w3="feed_forward.w3",
            conv="conv.conv",
            mix="conv.in_proj",
            out="conv.out_proj",
        ),
        kinds=layer_kinds(rule=lfm2_kind),
        ffn=lfm2_width,
        defaults=dict(rope_theta=1e6),
        refused=("conv_bias",),
        biases=biased(),
        numbers=lambda j: dict(conv_len=j.get("conv_L_cache", 3)),
        tied=True,
    ),
    gguf=Gguf(
        arch="lfm2",
        names=in_gguf(
            out_norm="token_embd_norm",
            conv="shortconv.conv",
            mix="shortconv.in_proj",
            out="shortconv.out_proj",
        ),
        kinds=gguf_lfm2_kinds,
        adapt=gguf_lfm2,
        flat=True,
        numbers=lambda j: dict(conv_len=j["shortconv.l_cache"]),
    ),
)
