"""GPT-2 and what came of it: Neo, J, NeoX, Falcon, OPT."""

import itertools

from ...errors import ModelError
from .family import Family, Gguf, Hub
from .names import in_gguf, named
from .rules import NEEDED, biased, first_of


def like_gpt(head="lm_head", prefix="transformer.", layer="h.{}.", **own):
    """Names as of GPT-2, but for these."""
    return named(prefix, layer, head, dict(embed="wte", out_norm="ln_f"), own)


# what has no heads of keys fewer than of queries, nor a width of heads of its own
ALIKE = ("num_key_value_heads", "head_dim")
GELU = dict(activation_function="gelu_new")
MOST_BIASES = biased(o=True, mlp=True, norm=True)


def neo_window(j, layer):
    kinds = j.get("attention_layers")
    if not kinds:  # [[kinds in turn, how many times], …]
        turns = ((names, times) for names, times in j["attention_types"] if names)
        in_turn = (k for names, times in turns for _ in range(times) for k in names)
        kinds = list(itertools.islice(in_turn, layer + 1))
    return kinds[layer] == "local"


def falcon_heads(j):
    """Before its new architecture all heads of queries share one of keys, or have one each."""
    if j.get("new_decoder_architecture"):
        return {**j, "num_key_value_heads": None}
    one = 1 if j.get("multi_query", True) else None
    return {**j, "num_key_value_heads": one, "num_kv_heads": None}


def own_positions(j):
    """n_positions, even where what others call it stands beside."""
    return {**j, "max_position_embeddings": first_of(j, "n_positions", "max_position_embeddings")}


def plain_gpt2(j):
    if not j.get("scale_attn_weights", True):
        found = "config.json: scale_attn_weights false is not supported"
        raise ModelError(f"{found}; expected true; is it another architecture?")
    return own_positions(j)


def plain_opt(j):
    dim = int(first_of(j, "hidden_size", "n_embd", otherwise=NEEDED))
    before = j.get("do_layer_norm_before", True)
    if not (before and j.get("word_embed_proj_dim", dim) == dim):
        found = "config.json: OPT with norms behind or projected embeddings is not supported"
        raise ModelError(f"{found}; expected another size")
    return j


GPT2 = Family(
    layer_norm=True,
    rotary=False,
    hub=Hub(
        label="GPT2LMHeadModel",
        names=like_gpt(
            positions="wpe",
            an="ln_1",
            fn="ln_2",
            wqkv="attn.c_attn",
            wo="attn.c_proj",
            w3="mlp.c_fc",
            w2="mlp.c_proj",
        ),
        turned=True,
        skip=(".attn.bias", ".attn.masked_bias"),
        adapt=plain_gpt2,
        defaults=GELU,
        ignored=(*ALIKE, "hidden_act", "intermediate_size"),
        refused=("scale_attn_by_inverse_layer_idx", "add_cross_attention"),
        biases=biased(qkv=True, o=True, mlp=True, norm=True),
        tied=True,
    ),
    gguf=Gguf(arch="gpt2", names=in_gguf(w1=None), act="gelu_tanh"),
)
GPT_NEO = Family(
    layer_norm=True,
    rotary=False,
    hub=Hub(
        label="GPTNeoForCausalLM",
        names=like_gpt(
            positions="wpe",
            an="ln_1",
            fn="ln_2",
            wq="attn.attention.q_proj",
            wk="attn.attention.k_proj",
            wv="attn.attention.v_proj",
            wo="attn.attention.out_proj",
            w3="mlp.c_fc",
            w2="mlp.c_proj",
        ),
        window=neo_window,
        skip=(".attention.bias", ".attention.masked_bias"),
        defaults=GELU,
        ignored=(*ALIKE, "hidden_act"),
        biases=MOST_BIASES,
        numbers=lambda j: dict(attn_scale=1.0),
        tied=True,
    ),
)
GPT_NEOX = Family(
    layer_norm=True,
    hub=Hub(
        label="GPTNeoXForCausalLM",
        names=like_gpt(
            prefix="gpt_neox.",
            layer="layers.{}.",
            head="embed_out",
            embed="embed_in",
            out_norm="final_layer_norm",
            an="input_layernorm",
            fn="post_attention_layernorm",
            wqkv="attention.query_key_value",
            wo="attention.dense",
            w3="mlp.dense_h_to_4h",
            w2="mlp.dense_4h_to_h",
        ),
        grouped=True,
        parallel=lambda j: j.get("use_parallel_residual", True),
        skip=(".attention.bias", ".masked_bias"),
        defaults=dict(hidden_act="gelu", attention_bias=True),
        ignored=(*ALIKE, "rope_theta"),
        biases=biased(qkv="attention_bias", o="attention_bias", mlp=True, norm=True),
        share=0.25,
    ),
    gguf=Gguf(
        arch="gptneox",
        names=in_gguf(w1=None),
        act="gelu_erf",
        parallel=lambda j: j.get("use_parallel_residual"),
    ),
)
GPT_J = Family(
    layer_norm=True,
    hub=Hub(
        label="GPTJForCausalLM",
        names=like_gpt(
            an="ln_1",
            fn="ln_1",
            wq="attn.q_proj",
            wk="attn.k_proj",
            wv="attn.v_proj",
            wo="attn.out_proj",
            w3="mlp.fc_in",
            w2="mlp.fc_out",
        ),
        interleaved=True,
        parallel=lambda j: True,
        skip=(".attn.bias", ".masked_bias"),
        columns="rotary_dim",
        adapt=own_positions,
        defaults={**GELU, "rotary_dim": 64},
        ignored=(*ALIKE, "hidden_act", "intermediate_size", "rope_scaling"),
        biases=biased(mlp=True, norm=True, head=True),
    ),
)
FALCON = Family(
    layer_norm=True,
    hub=Hub(
        label="FalconForCausalLM",
        names=like_gpt(
            embed="word_embeddings",
            an="input_layernorm",
            fn="input_layernorm",
            own_an="ln_attn",
            own_fn="ln_mlp",
            wqkv="self_attention.query_key_value",
            wo="self_attention.dense",
            w3="mlp.dense_h_to_4h",
            w2="mlp.dense_4h_to_h",
        ),
        grouped=True,
        adapt=falcon_heads,
        parallel=lambda j: j.get("parallel_attn", True),
        act="gelu_erf",
        ignored=("head_dim", "intermediate_size"),
        refused=("alibi",),
        biases=biased(qkv="bias", o="bias", mlp="bias", norm=True),
        tied=True,
    ),
    gguf=Gguf(
        arch="falcon",
        names=in_gguf(w1=None, fn="attn_norm", own_an="attn_norm_2", own_fn="attn_norm"),
        act="gelu_erf",
        parallel=lambda j: True,
    ),
)
OPT = Family(
    layer_norm=True,
    rotary=False,
    hub=Hub(
        label="OPTForCausalLM",
        names=like_gpt(
            prefix="model.decoder.",
            layer="layers.{}.",
            embed="embed_tokens",
            positions="embed_positions",
            out_norm="final_layer_norm",
            an="self_attn_layer_norm",
            fn="final_layer_norm",
            wq="self_attn.q_proj",
            wk="self_attn.k_proj",
            wv="self_attn.v_proj",
            wo="self_attn.out_proj",
            w3="fc1",
            w2="fc2",
        ),
        shift=2,
        adapt=plain_opt,
        defaults=dict(activation_function="relu", enable_bias=True),
        ignored=(*ALIKE, "hidden_act", "intermediate_size"),
        refused=("_remove_final_layer_norm",),
        biases=biased(qkv="enable_bias", o="enable_bias", mlp="enable_bias", norm=True),
        tied=True,
    ),
)
GPTS = (GPT2, GPT_NEO, GPT_NEOX, GPT_J, FALCON, OPT)
