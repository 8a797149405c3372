"""What a GGUF's metadata says, as our Config."""

import numpy as np

from ...format.config import Config
from ...format.fields import ACTIVATIONS, NONE
from ..families.family import NEEDED, first_of
from ..rope import rope_table


def gguf_config(j, f, arch):
    dim, heads = int(j["embedding_length"]), int(j["attention.head_count"])
    eps = first_of(
        j, "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", otherwise=1e-5
    )
    parallel = f.settings("parallel") or False
    parallel = bool(j.get(parallel)) if isinstance(parallel, str) else parallel
    if arch == "stablelm" and not f.has("fn"):
        parallel, f.names["fn"] = True, f.names["an"]
    if f.has("ln_attn"):  # Falcon 40B: one norm for each
        f.names["an"] = f.names["ln_attn"]
    head_dim = int(j.get("attention.key_length") or dim // heads)
    ids = {k: j.get(f"tokenizer.ggml.{k}_token_id") for k in ("bos", "eos")}
    vocab, experts = len(f.arrays[f.names["embed"]]), {}
    if f.names.get("router"):
        width = first_of(j, "expert_feed_forward_length", "feed_forward_length", otherwise=NEEDED)
        experts = dict(
            n_experts=int(j["expert_count"]),
            top_k=int(j["expert_used_count"]),
            expert_ffn=int(width),
        )
        experts["norm_topk"] = f.settings("norm_topk") or 0
        if f.has("shared_gate"):
            experts["shared_ffn"] = len(f.arrays[f.names["w1"].format(0)])
            for name in [name for name in f.arrays if name.endswith("ffn_gate_inp_shexp.weight")]:
                f.arrays[name] = f.arrays[name].reshape(1, dim)
    tied = not f.has("head")
    more = f.settings("more") or (lambda j: {})
    return Config(
        arch[:16],
        dim=dim,
        n_layers=int(j["block_count"]),
        n_heads=heads,
        n_kv_heads=int(j.get("attention.head_count_kv") or heads),
        head_dim=head_dim,
        ffn_dim=int(
            first_of(j, "feed_forward_length", "expert_feed_forward_length", otherwise=NEEDED)
        ),
        vocab_size=vocab,
        max_ctx=int(j["context_length"]),
        norm=int(f.layered),
        act=ACTIVATIONS.index(f.settings("act") or "silu"),
        qk_norm=f.qk_norm(head_dim),
        parallel=int(parallel),
        eps=round(float(eps), 12),
        flags=f.flags(tied),
        kinds=j.get("kinds", b"").ljust(224, b"\0"),
        **{k: NONE if v is None or v >= vocab else int(v) for k, v in ids.items()},
        **experts,
        **more(j),
    )


def gguf_rope(j, f, c, window):
    """As hf_rope. The frequencies that llama 3 stretches stand in the file, as do longrope's factors."""
    if f.settings("rotary") == 0:
        return rope_table(c.head_dim, 1.0, rotated=0), [-1] * c.n_layers, 0, 0
    rotated, theta = (
        int(j.get("rope.dimension_count") or c.head_dim),
        float(j.get("rope.freq_base") or 10000.0),
    )
    scaling = {
        k.removeprefix("rope.scaling."): v for k, v in j.items() if k.startswith("rope.scaling.")
    }
    kind, old, long = scaling.get("type", "none"), scaling.get("original_context_length"), 0
    take = lambda name: (
        np.array(f.arrays.pop(name), float) if name in f.arrays and not c.head_dim2 else None
    )
    factors = [take(f"rope_{name}.weight") for name in ("freqs", "factors_short", "factors_long")]
    rope = {
        "rope_type": "default" if kind == "none" else kind,
        "original_max_position_embeddings": old,
        **scaling,
    }
    if factors[1] is not None:
        rope |= {
            "rope_type": "longrope",
            "short_factor": factors[1],
            "long_factor": factors[2],
            "attention_factor": None,
        }
        rope["attention_factor"], long = scaling.get("attn_factor"), int(old)
    elif kind == "yarn":
        rope |= {
            "beta_fast": scaling.get("yarn_beta_fast"),
            "beta_slow": scaling.get("yarn_beta_slow"),
        }
        # mscale and mscale_all_dim are the same
        rope["attention_factor"] = 1.0 if f.label == "GGUF of mistral3" else None
        # as its config.json says; the file does not
        rope["truncate"] = f.label != "GGUF of gpt-oss"
    table = rope_table(c.head_dim, theta, rope, rotated, c.max_ctx)
    if factors[0] is not None:
        table[:, 0, : rotated // 2] /= factors[0]
    turns = f.settings("rotates") or (lambda j, i: True)
    if f.label == "GGUF of gemma3":
        # the layers with a window have a frequency of their own, and no scaling
        table = np.concatenate(
            (
                table,
                rope_table(c.head_dim, float(j.get("rope.freq_base_swa") or 10000.0), {}, rotated),
            )
        )
        return table, [int(w > 0) for w in window], rotated, 0
    return table, [0 if turns(j, i) else -1 for i in range(c.n_layers)], rotated, long
