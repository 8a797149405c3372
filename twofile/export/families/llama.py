"""Relatives of Llama: other names, other norms."""

from .family import like_llama

UNGATED = like_llama("w1=")
FUSED = like_llama("w1= w3= w13=mlp.gate_up_proj")
PHI3 = like_llama("w1= w3= w13=mlp.gate_up_proj wqkv=self_attn.qkv_proj")
POST_ONLY = like_llama("an= fn= an2=post_attention_layernorm fn2=post_feedforward_layernorm")
GLM4 = like_llama(
    "w1= w3= w13=mlp.gate_up_proj an2=post_self_attn_layernorm fn2=post_mlp_layernorm"
)
ONE_NORM = like_llama("fn=input_layernorm")
PHI = like_llama("fn=input_layernorm wo=self_attn.dense w1= w3=mlp.fc1 w2=mlp.fc2")
PHI |= {"out_norm": "model.final_layernorm.weight"}
NANOCHAT = like_llama("w1= w3=mlp.fc1 w2=mlp.fc2")
STARCODER2 = like_llama("w1= w3=mlp.c_fc w2=mlp.c_proj")


def smollm3_rope(j, layer):
    known = j.get("no_rope_layers")
    return bool(known[layer]) if known else bool((layer + 1) % j.get("no_rope_layer_interval", 4))


def granite_scales(j):
    scales = dict(attn_scale=j["attention_multiplier"], embed_scale=j["embedding_multiplier"])
    return scales | dict(resid_scale=j["residual_multiplier"], logit_scale=1 / j["logits_scaling"])
