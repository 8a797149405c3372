"""GPT-2 and what came of it: Neo, J, NeoX, Falcon, OPT."""

import itertools

from .family import named

GPT2_PARTS = "an=ln_1 fn=ln_2 wqkv=attn.c_attn wo=attn.c_proj w3=mlp.c_fc w2=mlp.c_proj"
GPT2_NAMES = named("transformer.", "h.{}.", "embed=wte positions=wpe out_norm=ln_f", GPT2_PARTS)
NEO_PARTS = (
    "an=ln_1 fn=ln_2 wq=attn.attention.q_proj wk=attn.attention.k_proj wv=attn.attention.v_proj "
)
NEO_PARTS += "wo=attn.attention.out_proj w3=mlp.c_fc w2=mlp.c_proj"
NEO = named("transformer.", "h.{}.", "embed=wte positions=wpe out_norm=ln_f", NEO_PARTS)
GPTJ_PARTS = "an=ln_1 fn=ln_1 wq=attn.q_proj wk=attn.k_proj wv=attn.v_proj wo=attn.out_proj w3=mlp.fc_in w2=mlp.fc_out"
GPTJ = named("transformer.", "h.{}.", "embed=wte out_norm=ln_f", GPTJ_PARTS)
NEOX_PARTS = "an=input_layernorm fn=post_attention_layernorm wqkv=attention.query_key_value wo=attention.dense "
NEOX_PARTS += "w3=mlp.dense_h_to_4h w2=mlp.dense_4h_to_h"
NEOX = named(
    "gpt_neox.", "layers.{}.", "embed=embed_in out_norm=final_layer_norm", NEOX_PARTS, "embed_out"
)
FALCON_PARTS = "an=input_layernorm fn=input_layernorm ln_attn=ln_attn ln_mlp=ln_mlp wqkv=self_attention.query_key_value "
FALCON_PARTS += "wo=self_attention.dense w3=mlp.dense_h_to_4h w2=mlp.dense_4h_to_h"
FALCON = named("transformer.", "h.{}.", "embed=word_embeddings out_norm=ln_f", FALCON_PARTS)
OPT_PARTS = "an=self_attn_layer_norm fn=final_layer_norm wq=self_attn.q_proj wk=self_attn.k_proj wv=self_attn.v_proj "
OPT_PARTS += "wo=self_attn.out_proj w3=fc1 w2=fc2"
OPT = named(
    "model.decoder.",
    "layers.{}.",
    "embed=embed_tokens positions=embed_positions out_norm=final_layer_norm",
    OPT_PARTS,
)


def neo_local(j, layer):
    kinds = j.get("attention_layers")
    if not kinds:  # [[kinds in turn, how many times], …]
        every = (
            k for names, times in j["attention_types"] if names for _ in range(times) for k in names
        )
        kinds = list(itertools.islice(every, layer + 1))
    return kinds[layer] == "local"
