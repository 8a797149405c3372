"""Relatives of Llama with other norms: without weights, behind, layer norms."""

from .family import Family, Gguf, Hub
from .gemma import softcaps
from .llama import NO_TYPES
from .names import in_gguf, like_llama
from .rules import biased, every, slides, three_of_four

POST_ONLY = like_llama(
    an=None, fn=None, an2="post_attention_layernorm", fn2="post_feedforward_layernorm"
)
POST_ONLY_GGUF = in_gguf(an=None, fn=None)


def exaone_rotates(j, layer):
    return not j.get("sliding_window") or slides(j, layer, three_of_four)


def exaone_gguf_rotates(j, layer):
    return not j.get("attention.sliding_window") or three_of_four(j, layer)


OLMO = Family(
    layer_norm=True,
    bare_norms=True,
    hub=Hub(label="OlmoForCausalLM", refused=("clip_qkv",)),
    gguf=Gguf(arch="olmo", interleaved=True),
)
OLMO2 = Family(
    hub=Hub(label="Olmo2ForCausalLM", names=POST_ONLY),
    # so do Olmo 3's files say
    gguf=Gguf(arch="olmo2", names=POST_ONLY_GGUF, window=three_of_four),
)
OLMO3 = Family(
    hub=Hub(label="Olmo3ForCausalLM", names=POST_ONLY, window=three_of_four, window_unscaled=True),
)
EXAONE4 = Family(
    hub=Hub(
        label="Exaone4ForCausalLM",
        names=POST_ONLY,
        window=three_of_four,
        rotates=exaone_rotates,
        biases=biased(),
    ),
    gguf=Gguf(
        arch="exaone4", names=POST_ONLY_GGUF, window=three_of_four, rotates=exaone_gguf_rotates
    ),
)
GLM4 = Family(
    hub=Hub(
        label="Glm4ForCausalLM",
        names=like_llama(
            w1=None,
            w3=None,
            w13="mlp.gate_up_proj",
            an2="post_self_attn_layernorm",
            fn2="post_mlp_layernorm",
        ),
        interleaved=True,
        defaults=dict(attention_bias=True),
        biases=biased(qkv="attention_bias"),
        share=0.5,
    ),
    gguf=Gguf(arch="glm4", names=in_gguf(w1=None, w3=None, w13="ffn_up"), interleaved=True),
)
NANOCHAT = Family(
    bare_norms=True,
    bare_head_norms=True,
    embed_norm=True,
    backwards=True,
    hub=Hub(
        label="NanoChatForCausalLM",
        names=like_llama(w1=None, w3="mlp.fc1", w2="mlp.fc2"),
        defaults=dict(hidden_act="relu2"),
        numbers=softcaps,
    ),
)
NEMOTRON = Family(
    layer_norm=True,
    hub=Hub(
        label="NemotronForCausalLM",
        names=like_llama(w1=None),
        plus_one=True,
        defaults=dict(hidden_act="relu2"),
        biases=biased(qkv="attention_bias", o="attention_bias", mlp="mlp_bias", norm=True),
        share=0.5,
    ),
    gguf=Gguf(arch="nemotron", names=in_gguf(w1=None), act="relu2"),
)
PHI = Family(
    layer_norm=True,
    hub=Hub(
        label="PhiForCausalLM",
        names=like_llama(
            out_norm="final_layernorm",
            fn="input_layernorm",
            wo="self_attn.dense",
            w1=None,
            w3="mlp.fc1",
            w2="mlp.fc2",
        ),
        parallel=lambda j: True,
        defaults=dict(hidden_act="gelu_new"),
        refused=("qk_layernorm",),
        biases=biased(qkv=True, o=True, mlp=True, norm=True, head=True),
        share=0.5,
    ),
    gguf=Gguf(
        arch="phi2",
        names=in_gguf(w1=None, fn="attn_norm"),
        act="gelu_tanh",
        parallel=lambda j: True,
    ),
)
STABLELM = Family(
    layer_norm=True,
    hub=Hub(
        label="StableLmForCausalLM",
        parallel=lambda j: j.get("use_parallel_residual", False),
        ignored=("head_dim",),
        refused=("qk_layernorm",),
        biases=biased(qkv="use_qkv_bias", norm=True),
        share=0.25,
    ),
    gguf=Gguf(arch="stablelm", parallel=lambda j: j.get("use_parallel_residual"), lone_norm=True),
)
STARCODER2 = Family(
    layer_norm=True,
    hub=Hub(
        label="Starcoder2ForCausalLM",
        names=like_llama(w1=None, w3="mlp.c_fc", w2="mlp.c_proj"),
        window=every,
        ignored=NO_TYPES,
        defaults=dict(hidden_act="gelu_pytorch_tanh", use_bias=True),
        biases=biased(qkv="use_bias", o="use_bias", mlp="use_bias", norm=True),
        tied=True,
    ),
    gguf=Gguf(arch="starcoder2", names=in_gguf(w1=None), act="gelu_tanh"),
)
OTHER_NORMS = (
    OLMO,
    OLMO2,
    OLMO3,
    EXAONE4,
    GLM4,
    NANOCHAT,
    NEMOTRON,
    PHI,
    STABLELM,
    STARCODER2,
)
