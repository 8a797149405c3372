"""Google's Gemmas, to the fourth."""

from ...errors import ModelError
from ...format.fields import ATTENTION2
from .family import FIVE, layer_kinds, like_llama

GEMMA = like_llama(
    "an2=post_attention_layernorm fn=pre_feedforward_layernorm fn2=post_feedforward_layernorm"
)
GEMMA4_PARTS = (
    "an2=post_attention_layernorm fn=pre_feedforward_layernorm fn2=post_feedforward_layernorm "
)
GEMMA4_PARTS += (
    "ple_gate=per_layer_input_gate ple_up=per_layer_projection pn=post_per_layer_input_norm"
)
GEMMA4 = like_llama(GEMMA4_PARTS) | {
    "ple_embed": "model.embed_tokens_per_layer.weight",
    "ple_proj": "model.per_layer_model_projection.weight",
    "ple_norm": "model.per_layer_projection_norm.weight",
    "scale": "model.layers.{}.layer_scalar",
}


def gemma4_sizes(j):
    """Two kinds of attention, keys and values that layers share, embeddings for each layer."""
    kinds, own = GEMMA4_KINDS(j, j["num_hidden_layers"]), j.get("per_layer_config") or {}
    full = [own.get(str(i), {}) for i, kind in enumerate(kinds) if kind == ATTENTION2] or [{}]
    if any(other != full[0] for other in full) or any(kinds[int(i)] != ATTENTION2 for i in own):
        raise ModelError(
            "config.json: layers of more than two shapes are not supported; expected those of layer_types"
        )
    if j.get("use_bidirectional_attention") == "all":
        raise ModelError(
            "config.json: use_bidirectional_attention all is not supported; expected a model that writes"
        )
    ple, shared = j.get("hidden_size_per_layer_input") or 0, j.get("num_kv_shared_layers") or 0
    if ple and j.get("vocab_size_per_layer_input", j["vocab_size"]) != j["vocab_size"]:
        raise ModelError(
            f"config.json: vocab_size_per_layer_input is not {j['vocab_size']}; expected one vocabulary"
        )
    kv = (j.get("num_global_key_value_heads") if j.get("attention_k_eq_v") else None) or j[
        "num_key_value_heads"
    ]
    second = dict(head_dim2=full[0].get("head_dim") or j.get("global_head_dim") or 512)
    second |= dict(n_kv_heads2=full[0].get("num_key_value_heads") or kv)
    wide = 2 * j["intermediate_size"] if shared and j.get("use_double_wide_mlp") else 0
    sizes = dict(
        kv_shared=shared,
        ffn_dim2=wide,
        ple_dim=ple,
        attn_scale=1.0,
        final_cap=j.get("final_logit_softcapping") or 0,
    )
    return {k: int(v) for k, v in second.items()} | sizes | ROOT_SCALE(j)


GEMMA4_KINDS = layer_kinds(
    ATTENTION2, lambda j, i: "sliding_attention" if FIVE(j, i) else "full_attention"
)
ROOT_SCALE = lambda j: dict(embed_scale=j["hidden_size"] ** 0.5)
GEMMA_SCALES = lambda j: (
    ROOT_SCALE(j) | dict(attn_scale=j.get("query_pre_attn_scalar", 256) ** -0.5)
)
GEMMA_CAPS = lambda j: dict(
    attn_cap=j.get("attn_logit_softcapping") or 0, final_cap=j.get("final_logit_softcapping") or 0
)
