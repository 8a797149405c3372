"""What a config.json says, as our Config."""

import numpy as np

from ...errors import ModelError, printable
from ...format.config import Config
from ...format.fields import ACTIVATIONS, NONE
from ..families.family import ACTS, NEEDED, first_of
from ..families.hub import ROTATED, TIED
from ..rope import rope_table
from ..say import say


def hf_experts(j, f):
    """The fields of Config that a mixture of experts has."""
    if f.settings("mixed") is None:
        return {}
    if j.get("mlp_only_layers") or j.get("decoder_sparse_step", 1) != 1:
        raise ModelError(
            "config.json: layers with experts and layers without are not supported together; expected all with"
        )
    width = first_of(j, "moe_intermediate_size", "intermediate_size", otherwise=NEEDED)
    fields = dict(
        n_experts=int(first_of(j, "num_experts", "num_local_experts", otherwise=NEEDED)),
        expert_ffn=int(width),
    )
    fields |= dict(
        top_k=int(first_of(j, "num_experts_per_tok", otherwise=NEEDED)),
        norm_topk=int(j.get("norm_topk_prob") or 0),
    )
    fields |= (
        dict(shared_ffn=int(j["shared_expert_intermediate_size"])) if f.has("shared_gate") else {}
    )
    return fields | f.settings("mixed")


def plain_width(j):
    width = first_of(j, "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
    return int(4 * first_of(j, "hidden_size", "n_embd") if width is None else width)


def hf_config(j, f):
    """config.json -> Config, but for the rope tables."""
    get = lambda *keys, otherwise=NEEDED: first_of(j, *keys, otherwise=otherwise)
    dim, heads = (
        int(get("hidden_size", "n_embd")),
        int(get("num_attention_heads", "n_head", "num_heads")),
    )
    kv, head_dim = (
        int(get("num_key_value_heads", "num_kv_heads", otherwise=heads)),
        int(j.get("head_dim") or dim // heads),
    )
    if f.label == "Falcon" and not j.get("new_decoder_architecture"):
        kv = 1 if j.get("multi_query", True) else heads
    act = get(
        "hidden_activation", "hidden_act", "activation_function", "activation", otherwise="silu"
    )
    act = f.settings("act") or ACTS.get(act, act)
    if act not in ACTIVATIONS:
        raise ModelError(
            f"config.json: activation {printable(str(act))[:40]!r} is not supported; known: {', '.join(ACTS)}"
        )
    layers = int(get("num_hidden_layers", "n_layer", "num_layers"))
    kinds = f.settings("kinds")(j, layers) if f.settings("kinds") else b""
    f.look(kinds)
    if f.k_is_v and not j.get("attention_k_eq_v"):
        raise ModelError(
            "a layer without values, and config.json does not say attention_k_eq_v; is the source complete?"
        )
    quantised = j.get("quantization_config")
    if (
        isinstance(quantised, dict)
        and quantised.get("quant_method") == "mxfp4"
        and f.label == "GptOss"
    ):
        j = {**j, "quantization_config": None}
    odd = (
        "qk_layernorm",
        "use_qk_norm",
        "clip_qkv",
        "alibi",
        "quantization_config",
        "_remove_final_layer_norm",
    )
    for key in (*odd, *(f.settings("refused") or ())):
        if j.get(key):
            found = printable(str(j[key]))[:60]
            raise ModelError(f"config.json: {key} {found} is not supported; expected none")
    for key, part in (("attention_bias", "wq"), ("mlp_bias", "w3")):
        said = j.get(key, False if f.label == "Llama" else None)
        if said is not None and said != f.has(part, True) and not f.names.get("wqkv"):
            said = printable(str(said))[:40]
            raise ModelError(
                f"config.json: {key} is {said}, but the weights say otherwise; do they belong together?"
            )
    if f.label == "OPT" and not (
        j.get("do_layer_norm_before", True) and j.get("word_embed_proj_dim", dim) == dim
    ):
        raise ModelError(
            "config.json: OPT with norms behind or projected embeddings is not supported; expected another size"
        )
    parallel = f.settings("parallel") or False
    parallel = (
        bool(j.get(parallel, f.label != "StableLm")) if isinstance(parallel, str) else parallel
    )
    if parallel and not f.has("fn"):
        f.names["fn"] = f.names["an"]
    tied = j.get(
        "tie_word_embeddings", j.get("tie_embedding", f.label in TIED.split() or not f.has("head"))
    )
    if tied and f.has("head"):  # a tied matrix may stand under either name, or both
        f.arrays.setdefault(f.names["embed"], f.arrays[f.names["head"]])
        f.skip += (f.names["head"],)
    first = lambda v: v[0] if isinstance(v, list) else v
    ids = {k: first(j.get(f"{k}_token_id")) for k in ("bos", "eos")}
    more = f.settings("more") or (lambda j: {})
    return Config(
        printable(str(j.get("model_type") or "llama"))[:16],
        dim=dim,
        n_layers=layers,
        n_heads=heads,
        n_kv_heads=kv,
        head_dim=head_dim,
        ffn_dim=(f.settings("ffn") or plain_width)(j),
        vocab_size=int(j["vocab_size"]),
        max_ctx=int(get("max_position_embeddings", "n_positions", "n_ctx", otherwise=2048)),
        norm=int(f.layered),
        act=ACTIVATIONS.index(act),
        qk_norm=f.qk_norm(head_dim),
        parallel=int(parallel),
        eps=float(
            get("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", otherwise=1e-5)
        ),
        flags=f.flags(tied),
        **{
            k: int(v) if isinstance(v, int) and 0 <= v < int(j["vocab_size"]) else NONE
            for k, v in ids.items()
        },
        kinds=kinds.ljust(224, b"\0"),
        **hf_experts(j, f),
        **more(j),
    )


def hf_rope(j, f, c, window):
    """-> (tables, each layer's, rotated columns of a head, context beyond which the second half of the tables is used)."""
    if f.settings("rotary") == 0:
        return rope_table(c.head_dim, 1.0, rotated=0), [-1] * c.n_layers, 0, 0
    given, old = j.get("rope_parameters") or {}, j.get("original_max_position_embeddings")
    rope = given or {
        "rope_theta": first_of(j, "rope_theta", "rotary_emb_base"),
        **(j.get("rope_scaling") or {}),
    }
    full, slide = (rope.get(k, rope) for k in ("full_attention", "sliding_attention"))
    if j.get("rope_local_base_freq"):  # Gemma 3 as on the Hub: the scaling is for the global layers
        slide = {"rope_theta": j["rope_local_base_freq"]}
    elif f.label == "Olmo3" and not given:  # the scaling is for the layers that see everything
        slide = {"rope_theta": rope["rope_theta"]}
    if c.head_dim2:  # layers that see everything have a table of their own
        full = slide
    share = first_of(
        full, "partial_rotary_factor", otherwise=first_of(j, "partial_rotary_factor", "rotary_pct")
    )
    share = ROTATED.get(f.label, 1) if share is None else share
    rotated = int(j["rotary_dim"]) if j.get("rotary_dim") else int(c.head_dim * share)
    kinds = [full if not w or full == slide else slide for w in window]
    used = [kind for i, kind in enumerate(kinds) if kind not in kinds[:i]]
    made = []
    for kind in used:
        kind = {
            "original_max_position_embeddings": old,
            **{k: v for k, v in kind.items() if v is not None},
        }
        made.append(
            rope_table(
                c.head_dim, float(kind.get("rope_theta") or 10000.0), kind, rotated, c.max_ctx
            )
        )
    # short ones, then long
    both = [np.stack([t[min(n, len(t) - 1)] for t in made]) for n in range(max(map(len, made)))]
    table = np.concatenate(both)
    table[:, 0] *= -1 if f.settings("backwards") else 1
    turns = f.settings("rotates") or (lambda j, i: True)
    ids = [used.index(kind) if turns(j, i) else -1 for i, kind in enumerate(kinds)]
    return (
        table,
        ids,
        rotated,
        int(old or full.get("original_max_position_embeddings") or 0) if len(both) == 2 else 0,
    )


# models that see pictures too: what stands for their text part, and what its config.json leaves to transformers' defaults
SEEING = {
    "Gemma3ForConditionalGeneration": "Gemma3ForCausalLM",
    "Mistral3ForConditionalGeneration": None,
}
SEEING |= {
    f"{name}ForConditionalGeneration": f"{name}ForCausalLM"
    for name in ("Gemma4", "Qwen3_5", "Qwen3_5Moe")
}
GEMMA3_DEFAULTS = dict(
    num_attention_heads=8, num_key_value_heads=4, head_dim=256, vocab_size=262208, rope_theta=1e6
)
GEMMA3_DEFAULTS |= dict(
    max_position_embeddings=131072, rope_local_base_freq=10000.0, query_pre_attn_scalar=256
)
GEMMA3_DEFAULTS |= dict(
    rms_norm_eps=1e-6, hidden_activation="gelu_pytorch_tanh", sliding_window=4096
)
PICTURES = "vision_tower. multi_modal_projector. visual. audio_tower. embed_vision. embed_audio. mtp.".split()

# or sounds, or guesses at tokens further ahead
PICTURES = (*PICTURES, *("model." + name for name in PICTURES))


def text_part(j, arrays):
    """config.json and arrays of a model that sees pictures -> those of the model of text inside it."""
    label, text = str((j.get("architectures") or [""])[0]), j["text_config"]
    defaults = GEMMA3_DEFAULTS if label.startswith("Gemma3") else {}
    kind = SEEING[label] or {
        "mistral": "MistralForCausalLM",
        "ministral3": "Ministral3ForCausalLM",
    }.get(text["model_type"])
    ids = {k: j[k] for k in ("eos_token_id", "bos_token_id") if k in j}
    # old files, and those of transformers 5
    inside = lambda name: name.removeprefix("language_model.").replace(
        "model.language_model.", "model.", 1
    )
    kept = {inside(name): array for name, array in arrays.items() if not name.startswith(PICTURES)}
    say(
        f"{len(arrays) - len(kept)} tensors of pictures are left out: the model of text alone is exported"
    )
    tie = (
        {} if "tie_word_embeddings" not in j else {"tie_word_embeddings": j["tie_word_embeddings"]}
    )
    return {**defaults, **tie, **text, **ids, "architectures": [kind]}, kept
