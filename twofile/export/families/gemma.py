"""Google's Gemmas, to the fourth."""

from ...errors import ModelError
from ...format.fields import ATTENTION, ATTENTION2
from .family import Family, Gguf, Hub
from .names import Bare, in_gguf, like_llama
from .rules import every_second, five_of_six, layer_kinds

FOUR_NORMS = dict(
    an2="post_attention_layernorm",
    fn="pre_feedforward_layernorm",
    fn2="post_feedforward_layernorm",
)
# what a model that sees pictures leaves to transformers' defaults
GEMMA3_DEFAULTS = dict(
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=256,
    vocab_size=262208,
    rope_theta=1e6,
    max_position_embeddings=131072,
    rope_local_base_freq=10000.0,
    query_pre_attn_scalar=256,
    rms_norm_eps=1e-6,
    hidden_activation="gelu_pytorch_tanh",
    sliding_window=4096,
)


def root_scale(j):
    return dict(embed_scale=j["hidden_size"] ** 0.5)


def softcaps(j):
    return dict(
        attn_cap=j.get("attn_logit_softcapping") or 0,
        final_cap=j.get("final_logit_softcapping") or 0,
    )


def gemma_scales(j):
    scale = j.get("query_pre_attn_scalar", 256) ** -0.5
    return {**root_scale(j), "attn_scale": scale, **softcaps(j)}


def gguf_root_scale(j):
    return dict(embed_scale=j["embedding_length"] ** 0.5)


def gguf_softcaps(j):
    return dict(
        attn_cap=j.get("attn_logit_softcapping", 0), final_cap=j.get("final_logit_softcapping", 0)
    )


def gguf_gemma_scales(j):
    """Attention of Gemma 2 27B and Gemma 3 27B is scaled by their width, of all others by that of
    a head."""
    scales = gguf_root_scale(j) | gguf_softcaps(j)
    if j["block_count"] in (46, 62):
        scales["attn_scale"] = (j["embedding_length"] / j["attention.head_count"]) ** -0.5
    return scales


gemma4_kinds = layer_kinds(
    ATTENTION2, lambda j, i: "sliding_attention" if five_of_six(j, i) else "full_attention"
)


def gemma4_sizes(j):
    """Two kinds of attention, keys and values that layers share, embeddings for each layer."""
    kinds, own = gemma4_kinds(j, j["num_hidden_layers"]), j.get("per_layer_config") or {}
    full = [own.get(str(i), {}) for i, kind in enumerate(kinds) if kind == ATTENTION2] or [{}]
    if any(other != full[0] for other in full) or any(kinds[int(i)] != ATTENTION2 for i in own):
        found = "config.json: layers of more than two shapes are not supported"
        raise ModelError(f"{found}; expected those of layer_types")
    if j.get("use_bidirectional_attention") == "all":
        found = "config.json: use_bidirectional_attention all is not supported"
        raise ModelError(f"{found}; expected a model that writes")
    ple, shared = j.get("hidden_size_per_layer_input") or 0, j.get("num_kv_shared_layers") or 0
    if ple and j.get("vocab_size_per_layer_input", j["vocab_size"]) != j["vocab_size"]:
        found = f"config.json: vocab_size_per_layer_input is not {j['vocab_size']}"
        raise ModelError(f"{found}; expected one vocabulary")
    kv = j.get("num_global_key_value_heads") if j.get("attention_k_eq_v") else None
    kv = kv or j["num_key_value_heads"]
    return dict(
        head_dim2=int(full[0].get("head_dim") or j.get("global_head_dim") or 512),
        n_kv_heads2=int(full[0].get("num_key_value_heads") or kv),
        kv_shared=shared,
        ffn_dim2=2 * j["intermediate_size"] if shared and j.get("use_double_wide_mlp") else 0,
        ple_dim=ple,
        attn_scale=1.0,
        final_cap=j.get("final_logit_softcapping") or 0,
        **root_scale(j),
    )


def gguf_each(j, key):
    """A size of each layer, where one may stand for all."""
    n = len(j["attention.sliding_window_pattern"])
    return j[key] if isinstance(j[key], list) else [j[key]] * n


def gguf_gemma4_kinds(j):
    return bytes(ATTENTION if w else ATTENTION2 for w in j["attention.sliding_window_pattern"])


def gguf_gemma4(j):
    """The sizes of the layers with a window stand where others' do."""
    first = j["attention.sliding_window_pattern"].index(True)
    sizes = {f"attention.{x}_length": j[f"attention.{x}_length_swa"] for x in ("key", "value")}
    sizes |= {
        "attention.head_count_kv": gguf_each(j, "attention.head_count_kv")[first],
        "feed_forward_length": gguf_each(j, "feed_forward_length")[0],
        "rope.freq_base": j.get("rope.freq_base_swa", 10000.0),
        "rope.dimension_count": j.get("rope.dimension_count_swa"),
    }
    return {**j, **sizes}


def gguf_gemma4_numbers(j):
    """Those of the layers that see everything are of the second kind."""
    full = j["attention.sliding_window_pattern"].index(False)
    ffn = gguf_each(j, "feed_forward_length")
    return dict(
        head_dim2=j["attention.key_length"],
        n_kv_heads2=gguf_each(j, "attention.head_count_kv")[full],
        kv_shared=j.get("attention.shared_kv_layers") or 0,
        ffn_dim2=ffn[-1] if ffn[-1] != ffn[0] else 0,
        ple_dim=j.get("embedding_length_per_layer_input") or 0,
        attn_scale=1.0,
        **gguf_root_scale(j),
        **gguf_softcaps(j),
    )


GEMMA = Family(
    hub=Hub(
        label="GemmaForCausalLM", plus_one=True, act="gelu_tanh", numbers=root_scale, tied=True
    ),
    gguf=Gguf(arch="gemma", act="gelu_tanh", numbers=gguf_root_scale),
)
GEMMA2 = Family(
    hub=Hub(
        label="Gemma2ForCausalLM",
        names=like_llama(FOUR_NORMS),
        plus_one=True,
        defaults=dict(hidden_activation="gelu_pytorch_tanh"),
        window=every_second,
        numbers=gemma_scales,
        tied=True,
    ),
    gguf=Gguf(arch="gemma2", act="gelu_tanh", window=every_second, numbers=gguf_gemma_scales),
)
GEMMA3 = Family(
    hub=Hub(
        label="Gemma3ForCausalLM",
        names=like_llama(FOUR_NORMS),
        plus_one=True,
        defaults=dict(hidden_activation="gelu_pytorch_tanh"),
        refused=("use_bidirectional_attention",),
        window=five_of_six,
        numbers=gemma_scales,
        tied=True,
        pictures="Gemma3ForConditionalGeneration",
        pictures_defaults=GEMMA3_DEFAULTS,
    ),
    gguf=Gguf(
        arch="gemma3",
        act="gelu_tanh",
        window=five_of_six,
        window_theta=True,
        numbers=gguf_gemma_scales,
    ),
)
GEMMA4 = Family(
    v_norm=True,
    hub=Hub(
        label="Gemma4ForCausalLM",
        names=like_llama(
            FOUR_NORMS,
            ple_embed="embed_tokens_per_layer",
            ple_proj="per_layer_model_projection",
            ple_norm="per_layer_projection_norm",
            ple_gate="per_layer_input_gate",
            ple_up="per_layer_projection",
            pn="post_per_layer_input_norm",
            scale=Bare("layer_scalar"),
        ),
        kinds=gemma4_kinds,
        defaults=dict(hidden_activation="gelu_pytorch_tanh"),
        window=five_of_six,
        numbers=gemma4_sizes,
        refused=("enable_moe_block",),
        tied=True,
        pictures="Gemma4ForConditionalGeneration",
    ),
    gguf=Gguf(
        arch="gemma4",
        names=in_gguf(
            ple_embed="per_layer_token_embd",
            ple_proj="per_layer_model_proj",
            ple_norm="per_layer_proj_norm",
            ple_gate="inp_gate",
            ple_up="proj",
            pn="post_norm",
            scale="layer_output_scale",
        ),
        kinds=gguf_gemma4_kinds,
        adapt=gguf_gemma4,
        act="gelu_tanh",
        numbers=gguf_gemma4_numbers,
    ),
)
GEMMAS = (GEMMA, GEMMA2, GEMMA3, GEMMA4)
