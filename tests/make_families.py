"""Write tests/golden/families.json and .npz: python tests/make_families.py [CASE …]     (needs torch and transformers)

For each architecture that export.py knows, transformers' logits of a tiny model in float32 with eager attention. Only names,
shapes and logits are kept: the weights are made from the names by families.weights(), here and in the test alike.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from families import KEPT, tokens, weights

BASE = dict(hidden_size=32, intermediate_size=56, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2)
BASE |= dict(vocab_size=72, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)
MINISTRAL3 = dict(YARN, rope_theta=1e4, beta_fast=32.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.3)
LONG = dict(rope_type="longrope", short_factor=[1.0, 1.1, 1.2, 1.3], long_factor=[1.0, 2.0, 3.0, 5.0])
BLOOMED = dict(n_embd=32, n_layer=4, n_head=4, n_positions=64, vocab_size=72, bos_token_id=1, eos_token_id=2)
MIXED = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
CASES = {  # name: (class, changes of BASE)
    "llama": ("Llama", {}),
    "llama3.1": ("Llama", dict(rope_parameters={"rope_theta": 500000.0, **LLAMA3}, tie_word_embeddings=True)),
    "llama biases": ("Llama", dict(attention_bias=True, mlp_bias=True, head_dim=12)),
    "llama yarn": ("Llama", dict(rope_parameters={"rope_theta": 10000.0, **YARN})),
    "mistral": ("Mistral", dict(sliding_window=7)),
    "mistral nemo": ("Mistral", dict(sliding_window=None, head_dim=16)),
    "ministral": ("Ministral", dict(head_dim=8, sliding_window=7, layer_types=MIXED)),
    "ministral3": ("Ministral3", dict(head_dim=16, sliding_window=None, rope_parameters=MINISTRAL3)),
    "qwen2": ("Qwen2", {}),
    "qwen2 window": ("Qwen2", dict(use_sliding_window=True, sliding_window=7, max_window_layers=2)),
    "qwen3": ("Qwen3", dict(head_dim=16)),
    "smollm3": ("SmolLM3", dict(no_rope_layer_interval=4)),
    "phi3": ("Phi3", dict(sliding_window=9)),
    "phi3 long": (
        "Phi3",
        dict(original_max_position_embeddings=16, rope_parameters={"rope_theta": 10000.0, **LONG}),
    ),
    "phi4 mini": ("Phi3", dict(partial_rotary_factor=0.75, num_attention_heads=2, tie_word_embeddings=True)),
    "granite": (
        "Granite",
        dict(attention_multiplier=0.2, embedding_multiplier=3.0, residual_multiplier=0.4, logits_scaling=5.0),
    ),
    "seed oss": ("SeedOss", dict(head_dim=8)),
    "ernie 4.5": ("Ernie4_5", dict(use_bias=True)),
    "helium": ("Helium", dict(head_dim=8)),
    "cwm": ("Cwm", dict(head_dim=8, sliding_window=7, layer_types=MIXED)),
    "arcee": ("Arcee", {}),
    "gemma": ("Gemma", dict(head_dim=16, hidden_act="gelu")),
    "gemma2": ("Gemma2", dict(head_dim=16, sliding_window=7, query_pre_attn_scalar=24)),
    "gemma3": ("Gemma3", dict(head_dim=16, sliding_window=7, query_pre_attn_scalar=16)),
    "olmo": ("Olmo", {}),
    "olmo2": ("Olmo2", {}),
    "olmo3": ("Olmo3", dict(sliding_window=7)),
    "glm": ("Glm", dict(head_dim=16)),
    "glm4": ("Glm4", dict(head_dim=16, attention_bias=True)),
    "exaone4": ("Exaone4", dict(sliding_window=7)),
    "cohere": ("Cohere", dict(logit_scale=0.3)),
    "cohere2": ("Cohere2", dict(sliding_window=7, logit_scale=0.3)),
    "nemotron": ("Nemotron", dict(head_dim=8)),
    "gpt2": ("GPT2LMHead", BLOOMED),
    "gpt-neo": (
        "GPTNeo",
        dict(hidden_size=32, num_layers=4, num_heads=4, vocab_size=72, max_position_embeddings=64, window_size=7)
        | dict(attention_types=[[["global", "local"], 2]], intermediate_size=56, bos_token_id=1, eos_token_id=2),
    ),
    "pythia": ("GPTNeoX", dict(rotary_pct=0.25, num_attention_heads=2)),
    "redpajama": ("GPTNeoX", dict(use_parallel_residual=False, num_attention_heads=2, rotary_pct=1.0)),
    "gpt-j": ("GPTJ", {**BLOOMED, "rotary_dim": 4}),
    "phi": ("Phi", dict(num_key_value_heads=4)),
    "stablelm": ("StableLm", dict(use_qkv_bias=True, num_attention_heads=2)),
    "stablelm parallel": ("StableLm", dict(use_parallel_residual=True, num_attention_heads=2)),
    "starcoder2": ("Starcoder2", dict(sliding_window=7, use_bias=True)),
    "falcon 7b": ("Falcon", dict(multi_query=True, bias=False, new_decoder_architecture=False, alibi=False)),
    "falcon 40b": ("Falcon", dict(num_kv_heads=2, new_decoder_architecture=True, alibi=False, bias=False)),
    "opt": ("OPT", dict(ffn_dim=56, word_embed_proj_dim=32, do_layer_norm_before=True, activation_function="relu")),
    "mixtral": ("Mixtral", dict(num_local_experts=5, num_experts_per_tok=2, sliding_window=None)),
    "qwen2 moe": (
        "Qwen2Moe",
        dict(num_experts=6, num_experts_per_tok=3, moe_intermediate_size=24, shared_expert_intermediate_size=40),
    ),
    "qwen3 moe": (
        "Qwen3Moe",
        dict(num_experts=6, num_experts_per_tok=3, moe_intermediate_size=24, norm_topk_prob=True, head_dim=16),
    ),
    "gpt-oss": (
        "GptOss",
        dict(num_local_experts=5, num_experts_per_tok=2, head_dim=16, sliding_window=7, intermediate_size=64, swiglu_limit=1.5)
        | dict(rope_parameters=dict(rope_theta=10000.0, truncate=False, beta_fast=32.0, beta_slow=1.0, **YARN)),
    ),
    "olmoe": ("Olmoe", dict(num_experts=6, num_experts_per_tok=2)),
    "granite moe": (
        "GraniteMoe",
        dict(num_local_experts=5, num_experts_per_tok=2, attention_multiplier=0.2, embedding_multiplier=3.0)
        | dict(residual_multiplier=0.4, logits_scaling=5.0),
    ),
    "hunyuan": (
        "HunYuanDenseV1",
        dict(head_dim=16, rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, alpha=1000.0, factor=1.0)),
    ),
    "lfm2": (
        "Lfm2",
        dict(layer_types=["conv", "full_attention", "conv", "conv", "full_attention"], num_hidden_layers=5, conv_L_cache=3)
        | dict(intermediate_size=72, block_multiple_of=8),
    ),
    "qwen3.5": (
        "Qwen3_5",
        dict(head_dim=16, linear_key_head_dim=8, linear_value_head_dim=12, linear_num_key_heads=2, linear_num_value_heads=4)
        | dict(layer_types=["linear_attention", "linear_attention", "full_attention", "linear_attention"]),
    ),
    "qwen3.5 moe": (
        "Qwen3_5Moe",
        dict(head_dim=16, linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=2)
        | dict(layer_types=["linear_attention", "full_attention"], num_hidden_layers=2, num_experts=6, num_experts_per_tok=3)
        | dict(moe_intermediate_size=24, shared_expert_intermediate_size=40),
    ),
    "qwen3 next": (
        "Qwen3Next",
        dict(head_dim=16, linear_key_head_dim=8, linear_value_head_dim=12, linear_num_key_heads=2, linear_num_value_heads=4)
        | dict(layer_types=["linear_attention", "full_attention"], num_hidden_layers=2, num_experts=6, num_experts_per_tok=3)
        | dict(moe_intermediate_size=24, shared_expert_intermediate_size=40, norm_topk_prob=True, decoder_sparse_step=1),
    ),
    "gemma4": (
        "Gemma4",
        dict(num_hidden_layers=5, head_dim=8, global_head_dim=16, sliding_window=7, num_kv_shared_layers=2)
        | dict(use_double_wide_mlp=True)
        | dict(layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention"])
        | dict(hidden_size_per_layer_input=16, vocab_size_per_layer_input=72, final_logit_softcapping=3.0),
    ),
    "gemma4 31b": (
        "Gemma4",
        dict(head_dim=8, global_head_dim=12, num_global_key_value_heads=1, attention_k_eq_v=True, hidden_size_per_layer_input=0)
        | dict(sliding_window=7, layer_types=MIXED),
    ),
    "nanochat": ("NanoChat", dict(num_key_value_heads=2)),
}


def as_in_files(model, cls):
    """A model whose names in files are others than in memory -> (the same with our weights, the names and shapes in files)."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        path = Path(folder) / "model.safetensors"
        saved = load_file(path)
        shapes = {k: [list(v.shape), float(v.flatten()[0].round()) if v.ndim == 1 else 0.0] for k, v in saved.items()}
        save_file({k: torch.from_numpy(v) for k, v in weights(shapes).items()}, path, {"format": "pt"})
        return cls.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval(), shapes


def main():
    out, logits, folder = {}, {}, Path(__file__).parent / "golden"
    if len(sys.argv) > 1:  # the others stay as they are
        out, logits = json.loads((folder / "families.json").read_text()), dict(np.load(folder / "families.npz"))
    for name, (kind, changes) in CASES.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        if kind in ("Falcon", "OPT"):  # which have no such keys
            changes = {**{k: v for k, v in BASE.items() if k not in ("intermediate_size", "num_key_value_heads")}, **changes}
        cls = getattr(transformers, kind + ("Model" if kind.endswith("LMHead") else "ForCausalLM"))
        own = kind in ("Falcon", "OPT", "GPTNeo") or "n_embd" in changes
        whole = changes if own else {**BASE, **changes}
        texts = {"Gemma3": "Gemma3TextConfig", "Gemma4": "Gemma4TextConfig", "Qwen3_5": "Qwen3_5TextConfig"}
        texts["Qwen3_5Moe"] = "Qwen3_5MoeTextConfig"
        config = (getattr(transformers, texts[kind]) if kind in texts else cls.config_class)(**whole)
        config._attn_implementation = "eager"
        torch.manual_seed(0)
        model = cls(config).eval().float()
        if any(".experts" in name or "_moe." in name for name in model.state_dict()):
            model, shapes = as_in_files(model, cls)
            with torch.no_grad():
                logits[name] = model(torch.tensor(tokens())[None], use_cache=False).logits[0].numpy()[KEPT]
            config.architectures = [cls.__name__]
            out[name] = {"config": json.loads(config.to_json_string()), "tensors": shapes}
            print(f"{name}: std {logits[name].std():.3f}", flush=True)
            continue
        tied = {"lm_head.weight", "embed_out.weight"} if config.tie_word_embeddings else set()
        state = {k: v for k, v in model.state_dict().items() if k not in tied and v.is_floating_point()}
        # norms begin as ones, biases as zeros; what training would make of them is something near
        shapes = {k: [list(v.shape), float(v.flatten()[0].round()) if v.ndim == 1 else 0.0] for k, v in state.items()}
        if kind == "GPTNeoX":  # transformers' own name is another than that in files
            shapes["embed_out.weight"] = shapes.pop("lm_head.weight")
        made = {k.replace("embed_out", "lm_head"): torch.from_numpy(v) for k, v in weights(shapes).items()}
        missing, unexpected = model.load_state_dict(made, strict=False)
        left = [k for k in missing if k not in tied and not k.endswith(("inv_freq", ".bias", "masked_bias"))]
        assert not left and not unexpected, (name, left, unexpected)
        model.tie_weights()
        with torch.no_grad():
            logits[name] = model(torch.tensor(tokens())[None], use_cache=False).logits[0].numpy()[KEPT]
        config.architectures = [cls.__name__]
        out[name] = {"config": json.loads(config.to_json_string()), "tensors": shapes}
        print(f"{name}: std {logits[name].std():.3f}", flush=True)
    (folder / "families.json").write_text(json.dumps(out, sort_keys=True) + "\n")
    np.savez_compressed(folder / "families.npz", **logits)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
