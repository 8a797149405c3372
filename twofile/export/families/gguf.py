"""The families as llama.cpp's files name them."""

from ...format.fields import ATTENTION, ATTENTION2, DELTA
from ..oldconfig import CONV
from .family import ALL, EVEN, FIVE, FOUR, named, tempered

GGUF_HUB = """an=attn_norm fn=ffn_norm wq=attn_q wk=attn_k wv=attn_v wo=attn_output wqkv=attn_qkv qn=attn_q_norm kn=attn_k_norm
w1=ffn_gate w2=ffn_down w3=ffn_up an2=post_attention_norm fn2=post_ffw_norm sinks=attn_sinks """
GGUF_EXPERTS = (
    "w1= w2= w3= router=ffn_gate_inp e1=ffn_gate_exps.{} e2=ffn_down_exps.{} e3=ffn_up_exps.{}"
)
GGUF_SHARED = " w1=ffn_gate_shexp w2=ffn_down_shexp w3=ffn_up_shexp shared_gate=ffn_gate_inp_shexp"
GGUF_TOP = "embed=token_embd out_norm=output_norm positions=position_embd"
gguf_names = lambda parts="": named("", "blk.{}.", GGUF_TOP, GGUF_HUB + parts, "output")

# general.architecture -> (names, settings as in FAMILIES). Norms are stored as they are used; rotary pairs are neighbours
# where llama.cpp's converter made them so.
GGUF_SCALES = lambda j: (
    dict(
        embed_scale=j.get("embedding_scale", 0),
        resid_scale=j.get("residual_scale", 0),
        attn_scale=j.get("attention.scale", 0),
    )
    | dict(logit_scale=1 / j["logit_scale"] if j.get("logit_scale") else 0)
)
GGUF_CAPS = lambda j: dict(
    attn_cap=j.get("attn_logit_softcapping", 0), final_cap=j.get("final_logit_softcapping", 0)
)
GEMMA_SCALE = lambda j: dict(embed_scale=j["embedding_length"] ** 0.5)

# attention of Gemma 2 27B and Gemma 3 27B is scaled by their width, of all others by that of a head
GGUF_GEMMA = lambda j: (
    GEMMA_SCALE(j)
    | GGUF_CAPS(j)
    | (
        dict(attn_scale=(j["embedding_length"] / j["attention.head_count"]) ** -0.5)
        if j["block_count"] in (46, 62)
        else {}
    )
)
GGUF_GEMMA4 = """fn=ffn_norm scale=layer_output_scale ple_gate=inp_gate ple_up=proj pn=post_norm"""
GGUF_GEMMA4_TOP = dict(
    ple_embed="per_layer_token_embd.weight", ple_proj="per_layer_model_proj.weight"
)
GGUF_GEMMA4_TOP |= dict(ple_norm="per_layer_proj_norm.weight")
GGUF_DELTA = (
    "conv=ssm_conv1d mix=attn_qkv z=attn_gate b=ssm_beta a=ssm_alpha dn=ssm_norm out=ssm_out"
)
GGUF_DELTA_BARE = {"rates": "blk.{}.ssm_a", "dt": "blk.{}.ssm_dt.bias", "wqkv": None}


def gguf_lfm2(j):
    """Layers that convolve have no kv heads."""
    heads = j["attention.head_count_kv"]
    return {
        **j,
        "attention.head_count_kv": max(heads),
        "kinds": bytes(ATTENTION if n else CONV for n in heads),
    }


def gguf_delta(j):
    """The layers behind block_count - nextn_predict_layers guess further ahead, and are left out."""
    n = j["block_count"] - (j.get("nextn_predict_layers") or 0)
    linear = j.get("attention.recurrent_layers")
    if not isinstance(linear, list):
        linear = [(i + 1) % (j.get("full_attention_interval") or 4) for i in range(n)]
    return {
        **j,
        "block_count": n,
        "kinds": bytes(DELTA if there else ATTENTION for there in linear[:n]),
    }


def gguf_delta_sizes(j):
    heads = dict(
        delta_k_heads=j["ssm.group_count"],
        delta_v_heads=j["ssm.time_step_rank"],
        delta_k_dim=j["ssm.state_size"],
    )
    return {
        **heads,
        "delta_v_dim": j["ssm.inner_size"] // j["ssm.time_step_rank"],
        "conv_len": j["ssm.conv_kernel"],
    }


def gguf_gemma4(j):
    """Sizes of the layers with a window, as of others; those of layers that see everything as the second."""
    slide, shared = j["attention.sliding_window_pattern"], j.get("attention.shared_kv_layers") or 0
    each = lambda key: j[key] if isinstance(j[key], list) else [j[key]] * len(slide)
    first, full, kv, ffn = (
        slide.index(True),
        slide.index(False),
        each("attention.head_count_kv"),
        each("feed_forward_length"),
    )
    more = dict(head_dim2=j["attention.key_length"], n_kv_heads2=kv[full], kv_shared=shared)
    more |= dict(
        ffn_dim2=ffn[-1] if ffn[-1] != ffn[0] else 0,
        ple_dim=j.get("embedding_length_per_layer_input") or 0,
    )
    new = {f"attention.{key}_length": j[f"attention.{key}_length_swa"] for key in ("key", "value")}
    new |= {
        "attention.head_count_kv": kv[first],
        "feed_forward_length": ffn[0],
        "second": {**more, "attn_scale": 1.0},
    }
    new |= {
        "rope.freq_base": j.get("rope.freq_base_swa", 10000.0),
        "rope.freq_base2": j.get("rope.freq_base", 1e6),
    }
    new |= {"rope.dimension_count": j.get("rope.dimension_count_swa")}
    return {**j, **new, "kinds": bytes(ATTENTION if there else ATTENTION2 for there in slide)}


GGUF_FAMILIES = {
    "llama": (gguf_names(), dict(interleaved=True)),
    "mistral3": (
        gguf_names(),
        dict(interleaved=True)
        | dict(
            more=lambda j: tempered(
                j.get("attention.temperature_scale"),
                {"original_max_position_embeddings": j.get("rope.scaling.original_context_length")},
            )
        ),
    ),
    "smollm3": (gguf_names(), dict(interleaved=True, rotates=lambda j, i: bool((i + 1) % 4))),
    "granite": (gguf_names(), dict(interleaved=True, more=GGUF_SCALES)),
    "arcee": (gguf_names("w1="), dict(interleaved=True, act="relu2")),
    "ernie4_5": (gguf_names(), dict(interleaved=True)),
    "qwen2": (gguf_names(), {}),
    "qwen3": (gguf_names(), {}),
    "qwen2moe": (gguf_names(GGUF_EXPERTS + GGUF_SHARED), {}),
    "qwen3moe": (gguf_names(GGUF_EXPERTS), dict(norm_topk=1)),
    "olmoe": (gguf_names(GGUF_EXPERTS), {}),
    "granitemoe": (gguf_names(GGUF_EXPERTS), dict(interleaved=True, more=GGUF_SCALES, norm_topk=1)),
    "seed_oss": (gguf_names("fn=post_attention_norm an2="), {}),
    "phi3": (gguf_names("w1= w3= w13=ffn_up"), dict(window=ALL)),
    "gemma": (gguf_names(), dict(act="gelu_tanh", more=GEMMA_SCALE)),
    "gemma2": (gguf_names(), dict(act="gelu_tanh", window=EVEN, more=GGUF_GEMMA)),
    "gemma3": (gguf_names(), dict(act="gelu_tanh", window=FIVE, more=GGUF_GEMMA)),
    "olmo2": (gguf_names("an= fn="), dict(window=FOUR)),
    "exaone4": (
        gguf_names("an= fn="),
        dict(window=FOUR, rotates=lambda j, i: not j.get("attention.sliding_window") or FOUR(j, i)),
    ),
    "glm4": (gguf_names("w1= w3= w13=ffn_up"), dict(interleaved=True)),
    "olmo": (gguf_names(), dict(interleaved=True, norm="layer", ones=True)),
    "nemotron": (gguf_names("w1="), dict(norm="layer", act="relu2")),
    "command-r": (
        gguf_names("fn=attn_norm"),
        dict(
            norm="layer",
            interleaved=True,
            parallel=True,
            more=lambda j: dict(logit_scale=j["logit_scale"]),
        ),
    ),
    "cohere2": (
        gguf_names("fn=attn_norm"),
        dict(norm="layer", interleaved=True, parallel=True, window=FOUR, rotates=FOUR)
        | dict(more=lambda j: dict(logit_scale=j["logit_scale"])),
    ),
    "chatglm": (gguf_names("w1= w3= w13=ffn_up"), dict(interleaved=True)),
    "falcon": (
        gguf_names("w1= fn=attn_norm ln_attn=attn_norm_2"),
        dict(norm="layer", act="gelu_erf", parallel=True),
    ),
    "gpt-oss": (
        gguf_names(GGUF_EXPERTS + " fn=post_attention_norm an2="),
        dict(
            window=EVEN,
            act="clamped",
            norm_topk=1,
            more=lambda j: dict(act_alpha=1.702, act_limit=7.0),
        ),
    ),
    "gpt2": (gguf_names("w1="), dict(norm="layer", rotary=0, act="gelu_tanh")),
    "gptneox": (
        gguf_names("w1="),
        dict(norm="layer", act="gelu_erf", parallel="use_parallel_residual"),
    ),
    "phi2": (gguf_names("w1= fn=attn_norm"), dict(norm="layer", act="gelu_tanh", parallel=True)),
    "starcoder2": (gguf_names("w1="), dict(norm="layer", act="gelu_tanh")),
    "stablelm": (gguf_names(), dict(norm="layer", parallel="use_parallel_residual")),
    "hunyuan-dense": (gguf_names(), dict(more=lambda j: dict(qk_after=1))),
    "lfm2": (
        gguf_names("conv=shortconv.conv mix=shortconv.in_proj out=shortconv.out_proj")
        | {"out_norm": "token_embd_norm.weight"},
        dict(adapt=gguf_lfm2, flat=True, more=lambda j: dict(conv_len=j["shortconv.l_cache"])),
    ),
    "qwen35": (
        gguf_names(GGUF_DELTA + " fn=post_attention_norm an2=") | GGUF_DELTA_BARE,
        dict(adapt=gguf_delta, flat=True, gated=True, in_turns=True, more=gguf_delta_sizes),
    ),
    "qwen35moe": (
        gguf_names(GGUF_EXPERTS + GGUF_SHARED + " " + GGUF_DELTA + " fn=post_attention_norm an2=")
        | GGUF_DELTA_BARE,
        dict(
            adapt=gguf_delta,
            flat=True,
            gated=True,
            in_turns=True,
            more=gguf_delta_sizes,
            norm_topk=1,
        ),
    ),
    "qwen3next": (
        gguf_names(
            GGUF_EXPERTS
            + GGUF_SHARED
            + " "
            + GGUF_DELTA
            + " b= a= ba=ssm_ba fn=post_attention_norm an2="
        )
        | GGUF_DELTA_BARE,
        dict(adapt=gguf_delta, flat=True, gated=True, more=gguf_delta_sizes, norm_topk=1),
    ),
    "gemma4": (
        gguf_names(GGUF_GEMMA4) | GGUF_GEMMA4_TOP,
        dict(
            adapt=gguf_gemma4,
            act="gelu_tanh",
            v_norm=True,
            more=lambda j: GEMMA_SCALE(j) | GGUF_CAPS(j) | j["second"],
        ),
    ),
}
