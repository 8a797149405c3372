"""Liquid's LFM2: short convolutions between layers of attention."""

from ...files import padded
from .family import NEEDED, first_of, layer_kinds, like_llama

LFM2 = like_llama(
    "an=operator_norm fn=ffn_norm wo=self_attn.out_proj qn=self_attn.q_layernorm kn=self_attn.k_layernorm w1=feed_forward.w1 "
    "w2=feed_forward.w2 w3=feed_forward.w3 conv=conv.conv mix=conv.in_proj out=conv.out_proj"
) | {"out_norm": "model.embedding_norm.weight"}


def lfm2_width(j):
    """Hidden width of the feed-forward part: two thirds of what config.json says, rounded up, if it says so."""
    width = int(first_of(j, "block_ff_dim", "intermediate_size", otherwise=NEEDED))
    if not j.get("block_auto_adjust_ff_dim", True):
        return width
    factor, multiple = j.get("block_ffn_dim_multiplier", 1.0), int(j.get("block_multiple_of", 256))
    width = int(2 * width / 3)
    return padded(int(factor * width), multiple) if factor is not None else width


LFM2_KINDS = layer_kinds(
    rule=lambda j, i: "full_attention" if i in j.get("full_attn_idxs", [i]) else "conv"
)
