"""Cohere's models: one norm, in front of attention and feed-forward alike."""

from .family import Family, Gguf, Hub
from .names import in_gguf, like_llama
from .rules import slides, three_of_four

ONE_NORM = like_llama(fn="input_layernorm")
ONE_NORM_GGUF = in_gguf(fn="attn_norm")


def logit_scale(j):
    return dict(logit_scale=j.get("logit_scale", 0.0625))


def gguf_logit_scale(j):
    return dict(logit_scale=j["logit_scale"])


COHERE = Family(
    layer_norm=True,
    hub=Hub(
        label="CohereForCausalLM",
        names=ONE_NORM,
        interleaved=True,
        parallel=lambda j: True,
        numbers=logit_scale,
        refused=("use_qk_norm",),
        tied=True,
    ),
    gguf=Gguf(
        arch="command-r",
        names=ONE_NORM_GGUF,
        interleaved=True,
        parallel=lambda j: True,
        numbers=gguf_logit_scale,
    ),
)
COHERE2 = Family(
    layer_norm=True,
    hub=Hub(
        label="Cohere2ForCausalLM",
        names=ONE_NORM,
        interleaved=True,
        parallel=lambda j: True,
        window=three_of_four,
        rotates=lambda j, layer: slides(j, layer, three_of_four),
        numbers=logit_scale,
        tied=True,
    ),
    gguf=Gguf(
        arch="cohere2",
        names=ONE_NORM_GGUF,
        interleaved=True,
        parallel=lambda j: True,
        window=three_of_four,
        rotates=three_of_four,
        numbers=gguf_logit_scale,
    ),
)
COHERES = (COHERE, COHERE2)
