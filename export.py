"""
Turn a trained model into one flat file that run.py maps.        python export.py SOURCE -o model.bin

The file, top to bottom:
    arrays        what a source gives: matrices read a few rows at a time, whatever the model's size
    families      what each architecture calls its tensors, and how it differs from a Llama
    gguf          llama.cpp's files
    sources       llama2.c, torch checkpoints, Hugging Face folders, random weights -> canonical tensors
    tokenizers    llama2.c, SentencePiece, tokenizer.json, tiktoken -> tokenizer.bin
    chat          a template becomes fixed pieces of text and control tokens
    quantise      float32 rows -> the blocks of 16 rows that kernels read
    write         temporary file, hashes, rename; then read back and verified
    command line  flags, exit codes
"""

import argparse
import base64
import hashlib
import io
import itertools
import json
import math
import mmap
import os
import pickletools
import random
import re
import signal
import struct
import subprocess
import sys
import time
import weakref
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

try:
    import numpy as np

    import importlib
    import pkgutil

    import twofile

    run = SimpleNamespace()  # every name of every room, until this file is rooms itself
    for _room in pkgutil.walk_packages(twofile.__path__, "twofile."):
        if not _room.name.endswith("__main__"):
            vars(run).update({k: v for k, v in vars(importlib.import_module(_room.name)).items() if k[:2] != "__"})
except ImportError as e:
    if __name__ != "__main__":
        raise
    text = f"the package numpy is not installed or too old ({e}); expected 2.0 or newer"
    sys.exit(f"export.py: error: {text}; pip install -U numpy")

BLOCK, FLAGS, GROUP, NONE = run.BLOCK, run.FLAGS, run.GROUP, run.NONE
Config, ModelError, padded, printable = run.Config, run.ModelError, run.padded, run.printable

CHUNK = 1 << 22  # matrix elements converted at a time
MOST_JSON = 10 << 20  # bytes of a configuration, index or header; of a tokenizer 64 MiB (run.MOST_BYTES)

# -----------------------------------------------------------------------------
# arrays: a matrix of a source, converted to float32 a few rows at a time


class Rows:
    """A matrix [n, cols] made of parts stacked by rows, each a (mapped) array and perhaps an order of its rows.

    Arrays of uint16 hold bfloat16.
    """

    def __init__(self, *parts):
        self.parts = [p if isinstance(p, tuple) else (p, None) for p in parts]
        self.shape = (sum(len(a) for a, _ in self.parts), *self.parts[0][0].shape[1:])

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        """Rows of a matrix in parts, as float32: a part of another may be one."""
        if isinstance(rows, slice):
            return self.read(*rows.indices(len(self))[:2])
        out = np.empty((len(rows), *self.shape[1:]), np.float32)
        start = 0
        for array, order in self.parts:
            mine = (rows >= start) & (rows < start + len(array))
            own = rows[mine] - start
            out[mine] = to_float32(array[own if order is None else order[own]])
            start += len(array)
        return out

    def read(self, first, last):
        """-> float32 [last - first, cols]"""
        out, start = [], 0
        for array, order in self.parts:
            a, b = max(first - start, 0), min(last - start, len(array))
            if a < b:
                out.append(to_float32(array[a:b] if order is None else array[order[a:b]]))
            start += len(array)
        return np.concatenate(out)

    def blocks(self, dtype, first, last):
        """As read(), the values and scales of blocks that need no change; None if the parts are of another type."""
        out, start = [], 0
        for array, order in self.parts:
            if not isinstance(array, Blocks) or array.kind.name.lower() != dtype:
                return None
            a, b = max(first - start, 0), min(last - start, len(array))
            if a < b:
                out.append(array[a:b].parts() if order is None else array[order[a:b]].parts())
            start += len(array)
        return tuple(map(np.concatenate, zip(*out)))


class Mx:
    """Rows of MXFP4, which gpt-oss's experts are stored in: values uint8 [rows, groups, 16] of two numbers of 4 bits, the lower
    half first, and scales uint8 [rows, groups], powers of two (OCP Microscaling Formats 1.0)."""

    LEVELS = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    LEVELS = np.concatenate((LEVELS, -LEVELS))

    def __init__(self, values, scales):
        self.values, self.scales = values, scales
        self.shape = (len(values), values.shape[1] * 32)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return Mx(self.values[rows], self.scales[rows])

    def floats(self):
        pairs = np.stack((self.values & 15, self.values >> 4), -1).reshape(len(self), -1, 32)
        return np.ldexp(self.LEVELS[pairs], self.scales.astype(np.int32)[..., None] - 127).reshape(self.shape)


MAPS = weakref.WeakSet()  # of the files of the source


def mapped(path):
    """A file as uint8, read when it is looked at."""
    os.close(run.open_regular(path, "a file of weights")[0])  # a pipe would block
    array = np.memmap(path, np.uint8, "r")
    MAPS.add(array._mmap)
    return array


def forget():
    """Let go of the pages read so far: a source larger than memory would push everything else out."""
    for m in MAPS:
        if hasattr(m, "madvise"):
            m.madvise(mmap.MADV_DONTNEED)


def to_float32(array):
    if hasattr(array, "floats"):  # Blocks of a GGUF
        return array.floats()
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(array, dtype=np.float32)


# -----------------------------------------------------------------------------
# families: what each architecture calls its tensors, and how it differs from a Llama; a table where a table will do


def named(prefix, layer, top, parts, head="lm_head"):
    """Names of weights: {ours: theirs}, a layer's with {} for its number, from "ours=theirs …"."""
    pairs = lambda text, before: {k: before + v + ".weight" if v else None for k, v in (p.split("=") for p in text.split())}
    return {**pairs(top, prefix), **pairs(parts, prefix + layer), "head": head + ".weight"}


def like_llama(parts):
    """The names of Llama on the Hub, but for these; an empty one is not there."""
    return named("model.", "layers.{}.", "embed=embed_tokens out_norm=norm", HUB + parts)


HUB = """an=input_layernorm fn=post_attention_layernorm wq=self_attn.q_proj wk=self_attn.k_proj wv=self_attn.v_proj
wo=self_attn.o_proj qn=self_attn.q_norm kn=self_attn.k_norm w1=mlp.gate_proj w2=mlp.down_proj w3=mlp.up_proj """
HF_NAMES = like_llama("")
META_PARTS = "an=attention_norm fn=ffn_norm wq=attention.wq wk=attention.wk wv=attention.wv wo=attention.wo "
META_PARTS += "w1=feed_forward.w1 w2=feed_forward.w2 w3=feed_forward.w3"
META_NAMES = named("", "layers.{}.", "embed=tok_embeddings out_norm=norm", META_PARTS, "output")
UNGATED = like_llama("w1=")
GPT_OSS = "w1= w2= w3= router=mlp.router"
EXPERTS = "w1= w2= w3= router=mlp.gate e1=mlp.experts.{}.gate_proj e2=mlp.experts.{}.down_proj e3=mlp.experts.{}.up_proj"
MIXTRAL = "w1= w2= w3= router=block_sparse_moe.gate e1=block_sparse_moe.experts.{}.w1 e2=block_sparse_moe.experts.{}.w2 "
MIXTRAL += "e3=block_sparse_moe.experts.{}.w3"
SHARED = "w1=mlp.shared_expert.gate_proj w2=mlp.shared_expert.down_proj w3=mlp.shared_expert.up_proj "
SHARED += "shared_gate=mlp.shared_expert_gate"
GRANITE_EXPERTS = "w1= w2= w3= router=block_sparse_moe.router.layer e13=block_sparse_moe.input_linear "
GRANITE_EXPERTS += "e2=block_sparse_moe.output_linear"
FUSED = like_llama("w1= w3= w13=mlp.gate_up_proj")
PHI3 = like_llama("w1= w3= w13=mlp.gate_up_proj wqkv=self_attn.qkv_proj")
POST_ONLY = like_llama("an= fn= an2=post_attention_layernorm fn2=post_feedforward_layernorm")
GEMMA = like_llama("an2=post_attention_layernorm fn=pre_feedforward_layernorm fn2=post_feedforward_layernorm")
GLM4 = like_llama("w1= w3= w13=mlp.gate_up_proj an2=post_self_attn_layernorm fn2=post_mlp_layernorm")
ONE_NORM = like_llama("fn=input_layernorm")
PHI = like_llama("fn=input_layernorm wo=self_attn.dense w1= w3=mlp.fc1 w2=mlp.fc2")
PHI |= {"out_norm": "model.final_layernorm.weight"}
NANOCHAT = like_llama("w1= w3=mlp.fc1 w2=mlp.fc2")
STARCODER2 = like_llama("w1= w3=mlp.c_fc w2=mlp.c_proj")
GPT2_PARTS = "an=ln_1 fn=ln_2 wqkv=attn.c_attn wo=attn.c_proj w3=mlp.c_fc w2=mlp.c_proj"
GPT2 = named("transformer.", "h.{}.", "embed=wte positions=wpe out_norm=ln_f", GPT2_PARTS)
NEO_PARTS = "an=ln_1 fn=ln_2 wq=attn.attention.q_proj wk=attn.attention.k_proj wv=attn.attention.v_proj "
NEO_PARTS += "wo=attn.attention.out_proj w3=mlp.c_fc w2=mlp.c_proj"
NEO = named("transformer.", "h.{}.", "embed=wte positions=wpe out_norm=ln_f", NEO_PARTS)
GPTJ_PARTS = "an=ln_1 fn=ln_1 wq=attn.q_proj wk=attn.k_proj wv=attn.v_proj wo=attn.out_proj w3=mlp.fc_in w2=mlp.fc_out"
GPTJ = named("transformer.", "h.{}.", "embed=wte out_norm=ln_f", GPTJ_PARTS)
NEOX_PARTS = "an=input_layernorm fn=post_attention_layernorm wqkv=attention.query_key_value wo=attention.dense "
NEOX_PARTS += "w3=mlp.dense_h_to_4h w2=mlp.dense_4h_to_h"
NEOX = named("gpt_neox.", "layers.{}.", "embed=embed_in out_norm=final_layer_norm", NEOX_PARTS, "embed_out")
FALCON_PARTS = "an=input_layernorm fn=input_layernorm ln_attn=ln_attn ln_mlp=ln_mlp wqkv=self_attention.query_key_value "
FALCON_PARTS += "wo=self_attention.dense w3=mlp.dense_h_to_4h w2=mlp.dense_4h_to_h"
FALCON = named("transformer.", "h.{}.", "embed=word_embeddings out_norm=ln_f", FALCON_PARTS)
OPT_PARTS = "an=self_attn_layer_norm fn=final_layer_norm wq=self_attn.q_proj wk=self_attn.k_proj wv=self_attn.v_proj "
OPT_PARTS += "wo=self_attn.out_proj w3=fc1 w2=fc2"
OPT = named("model.decoder.", "layers.{}.", "embed=embed_tokens positions=embed_positions out_norm=final_layer_norm", OPT_PARTS)

LFM2 = like_llama(
    "an=operator_norm fn=ffn_norm wo=self_attn.out_proj qn=self_attn.q_layernorm kn=self_attn.k_layernorm w1=feed_forward.w1 "
    "w2=feed_forward.w2 w3=feed_forward.w3 conv=conv.conv mix=conv.in_proj out=conv.out_proj"
) | {"out_norm": "model.embedding_norm.weight"}
GEMMA4_PARTS = "an2=post_attention_layernorm fn=pre_feedforward_layernorm fn2=post_feedforward_layernorm "
GEMMA4_PARTS += "ple_gate=per_layer_input_gate ple_up=per_layer_projection pn=post_per_layer_input_norm"
GEMMA4 = like_llama(GEMMA4_PARTS) | {
    "ple_embed": "model.embed_tokens_per_layer.weight",
    "ple_proj": "model.per_layer_model_projection.weight",
    "ple_norm": "model.per_layer_projection_norm.weight",
    "scale": "model.layers.{}.layer_scalar",
}
DELTA = "conv=linear_attn.conv1d mix=linear_attn.in_proj_qkv z=linear_attn.in_proj_z b=linear_attn.in_proj_b "
DELTA += "a=linear_attn.in_proj_a dn=linear_attn.norm out=linear_attn.out_proj "
QWEN_NEXT = DELTA + "mix= z= b= a= qkvz=linear_attn.in_proj_qkvz ba=linear_attn.in_proj_ba "
FUSED_EXPERTS = {"e13": "model.layers.{}.mlp.experts.gate_up_proj", "e2s": "model.layers.{}.mlp.experts.down_proj"}
DELTA_BARE = {"rates": "model.layers.{}.linear_attn.A_log", "dt": "model.layers.{}.linear_attn.dt_bias"}


def slides(j, layer, otherwise):
    """Whether a layer sees a window only: as layer_types says, or by the family's rule."""
    kinds = j.get("layer_types")
    return kinds[layer] == "sliding_attention" if kinds else otherwise(j, layer)


def smollm3_rope(j, layer):
    known = j.get("no_rope_layers")
    return bool(known[layer]) if known else bool((layer + 1) % j.get("no_rope_layer_interval", 4))


def granite_scales(j):
    scales = dict(attn_scale=j["attention_multiplier"], embed_scale=j["embedding_multiplier"])
    return scales | dict(resid_scale=j["residual_multiplier"], logit_scale=1 / j["logits_scaling"])


def tempered(beta, rope):
    """Queries grow with the logarithm of their position, as Llama 4's."""
    return dict(temp_beta=float(beta), temp_len=float(rope["original_max_position_embeddings"])) if beta else {}


def neo_local(j, layer):
    kinds = j.get("attention_layers")
    if not kinds:  # [[kinds in turn, how many times], …]
        every = (k for names, times in j["attention_types"] if names for _ in range(times) for k in names)
        kinds = list(itertools.islice(every, layer + 1))
    return kinds[layer] == "local"


def layer_kinds(full=run.ATTENTION, rule=lambda j, i: "full_attention"):
    """-> what gives the kind of each layer, as layer_types says, or by the family's rule."""
    known = {"full_attention": full, "sliding_attention": run.ATTENTION, "conv": run.CONV, "linear_attention": run.DELTA}

    def kinds(j, n):
        said = j.get("layer_types") or [rule(j, i) for i in range(n)]
        if len(said) != n or n > 224 or set(said) - set(known):
            found = ", ".join(sorted({printable(str(kind)) for kind in said} - set(known))) or f"{len(said)} of {n}"
            raise ModelError(f"config.json: layer_types: {found}; expected {', '.join(known)} for each of at most 224 layers")
        return bytes(known[kind] for kind in said)

    return kinds


def lfm2_width(j):
    """Hidden width of the feed-forward part: two thirds of what config.json says, rounded up, if it says so."""
    width = int(first_of(j, "block_ff_dim", "intermediate_size", otherwise=NEEDED))
    if not j.get("block_auto_adjust_ff_dim", True):
        return width
    factor, multiple = j.get("block_ffn_dim_multiplier", 1.0), int(j.get("block_multiple_of", 256))
    width = int(2 * width / 3)
    return padded(int(factor * width), multiple) if factor is not None else width


def delta_sizes(j):
    """The sizes of layers of the gated delta rule."""
    heads = dict(delta_k_heads=j["linear_num_key_heads"], delta_v_heads=j["linear_num_value_heads"])
    sizes = dict(delta_k_dim=j["linear_key_head_dim"], delta_v_dim=j["linear_value_head_dim"])
    return heads | sizes | dict(conv_len=j["linear_conv_kernel_dim"])


def gemma4_sizes(j):
    """Two kinds of attention, keys and values that layers share, embeddings for each layer."""
    kinds, own = GEMMA4_KINDS(j, j["num_hidden_layers"]), j.get("per_layer_config") or {}
    full = [own.get(str(i), {}) for i, kind in enumerate(kinds) if kind == run.ATTENTION2] or [{}]
    if any(other != full[0] for other in full) or any(kinds[int(i)] != run.ATTENTION2 for i in own):
        raise ModelError("config.json: layers of more than two shapes are not supported; expected those of layer_types")
    if j.get("use_bidirectional_attention") == "all":
        raise ModelError("config.json: use_bidirectional_attention all is not supported; expected a model that writes")
    ple, shared = j.get("hidden_size_per_layer_input") or 0, j.get("num_kv_shared_layers") or 0
    if ple and j.get("vocab_size_per_layer_input", j["vocab_size"]) != j["vocab_size"]:
        raise ModelError(f"config.json: vocab_size_per_layer_input is not {j['vocab_size']}; expected one vocabulary")
    kv = (j.get("num_global_key_value_heads") if j.get("attention_k_eq_v") else None) or j["num_key_value_heads"]
    second = dict(head_dim2=full[0].get("head_dim") or j.get("global_head_dim") or 512)
    second |= dict(n_kv_heads2=full[0].get("num_key_value_heads") or kv)
    wide = 2 * j["intermediate_size"] if shared and j.get("use_double_wide_mlp") else 0
    sizes = dict(kv_shared=shared, ffn_dim2=wide, ple_dim=ple, attn_scale=1.0, final_cap=j.get("final_logit_softcapping") or 0)
    return {k: int(v) for k, v in second.items()} | sizes | ROOT_SCALE(j)


# architecture -> (names, what else differs). norm = "layer"; ones, qk_ones: norms without weights; plus_one: norms that
# store w - 1; interleaved: rotary pairs are neighbours; turned: matrices are stored transposed; grouped: q, k, v lie together
# for each kv head; parallel: attention and feed-forward read the same, or the name of the key that says so; rotary = 0: no
# rotation; backwards: the other way round; shift: first row of positions; skip: ends of names that are no weights; gated:
# wq has a gate behind each head's queries; v_norm; flat: taps are stored in two dims, decays as they are used; in_turns: as
# the flag delta_turns; defaults, refused: what config.json need not and must not say. j is config.json: window(j, layer):
# whether a layer slides; rotates(j, layer); kinds(j, layers): of each layer; ffn(j): its width; more(j): fields of Config.
SOME = lambda j, i: bool(j.get("use_sliding_window")) and i >= j.get("max_window_layers", 0)
EVEN = lambda j, i: i % 2 == 0
FIVE = lambda j, i: bool((i + 1) % j.get("sliding_window_pattern", 6))
FOUR = lambda j, i: bool((i + 1) % 4)
ALL = lambda j, i: True
NEVER = lambda j, i: False
LFM2_KINDS = layer_kinds(rule=lambda j, i: "full_attention" if i in j.get("full_attn_idxs", [i]) else "conv")
LINEAR = lambda j, i: bool((i + 1) % j.get("full_attention_interval", 4))
QWEN_KINDS = layer_kinds(rule=lambda j, i: "linear_attention" if LINEAR(j, i) else "full_attention")
GEMMA4_KINDS = layer_kinds(run.ATTENTION2, lambda j, i: "sliding_attention" if FIVE(j, i) else "full_attention")
ROOT_SCALE = lambda j: dict(embed_scale=j["hidden_size"] ** 0.5)
GEMMA_SCALES = lambda j: ROOT_SCALE(j) | dict(attn_scale=j.get("query_pre_attn_scalar", 256) ** -0.5)
GEMMA_CAPS = lambda j: dict(attn_cap=j.get("attn_logit_softcapping") or 0, final_cap=j.get("final_logit_softcapping") or 0)
COHERE_SCALE = lambda j: dict(logit_scale=j.get("logit_scale", 0.0625))
FAMILIES = {
    "LlamaForCausalLM": (HF_NAMES, {}),
    "MistralForCausalLM": (HF_NAMES, dict(window=ALL)),
    "MinistralForCausalLM": (HF_NAMES, dict(window=ALL)),
    "Ministral3ForCausalLM": (
        HF_NAMES,
        dict(window=NEVER, more=lambda j: tempered(j["rope_parameters"]["llama_4_scaling_beta"], j["rope_parameters"])),
    ),
    "Qwen2ForCausalLM": (HF_NAMES, dict(window=SOME)),
    "Qwen3ForCausalLM": (HF_NAMES, dict(window=SOME)),
    "SmolLM3ForCausalLM": (HF_NAMES, dict(window=SOME, rotates=smollm3_rope)),
    "Phi3ForCausalLM": (PHI3, dict(window=ALL)),
    "GraniteForCausalLM": (HF_NAMES, dict(more=granite_scales)),
    "SeedOssForCausalLM": (HF_NAMES, {}),
    "MixtralForCausalLM": (like_llama(MIXTRAL), dict(window=ALL, mixed=dict(norm_topk=1))),
    "Qwen2MoeForCausalLM": (like_llama(EXPERTS + " " + SHARED), dict(window=SOME, mixed={})),
    "Qwen3MoeForCausalLM": (like_llama(EXPERTS), dict(window=SOME, mixed={})),
    "OlmoeForCausalLM": (like_llama(EXPERTS), dict(mixed={})),
    "GptOssForCausalLM": (
        like_llama(GPT_OSS),
        dict(window=EVEN, act="clamped", mixed=dict(norm_topk=1))
        | dict(more=lambda j: dict(act_alpha=1.702, act_limit=j.get("swiglu_limit", 7.0))),
    ),
    "GraniteMoeForCausalLM": (
        like_llama(GRANITE_EXPERTS),
        dict(mixed=dict(norm_topk=1), more=granite_scales),
    ),
    "Ernie4_5ForCausalLM": (HF_NAMES, dict(interleaved=True)),
    "HeliumForCausalLM": (HF_NAMES, dict(interleaved=True)),
    "CwmForCausalLM": (HF_NAMES, dict(window=NEVER)),
    "ArceeForCausalLM": (UNGATED, {}),
    "GemmaForCausalLM": (HF_NAMES, dict(plus_one=True, act="gelu_tanh", more=ROOT_SCALE)),
    "Gemma2ForCausalLM": (GEMMA, dict(plus_one=True, window=EVEN, more=lambda j: GEMMA_SCALES(j) | GEMMA_CAPS(j))),
    "Gemma3ForCausalLM": (GEMMA, dict(plus_one=True, window=FIVE, more=lambda j: GEMMA_SCALES(j) | GEMMA_CAPS(j))),
    "OlmoForCausalLM": (HF_NAMES, dict(norm="layer", ones=True)),
    "Olmo2ForCausalLM": (POST_ONLY, {}),
    "Olmo3ForCausalLM": (POST_ONLY, dict(window=FOUR)),
    "GlmForCausalLM": (FUSED, dict(interleaved=True)),
    "Glm4ForCausalLM": (GLM4, dict(interleaved=True)),
    "Exaone4ForCausalLM": (
        POST_ONLY,
        dict(window=FOUR, rotates=lambda j, i: not j.get("sliding_window") or slides(j, i, FOUR)),
    ),
    "CohereForCausalLM": (ONE_NORM, dict(norm="layer", interleaved=True, parallel=True, more=COHERE_SCALE)),
    "Cohere2ForCausalLM": (
        ONE_NORM,
        dict(norm="layer", interleaved=True, parallel=True, window=FOUR, rotates=lambda j, i: slides(j, i, FOUR))
        | dict(more=COHERE_SCALE),
    ),
    "NemotronForCausalLM": (UNGATED, dict(norm="layer", plus_one=True)),
    "GPT2LMHeadModel": (GPT2, dict(norm="layer", turned=True, rotary=0, skip=(".attn.bias", ".attn.masked_bias"))),
    "GPTNeoForCausalLM": (
        NEO,
        dict(norm="layer", rotary=0, window=neo_local, skip=(".attention.bias", ".attention.masked_bias"))
        | dict(more=lambda j: dict(attn_scale=1.0)),
    ),
    "GPTNeoXForCausalLM": (
        NEOX,
        dict(norm="layer", grouped=True, parallel="use_parallel_residual", skip=(".attention.bias", ".masked_bias")),
    ),
    "GPTJForCausalLM": (GPTJ, dict(norm="layer", interleaved=True, parallel=True, skip=(".attn.bias", ".masked_bias"))),
    "PhiForCausalLM": (PHI, dict(norm="layer", parallel=True)),
    "StableLmForCausalLM": (HF_NAMES, dict(norm="layer", parallel="use_parallel_residual")),
    "Starcoder2ForCausalLM": (STARCODER2, dict(norm="layer", window=ALL)),
    "FalconForCausalLM": (FALCON, dict(norm="layer", grouped=True, parallel="parallel_attn", act="gelu_erf")),
    "OPTForCausalLM": (OPT, dict(norm="layer", rotary=0, shift=2)),
    "HunYuanDenseV1ForCausalLM": (
        like_llama("qn=self_attn.query_layernorm kn=self_attn.key_layernorm"),
        dict(more=lambda j: dict(qk_after=1)),
    ),
    "Lfm2ForCausalLM": (
        LFM2,
        dict(kinds=LFM2_KINDS, ffn=lfm2_width, defaults=dict(rope_theta=1e6), refused=("conv_bias",))
        | dict(more=lambda j: dict(conv_len=j.get("conv_L_cache", 3))),
    ),
    "Gemma4ForCausalLM": (
        GEMMA4,
        dict(kinds=GEMMA4_KINDS, window=FIVE, more=gemma4_sizes, refused=("enable_moe_block",), v_norm=True),
    ),
    "Qwen3_5ForCausalLM": (
        like_llama(DELTA) | DELTA_BARE,
        dict(kinds=QWEN_KINDS, plus_one=True, gated=True, more=delta_sizes),
    ),
    "Qwen3_5MoeForCausalLM": (
        like_llama(EXPERTS + " " + SHARED + " " + DELTA) | DELTA_BARE | FUSED_EXPERTS,
        dict(kinds=QWEN_KINDS, plus_one=True, gated=True, more=delta_sizes, mixed=dict(norm_topk=1)),
    ),
    "Qwen3NextForCausalLM": (
        like_llama(EXPERTS + " " + SHARED + " " + QWEN_NEXT) | DELTA_BARE,
        dict(kinds=QWEN_KINDS, plus_one=True, gated=True, more=delta_sizes, mixed={}),
    ),
    "NanoChatForCausalLM": (NANOCHAT, dict(ones=True, qk_ones=True, embed_norm=True, backwards=True, more=GEMMA_CAPS)),
}
TIED = "GPT2 GPTNeo Gemma Gemma2 Gemma3 Gemma4 Cohere Cohere2 OPT Falcon Starcoder2 SmolLM3 Lfm2"  # unless config.json says
ROTATED = dict(Phi=0.5, StableLm=0.25, GPTNeoX=0.25, Nemotron=0.5, Glm=0.5, Glm4=0.5)  # share of a head, unless it says
ROTATED |= dict(Qwen3_5=0.25, Qwen3_5Moe=0.25, Qwen3Next=0.25)
ACTS = {"silu": "silu", "swish": "silu", "relu": "relu", "relu2": "relu2", "gelu": "gelu_erf"}
ACTS |= dict.fromkeys(("gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_python_tanh"), "gelu_tanh")


def head_order(dim, rotated, interleaved):
    """Which column of a head stands at each place of ours, where pair j is (j, j + dim / 2) and the rotated pairs are first."""
    half, turn = dim // 2, rotated // 2
    pairs = (np.arange(0, rotated, 2), np.arange(1, rotated, 2)) if interleaved else (np.arange(turn), np.arange(turn, rotated))
    rest = np.arange(rotated, dim)
    return np.concatenate((pairs[0], rest[: half - turn], pairs[1], rest[half - turn :]))


class Family:
    """The arrays of a model under its source's names, and how they become run.py's tensors. settings: as in FAMILIES."""

    def __init__(self, label, arrays, names, settings=None):
        self.label, self.arrays, self.names = label, arrays, names
        get = {"norm": "rms", "shift": 0, "skip": (), **(settings or {})}.get
        self.settings, self.layered, self.shift = get, get("norm") == "layer", get("shift")
        self.skip = (*get("skip"), "rotary_emb.inv_freq")
        self.first, self.k_is_v = 0, False  # the first layer of attention; whether the second kind's values are its keys

    def look(self, kinds):
        """Learn which layer shows what layers of attention have, and whether the second kind's values are its keys."""
        self.first = next((i for i, kind in enumerate(kinds) if kind in (run.ATTENTION, run.ATTENTION2)), 0)
        second = kinds.find(run.ATTENTION2)
        self.k_is_v = second >= 0 and self.names["wv"].format(second) not in self.arrays

    def has(self, key, bias=False):
        """Whether the first layer of attention has this tensor."""
        name = (self.names.get(key) or "").format(self.first, 0)
        return bool(name) and (name.removesuffix("weight") + "bias" if bias else name) in self.arrays

    def take(self, key, shape, layer=0, bias=False, expert=0):
        name = (self.names.get(key) or key).format(layer, expert)
        name = name.removesuffix("weight") + "bias" if bias else name
        if name not in self.arrays:
            raise ModelError(f"tensor {name} is missing; expected {shape}; is the source complete?")
        turned = self.settings("turned") and len(shape) == 2 and key not in ("embed", "positions", "head")
        array = self.arrays[name].T if turned else self.arrays[name]
        if tuple(array.shape) != shape:
            raise ModelError(f"tensor {name} is {array.shape}, expected {shape}; do config and weights belong together?")
        self.left.discard(name)
        return array

    def qkv(self, layer, bias=False):
        """Parts of q, k and v, and of the gate if there is one: (array, order of its rows)."""
        c, (kv_heads, hd) = self.config, self.config.heads(layer)
        tail, q, kv = () if bias else (c.dim,), c.n_heads * hd, kv_heads * hd
        if self.names.get("wqkv"):
            array, rows = self.take("wqkv", (q + 2 * kv, *tail), layer, bias), np.arange(q + 2 * kv)
            groups = rows.reshape(kv_heads, -1, hd)  # each kv head's queries, then its key and its value
            parts = (groups[:, :-2], groups[:, -2], groups[:, -1]) if self.settings("grouped") else np.split(rows, [q, q + kv])
            parts = [(array, part.reshape(-1)) for part in parts]
        elif c.has("attn_gate"):  # each head's queries, then its gate
            parts = [(self.take(w, (n, *tail), layer), np.arange(n)) for w, n in (("wq", 2 * q), ("wk", kv), ("wv", kv))]
            array, rows = parts[0][0], parts[0][1].reshape(c.n_heads, 2, hd)
            parts = [(array, rows[:, 0].reshape(-1)), *parts[1:], (array, rows[:, 1].reshape(-1))]
        else:
            value = "wk" if self.k_is_v and c.kind(layer) == run.ATTENTION2 else "wv"
            there = (("wq", q), ("wk", kv), (value, kv))[: 3 if c.kv_layer(layer) == layer else 1]
            parts = [(self.take(w, (n, *tail), layer, bias), np.arange(n)) for w, n in there]
        return [(array, self.turned(rows, hd)) for array, rows in parts[:2]] + parts[2:]

    def turned(self, rows, head_dim):
        """Rows of heads in our order of a head's columns."""
        return rows.reshape(-1, head_dim)[:, self.orders[head_dim]].reshape(-1)

    def gate_up(self, layer, bias=False):
        c, tail = self.config, () if bias else (self.config.dim,)
        ffn = c.shared_ffn or c.ffn(layer)
        if self.names.get("w13"):
            return [self.take("w13", (2 * ffn, *tail), layer, bias)]
        return [self.take(w, (ffn, *tail), layer, bias) for w in ("w1", "w3") if w == "w3" or not c.has("ungated")]

    def norm(self, out, key, layer=0, to=None):
        """A norm's weight, and its bias if it has one, into out."""
        to, c = to or f"l{layer}.{key}", self.config
        if self.settings("ones"):
            out[to + ".w"] = np.ones(c.dim, np.float32)
            return
        out[to + ".w"] = to_float32(np.asarray(self.take(key, (c.dim,), layer))) + bool(self.settings("plus_one"))
        if c.has("norm_bias"):
            out[to + ".b"] = self.take(key, (c.dim,), layer, True)

    def head_norms(self, layer):
        """float32 [columns of q and k]: the weight of each."""
        c, (kv, head_dim), parts = self.config, self.config.heads(layer), []
        for key, heads in (("qn", c.n_heads), ("kn", kv))[: 2 if c.kv_layer(layer) == layer else 1]:
            n = heads * head_dim
            if self.settings("qk_ones"):
                parts.append(np.ones(n, np.float32))
                continue
            w = to_float32(np.asarray(self.take(key, (n if c.qk_norm == 2 else head_dim,), layer)))
            parts.append(np.resize(w, n)[self.turned(np.arange(n), head_dim)] + bool(self.settings("plus_one")))
        return np.concatenate(parts)

    def tensors(self, config, rotated):
        """-> {run.py's name: Rows or vector}; refuses what is missing, left over or of another shape."""
        c = self.config = config
        self.left = {name for name in self.arrays if not name.endswith(self.skip)}
        for i in range(c.n_layers - c.kv_shared, c.n_layers):  # some files have what these layers do not use
            self.left -= {(self.names.get(key) or "").format(i) for key in ("wk", "wv", "kn")}
        self.orders = {c.head_dim2: np.arange(c.head_dim2)}
        self.orders[c.head_dim] = head_order(c.head_dim, rotated, bool(self.settings("interleaved")))
        out = {"embed": Rows(self.take("embed", (c.vocab_size, c.dim)))}
        if c.has("positions"):
            out["positions"] = Rows(self.take("positions", (c.max_ctx + self.shift, c.dim))[self.shift :])
        if c.has("embed_norm"):
            self.norm(out, "embed_norm", to="embed_norm")
        if c.ple_dim:
            wide = c.n_layers * c.ple_dim
            out["ple_embed"] = Rows(self.take("ple_embed", (c.vocab_size, wide)))
            out["ple_proj"] = Rows(self.take("ple_proj", (wide, c.dim)))
            out["ple_norm.w"] = self.take("ple_norm", (c.ple_dim,))
        for i in range(c.n_layers):
            self.layer(out, i)
        self.norm(out, "out_norm", to="out_norm")
        if c.has("head"):
            out["head"] = Rows(self.take("head", (c.vocab_size, c.dim)))
        if c.has("head_bias"):
            out["head.b"] = self.take("head", (c.vocab_size,), bias=True)
        if self.left:
            some = ", ".join(printable(name)[:60] for name in sorted(self.left)[:3])
            text = f"{len(self.left)} tensors were not used: {some}; expected a plain {self.label}; is it another architecture?"
            raise ModelError(text)
        return out

    def layer(self, out, i):
        c = self.config
        for key, there in (("an", not c.has("no_pre_norm")), ("an2", c.has("post_norm"))):
            for name in (key, key.replace("a", "f")) if there else ():
                self.norm(out, name, i)
        if c.attends(i):
            out[f"l{i}.qkv"] = Rows(*self.qkv(i))
            if c.qk_norm:
                out[f"l{i}.qk.w"] = self.head_norms(i)
            out[f"l{i}.o"] = Rows(self.take("wo", (c.dim, c.mixed(i)[2]), i))
        else:
            self.convolution(out, i)
        if c.n_experts:
            self.experts(out, i)
        if c.shared_ffn or not c.n_experts:
            out[f"l{i}.gate_up"] = Rows(*self.gate_up(i))
            out[f"l{i}.down"] = Rows(self.take("w2", (c.dim, c.shared_ffn or c.ffn(i)), i))
        if c.ple_dim:
            out[f"l{i}.ple_gate"] = Rows(self.take("ple_gate", (c.ple_dim, c.dim), i))
            out[f"l{i}.ple_up"] = Rows(self.take("ple_up", (c.dim, c.ple_dim), i))
            self.norm(out, "pn", i)
        if c.has("layer_scale"):
            out[f"l{i}.scale"] = self.take("scale", (1,), i)
        whole = lambda parts: Rows(*parts).read(0, Rows(*parts).shape[0])
        if c.has("qkv_bias"):
            out[f"l{i}.qkv.b"] = whole(self.qkv(i, True))
        if c.has("o_bias"):
            out[f"l{i}.o.b"] = self.take("wo", (c.dim,), i, True)
        if c.has("gate_up_bias"):
            out[f"l{i}.gate_up.b"] = whole(self.gate_up(i, True))
        if c.has("down_bias"):
            out[f"l{i}.down.b"] = self.take("w2", (c.dim,), i, True)

    def convolution(self, out, i):
        """A layer that convolves: between two gates, or before the gated delta rule."""
        c, (convolved, rows, wide) = self.config, self.config.mixed(i)
        whole = lambda key, shape: to_float32(self.take(key, shape, i))
        taps = (convolved, c.conv_len) if self.settings("flat") else (convolved, 1, c.conv_len)
        out[f"l{i}.conv"] = np.ascontiguousarray(whole("conv", taps).reshape(convolved, -1).T).reshape(-1)
        out[f"l{i}.o"] = Rows(self.take("out", (c.dim, wide), i))
        if c.kind(i) == run.CONV:
            out[f"l{i}.qkv"] = Rows(self.take("mix", (rows, c.dim), i))
            return
        heads, pairs = c.delta_v_heads, c.delta_k_heads
        if self.names.get("qkvz"):  # each key head's query, key, values and gates
            order, cuts = np.arange(rows).reshape(pairs, -1), np.cumsum([c.delta_k_dim, c.delta_k_dim, wide // pairs])
            array = self.take("qkvz", (rows, c.dim), i)
            out[f"l{i}.qkv"] = Rows(*((array, part.reshape(-1)) for part in np.split(order, cuts, axis=1)))
        else:
            out[f"l{i}.qkv"] = Rows(self.take("mix", (convolved, c.dim), i), self.take("z", (wide, c.dim), i))
        if self.names.get("ba"):
            order, array = np.arange(2 * heads).reshape(pairs, 2, -1), self.take("ba", (2 * heads, c.dim), i)
            out[f"l{i}.ab"] = Rows(*((array, order[:, part].reshape(-1)) for part in (0, 1)))
        else:
            out[f"l{i}.ab"] = Rows(self.take("b", (heads, c.dim), i), self.take("a", (heads, c.dim), i))
        rates = whole("rates", (heads,))
        rates = rates if self.settings("flat") else -np.exp(rates)
        out[f"l{i}.decay"] = np.concatenate((rates, whole("dt", (heads,))))
        out[f"l{i}.dn.w"] = whole("dn", (c.delta_v_dim,))

    def experts(self, out, i):
        """The router, and the matrices of all experts one after the other: stored each by itself, or in one of three dims."""
        c, n, ffn = self.config, self.config.n_experts, self.config.expert_ffn
        out[f"l{i}.router"] = Rows(self.take("router", (n, c.dim), i))
        if self.label == "GptOss":
            self.gpt_oss(out, i)
        elif self.names.get("e13") and (not self.names.get("e1") or self.names["e13"].format(i) in self.arrays):
            down = self.take("e2s" if self.names.get("e2s") else "e2", (n, c.dim, ffn), i)
            up = self.take("e13", (n, 2 * ffn, c.dim), i)
            out[f"l{i}.experts_up"], out[f"l{i}.experts_down"] = Rows(up.reshape(-1, c.dim)), Rows(down.reshape(-1, ffn))
        else:
            each = lambda e: (self.take(w, (ffn, c.dim), i, expert=e) for w in ("e1", "e3"))
            out[f"l{i}.experts_up"] = Rows(*(part for e in range(n) for part in each(e)))
            out[f"l{i}.experts_down"] = Rows(*(self.take("e2", (c.dim, ffn), i, expert=e) for e in range(n)))
            if c.has("expert_bias"):
                up = [to_float32(np.asarray(self.expert_bias(w, (n, ffn), i))) for w in ("e1", "e3")]
                out[f"l{i}.experts_up.b"] = np.concatenate(up, axis=1).reshape(-1)
                out[f"l{i}.experts_down.b"] = to_float32(np.asarray(self.expert_bias("e2", (n, c.dim), i))).reshape(-1)
                out[f"l{i}.router.b"] = self.take("router", (n,), i, True)
        if c.has("sinks") and self.names.get("sinks"):
            out[f"l{i}.sinks"] = self.take("sinks", (c.n_heads,), i)
        if c.has("shared_gate"):
            out[f"l{i}.shared_gate"] = Rows(self.take("shared_gate", (1, c.dim), i))

    def expert_bias(self, key, shape, i):
        """Of all experts in one, beside matrices that gguf_arrays took apart."""
        return self.take(self.names[key].replace("{}.weight", "bias").format(i), shape)

    def gpt_oss(self, out, i):
        """Experts with biases, gate and up in alternate rows, stored [expert, columns, rows], or as MXFP4 [expert, rows, …]."""
        c, n, ffn, at = self.config, self.config.n_experts, self.config.expert_ffn, f"model.layers.{i}."
        turn = np.concatenate((np.arange(0, 2 * ffn, 2), np.arange(1, 2 * ffn, 2)))
        for ours, theirs, rows, order in (("up", "gate_up", 2 * ffn, turn), ("down", "down", c.dim, np.arange(c.dim))):
            name, cols = f"{at}mlp.experts.{theirs}_proj", c.dim if ours == "up" else ffn
            if name + "_blocks" in self.arrays:
                values = self.take(name + "_blocks", (n, rows, cols // 32, 16))
                each = list(map(Mx, values, self.take(name + "_scales", (n, rows, cols // 32))))
            else:
                each = [array.T for array in self.take(name, (n, cols, rows))]
            out[f"l{i}.experts_{ours}"] = Rows(*((array, order) for array in each))
            bias = to_float32(np.asarray(self.take(name + "_bias", (n, rows))))
            out[f"l{i}.experts_{ours}.b"] = np.ascontiguousarray(bias[:, order]).reshape(-1)
        out[f"l{i}.router.b"] = self.take("router", (n,), i, True)
        out[f"l{i}.sinks"] = self.take(at + "self_attn.sinks", (c.n_heads,))

    def flags(self, tied):
        on = {
            "head": not tied,
            "qkv_bias": self.has("wqkv" if self.names.get("wqkv") else "wq", True),
            "o_bias": self.has("wo", True),
            "gate_up_bias": self.has("w13" if self.names.get("w13") else "w3", True),
            "down_bias": self.has("w2", True),
            "head_bias": not tied and self.has("head", True),
            "norm_bias": not self.settings("ones") and self.has("out_norm", True),
            "ungated": not any(self.names.get(key) for key in ("w1", "w13", "router")),
            "shared_gate": self.has("shared_gate"),
            "expert_bias": self.has("router", True),
            "sinks": self.label == "GptOss" or self.has("sinks"),
            "post_norm": self.has("an2"),
            "no_pre_norm": not self.names.get("an"),
            "positions": self.has("positions"),
            "embed_norm": bool(self.settings("embed_norm")),
            "attn_gate": bool(self.settings("gated")),
            "v_norm": bool(self.settings("v_norm")),
            "layer_scale": self.has("scale"),
            "delta_turns": bool(self.settings("in_turns")),
        }
        return sum(FLAGS[name] for name, there in on.items() if there)

    def qk_norm(self, head_dim):
        if not self.has("qn"):
            return int(bool(self.settings("qk_ones")))
        return 1 if self.arrays[self.names["qn"].format(self.first)].shape == (head_dim,) else 2


DAMAGED = (KeyError, TypeError, ValueError, ArithmeticError, IndexError, AttributeError, struct.error)  # by odd settings,
DAMAGED += (RecursionError, EOFError, NotImplementedError, zipfile.BadZipFile)  # or odd files


def rope_table(head_dim, theta, scaling=None, rotated=None, max_ctx=0):
    """float32 [n, 2, head_dim / 2]: inverse frequencies (float64, rounded once) and amplitudes. n is 2 for longrope: for short
    contexts and for long ones, else 1. Columns beyond rotated are left alone: frequency 0, amplitude 1.

    yarn: Peng et al. 2023; longrope: Ding et al. 2024; llama3: Llama 3.1's code; as transformers computes them.
    """
    scaling = scaling or {}
    if rotated is not None and (rotated % 2 or not 0 <= rotated <= head_dim) or not 0 < theta < math.inf:
        text = f"rotates {rotated} of {head_dim} columns, base {theta}"
        raise ModelError(f"{text}; expected an even number of them; is the configuration damaged?")
    kind, rotated = scaling.get("rope_type", scaling.get("type", "default")), head_dim if rotated is None else rotated
    if kind == "proportional":  # frequencies as if the whole head turned, but only the first of them do
        f = 1 / theta ** (np.arange(0, head_dim, 2) / head_dim) / scaling.get("factor", 1.0)
        f[int(scaling.get("partial_rotary_factor", 1.0) * head_dim // 2) :] = 0
        return np.stack((f, np.ones(head_dim // 2)))[None].astype(np.float32)
    f, amplitude = 1 / theta ** (np.arange(0, rotated, 2) / rotated), 1.0
    old = scaling.get("original_max_position_embeddings") or max_ctx
    if kind == "linear":
        f = f / scaling["factor"]
    elif kind == "llama3":  # slow waves are stretched, fast ones kept, those between blended
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        blend = np.clip((old * f / (2 * math.pi) - low) / (high - low), 0, 1)
        f = (1 - blend) * f / scaling["factor"] + blend * f
    elif kind == "yarn":
        factor, grow = scaling["factor"], lambda m: 0.1 * m * math.log(scaling["factor"]) + 1 if scaling["factor"] > 1 else 1.0
        turns = lambda n: rotated * math.log(old / (n * 2 * math.pi)) / (2 * math.log(theta))
        low, high = turns(scaling.get("beta_fast") or 32), turns(scaling.get("beta_slow") or 1)
        if scaling.get("truncate", True):
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, rotated - 1)
        ramp = np.clip((np.arange(rotated // 2) - low) / max(high - low, 0.001), 0, 1)
        f = f / factor * ramp + f * (1 - ramp)
        both = scaling.get("mscale") and scaling.get("mscale_all_dim")
        amplitude = grow(scaling["mscale"]) / grow(scaling["mscale_all_dim"]) if both else grow(1)
        amplitude = scaling.get("attention_factor") or amplitude
    elif kind == "dynamic" and scaling.get("alpha"):  # HunYuan's, which does not change with the length
        f = 1 / (theta * scaling["alpha"] ** (head_dim / (head_dim - 2))) ** (np.arange(0, head_dim, 2) / head_dim)
    elif kind == "longrope":
        factor = max_ctx / old if scaling.get("original_max_position_embeddings") else scaling.get("factor", 1.0)
        grown = math.sqrt(1 + math.log(factor) / math.log(old)) if factor > 1 else 1.0
        amplitude = scaling.get("attention_factor") or grown
        f = np.stack([f / np.array(scaling[key], float) for key in ("short_factor", "long_factor")])
    elif kind != "default":
        name = printable(str(kind))[:60]
        raise ModelError(f"rope type {name!r} is not supported; known: default, linear, llama3, yarn, longrope, proportional")
    f = np.atleast_2d(f)
    table = np.zeros((len(f), 2, head_dim // 2))
    table[:, 1] = 1
    table[:, 0, : rotated // 2], table[:, 1, : rotated // 2] = f, amplitude
    return table.astype(np.float32)


NEEDED = object()


def first_of(j, *keys, otherwise=None):
    """The first of these keys that is there and not null. Raises KeyError if none is and there is nothing to take otherwise."""
    found = next((j[k] for k in keys if j.get(k) is not None), otherwise)
    if found is NEEDED:
        raise KeyError(keys[0])
    return found


def hf_experts(j, f):
    """The fields of Config that a mixture of experts has."""
    if f.settings("mixed") is None:
        return {}
    if j.get("mlp_only_layers") or j.get("decoder_sparse_step", 1) != 1:
        raise ModelError("config.json: layers with experts and layers without are not supported together; expected all with")
    width = first_of(j, "moe_intermediate_size", "intermediate_size", otherwise=NEEDED)
    fields = dict(n_experts=int(first_of(j, "num_experts", "num_local_experts", otherwise=NEEDED)), expert_ffn=int(width))
    fields |= dict(top_k=int(first_of(j, "num_experts_per_tok", otherwise=NEEDED)), norm_topk=int(j.get("norm_topk_prob") or 0))
    fields |= dict(shared_ffn=int(j["shared_expert_intermediate_size"])) if f.has("shared_gate") else {}
    return fields | f.settings("mixed")


def plain_width(j):
    width = first_of(j, "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
    return int(4 * first_of(j, "hidden_size", "n_embd") if width is None else width)


def hf_config(j, f):
    """config.json -> Config, but for the rope tables."""
    get = lambda *keys, otherwise=NEEDED: first_of(j, *keys, otherwise=otherwise)
    dim, heads = int(get("hidden_size", "n_embd")), int(get("num_attention_heads", "n_head", "num_heads"))
    kv, head_dim = int(get("num_key_value_heads", "num_kv_heads", otherwise=heads)), int(j.get("head_dim") or dim // heads)
    if f.label == "Falcon" and not j.get("new_decoder_architecture"):
        kv = 1 if j.get("multi_query", True) else heads
    act = get("hidden_activation", "hidden_act", "activation_function", "activation", otherwise="silu")
    act = f.settings("act") or ACTS.get(act, act)
    if act not in run.ACTIVATIONS:
        raise ModelError(f"config.json: activation {printable(str(act))[:40]!r} is not supported; known: {', '.join(ACTS)}")
    layers = int(get("num_hidden_layers", "n_layer", "num_layers"))
    kinds = f.settings("kinds")(j, layers) if f.settings("kinds") else b""
    f.look(kinds)
    if f.k_is_v and not j.get("attention_k_eq_v"):
        raise ModelError("a layer without values, and config.json does not say attention_k_eq_v; is the source complete?")
    quantised = j.get("quantization_config")
    if isinstance(quantised, dict) and quantised.get("quant_method") == "mxfp4" and f.label == "GptOss":
        j = {**j, "quantization_config": None}
    odd = ("qk_layernorm", "use_qk_norm", "clip_qkv", "alibi", "quantization_config", "_remove_final_layer_norm")
    for key in (*odd, *(f.settings("refused") or ())):
        if j.get(key):
            found = printable(str(j[key]))[:60]
            raise ModelError(f"config.json: {key} {found} is not supported; expected none")
    for key, part in (("attention_bias", "wq"), ("mlp_bias", "w3")):
        said = j.get(key, False if f.label == "Llama" else None)
        if said is not None and said != f.has(part, True) and not f.names.get("wqkv"):
            said = printable(str(said))[:40]
            raise ModelError(f"config.json: {key} is {said}, but the weights say otherwise; do they belong together?")
    if f.label == "OPT" and not (j.get("do_layer_norm_before", True) and j.get("word_embed_proj_dim", dim) == dim):
        raise ModelError("config.json: OPT with norms behind or projected embeddings is not supported; expected another size")
    parallel = f.settings("parallel") or False
    parallel = bool(j.get(parallel, f.label != "StableLm")) if isinstance(parallel, str) else parallel
    if parallel and not f.has("fn"):
        f.names["fn"] = f.names["an"]
    tied = j.get("tie_word_embeddings", j.get("tie_embedding", f.label in TIED.split() or not f.has("head")))
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
        act=run.ACTIVATIONS.index(act),
        qk_norm=f.qk_norm(head_dim),
        parallel=int(parallel),
        eps=float(get("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", otherwise=1e-5)),
        flags=f.flags(tied),
        **{k: int(v) if isinstance(v, int) and 0 <= v < int(j["vocab_size"]) else NONE for k, v in ids.items()},
        kinds=kinds.ljust(224, b"\0"),
        **hf_experts(j, f),
        **more(j),
    )


def window_size(size):
    if not 0 <= int(size) < 1 << 31:
        raise ModelError(f"a sliding window of {size}, expected 0 to 2^31 - 1; is the configuration damaged?")
    return int(size)


def hf_rope(j, f, c, window):
    """-> (tables, each layer's, rotated columns of a head, context beyond which the second half of the tables is used)."""
    if f.settings("rotary") == 0:
        return rope_table(c.head_dim, 1.0, rotated=0), [-1] * c.n_layers, 0, 0
    given, old = j.get("rope_parameters") or {}, j.get("original_max_position_embeddings")
    rope = given or {"rope_theta": first_of(j, "rope_theta", "rotary_emb_base"), **(j.get("rope_scaling") or {})}
    full, slide = (rope.get(k, rope) for k in ("full_attention", "sliding_attention"))
    if j.get("rope_local_base_freq"):  # Gemma 3 as on the Hub: the scaling is for the global layers
        slide = {"rope_theta": j["rope_local_base_freq"]}
    elif f.label == "Olmo3" and not given:  # the scaling is for the layers that see everything
        slide = {"rope_theta": rope["rope_theta"]}
    if c.head_dim2:  # layers that see everything have a table of their own
        full = slide
    share = first_of(full, "partial_rotary_factor", otherwise=first_of(j, "partial_rotary_factor", "rotary_pct"))
    share = ROTATED.get(f.label, 1) if share is None else share
    rotated = int(j["rotary_dim"]) if j.get("rotary_dim") else int(c.head_dim * share)
    kinds = [full if not w or full == slide else slide for w in window]
    used = [kind for i, kind in enumerate(kinds) if kind not in kinds[:i]]
    made = []
    for kind in used:
        kind = {"original_max_position_embeddings": old, **{k: v for k, v in kind.items() if v is not None}}
        made.append(rope_table(c.head_dim, float(kind.get("rope_theta") or 10000.0), kind, rotated, c.max_ctx))
    both = [np.stack([t[min(n, len(t) - 1)] for t in made]) for n in range(max(map(len, made)))]  # short ones, then long
    table = np.concatenate(both)
    table[:, 0] *= -1 if f.settings("backwards") else 1
    turns = f.settings("rotates") or (lambda j, i: True)
    ids = [used.index(kind) if turns(j, i) else -1 for i, kind in enumerate(kinds)]
    return table, ids, rotated, int(old or full.get("original_max_position_embeddings") or 0) if len(both) == 2 else 0


def second_rope(j, c):
    """The table of layers of the second kind of attention."""
    rope = {"rope_type": "proportional", "partial_rotary_factor": 0.25}
    rope = (j.get("rope_parameters") or {}).get("full_attention") or rope
    return rope_table(c.head_dim2, float(rope.get("rope_theta") or 1e6), rope, None, c.max_ctx)


# models that see pictures too: what stands for their text part, and what its config.json leaves to transformers' defaults
SEEING = {"Gemma3ForConditionalGeneration": "Gemma3ForCausalLM", "Mistral3ForConditionalGeneration": None}
SEEING |= {f"{name}ForConditionalGeneration": f"{name}ForCausalLM" for name in ("Gemma4", "Qwen3_5", "Qwen3_5Moe")}
GEMMA3_DEFAULTS = dict(num_attention_heads=8, num_key_value_heads=4, head_dim=256, vocab_size=262208, rope_theta=1e6)
GEMMA3_DEFAULTS |= dict(max_position_embeddings=131072, rope_local_base_freq=10000.0, query_pre_attn_scalar=256)
GEMMA3_DEFAULTS |= dict(rms_norm_eps=1e-6, hidden_activation="gelu_pytorch_tanh", sliding_window=4096)
PICTURES = "vision_tower. multi_modal_projector. visual. audio_tower. embed_vision. embed_audio. mtp.".split()
PICTURES = (*PICTURES, *("model." + name for name in PICTURES))  # or sounds, or guesses at tokens further ahead


def text_part(j, arrays):
    """config.json and arrays of a model that sees pictures -> those of the model of text inside it."""
    label, text = str((j.get("architectures") or [""])[0]), j["text_config"]
    defaults = GEMMA3_DEFAULTS if label.startswith("Gemma3") else {}
    kind = SEEING[label] or {"mistral": "MistralForCausalLM", "ministral3": "Ministral3ForCausalLM"}.get(text["model_type"])
    ids = {k: j[k] for k in ("eos_token_id", "bos_token_id") if k in j}
    # old files, and those of transformers 5
    inside = lambda name: name.removeprefix("language_model.").replace("model.language_model.", "model.", 1)
    kept = {inside(name): array for name, array in arrays.items() if not name.startswith(PICTURES)}
    say(f"{len(arrays) - len(kept)} tensors of pictures are left out: the model of text alone is exported")
    tie = {} if "tie_word_embeddings" not in j else {"tie_word_embeddings": j["tie_word_embeddings"]}
    return {**defaults, **tie, **text, **ids, "architectures": [kind]}, kept


def hf_source(j, arrays):
    """config.json and the arrays of its folder -> source."""
    if (j.get("architectures") or [""])[0] in SEEING and isinstance(j.get("text_config"), dict):
        j, arrays = text_part(j, arrays)
    short = {re.sub("ForCausalLM|LMHeadModel", "", name): name for name in FAMILIES}
    label = str((j.get("architectures") or [j.get("model_type")])[0])
    by_type = {name.lower().replace("_", ""): whole for name, whole in short.items()}  # what model_type says
    label = by_type.get(label.removesuffix("_text").replace("_", ""), label)
    if label not in FAMILIES:
        raise ModelError(f"architecture {printable(label)[:60]!r} is not supported; known: {', '.join(short)}")
    names, settings = FAMILIES[label]
    j = {**settings.get("defaults", {}), **j}
    if label == "GPT2LMHeadModel" and "wte.weight" in arrays:  # the first files had no prefix
        arrays = {k if k == "lm_head.weight" else "transformer." + k: v for k, v in arrays.items()}
    f = Family(re.sub("ForCausalLM|LMHeadModel", "", label), arrays, dict(names), settings)
    if f.label == "Falcon" and f.has("ln_attn"):
        f.names |= {"an": f.names["ln_attn"], "fn": f.names["ln_mlp"]}
    c, rule = hf_config(j, f), settings.get("window", NEVER)
    run._check_config(c)
    size = window_size(first_of(j, "sliding_window", "window_size", otherwise=0))
    window = [size if slides(j, i, rule) else 0 for i in range(c.n_layers)]
    table, rope_id, rotated, long = hf_rope(j, f, c, window)
    c = replace(c, n_rope=len(table), rope_long=long)
    more = dict(window=np.array(window, "<i4"), rope_id=np.array(rope_id, "<i4"))
    tensors = f.tensors(c, rotated)
    if c.head_dim2:
        tensors["rope2"] = second_rope(j, c)
    return SimpleNamespace(config=c, rope=table, tensors=tensors, **more)


# -----------------------------------------------------------------------------
# gguf: llama.cpp's files; Q8_0 and Q4_0 blocks are moved as they are, other quantised types become q8_0

GGUF_HUB = """an=attn_norm fn=ffn_norm wq=attn_q wk=attn_k wv=attn_v wo=attn_output wqkv=attn_qkv qn=attn_q_norm kn=attn_k_norm
w1=ffn_gate w2=ffn_down w3=ffn_up an2=post_attention_norm fn2=post_ffw_norm sinks=attn_sinks """
GGUF_EXPERTS = "w1= w2= w3= router=ffn_gate_inp e1=ffn_gate_exps.{} e2=ffn_down_exps.{} e3=ffn_up_exps.{}"
GGUF_SHARED = " w1=ffn_gate_shexp w2=ffn_down_shexp w3=ffn_up_shexp shared_gate=ffn_gate_inp_shexp"
GGUF_TOP = "embed=token_embd out_norm=output_norm positions=position_embd"
gguf_names = lambda parts="": named("", "blk.{}.", GGUF_TOP, GGUF_HUB + parts, "output")
# general.architecture -> (names, settings as in FAMILIES). Norms are stored as they are used; rotary pairs are neighbours
# where llama.cpp's converter made them so.
GGUF_SCALES = lambda j: dict(
    embed_scale=j.get("embedding_scale", 0), resid_scale=j.get("residual_scale", 0), attn_scale=j.get("attention.scale", 0)
) | dict(logit_scale=1 / j["logit_scale"] if j.get("logit_scale") else 0)
GGUF_CAPS = lambda j: dict(attn_cap=j.get("attn_logit_softcapping", 0), final_cap=j.get("final_logit_softcapping", 0))
GEMMA_SCALE = lambda j: dict(embed_scale=j["embedding_length"] ** 0.5)
# attention of Gemma 2 27B and Gemma 3 27B is scaled by their width, of all others by that of a head
GGUF_GEMMA = lambda j: GEMMA_SCALE(j) | GGUF_CAPS(j) | (
    dict(attn_scale=(j["embedding_length"] / j["attention.head_count"]) ** -0.5) if j["block_count"] in (46, 62) else {}
)
GGUF_GEMMA4 = """fn=ffn_norm scale=layer_output_scale ple_gate=inp_gate ple_up=proj pn=post_norm"""
GGUF_GEMMA4_TOP = dict(ple_embed="per_layer_token_embd.weight", ple_proj="per_layer_model_proj.weight")
GGUF_GEMMA4_TOP |= dict(ple_norm="per_layer_proj_norm.weight")
GGUF_DELTA = "conv=ssm_conv1d mix=attn_qkv z=attn_gate b=ssm_beta a=ssm_alpha dn=ssm_norm out=ssm_out"
GGUF_DELTA_BARE = {"rates": "blk.{}.ssm_a", "dt": "blk.{}.ssm_dt.bias", "wqkv": None}


def gguf_lfm2(j):
    """Layers that convolve have no kv heads."""
    heads = j["attention.head_count_kv"]
    return {**j, "attention.head_count_kv": max(heads), "kinds": bytes(run.ATTENTION if n else run.CONV for n in heads)}


def gguf_delta(j):
    """The layers behind block_count - nextn_predict_layers guess further ahead, and are left out."""
    n = j["block_count"] - (j.get("nextn_predict_layers") or 0)
    linear = j.get("attention.recurrent_layers")
    if not isinstance(linear, list):
        linear = [(i + 1) % (j.get("full_attention_interval") or 4) for i in range(n)]
    return {**j, "block_count": n, "kinds": bytes(run.DELTA if there else run.ATTENTION for there in linear[:n])}


def gguf_delta_sizes(j):
    heads = dict(delta_k_heads=j["ssm.group_count"], delta_v_heads=j["ssm.time_step_rank"], delta_k_dim=j["ssm.state_size"])
    return {**heads, "delta_v_dim": j["ssm.inner_size"] // j["ssm.time_step_rank"], "conv_len": j["ssm.conv_kernel"]}


def gguf_gemma4(j):
    """Sizes of the layers with a window, as of others; those of layers that see everything as the second."""
    slide, shared = j["attention.sliding_window_pattern"], j.get("attention.shared_kv_layers") or 0
    each = lambda key: j[key] if isinstance(j[key], list) else [j[key]] * len(slide)
    first, full, kv, ffn = slide.index(True), slide.index(False), each("attention.head_count_kv"), each("feed_forward_length")
    more = dict(head_dim2=j["attention.key_length"], n_kv_heads2=kv[full], kv_shared=shared)
    more |= dict(ffn_dim2=ffn[-1] if ffn[-1] != ffn[0] else 0, ple_dim=j.get("embedding_length_per_layer_input") or 0)
    new = {f"attention.{key}_length": j[f"attention.{key}_length_swa"] for key in ("key", "value")}
    new |= {"attention.head_count_kv": kv[first], "feed_forward_length": ffn[0], "second": {**more, "attn_scale": 1.0}}
    new |= {"rope.freq_base": j.get("rope.freq_base_swa", 10000.0), "rope.freq_base2": j.get("rope.freq_base", 1e6)}
    new |= {"rope.dimension_count": j.get("rope.dimension_count_swa")}
    return {**j, **new, "kinds": bytes(run.ATTENTION if there else run.ATTENTION2 for there in slide)}


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
        dict(norm="layer", interleaved=True, parallel=True, more=lambda j: dict(logit_scale=j["logit_scale"])),
    ),
    "cohere2": (
        gguf_names("fn=attn_norm"),
        dict(norm="layer", interleaved=True, parallel=True, window=FOUR, rotates=FOUR)
        | dict(more=lambda j: dict(logit_scale=j["logit_scale"])),
    ),
    "chatglm": (gguf_names("w1= w3= w13=ffn_up"), dict(interleaved=True)),
    "falcon": (gguf_names("w1= fn=attn_norm ln_attn=attn_norm_2"), dict(norm="layer", act="gelu_erf", parallel=True)),
    "gpt-oss": (
        gguf_names(GGUF_EXPERTS + " fn=post_attention_norm an2="),
        dict(window=EVEN, act="clamped", norm_topk=1, more=lambda j: dict(act_alpha=1.702, act_limit=7.0)),
    ),
    "gpt2": (gguf_names("w1="), dict(norm="layer", rotary=0, act="gelu_tanh")),
    "gptneox": (gguf_names("w1="), dict(norm="layer", act="gelu_erf", parallel="use_parallel_residual")),
    "phi2": (gguf_names("w1= fn=attn_norm"), dict(norm="layer", act="gelu_tanh", parallel=True)),
    "starcoder2": (gguf_names("w1="), dict(norm="layer", act="gelu_tanh")),
    "stablelm": (gguf_names(), dict(norm="layer", parallel="use_parallel_residual")),
    "hunyuan-dense": (gguf_names(), dict(more=lambda j: dict(qk_after=1))),
    "lfm2": (
        gguf_names("conv=shortconv.conv mix=shortconv.in_proj out=shortconv.out_proj") | {"out_norm": "token_embd_norm.weight"},
        dict(adapt=gguf_lfm2, flat=True, more=lambda j: dict(conv_len=j["shortconv.l_cache"])),
    ),
    "qwen35": (
        gguf_names(GGUF_DELTA + " fn=post_attention_norm an2=") | GGUF_DELTA_BARE,
        dict(adapt=gguf_delta, flat=True, gated=True, in_turns=True, more=gguf_delta_sizes),
    ),
    "qwen35moe": (
        gguf_names(GGUF_EXPERTS + GGUF_SHARED + " " + GGUF_DELTA + " fn=post_attention_norm an2=") | GGUF_DELTA_BARE,
        dict(adapt=gguf_delta, flat=True, gated=True, in_turns=True, more=gguf_delta_sizes, norm_topk=1),
    ),
    "qwen3next": (
        gguf_names(GGUF_EXPERTS + GGUF_SHARED + " " + GGUF_DELTA + " b= a= ba=ssm_ba fn=post_attention_norm an2=")
        | GGUF_DELTA_BARE,
        dict(adapt=gguf_delta, flat=True, gated=True, more=gguf_delta_sizes, norm_topk=1),
    ),
    "gemma4": (
        gguf_names(GGUF_GEMMA4) | GGUF_GEMMA4_TOP,
        dict(adapt=gguf_gemma4, act="gelu_tanh", v_norm=True, more=lambda j: GEMMA_SCALE(j) | GGUF_CAPS(j) | j["second"]),
    ),
}
KEPT_TYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16", "Q8_0": "q8_0", "Q4_0": "q4_0"}  # others become q8_0


class Blocks:
    """Rows of quantised blocks of a GGUF: raw uint8 [rows, bytes], of gguf's type kind."""

    def __init__(self, raw, kind, cols):
        self.raw, self.kind, self.shape = raw, kind, (len(raw), cols)

    def __len__(self):
        return len(self.raw)

    def __getitem__(self, rows):
        return Blocks(self.raw[rows], self.kind, self.shape[1])

    def floats(self):
        """float32 [rows, cols]"""
        dequantize = need("gguf.quants").dequantize
        return dequantize(np.ascontiguousarray(self.raw), self.kind).reshape(self.shape).astype(np.float32, copy=False)

    def parts(self):
        """Q8_0 or Q4_0 -> values int8 [rows, groups, 32] and scales float16 [rows, groups], as they stand."""
        rows = np.ascontiguousarray(self.raw).reshape(len(self.raw), self.shape[1] // GROUP, -1)
        scales, values = rows[..., :2].copy().view("<f2")[..., 0], rows[..., 2:]
        if self.kind.name == "Q8_0":
            return values.view(np.int8), scales
        return (np.concatenate((values & 15, values >> 4), -1).astype(np.int8) - 8), scales


GGUF_NUMBERS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"}


class GgufBytes:
    """The description at the beginning of a GGUF, value by value. Whatever it promises, little is read: 64 MiB, 4 million
    values, no arrays of arrays."""

    def __init__(self, raw):
        self.raw, self.at, self.left = memoryview(raw), 4, 1 << 22

    def take(self, n):
        if n > len(self.raw) - self.at or self.at + n > 64 << 20:
            raise ModelError("not a whole GGUF file: its description is cut short; is the download complete?")
        self.at += n
        return bytes(self.raw[self.at - n : self.at])

    def number(self, form="<Q"):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def value(self, kind, n=None):
        """One value of this type, or a list of n."""
        self.left -= n or 1
        if self.left < 0:
            raise ModelError("more than 4 million values of metadata; expected a GGUF of llama.cpp; refused")
        if kind == 8:
            texts = [self.take(self.number()).decode() for _ in range(1 if n is None else n)]
            return texts[0] if n is None else texts
        if kind == 9 and n is None:
            return self.value(self.number("<I"), self.number())
        dtype = np.dtype(GGUF_NUMBERS[kind])
        found = np.frombuffer(self.take(dtype.itemsize * (1 if n is None else n)), dtype).tolist()
        return found[0] if n is None else found


def gguf_file(path):
    """-> ({name: value} of the metadata, [(name, shape, type, mapped bytes)]); every extent is checked, in Python ints."""
    raw = mapped(path)
    f = GgufBytes(raw)
    version, n_tensors, n_fields = f.number("<I"), f.number(), f.number()
    if version not in (2, 3) or max(n_tensors, n_fields) > 65536:
        found = f"version {version}, {n_tensors} tensors and {n_fields} fields"
        raise ModelError(f"not a whole GGUF file: {found}; expected little-endian, version 2 or 3; is the download complete?")
    pairs = [(f.value(8), f.value(f.number("<I"))) for _ in range(n_fields)]
    fields, rows = dict(pairs), []
    for _ in range(n_tensors):
        name, shape = f.value(8), [f.number() for _ in range(min(f.number("<I"), 5))]
        rows.append((name, shape[::-1], f.number("<I"), f.number()))
    if len(fields) < n_fields or len({row[0] for row in rows}) < n_tensors:
        raise ModelError("a name stands twice in it; expected each once; convert it again")
    if not n_tensors:
        return fields, []
    align, gguf, tensors, expected = fields.get("general.alignment", 32), need("gguf"), [], 0
    if not isinstance(align, int) or align not in [1 << i for i in range(21)]:
        raise ModelError(f"alignment of {printable(str(align))[:20]}, expected a power of two; convert it again")
    begin = padded(f.at, align)
    for name, shape, number, off in rows:
        where = f"tensor {printable(name)[:60]}"
        if number not in iter(gguf.GGMLQuantizationType):
            raise ModelError(f"{where} has type {number}, which the package gguf does not know; pip install -U gguf")
        kind = gguf.GGMLQuantizationType(number)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        if not 1 <= len(shape) <= 4 or min(shape) < 1 or max(shape) > 1 << 31 or shape[-1] % block:
            raise ModelError(f"{where} has shape {shape} of {kind.name}, expected 1 to 4 whole sizes; convert it again")
        nbytes = math.prod(shape) // block * size
        if off != expected or begin + off + nbytes > len(raw):
            found = f"{where} is at {off:,}, {nbytes:,} bytes"
            raise ModelError(f"not a whole GGUF file: {found}, expected at {expected:,}, to {len(raw):,}; download it again")
        expected = padded(off + nbytes, align)
        tensors.append((name, tuple(shape), kind, raw[begin + off : begin + off + nbytes]))
    return fields, tensors


def read_gguf(path):
    """A GGUF of version 2 or 3 -> source."""
    try:
        fields, tensors = gguf_file(path)
        arrays = gguf_arrays(tensors)
    except DAMAGED as e:
        found = f"{type(e).__name__}: {printable(str(e))[:80]}"
        raise ModelError(f"not a whole GGUF file ({found}); expected version 2 or 3; is the download complete?") from None
    arch = str(fields.get("general.architecture"))
    if arch not in GGUF_FAMILIES:
        raise ModelError(f"GGUF architecture {printable(arch)[:60]!r} is not supported; known: {', '.join(GGUF_FAMILIES)}")
    if fields.get("split.count", 0) not in (0, 1):
        raise ModelError("one of several parts of a GGUF; expected one file; join them with llama-gguf-split --merge")
    names, settings = GGUF_FAMILIES[arch]
    if arch == "llama" and fields.get("llama.expert_count"):  # Mixtral
        names, settings = gguf_names(GGUF_EXPERTS), {**settings, "norm_topk": 1}
    j = {name.removeprefix(arch + "."): value for name, value in fields.items()}
    f = Family(f"GGUF of {arch}", arrays, dict(names), settings)
    try:
        j = settings.get("adapt", dict)(j)
        f.look(j.get("kinds", b""))
        ahead = [name for name in arrays if name.startswith("blk.") and int(name.split(".")[1]) >= j["block_count"]]
        for name in ahead if j.get("nextn_predict_layers") else ():
            del arrays[name]
    except DAMAGED as e:
        raise damaged(e) from None
    for key in ("wqkv", "qn", "an2", "fn2", "positions"):
        f.names[key] = f.names.get(key) if f.has(key) else None
    try:
        c = gguf_config(j, f, arch)
        run._check_config(c)
        rule, size = settings.get("window", NEVER), window_size(j.get("attention.sliding_window") or 0)
        said = j.get("attention.sliding_window_pattern")
        slide = [said[i] if isinstance(said, list) else rule(j, i) for i in range(c.n_layers)]
        window = np.array([size if slides else 0 for slides in slide], "<i4")
        table, rope_id, rotated, long = gguf_rope(j, f, c, window)
        c = replace(c, n_rope=len(table), rope_long=long)
        c = sampled(c, *(fields.get(f"general.sampling.{key}") for key in ("temp", "top_p", "top_k")))
        second = {}
        if c.head_dim2:  # the pairs that do not turn have factors out of all proportion
            factors = to_float32(f.arrays.pop("rope_freqs.weight"))
            second["rope2"] = rope_table(c.head_dim2, float(j["rope.freq_base2"]))
            second["rope2"][:, 0] *= (factors < 1e20) / factors
        tensors = f.tensors(c, rotated) | second
    except DAMAGED as e:
        raise damaged(e) from None
    source = SimpleNamespace(kind=f"GGUF of {arch}", config=c, rope=table, tensors=tensors, window=window)
    source.rope_id, source.gguf = np.array(rope_id, "<i4"), fields
    source.types = {name: kind_of(rows) for name, rows in tensors.items() if isinstance(rows, Rows)}
    left = sorted({a.kind.name for a in arrays.values() if isinstance(a, Blocks)} - set(KEPT_TYPES))
    source.notice = f"{', '.join(left)} become q8_0; {', '.join(KEPT_TYPES)} are kept to the bit" if left else ""
    source.note = printable(str(fields.get("general.name", "")))
    return source


def damaged(e):
    return ModelError(f"metadata: {printable(repr(e))[:80]}; expected the sizes of a model; is the file whole?")


def gguf_arrays(tensors):
    """{name: float array, uint16 array (bfloat16) or Blocks}, mapped."""
    arrays = {}
    for name, shape, kind, data in tensors:
        if kind.name in ("F32", "F16", "BF16"):
            array = data.view({"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[kind.name]).reshape(shape)
        else:
            array = Blocks(data.reshape(math.prod(shape[:-1]), -1), kind, shape[-1])
        if len(shape) == 3:  # a matrix for each expert
            for e in range(shape[0]):
                own = array[e * shape[1] : (e + 1) * shape[1]] if isinstance(array, Blocks) else array[e]
                arrays[f"{name.removesuffix('weight')}{e}.weight"] = own
        else:
            arrays[name] = array
    return arrays


def kind_of(rows):
    """The type in our file of a matrix of one or several parts: theirs if that is one we have, else q8_0."""
    plain = {"float32": "f32", "float16": "f16", "uint16": "bf16"}
    kinds = {KEPT_TYPES.get(a.kind.name, "q8_0") if isinstance(a, Blocks) else plain[a.dtype.name] for a, _ in rows.parts}
    return kinds.pop() if len(kinds) == 1 else "q8_0"


def gguf_config(j, f, arch):
    dim, heads = int(j["embedding_length"]), int(j["attention.head_count"])
    eps = first_of(j, "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", otherwise=1e-5)
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
        experts = dict(n_experts=int(j["expert_count"]), top_k=int(j["expert_used_count"]), expert_ffn=int(width))
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
        ffn_dim=int(first_of(j, "feed_forward_length", "expert_feed_forward_length", otherwise=NEEDED)),
        vocab_size=vocab,
        max_ctx=int(j["context_length"]),
        norm=int(f.layered),
        act=run.ACTIVATIONS.index(f.settings("act") or "silu"),
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
    rotated, theta = int(j.get("rope.dimension_count") or c.head_dim), float(j.get("rope.freq_base") or 10000.0)
    scaling = {k.removeprefix("rope.scaling."): v for k, v in j.items() if k.startswith("rope.scaling.")}
    kind, old, long = scaling.get("type", "none"), scaling.get("original_context_length"), 0
    take = lambda name: np.array(f.arrays.pop(name), float) if name in f.arrays and not c.head_dim2 else None
    factors = [take(f"rope_{name}.weight") for name in ("freqs", "factors_short", "factors_long")]
    rope = {"rope_type": "default" if kind == "none" else kind, "original_max_position_embeddings": old, **scaling}
    if factors[1] is not None:
        rope |= {"rope_type": "longrope", "short_factor": factors[1], "long_factor": factors[2], "attention_factor": None}
        rope["attention_factor"], long = scaling.get("attn_factor"), int(old)
    elif kind == "yarn":
        rope |= {"beta_fast": scaling.get("yarn_beta_fast"), "beta_slow": scaling.get("yarn_beta_slow")}
        rope["attention_factor"] = 1.0 if f.label == "GGUF of mistral3" else None  # mscale and mscale_all_dim are the same
        rope["truncate"] = f.label != "GGUF of gpt-oss"  # as its config.json says; the file does not
    table = rope_table(c.head_dim, theta, rope, rotated, c.max_ctx)
    if factors[0] is not None:
        table[:, 0, : rotated // 2] /= factors[0]
    turns = f.settings("rotates") or (lambda j, i: True)
    if f.label == "GGUF of gemma3":  # the layers with a window have a frequency of their own, and no scaling
        table = np.concatenate((table, rope_table(c.head_dim, float(j.get("rope.freq_base_swa") or 10000.0), {}, rotated)))
        return table, [int(w > 0) for w in window], rotated, 0
    return table, [0 if turns(j, i) else -1 for i in range(c.n_layers)], rotated, long


# -----------------------------------------------------------------------------
# sources: each -> SimpleNamespace(kind, config, rope, tensors {canonical name: Rows or vector}, tokenizer, note)

def llama2c(kind, arrays, shape, tied, max_ctx, theta=10000.0, eps=1e-5, **more):
    """A source with Meta's names and rotary pairs; shape = (dim, ffn, layers, heads, kv heads, vocab)."""
    dim, ffn, layers, heads, kv, vocab = shape
    sizes = dict(zip(("dim", "ffn_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size"), shape))
    if min(*shape, max_ctx) < 1 or dim % heads or heads % kv:
        raise ModelError(f"header says {sizes}, which is no model; expected heads that divide dim; is this a llama2.c file?")
    special = {"bos": 1, "eos": 2} if vocab > 2 else {}
    c = Config("llama", **sizes, head_dim=dim // heads, max_ctx=max_ctx, eps=eps, flags=0 if tied else FLAGS["head"], **special)
    run._check_config(c)
    tensors = Family("Llama", arrays, META_NAMES, dict(interleaved=True)).tensors(c, c.head_dim)
    return SimpleNamespace(kind=kind, config=c, rope=rope_table(c.head_dim, theta), tensors=tensors, **more)


def llama2c_shapes(shape):
    """[(name with {} for a layer, or the plain name, shape of one)] in the order of version 0."""
    dim, ffn, _, heads, kv, vocab = shape
    narrow = dim // heads * kv
    sizes = {"wq": (dim, dim), "wk": (narrow, dim), "wv": (narrow, dim), "wo": (dim, dim)}
    sizes |= {"w1": (ffn, dim), "w2": (dim, ffn), "w3": (ffn, dim)}
    return {k: (META_NAMES[k], sizes.get(k, (vocab, dim) if k in ("embed", "head") else (dim,))) for k in META_NAMES}


def read_llama2c_bin(path, head):
    """llama2.c .bin: version 0 (7 ints, no magic), 1 (float32) and 2 (int8 groups)."""
    raw, version = mapped(path), 0
    if head[:4] == b"24ka":
        (version,) = struct.unpack_from("<i", head, 4)
        if version not in (1, 2):
            raise ModelError(f"llama2.c version {version}, expected 0, 1 or 2")
    ints = struct.unpack_from("<7i", head, 8 if version else 0)
    dim, ffn, layers, heads, kv, vocab, max_ctx = ints
    tied, group = (head[36] == 1, struct.unpack_from("<i", head, 37)[0]) if version else (vocab > 0, 0)
    shape = (dim, ffn, layers, heads, kv, abs(vocab))
    most = [run.RANGES[k][1] for k in ("dim", "ffn_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size")]
    if min(*shape, max_ctx) < 1 or any(n > m for n, m in zip(shape, most)) or dim % heads:
        raise ModelError(f"starts with {ints}, no sizes of a model; expected a llama2.c checkpoint or another known source")
    if version == 2 and (group < 1 or dim % group):
        raise ModelError(f"groups of {group}, expected a divisor of {dim}; export it again with llama2.c")
    known, at, arrays = llama2c_shapes(shape), 256 if version else 28, {}
    norms, matrices = ["an", "fn", "out_norm"], ["embed", "wq", "wk", "wv", "wo", "w1", "w2", "w3"]
    order = norms + matrices if version else "embed an wq wk wv wo fn w1 w2 w3 out_norm freqs".split()
    for key in order + ([] if tied else ["head"]):
        if key == "freqs":
            at += 4 * max_ctx * (dim // heads)  # tables that nobody needs: cos and sin by position
            continue
        name, size = known[key]
        for i in range(layers if "{}" in name else 1):
            n = math.prod(size)
            quantised = version == 2 and key not in norms
            nbytes = n + 4 * (n // group) if quantised else 4 * n
            part = raw[at : at + nbytes]
            if len(part) < nbytes:
                raise ModelError(f"{len(raw):,} bytes, too short for {name.format(i)} of {size} at {at:,}; is it truncated?")
            arrays[name.format(i)] = dequantised(part, size, group) if quantised else part.view("<f4").reshape(size)
            at += nbytes
    if at != len(raw):
        raise ModelError(f"{len(raw):,} bytes, the header promises {at:,}; is it a llama2.c checkpoint, and whole?")
    return llama2c(f"llama2.c version {version}", arrays, shape, tied, max_ctx)


def dequantised(raw, shape, group):
    """llama2.c's int8 groups (all values, then all float32 scales) -> float32."""
    n = math.prod(shape)
    values, scales = raw[:n].view(np.int8), np.frombuffer(raw[n:].tobytes(), "<f4")
    return (values.reshape(-1, group).astype(np.float32) * scales[:, None]).reshape(shape)


TORCH_TYPES = {"Float": "<f4", "Half": "<f2", "BFloat16": "<u2", "Double": "<f8", "Long": "<i8", "Int": "<i4", "Bool": "?"}
TORCH_TYPES |= {"Byte": "u1", "Char": "i1", "Short": "<i2"}
PICKLED_VALUES = "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8".split()
PICKLED_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
PICKLED_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


class Named:
    """What a pickle asks for by name, of the few things that are known."""

    def __init__(self, name):
        module, _, what = name.rpartition(" ")
        self.storage = TORCH_TYPES.get(what.removesuffix("Storage")) if module == "torch" and what.endswith("Storage") else None
        self.make = {"collections OrderedDict": lambda: {}, "torch._utils _rebuild_tensor_v2": rebuild_tensor}.get(name)
        if not self.make and not self.storage:
            what = printable(name.replace(" ", "."))[:80]
            raise ModelError(f"the checkpoint asks for {what}, expected only tensors and plain values; refused")


def unpickle(raw, storages):
    """The value that the pickle of a torch checkpoint describes. storages: key -> its mapped bytes.

    Python's pickle is not used: it would call what the file names, and a few bytes can make it fill the memory. This reads
    the two dozen instructions that torch.save writes for tensors and plain values, and refuses all others.
    """
    stack, marks, memo, n, room = [], [], {}, 0, 3 * sum(map(len, storages.values()))
    for op, value, _ in pickletools.genops(raw):
        name, n = op.name, n + 1
        if n > 2_000_000:
            raise ModelError("the checkpoint's pickle has more than two million instructions; expected weights; refused")
        if name in PICKLED_CONSTANTS:
            stack.append(PICKLED_CONSTANTS[name])
        elif name in PICKLED_EMPTY:
            stack.append(PICKLED_EMPTY[name]())
        elif name in PICKLED_VALUES:
            stack.append(value)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if value is None else value] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[value])
        elif name == "GLOBAL":
            stack.append(Named(value))
        elif name == "STACK_GLOBAL":
            what, module = stack.pop(), stack.pop()
            stack.append(Named(f"{module} {what}" if isinstance(module, str) and isinstance(what, str) else "?"))
        elif name == "BINPERSID":
            stack.append(stored(stack.pop(), storages))
        elif name == "REDUCE":
            given, what = stack.pop(), stack.pop()
            stack.append(what.make(*given))
            room -= getattr(stack[-1], "nbytes", 0)
            if room < 0:
                raise ModelError("the checkpoint's tensors are larger than what it stores; is it damaged?")
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("TUPLE", "APPENDS", "SETITEMS", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "SETITEM"):
            fixed = {"APPEND": 1, "SETITEM": 2}.get(name, int(name[-1]) if name[-1].isdigit() else None)
            begin = marks.pop() if fixed is None else len(stack) - fixed
            items = stack[max(begin, 0) :]
            del stack[max(begin, 0) :]
            if name.startswith("TUPLE"):
                stack.append(tuple(items))
            elif name.startswith("APPEND"):
                stack[-1].extend(items)
            elif any(not isinstance(key, (str, int)) for key in items[::2]):
                raise ModelError("the checkpoint has a key that is no name; expected weights by name; is it damaged?")
            else:
                stack[-1].update(zip(items[::2], items[1::2]))
        elif name == "BUILD":
            stack.pop()  # attributes of a dict, which nobody needs
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ModelError(f"the checkpoint's pickle uses {name}, expected only tensors and plain values; refused")
    raise ModelError("the checkpoint's pickle has no end; is the download complete?")


def stored(pid, storages):
    """What torch writes for a storage: ("storage", its type, key, place, elements) -> (its bytes, dtype)."""
    known = isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[2], str)
    if not known or not isinstance(pid[1], Named) or pid[1].storage is None or pid[2] not in storages:
        key = printable(pid[2])[:40] if known else "?"
        raise ModelError(f"the checkpoint names a storage {key}, which is not in it; is it damaged?")
    return storages[pid[2]], pid[1].storage


def rebuild_tensor(storage, offset, size, stride, *rest):
    """A view of the mapped storage; its extent is checked in Python ints."""
    raw, dtype = storage
    flat = raw[: len(raw) // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize].view(dtype)
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > 8 or not all(isinstance(n, int) and 0 <= n < 1 << 62 for n in numbers):
        raise ModelError("a tensor's sizes are no whole numbers; is the checkpoint damaged?")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if 0 not in size and (last >= len(flat) or math.prod(size) > len(flat)):
        raise ModelError(f"a tensor of {size} at {offset} reaches past its {len(flat)} values; is the checkpoint damaged?")
    if 0 in size:
        return flat[:0].reshape(size)
    return np.lib.stride_tricks.as_strided(flat[offset:], size, [s * flat.itemsize for s in stride], writeable=False)


class Bounded(io.FileIO):
    """A file of which no more than 4 MiB are read at once: the list of members of a zip file may promise to be anything."""

    def read(self, n=-1):
        if (os.fstat(self.fileno()).st_size - self.tell() if n is None or n < 0 else n) > 4 << 20:
            raise ModelError("a zip archive whose list of members is too long; expected a torch checkpoint; is it damaged?")
        return super().read(n)


def load_torch(path):
    """What torch.save wrote into a zip file, without torch and without running code of its pickle; tensors are mapped."""
    raw, storages, body = mapped(path), {}, None
    with Bounded(path) as f, zipfile.ZipFile(f) as z:
        for info in z.infolist():
            top, _, rest = info.filename.partition("/")
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise ModelError(f"member {printable(info.filename)[:80]} is compressed; expected what torch.save writes")
            if not 0 <= info.header_offset <= len(raw) - 30:
                raise ModelError(f"member {printable(info.filename)[:80]} is not in the file; is it truncated?")
            names = struct.unpack_from("<HH", raw, info.header_offset + 26)  # of the local header: name and extra field
            at = info.header_offset + 30 + sum(names)
            if at + info.file_size > len(raw):
                raise ModelError(f"member {printable(info.filename)[:80]} reaches past the end; is the file truncated?")
            if rest in ("data.pkl", "byteorder") and info.file_size > 32 << 20:
                raise ModelError(f"a {rest} of {info.file_size:,} bytes; expected at most 32 MiB; refused")
            if rest == "data.pkl":
                body = raw[at : at + info.file_size].tobytes()
            elif rest == "byteorder" and raw[at : at + info.file_size].tobytes() != b"little":
                raise ModelError("a big-endian checkpoint; expected little-endian")
            elif rest.startswith("data/"):
                storages[rest[5:]] = raw[at : at + info.file_size]
    if body is None:
        raise ModelError("a zip archive without data.pkl; expected a torch checkpoint")
    try:
        value = unpickle(body, storages)
    except DAMAGED as e:
        raise ModelError(f"the checkpoint's pickle is damaged ({type(e).__name__}: {printable(str(e))[:80]})") from None
    return value


def load_weights(path):
    """{name: array} of a torch file that holds nothing else."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise ModelError(f"{printable(path.name)}: not a zip file of torch.save; expected one of torch 1.6 or later")
    value = load_torch(path)
    if not isinstance(value, dict) or not all(is_weight(v) for v in value.values()):
        raise ModelError(f"{printable(path.name)}: holds something else than named weights; is it another kind of checkpoint?")
    return {str(name): array for name, array in value.items()}


def is_weight(v):
    return isinstance(v, np.ndarray) and v.dtype in (np.float32, np.float16, np.float64, np.uint16)


def read_torch(path):
    """A checkpoint of llama2.c or of train/pretrain.py."""
    value = load_torch(path)
    if not isinstance(value, dict) or not isinstance(value.get("model_args"), dict) or not isinstance(value.get("model"), dict):
        raise ModelError("the checkpoint has no model_args and model; expected one of llama2.c or of train/pretrain.py")
    return torch_source(value)


def equal(a, b):
    """Whether two matrices are the same, compared a few rows at a time."""
    return a.shape == b.shape and all(np.array_equal(a[i : i + 1024], b[i : i + 1024]) for i in range(0, len(a), 1024))


def torch_source(value):
    """The dict that llama2.c and train/pretrain.py save -> source."""
    a, arrays = value["model_args"], {str(k).removeprefix("_orig_mod."): v for k, v in value["model"].items()}
    arrays = {k: v for k, v in arrays.items() if not k.startswith("freqs_")}
    for name, array in arrays.items():
        if not is_weight(array):
            raise ModelError(f"{printable(name)[:80]} is no tensor of numbers; expected weights; is the checkpoint damaged?")
    try:
        dim, layers, heads = int(a["dim"]), int(a["n_layers"]), int(a["n_heads"])
        embed, ffn = arrays["tok_embeddings.weight"].shape[0], arrays["layers.0.feed_forward.w1.weight"].shape[0]
        kv, max_ctx = int(a.get("n_kv_heads") or heads), int(a.get("max_seq_len", 2048))
        theta, eps = float(a.get("rope_theta", 10000.0)), float(a.get("norm_eps", 1e-5))
    except DAMAGED as e:
        found = f"model_args or weights lack {printable(str(e))[:80]}"
        raise ModelError(f"{found}; expected a checkpoint of llama2.c or of train/pretrain.py") from None
    shared = arrays.get("output.weight")
    tied = shared is None or equal(shared, arrays["tok_embeddings.weight"])
    if tied:
        arrays.pop("output.weight", None)
    own = "tokenizer" in value
    kind, shape = "train/pretrain.py" if own else "llama2.c .pt", (dim, ffn, layers, heads, kv, embed)
    s = llama2c(kind, arrays, shape, tied, max_ctx, theta, eps)
    if own:  # documents of our trainer begin and end with token 0
        s.config = replace(s.config, bos=0, eos=0)
        text = lambda key: value[key] if isinstance(value.get(key), str) else ""
        s.tokenizer_json, s.note, s.chat_template = text("tokenizer"), text("note"), text("chat_template")
    return s


def read_safetensors(path):
    """name -> mapped array of one .safetensors file. The rules are those of the format's own reader."""
    raw = mapped(path)
    size = struct.unpack("<Q", raw[:8].tobytes())[0] if len(raw) >= 8 else 0
    if not 2 <= size <= min(MOST_JSON, len(raw) - 8):
        found = f"header of {size:,} bytes in a file of {len(raw):,}"
        raise ModelError(f"{printable(path.name)}: {found}; is the download complete?")

    def no_twins(pairs):
        if len({k for k, _ in pairs}) != len(pairs):
            raise ModelError(f"{printable(path.name)}: a name stands twice in the header; refused")
        return dict(pairs)

    try:
        header = loads(raw[8 : 8 + size].tobytes(), 6, object_pairs_hook=no_twins)
        header.pop("__metadata__", None)
        rows = sorted((tuple(v["data_offsets"]), k, v["dtype"], tuple(v["shape"])) for k, v in header.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(f"{printable(path.name)}: the header is not what safetensors writes; is the file damaged?") from None
    arrays, end = {}, 0
    for (first, last), name, dtype, shape in rows:
        kind = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1"}.get(dtype)
        if kind is None:
            found = f"tensor {printable(name)[:80]} has type {printable(str(dtype))[:40]}"
            raise ModelError(f"{printable(path.name)}: {found}; known: F32, F16, BF16, U8")
        whole = all(isinstance(n, int) and n >= 0 for n in (first, last, *shape))
        fits = whole and first == end and last - first == math.prod(shape) * np.dtype(kind).itemsize
        if not fits or 8 + size + last > len(raw):
            where = f"{printable(path.name)}: tensor {printable(name)[:80]} at {printable(f'{first}..{last}')[:80]}"
            raise ModelError(f"{where} overlaps, leaves a hole or is cut short; is the download complete?")
        arrays[name], end = raw[8 + size + first : 8 + size + last].view(kind).reshape(shape), last
    if 8 + size + end != len(raw):
        raise ModelError(f"{printable(path.name)}: {len(raw):,} bytes, tensors end at {8 + size + end:,}; refused")
    return arrays


def loads(raw, share=8, **how):
    """json.loads of what is no more than a share-th brackets and commas: of those, a megabyte becomes thirty in memory."""
    if sum(map(raw.count, (b",", b"[", b"{"))) > len(raw) // share + 4096:
        raise ValueError("more brackets and commas than words")
    return json.loads(raw.decode(), **how)


def read_json(path):
    """A dict."""
    try:
        value = loads(run._read_small(path, "a Hugging Face folder with it", MOST_JSON))
        if not isinstance(value, dict):
            raise ValueError("no object")
        return value
    except (ValueError, OSError, RecursionError) as e:
        raise ModelError(f"{printable(str(path))}: not readable JSON ({printable(str(e))[:80]})") from None


def read_folder(path, allow_pickle=False):
    """A Hugging Face folder (config.json and weights, one file or many), or Meta's (params.json and consolidated.*.pth)."""
    if (path / "params.json").exists() and not (path / "config.json").exists():
        return read_meta(path, allow_pickle)
    j, arrays = read_json(path / "config.json"), {}
    for shard in find_shards(path, allow_pickle):
        more = read_safetensors(shard) if shard.suffix == ".safetensors" else load_weights(shard)
        if set(more) & set(arrays):
            twice = printable(sorted(set(more) & set(arrays))[0])[:80]
            raise ModelError(f"{printable(shard.name)}: tensor {twice} stands in two shards; refused")
        arrays |= more
    try:
        source = hf_source(j, arrays)
    except DAMAGED as e:
        raise ModelError(f"config.json: {printable(repr(e))[:80]}; expected the sizes of a model; is it complete?") from None
    source.kind, source.folder = "Hugging Face folder", path
    if (path / "generation_config.json").exists():
        g = read_json(path / "generation_config.json")
        source.config = sampled(source.config, g.get("temperature"), g.get("top_p"), g.get("top_k"))
    return source


def sampled(c, temperature, top_p, top_k):
    """The Config with its makers' sampling, as far as they say and we can."""
    number = lambda x, most: x if isinstance(x, (int, float)) and 0 < x <= most else 0
    top_k = int(number(top_k, 1 << 30))
    return replace(c, sample_temperature=number(temperature, 100), sample_top_p=number(top_p, 1), sample_top_k=top_k)


PICKLED = "whose loading can run code elsewhere, not here; expected safetensors; --allow-pickle if you trust where it is from"


def find_shards(path, allow_pickle):
    """The files of weights of a Hugging Face folder, safetensors first."""
    for stem in ("model.safetensors", "pytorch_model.bin"):
        index, names = path / f"{stem}.index.json", [stem]
        if index.exists():
            files = read_json(index).get("weight_map", {})
            names = sorted(set(files.values()) if isinstance(files, dict) else (), key=str)
        elif not (path / stem).exists():
            continue
        if stem.endswith(".bin") and not allow_pickle:
            raise ModelError(f"{printable(str(path))}: only {stem}, {PICKLED}")
        for name in names:
            if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
                raise ModelError(f"{index.name}: shard {printable(repr(name))} is no plain file name; refused")
            if not (path / name).is_file():
                raise ModelError(f"{index.name}: shard {printable(name)} is missing; finish the download")
        return [path / name for name in names]
    raise ModelError(f"{printable(str(path))}: no weights; expected model.safetensors; save the model as safetensors")


class Columns:
    """A matrix whose columns are spread over several arrays; joined a few rows at a time."""

    def __init__(self, parts):
        self.parts = parts
        self.shape = (parts[0].shape[0], sum(part.shape[1] for part in parts))

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return np.concatenate([part[rows] for part in self.parts], axis=1)


def read_meta(path, allow_pickle):
    """Meta's own files: params.json and consolidated.*.pth, which hold a slice of every matrix each."""
    p, files = read_json(path / "params.json"), sorted(path.glob("consolidated.*.pth"))
    if not files:
        raise ModelError(f"{printable(str(path))}: no consolidated.*.pth beside params.json; finish the download")
    if not allow_pickle:
        raise ModelError(f"{printable(str(path))}: {files[0].name}, {PICKLED}")
    shards, arrays = [load_weights(f) for f in files], {}
    if any(set(shard) != set(shards[0]) for shard in shards):
        raise ModelError(f"{printable(str(path))}: shards with other names; expected one model; download it again")
    try:
        dim, heads = int(p["dim"]), int(p["n_heads"])
        for name, array in shards[0].items():
            parts = [shard[name] for shard in shards]
            across = name.endswith(("wo.weight", "w2.weight")) or "embeddings" in name and array.shape[1] * len(parts) == dim
            if array.ndim < 2 or len(parts) == 1:
                arrays[name] = array
            else:
                arrays[name] = Columns(parts) if across else Rows(*parts)
        arrays = {name: array for name, array in arrays.items() if not name.endswith("rope.freqs")}
        theta, eps, kv = float(p.get("rope_theta", 10000.0)), float(p.get("norm_eps", 1e-5)), int(p.get("n_kv_heads") or heads)
        ffn, vocab = arrays["layers.0.feed_forward.w1.weight"].shape[0], arrays["tok_embeddings.weight"].shape[0]
        shape = (dim, ffn, int(p["n_layers"]), heads, kv, vocab)
    except DAMAGED as e:
        raise ModelError(f"params.json: {printable(repr(e))[:80]}; expected the sizes of a Llama; is it complete?") from None
    stretched = bool(p.get("use_scaled_rope"))
    scaling = dict(rope_type="llama3", low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
    scaling["factor"] = 32.0 if dim in (2048, 3072) else 8.0  # 3.2's two sizes, and 3.1's; params.json does not say
    max_ctx = int(p.get("max_seq_len") or (131072 if stretched else 8192 if theta > 1e5 else 4096))
    tied = "output.weight" not in arrays
    source = llama2c("Meta's checkpoint", arrays, shape, tied, max_ctx, theta, eps)
    if stretched:
        source.rope = rope_table(dim // heads, theta, scaling)
    if vocab == 128256:
        source.config = replace(source.config, bos=128000, eos=128001)
    source.folder = path
    return source


SHAPES = {  # dim, ffn, layers, heads, kv heads, vocab, tied
    "15M": (288, 768, 6, 6, 6, 32000, True),
    "110M": (768, 2048, 12, 12, 12, 32000, True),
    "1.1B": (2048, 5632, 22, 32, 4, 32000, False),
    "7B": (4096, 11008, 32, 32, 32, 32000, False),
    "70B": (8192, 28672, 80, 64, 8, 32000, False),
}


class RandomRows:
    """A matrix of seeded random numbers; rows are made when they are read. packed() makes quantised blocks at once."""

    def __init__(self, shape, seed):
        self.shape, self.seed = shape, seed

    def read(self, first, last):
        rng = np.random.default_rng((*self.seed, first))
        return rng.standard_normal((last - first, self.shape[1]), np.float32) / np.float32(math.sqrt(self.shape[1]))

    def packed(self, dtype, first, last):
        """-> bytes and scales of rows first to last as pack() would give; the numbers are uniform, which is as good here."""
        rng, rows, cols = np.random.default_rng((*self.seed, first)), padded(last - first, BLOCK), padded(self.shape[1], GROUP)
        spread = 74.0 if dtype == "q8_0" else 4.6
        n = rows * cols * run.BITS[dtype] // 8
        scales = np.full((rows // BLOCK, cols // GROUP, BLOCK), 1 / (spread * math.sqrt(self.shape[1])), "<f2")
        return np.frombuffer(rng.bytes(n), np.uint8), scales


def random_source(name, seed):
    dim, ffn, layers, heads, kv, vocab, tied = SHAPES[name]
    flags = 0 if tied else FLAGS["head"]
    c = Config("llama", dim, layers, heads, kv, dim // heads, ffn, vocab, max_ctx=16384, flags=flags, bos=1, eos=2)
    tensors = {}
    for i, (key, shape, role) in enumerate(run.tensor_plan(c)):
        if role == "matrix":
            tensors[key] = RandomRows(shape, (seed, i))
        elif key.endswith(".w"):
            tensors[key] = np.ones(shape, np.float32)
    note = f"random weights, shape {name}, seed {seed}"
    return SimpleNamespace(kind=f"random {name}", config=c, rope=rope_table(dim // heads, 10000.0), tensors=tensors, note=note)


def read_source(path, allow_pickle=False):
    """Recognise a source by looking at it."""
    if path.is_dir():
        return read_folder(path, allow_pickle)
    fd, size = run.open_regular(path, "a checkpoint or a Hugging Face folder")
    with os.fdopen(fd, "rb") as f:
        head = f.read(256)
    if head.startswith(b"GGUF"):
        return read_gguf(path)
    if head.startswith(b"PK\x03\x04"):
        return read_torch(path)
    known = [what for magic, what in run.FOREIGN if head.startswith(magic) and magic not in (b"24ka", b"PK\x03\x04")]
    if known or head.startswith(b"\x80"):
        what = known[0] if known else "a bare pickle"
        raise ModelError(f"this is {what}; expected a llama2.c .bin or .pt, or a Hugging Face folder; convert it first")
    if head[8:9] == b"{":
        raise ModelError("this is a safetensors file; give the folder that holds it and its config.json")
    if size < 256:
        raise ModelError(f"{size} bytes; expected a llama2.c checkpoint, a torch checkpoint or a Hugging Face folder")
    return read_llama2c_bin(path, head)


# -----------------------------------------------------------------------------
# tokenizers: each reader -> fields of pack_tokenizer; pieces are the bytes they print

CASE_FREE = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UP, LOW = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
BLANKS = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
ANY, REST = r"[^\r\n\p{L}\p{N}]?", r"| ?[^\s\p{L}\p{N}]+[\r\n/]*" + BLANKS
CASES = lambda ends, digits: f"{ANY}{UP}*{LOW}+{ends}|{ANY}{UP}+{LOW}*{ends}|" + r"\p{N}" + digits + REST
WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
GPT2_SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PUNCTUATION = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"""
KANA = "[一-龥\u3040-ゟ゠-ヿ]"
DEEPSEEK = PUNCTUATION + r"[A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*" + BLANKS
CASED_LETTERS = (  # as DeepSeek LLM lists them
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377"
    "\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556"
    "\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15"
    "\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe"
    "\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113"
    "\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184"
    "\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"
    "\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
CJK = "[一-龥\u0800-一\uac00-\ud7ff]"
LISTED_PUNCTUATION = r"[!-/:-~！-／：-～‘-‟\u3000-。]"
KNOWN_SPLITS = {  # the regular expressions of tokenizer.json, one after the other -> the pattern's number in run.py
    (CASE_FREE + WORDS % "{1,3}" + BLANKS,): 2,
    (CASE_FREE + WORDS % "" + BLANKS,): 3,
    (CASES("", ""),): 5,
    (CASES(CASE_FREE + "?", "{1,3}"),): 6,
    (CASE_FREE + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + BLANKS,): 7,
    (r"\p{N}{1,3}", KANA + "+", DEEPSEEK): 8,
    (r"[\r\n]", rf"\s?[{CASED_LETTERS}]+", rf"\s?{LISTED_PUNCTUATION}+", r"\s+$", CJK + "+", "digits"): 10,
    (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK + "+", "digits"): 11,
    ("digits", "bytes"): 4,
    ("punctuation", "bytes", "numbers", "[0-9][0-9][0-9]"): 9,
    ("bytes",): 1,
    (): 0,
}
SPLIT_NAMES = "known: GPT-2, Llama 3, Qwen 2 and 3.5, SmolLM, StarCoder 2, tekken, o200k, DeepSeek LLM, Coder and V3, Falcon"
OLD_CLASSES = [(r"\p{L}+", run.LETTER), (r"\p{N}+", run.NUMBER), (r"\s+", run.SPACE)]
BASE = [(r"\p{L}+", "x"), (r"\p{N}+", "0"), (r"\s+", "\t"), (r"[\r\n]+", "\n"), (" +", " "), ("'+", "'")]
LETTERS = [(f"{ch}+", ch) for ch in "stmdlverSTMDLVER"] + [("\u017f+", "z")]
CASED = [(r"\p{M}+", "~"), *BASE, (r"[\p{Lu}\p{Lt}]+", "A"), (r"\p{Ll}+", "a"), ("/+", "/")]


def overlaps(letter, mark):
    """Classes of a pattern whose steps speak of sets that have characters in common."""
    sets = {"x": letter, "!": mark, "k": CJK, "X": f"{letter} {mark}", "y": f"{letter} {CJK}", "K": f"{mark} {CJK}"}
    sets |= {"q": rf"\s {CJK}", "#": rf"\s {mark} {CJK}", "m": rf"\p{{N}} {CJK}"}
    every = lambda parts: "(?:" + "".join(f"(?={part})" for part in parts[1:]) + parts[0] + ")+"
    return [(r"\p{N}+", "0"), (r"\s+", "\t"), (r"[\r\n]+", "\n")] + [(every(s.split(" ")), ch) for ch, s in sets.items()]


CLASSES = {  # pattern -> [(what the engine finds, the letter it gets)], the later over the earlier
    4: BASE + LETTERS,
    5: CASED,
    6: CASED + LETTERS,
    7: [(r"\p{M}+", "~"), *BASE, *LETTERS],
    8: [(r"[\p{P}\p{S}]+", "#"), (PUNCTUATION + "+", "!"), (r"\p{M}+", "~"), *BASE[:5], ("[A-Za-z]+", "a")]
    + [(f"{KANA}+", "q")]
    + [(f"(?:(?={KANA}){kind})+", ch) for kind, ch in ((r"\p{L}", "k"), (r"\p{M}", "m"), (r"[\p{P}\p{S}]", "K"))],
    9: [("punctuation", "!"), *BASE, *LETTERS],
    10: overlaps(f"[{CASED_LETTERS}]", LISTED_PUNCTUATION),
    11: overlaps(r"\p{L}", r"\p{P}"),
}
TIKTOKEN = {  # ranks in the file -> pattern, flags, bos, stops, control tokens behind the ranks
    128000: (
        2,
        run.ADD_BOS | run.IGNORE_MERGES,
        128000,
        (128001, 128008, 128009),
        "<|begin_of_text|> <|end_of_text|> <|reserved_special_token_0|> <|reserved_special_token_1|> <|finetune_right_pad_id|> "
        "<|step_id|> <|start_header_id|> <|end_header_id|> <|eom_id|> <|eot_id|> <|python_tag|>".split()
        + [f"<|reserved_special_token_{i}|>" for i in range(2, 247)],
    ),
    151643: (3, run.NFC, None, (151643, 151645), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
    50256: (1, 0, 50256, (50256,), ["<|endoftext|>"]),
}


def pack_tokenizer(
    kind, pieces, prio, types, flags=0, pretok=0, bos=None, eos=None, unk=None, pad=None,
    stops=(), classes=(), merges=(), tests=(), chat=b"",
):
    """-> the bytes of a tokenizer.bin. pieces: [bytes]; prio: floats, higher merges first; types: run.NORMAL, run.BYTE, …;
    classes: [(first, last, class)]; merges: [(id, id)] by rank, with the flag run.EXPLICIT; tests: [(text, ids)]."""
    offsets = np.cumsum([0, *(len(p) for p in pieces)]).astype("<u4")
    selftest = struct.pack("<I", len(tests))
    for text, ids in tests:
        raw = text.encode()
        selftest += struct.pack("<II", len(raw), len(ids)) + raw + np.array(ids, "<u4").tobytes()
    u4 = lambda rows: np.array(rows, "<u4").tobytes()
    parts = [offsets.tobytes(), b"".join(pieces), np.array(prio, "<f4").tobytes(), bytes(types), u4(sorted(stops))]
    parts += [u4(classes), u4(merges), chat, selftest, b""]
    table, body, at = b"", b"", 256
    for part in parts:
        table += struct.pack("<QQ", at, len(part))
        body += part.ljust(padded(len(part), 64), b"\0")
        at += padded(len(part), 64)
    ids = [NONE if i is None else i for i in (bos, eos, unk, pad)]
    fields = (run.TOKENIZER_MAGIC, run.VERSION, run.ENDIAN, at, kind, len(pieces), flags, pretok, *ids, 0)
    raw = run.TOKENIZER_HEADER.pack(*fields, bytes(32)) + table.ljust(160, b"\0") + body
    return raw[:0x40] + hashlib.sha256(raw).digest() + raw[0x60:]


def finish_tokenizer(fields, reference=None):
    """Pack, adding self-test vectors: from reference(texts) -> [ids] where the source has an engine, else from run.py's own."""
    own = run.Tokenizer(pack_tokenizer(**fields))
    rng, kinds = random.Random(1), zip(fields["pieces"], fields["types"])
    pieces = [p.decode("utf-8", "ignore") for p, kind in kinds if kind == run.NORMAL]
    texts = ["Once upon a time", " two  spaces ", "It's 2026, isn't it?\n\n\tYes!", "\r\n \x00", "x" * 50]
    texts.append("naïve 🙂 안녕 C\u1eeda Vi\u1ec7t")
    texts += ["".join(rng.choice(pieces) for _ in range(6)) for _ in range(64 - len(texts))]
    ids = reference(texts) if reference else [own.encode(t, add_bos=False) for t in texts]
    return pack_tokenizer(**fields, tests=list(zip(texts, ids)))


def read_llama2c_tokenizer(raw, n_vocab):
    """llama2.c's tokenizer.bin does not say how many tokens it has: the model does."""
    pieces, prio, types, at, i = [], [], [], 4, -1
    while at < len(raw) if n_vocab is None else i + 1 < n_vocab:
        i += 1
        if i >= run.MOST_TOKENS:
            raise ModelError(f"more than {run.MOST_TOKENS} tokens; expected llama2.c's tokenizer.bin of this model")
        score, length = struct.unpack_from("<fi", raw, at) if at + 8 <= len(raw) else (0, -1)
        if not 0 <= length <= len(raw) - at - 8 or not math.isfinite(score):
            raise ModelError(f"token {i} of {n_vocab} is not there; expected llama2.c's tokenizer.bin of this model")
        piece = raw[at + 8 : at + 8 + length]
        byte = len(piece) == 6 and piece.startswith(b"<0x") and 3 <= i < 259
        types.append(run.CONTROL if i < 3 else run.BYTE if byte else run.NORMAL if piece else run.UNUSED)
        pieces.append(bytes([int(piece[3:5], 16)]) if byte else piece.strip(b"\n") if i < 3 else piece)
        prio.append(score)
        at += 8 + length
    if at != len(raw):
        raise ModelError(f"{len(raw):,} bytes, {n_vocab} tokens end at {at:,}; expected the tokenizer of this model")
    flags = run.ADD_BOS | run.PREFIX | (run.BYTE_FALLBACK if types.count(run.BYTE) == 256 else 0)
    # llama2.c's own training separates stories by the begin token, so either ends a text
    return dict(kind=run.SPM, pieces=pieces, prio=prio, types=types, flags=flags, bos=1, eos=2, unk=0, stops=(1, 2))


def protobuf(raw):
    """[(field, value)] of one protobuf message; bytes or ints. Raises ModelError for what is not one."""
    out, at = [], 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            if at >= len(raw) or shift > 63:
                raise ModelError("not a SentencePiece model: its protobuf is damaged")
            byte = raw[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(raw):
        if len(out) > run.MOST_TOKENS:
            raise ModelError(f"not a SentencePiece model: more than {run.MOST_TOKENS} fields")
        key = varint()
        wire, size = key & 7, {1: 8, 5: 4}.get(key & 7)
        if wire == 0:
            out.append((key >> 3, varint()))
            continue
        if wire not in (1, 2, 5):
            raise ModelError(f"not a SentencePiece model: wire type {wire}")
        size = varint() if size is None else size
        if size > len(raw) - at:
            raise ModelError("not a SentencePiece model: a field is cut short")
        out.append((key >> 3, raw[at : at + size]))
        at += size
    return out


def read_sentencepiece(raw):
    """A SentencePiece tokenizer.model (BPE): pieces 1, trainer 2, normaliser 3 of sentencepiece_model.proto."""
    fields = protobuf(raw)
    trainer, normaliser = (dict(protobuf(b"".join(v for k, v in fields if k == n))) for n in (2, 3))
    if trainer.get(3, 1) != 2:
        kinds = {1: "unigram", 3: "word", 4: "char"}
        kind = kinds.get(trainer.get(3, 1), "unknown")
        raise ModelError(f"a SentencePiece {kind} model; known: BPE")
    if normaliser.get(2) or normaliser.get(4, 1) or not normaliser.get(5, 1):
        name = printable(normaliser.get(1, b"?").decode("utf-8", "replace"))[:40]
        raise ModelError(f"SentencePiece normaliser {name!r} changes the text; known: identity, spaces kept")
    kinds = {1: run.NORMAL, 2: run.CONTROL, 3: run.CONTROL, 4: run.USER, 5: run.UNUSED, 6: run.BYTE}
    pieces, prio, types, unk = [], [], [], None
    for i, part in enumerate(v for k, v in fields if k == 1):
        piece = dict(protobuf(part))
        kind, text = kinds[piece.get(3, 1)], piece.get(1, b"")
        unk = i if piece.get(3, 1) == 2 else unk
        pieces.append(bytes([int(text[3:5], 16)]) if kind == run.BYTE else text.replace("\u2581".encode(), b" "))
        prio.append(struct.unpack("<f", piece.get(2, bytes(4)))[0])
        types.append(kind)
    signed = lambda v: None if v >= 1 << 31 else v
    bos, eos, pad = (signed(trainer.get(k, d)) for k, d in ((41, 1), (42, 2), (43, 1 << 63)))
    flags = (run.ADD_BOS if bos is not None else 0) | (run.PREFIX if normaliser.get(3, 1) else 0)
    flags |= run.BYTE_FALLBACK if types.count(run.BYTE) == 256 else 0
    stops = () if eos is None else (eos,)
    ids = dict(bos=bos, eos=eos, unk=unk, pad=pad, stops=stops)
    return dict(kind=run.SPM, pieces=pieces, prio=prio, types=types, flags=flags, **ids)


def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes -> the byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def class_runs(find, pretok):
    """[(first, last, class)] over all code points. find(pattern, text) -> the characters of text that match, by the engine."""
    text = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    kinds = np.zeros(0x110000, np.uint8)
    for pattern, kind in CLASSES.get(pretok, OLD_CLASSES):
        kinds[np.frombuffer(find(pattern, text).encode("utf-32-le"), "<u4")] = ord(kind) if isinstance(kind, str) else kind
    edges = np.flatnonzero(np.diff(kinds, prepend=0, append=0)).tolist()
    return [(a, b - 1, int(kinds[a])) for a, b in zip(edges, edges[1:]) if kinds[a]]


def need(package):
    """Import an optional package, or say in a line how to get it."""
    try:
        return __import__(package, fromlist=["x"])
    except ImportError:
        name = package.split(".")[0]
        raise ModelError(f"this source needs the Python package {name}, not installed; pip install {name}") from None


def read_tokenizer_json(text, hints):
    """A Hugging Face tokenizer.json: byte-level BPE, or BPE in SentencePiece's manner."""
    try:
        j = json.loads(text)
        if not isinstance(j["model"]["vocab"], dict):
            raise ModelError("tokenizer.json: its vocabulary is no table of names; known: BPE")
        model, added = j["model"], j.get("added_tokens") or []
        if model.get("type", "BPE") != "BPE":
            raise ModelError(f"tokenizer.json: model {printable(str(model.get('type')))[:40]!r}; known: BPE")
        return _tokenizer_json(j, model, added, hints, text)
    except DAMAGED as e:
        raise ModelError(f"tokenizer.json: {printable(repr(e))[:80]}; expected what the tokenizers library writes") from None


def _text_rules(j, steps, hints):
    """What tokenizer.json does to a text before merging -> (whether pieces are bytes, flags, pattern)."""
    norms, pres = steps(j.get("normalizer"), "normalizers"), steps(j.get("pre_tokenizer"), "pretokenizers")
    byte_level = any(p["type"] == "ByteLevel" for p in pres)
    flags = 0
    for step in norms:
        if step["type"] == "NFC":
            flags |= run.NFC
        elif step == {"type": "Prepend", "prepend": "\u2581"} and not byte_level:
            flags |= run.PREFIX
        elif step != {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"} or byte_level:
            found = printable(json.dumps(step))[:80]
            raise ModelError(f"tokenizer.json: normalizer {found} is not supported; known: NFC, Prepend, Replace")
    cuts = []
    for step in pres:
        plain = step.get("behavior") == "Isolated" and not step.get("invert")
        if step["type"] == "Split" and plain and "Regex" in step["pattern"]:
            cuts.append(step["pattern"]["Regex"].replace("\r", r"\r").replace("\n", r"\n"))
        elif step["type"] == "Digits":
            cuts.append("digits" if step.get("individual_digits") else "numbers")
        elif step == {"type": "Punctuation", "behavior": "Contiguous"}:
            cuts.append("punctuation")
        elif step["type"] == "ByteLevel" and not step.get("add_prefix_space"):
            cuts += ["bytes"] if step.get("use_regex", True) else []
        elif step["type"] == "Metaspace" and step["replacement"] == "\u2581" and not step.get("split", True):
            scheme = step.get("prepend_scheme", "always")
            flags |= {"always": run.PREFIX_UNLESS, "first": run.PREFIX_UNLESS, "never": 0}[scheme]
            hints["prefix_first"] = scheme == "first"  # not again behind a control token
        elif not (step["type"] == "Split" and step["pattern"] == {"String": " "} and norms and not byte_level):
            # Gemma cuts at spaces, of which its normalizer has left none
            cuts.append(step)
    if [cut for cut in cuts if not isinstance(cut, str)] or tuple(cuts) not in KNOWN_SPLITS:
        found = printable(json.dumps(cuts, ensure_ascii=False))[:160]
        raise ModelError(f"tokenizer.json: pre-tokenizer {found} is not supported; {SPLIT_NAMES}")
    pretok = KNOWN_SPLITS[tuple(cuts)]
    return byte_level, flags, pretok


def _tokenizer_json(j, model, added, hints, text):
    steps = lambda part, key: [] if not part else part[key] if part["type"] == "Sequence" else [part]
    byte_level, flags, pretok = _text_rules(j, steps, hints)
    flags |= run.IGNORE_MERGES if model.get("ignore_merges") else 0
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(name):
            raise ModelError(f"tokenizer.json: {name} is not supported; expected none")
    vocab = {**model["vocab"], **{t["content"]: t["id"] for t in added}}
    n = max(vocab.values()) + 1
    if n > run.MOST_TOKENS or min(vocab.values()) < 0:
        raise ModelError(f"tokenizer.json: ids from {min(vocab.values())} to {n - 1}; expected 0 to {run.MOST_TOKENS - 1}")
    pieces, types, alphabet = [b""] * n, [run.UNUSED] * n, byte_alphabet()
    for piece, i in model["vocab"].items():
        is_byte = model.get("byte_fallback") and len(piece) == 6 and piece.startswith("<0x")
        types[i] = run.BYTE if is_byte else run.NORMAL
        if byte_level:
            pieces[i] = bytes(alphabet[ch] for ch in piece) if all(ch in alphabet for ch in piece) else piece.encode()
        else:
            pieces[i] = bytes([int(piece[3:5], 16)]) if is_byte else piece.replace("\u2581", " ").encode()
    for t in added:
        user = run.USER | run.LSTRIP * bool(t.get("lstrip")) | run.RSTRIP * bool(t.get("rstrip"))
        types[t["id"]] = run.CONTROL if t.get("special") else user
        pieces[t["id"]] = t["content"].encode()
    if model.get("byte_fallback") and run.BYTE in types:
        flags |= run.BYTE_FALLBACK  # in some vocabularies it is switched on with no byte tokens to fall back on
    bos, eos = hints.get("bos"), hints.get("eos")
    single = [next(iter(s), "") for s in (j.get("post_processor") or {}).get("single") or []]
    for step in steps(j.get("post_processor"), "processors"):
        single = [next(iter(s), "") for s in step["single"]] if step["type"] == "TemplateProcessing" else single
    if single and single[0] == "SpecialToken" or hints.get("add_bos"):
        flags |= run.ADD_BOS
    if single and single[-1] == "SpecialToken":
        flags |= run.ADD_EOS
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    rows = [(vocab[a], vocab[b]) for a, b in merges]
    prio = [-float(n)] * n
    for rank, (a, b) in reversed(list(enumerate(merges))):
        prio[vocab[a + b]] = -float(rank)
    stops = [i for i in hints.get("stops") or ([] if eos is None else [eos]) if i < n]
    unk = vocab.get(model.get("unk_token"))
    kind = run.BYTE_BPE if byte_level else run.SPM
    fields = dict(kind=kind, pieces=pieces, prio=prio, types=types, flags=flags, pretok=pretok)
    fields |= dict(bos=bos, eos=eos, unk=unk, stops=stops)
    engine, T = None, need("tokenizers") if byte_level else None
    if byte_level:
        fields["classes"] = class_runs(lambda p, s: find_with(T, p, s), pretok)
        engine = lambda texts: bounded(ENGINE, {"json": text, "texts": texts}, 4 << 30, 60)
    return explicit_if_needed(fields, rows), engine


def find_with(T, pattern, text):
    """The characters of text that a pattern, or "punctuation", matches as the package tokenizers (T) sees them."""
    P = T.pre_tokenizers
    joined = lambda step: "".join(part for part, _ in step.pre_tokenize_str(text))
    if pattern != "punctuation":
        return joined(P.Split(T.Regex(pattern), "removed", invert=True))
    others = set(joined(P.Punctuation("removed")))
    return "".join(ch for ch in text if ch not in others)


def explicit_if_needed(fields, rows):
    """Merging by the priority of the result is the same as by the list of merges for every known vocabulary, but no theorem:
    try it, and store the list where it is not. Pieces no merge makes must not be merged."""
    made = {fields["pieces"][a] + fields["pieces"][b] for a, b in rows}
    code = "latin-1" if fields["kind"] == run.BYTE_BPE else "utf-8"
    normal = [p for p, t in zip(fields["pieces"], fields["types"]) if t == run.NORMAL]
    exact = {**fields, "flags": fields["flags"] | run.EXPLICIT, "merges": rows}
    if any(len(p.decode(code)) > 1 and p not in made for p in normal):
        return exact
    quick, slow = (run.Tokenizer(pack_tokenizer(**f)) for f in (fields, exact))
    rng, words = random.Random(0), [p.decode("utf-8", "ignore") for p in normal if len(p) <= 256]
    texts = ("".join(rng.choice(words) for _ in range(rng.randint(1, 4))) for _ in range(2000))
    return fields if all(quick.encode(t) == slow.encode(t) for t in texts) else exact


GGUF_SPLITS = {  # what the converter calls a way to split text: which of KNOWN_SPLITS it is
    name: kind
    for kind, names in {
        1: "default gpt-2 phi-2 olmo mpt exaone4",
        2: "llama-bpe llama3 llama-v3 falcon3 lfm2 smaug-bpe dbrx chatglm-bpe glm4",
        3: "qwen2 deepseek-r1-qwen stablelm2 megrez hunyuan",
        4: "smollm starcoder refact command-r exaone codeshell",
        5: "tekken",
        6: "gpt-4o llama4",
        7: "qwen35",
        8: "deepseek-v3 hunyuan-dense",
        9: "falcon",
        10: "deepseek-llm",
        11: "deepseek-coder",
    }.items()
    for name in names.split()
}


def gguf_tokenizer(fields):
    """The tokenizer in a GGUF's metadata -> (fields of pack_tokenizer, engine or None)."""
    get = lambda key, otherwise=None: fields.get(f"tokenizer.ggml.{key}", otherwise)
    tokens, kinds, eos = get("tokens"), get("token_type"), get("eos_token_id")
    stops = {i for key in ("eos", "eot", "eom") if (i := get(f"{key}_token_id")) is not None and i < len(tokens)}
    ends = ("<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<turn|>", "<|end|>", "<|endoftext|>", "<|eom_id|>")
    stops |= {i for i, (text, kind) in enumerate(zip(tokens, kinds)) if kind == 3 and text in ends}
    if get("model") == "llama":
        types = {1: run.NORMAL, 2: run.CONTROL, 3: run.CONTROL, 4: run.USER, 5: run.UNUSED, 6: run.BYTE}
        types = [types[k] for k in kinds]
        spaced = [t.replace("\u2581", " ").encode() for t in tokens]
        pieces = [bytes([int(t[3:5], 16)]) if k == run.BYTE else s for t, s, k in zip(tokens, spaced, types)]
        bos = get("bos_token_id") if get("add_bos_token", True) else None
        flags = run.ADD_BOS * (bos is not None) | run.PREFIX * bool(get("add_space_prefix", True))
        flags |= run.BYTE_FALLBACK if types.count(run.BYTE) == 256 else 0
        ids = dict(bos=bos, eos=eos, unk=get("unknown_token_id"), stops=sorted(stops))
        return dict(kind=run.SPM, pieces=pieces, prio=list(get("scores")), types=types, flags=flags, **ids), None
    plain = dict(single_word=False, lstrip=False, rstrip=False, normalized=False)
    rows = list(enumerate(zip(tokens, kinds)))
    added = [dict(plain, id=i, content=t, special=k == 3) for i, (t, k) in rows if k in (3, 4)]
    if get("model") == "gemma4":  # merges as of BPE, of characters with bytes to fall back on
        vocab = {t: i for i, (t, k) in rows if k not in (3, 4)}
        merges = [[m[: m.index(" ", 1)], m[m.index(" ", 1) + 1 :]] for m in get("merges")]
        model = {"type": "BPE", "vocab": vocab, "merges": merges, "byte_fallback": True, "unk_token": "<unk>"}
        norm = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
        hints = dict(bos=get("bos_token_id"), eos=eos, stops=sorted(stops), add_bos=bool(get("add_bos_token", True)))
        return read_tokenizer_json(json.dumps(dict(version="1.0", model=model, added_tokens=added, normalizer=norm)), hints)
    pre = get("pre", "default")
    if get("model") != "gpt2" or pre not in GGUF_SPLITS:
        found = f"{get('model')} with {pre}"
        known = f"llama, gemma4, gpt2 with {', '.join(GGUF_SPLITS)}"
        raise ModelError(f"tokenizer {printable(found)} is not supported; known: {known}")
    cuts = {v: k for k, v in KNOWN_SPLITS.items()}[GGUF_SPLITS[pre]]
    isolated = lambda cut: {"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": "bytes" in cuts}
    steps = {"digits": {"type": "Digits", "individual_digits": True}, "numbers": {"type": "Digits", "individual_digits": False}}
    steps |= {"punctuation": {"type": "Punctuation", "behavior": "Contiguous"}, "bytes": level}
    splits = [steps.get(cut) or isolated(cut) for cut in cuts] + [level] * ("bytes" not in cuts)
    vocab = {t: i for i, (t, k) in rows if k not in (3, 4)}
    model = {"type": "BPE", "vocab": vocab, "merges": list(get("merges"))}
    llama3 = pre in ("llama-bpe", "llama3", "llama-v3", "falcon3", "lfm2")
    model = {**model, "ignore_merges": llama3 or pre in ("tekken", "glm4")}
    nfc = {"type": "NFC"} if pre in ("qwen2", "qwen35") else None
    j = {"version": "1.0", "model": model, "added_tokens": added, "normalizer": nfc, "decoder": {**level, "use_regex": True}}
    j["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": splits}
    bos = get("bos_token_id")
    begins = bool(get("add_bos_token", llama3 or pre == "tekken") and bos is not None)
    return read_tokenizer_json(json.dumps(j), dict(bos=bos, eos=eos, stops=sorted(stops), add_bos=begins))


def read_tiktoken(raw):
    """Lines of "base64 rank", as Llama 3 and Qwen ship them; the number of ranks tells the family."""
    try:
        rows = [line.split() for line in raw.splitlines() if line]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in rows}
    except ValueError:
        raise ModelError("a line is not a base64 token and its rank; expected a tiktoken vocabulary") from None
    if sorted(ranks.values()) != list(range(len(ranks))) or len(ranks) not in TIKTOKEN:
        known = ", ".join(map(str, TIKTOKEN))
        raise ModelError(f"a tiktoken vocabulary of {len(ranks)} tokens; known: {known} (Llama 3, Qwen 2, GPT-2)")
    pretok, flags, bos, stops, names = TIKTOKEN[len(ranks)]
    n, pieces = len(ranks), sorted(ranks, key=ranks.get) + [name.encode() for name in names]
    types = [run.NORMAL] * n + [run.CONTROL] * len(names)
    T = need("tiktoken")
    alphabet = {bytes([b]): b for b in range(256)}
    probe = lambda p: T.Encoding("x", pat_str=p, mergeable_ranks=alphabet, special_tokens={})
    classes = class_runs(lambda p, s: bytes(probe(p).encode_ordinary(s)).decode(), pretok)
    pattern = {v: k[0] for k, v in KNOWN_SPLITS.items() if len(k) == 1} | {1: GPT2_SPLIT}
    job = {"pattern": pattern[pretok], "ranks": [base64.b64encode(p).decode() for p in pieces[:n]]}
    engine = lambda texts: bounded(ENGINE, {**job, "texts": texts}, 4 << 30, 60)
    fields = dict(kind=run.BYTE_BPE, pieces=pieces, prio=[-float(i) for i in range(len(pieces))], types=types)
    fields |= dict(flags=flags, pretok=pretok, bos=bos, eos=stops[0], stops=stops, classes=classes)
    if flags & run.NFC:
        import unicodedata

        return fields, lambda texts: engine([unicodedata.normalize("NFC", s) for s in texts])
    return fields, engine


def read_gguf_tokenizer(fields):
    """The tokenizer of a GGUF, with its chat template -> the bytes of tokenizer.bin."""
    packed, engine = gguf_tokenizer(fields)
    if template := fields.get("tokenizer.chat_template"):
        ids = {k: fields.get(f"tokenizer.ggml.{k}_token_id") for k in ("bos", "eos")}
        name = lambda i: "" if i is None else packed["pieces"][i].decode("utf-8", "replace")
        special = {f"{k}_token": name(i) for k, i in ids.items()}
        packed = add_chat(packed, template, special, False)
    return finish_tokenizer(packed, engine)


def read_tokenizer(source, hints):
    """A tokenizer of any known kind -> the bytes of tokenizer.bin. source: path, or the text of a tokenizer.json.
    hints: n_vocab of the model; bos, eos, stops, add_bos where something else than the tokenizer's file decides them."""
    name = "tokenizer in the checkpoint" if isinstance(source, str) else printable(str(source))
    try:
        raw = source.encode() if isinstance(source, str) else run._read_small(source, "a tokenizer", run.MOST_BYTES)
        if raw.startswith(run.TOKENIZER_MAGIC):
            return raw
        engine = None
        if raw[:1] == b"{":
            fields, engine = read_tokenizer_json(raw.decode("utf-8", "replace"), hints)
        elif raw[:1] == b"\n" and b"\x0a\x05<unk>" in raw[:64]:
            fields = read_sentencepiece(raw)
        elif raw[:64].split(b"\n")[0].strip().endswith(b" 0"):
            fields, engine = read_tiktoken(raw)
        else:
            fields = read_llama2c_tokenizer(raw, hints["n_vocab"])
        if hints.get("template"):
            fields = add_chat(fields, hints["template"], hints["special"], bool(hints.get("prefix_first")))
        return finish_tokenizer(fields, engine)
    except ModelError as e:
        raise ModelError(str(e) if str(e).startswith(name) else f"{name}: {e}") from None
    except DAMAGED as e:
        text = f"{name}: no tokenizer can be read from it ({printable(repr(e))[:80]})"
        raise ModelError(f"{text}; expected one of a known kind; is it whole?") from None


def folder_hints(folder):
    """What a Hugging Face folder's other files say of its tokenizer."""
    found = [read_json(folder / f) for f in ("config.json", "generation_config.json") if (folder / f).exists()]
    ends = [j["eos_token_id"] for j in found if isinstance(j, dict) and "eos_token_id" in j]
    ends = [i for end in ends for i in (end if isinstance(end, list) else [end])]
    stops = sorted({i for i in ends if isinstance(i, int) and 0 <= i < 1 << 22})
    template, special = find_template(folder)
    return dict(stops=stops, template=template, special=special)


def lone_tokenizer(path):
    """--tokenizer-only: from a folder, a GGUF, or a tokenizer's own file -> the bytes of tokenizer.bin."""
    hints = dict.fromkeys(("n_vocab", "bos", "eos"))
    if path.is_dir():
        names = [n for n in ("tokenizer.json", "tokenizer.model") if (path / n).exists()]
        if not names:
            raise ModelError("no tokenizer in this folder; expected tokenizer.json or tokenizer.model; name the file itself")
        config = read_json(path / "config.json") if (path / "config.json").exists() else {}
        first = lambda v: v[0] if isinstance(v, list) else v
        ids = {k: first(config.get(f"{k}_token_id")) for k in ("bos", "eos")}
        return read_tokenizer(path / names[0], {**hints, **ids, **folder_hints(path)})
    with os.fdopen(run.open_regular(path, "a tokenizer, or a folder or GGUF with one")[0], "rb") as f:
        is_gguf = f.read(4) == b"GGUF"
    if not is_gguf:
        return read_tokenizer(path, hints)
    try:
        return read_gguf_tokenizer(gguf_file(path)[0])
    except DAMAGED as e:
        raise ModelError(f"no tokenizer can be read ({printable(repr(e))[:80]}); expected a GGUF with a vocabulary") from None


def find_tokenizer(args, source):
    """-> the bytes of tokenizer.bin for a source, or None. With --chat-template its chat section is that template's."""
    template = None
    if args.chat_template:
        template = run._read_small(args.chat_template, "a chat template in Jinja", 1 << 20).decode("utf-8", "replace")
    raw = source_tokenizer(args, source, template)
    if template and not (raw and run.Tokenizer(raw).chat):
        where = printable(args.chat_template)
        raise ModelError(f"{where}: cannot be put into this tokenizer; expected a template of its control tokens; leave it out")
    return raw


def source_tokenizer(args, source, template):
    c = source.config
    hints = {"n_vocab": c.vocab_size, "bos": None if c.bos == NONE else c.bos, "eos": None if c.eos == NONE else c.eos}
    hints["add_bos"] = hasattr(source, "tokenizer_json")
    folder = getattr(source, "folder", None)
    if folder:
        hints |= folder_hints(folder)
    elif getattr(source, "chat_template", None):
        hints["template"], hints["special"] = source.chat_template, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    if template:
        hints |= {"template": template, "special": hints.get("special") or {}}
    if args.tokenizer == "none":
        return None
    if args.tokenizer:
        return read_tokenizer(Path(args.tokenizer), hints)
    if "tokenizer.ggml.tokens" in getattr(source, "gguf", {}):
        try:
            return read_gguf_tokenizer(source.gguf | ({"tokenizer.chat_template": template} if template else {}))
        except DAMAGED as e:
            raise ModelError(f"{printable(args.source)}: its tokenizer is damaged ({printable(repr(e))[:80]})") from None
    if hasattr(source, "tokenizer_json"):
        return read_tokenizer(source.tokenizer_json, hints)
    if args.random:
        return None
    place = folder or Path(args.source).parent
    names = ["tokenizer.json", "tokenizer.model", "tokenizer.bin"]
    found = [place / n for n in names if (place / n).exists()] or ([] if folder else sorted(place.glob("tok*.bin")))
    if folder and found:
        found = found[:1]
    own = [p for p in found if p.resolve() != Path(args.output).parent.resolve() / "tokenizer.bin"]
    if len(own) != 1:
        what = f"{', '.join(p.name for p in own)} are" if own else "no tokenizer is"
        raise ModelError(f"{printable(str(place))}: {what} beside the source; expected one; choose with --tokenizer")
    say(f"tokenizer: {own[0].name}")
    return read_tokenizer(own[0], hints)


# -----------------------------------------------------------------------------
# chat: a template is rendered here, once, and what it does becomes fixed pieces; run.py never runs one

LIMITED = r"""
import sys
sys.path = [p for p in sys.path if p]  # never from the folder that one happens to be in
import json
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (%d, %d))
    resource.setrlimit(resource.RLIMIT_CPU, (%d, %d))
except (ImportError, ValueError, OSError):
    pass
job, out = json.load(sys.stdin), []
"""
ENGINE = r"""
try:
    if "json" in job:
        from tokenizers import Tokenizer
        engine = Tokenizer.from_str(job["json"])
        out = [engine.encode(text, add_special_tokens=False).ids for text in job["texts"]]
    else:
        import base64, tiktoken
        ranks = {base64.b64decode(piece): i for i, piece in enumerate(job["ranks"])}
        engine = tiktoken.Encoding("x", pat_str=job["pattern"], mergeable_ranks=ranks, special_tokens={})
        out = [engine.encode_ordinary(text) for text in job["texts"]]
except BaseException as e:
    sys.exit(f"{type(e).__name__}: {e}")
json.dump(out, sys.stdout)
"""
RENDER = r"""
import re
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
def refuse(message):
    raise TemplateError(message)
env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
env.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)
env.globals.update(raise_exception=refuse, strftime_now=lambda form: job["date"] + form + job["date"], **job["special"])
try:
    text = re.sub(r"(\{%-?\s*)generation(\s*-?%\})", r"\1if true\2", job["template"])  # marks what training looks at
    template = env.from_string(re.sub(r"(\{%-?\s*)endgeneration(\s*-?%\})", r"\1endif\2", text))
    for messages, generate in job["chats"]:
        try:
            out.append(template.render(messages=messages, add_generation_prompt=generate))
        except TemplateError:
            out.append(None)
        if sum(map(len, filter(None, out))) > 1 << 22:
            sys.exit("it writes too much")
except Exception as e:
    sys.exit(f"{type(e).__name__}: {e}")
json.dump(out, sys.stdout)
"""
DATE = "\ue0dd"  # stands around the format of today's date
ROLES = ("system", "user", "assistant")
SYSTEM, USER, ASSISTANT = "Ssystem7q", "Uuser%d7q", "Aassistant%d7q"


def render(template, special, chats):
    """Texts of chats [(messages, with generation prompt)], None where the template refuses one. In a process of its own with
    a limit on time and memory, in jinja2's immutable sandbox: a template is a program of strangers."""
    need("jinja2")
    return bounded(RENDER, {"template": template, "special": special, "chats": chats, "date": DATE}, 1 << 30, 5)


def bounded(program, job, memory, seconds):
    """What a program makes of a job, as JSON, in a process of its own with so much memory and time. What it reads is of
    strangers: it may die there, and this program goes on."""
    program = LIMITED % (memory, memory, seconds, seconds) + program
    try:
        env = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", program], input=json.dumps(job).encode(), capture_output=True, timeout=6 * seconds, env=env
        )
    except subprocess.TimeoutExpired:
        raise ModelError("it does not end") from None
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1][-120:]
        raise ModelError(printable(last) or f"its program died ({done.returncode})")
    return json.loads(done.stdout)


def conversation(contents, system=None):
    """[u0, a0, u1, …] -> messages."""
    roles = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]
    return ([] if system is None else [{"role": "system", "content": system}]) + roles


def compile_chat(template, special):
    """A Jinja template -> (the pieces of text between contents, by name of run.CHAT; strips of system, user, assistant).

    Renders marked contents, cuts the result at the marks, and then compares 60 random conversations with the template's
    own rendering. Raises ModelError if pieces cannot say what it does.
    """
    talk = [(USER, ASSISTANT)[i % 2] % (i // 2) for i in range(5)]
    chats = [(conversation(talk[:1]), True), (conversation(talk[:1], SYSTEM), True), (conversation(talk[:3]), True)]
    plain, led, long, *probes = render(template, special, chats + [chat for role in ROLES for chat in strip_probes(role)])
    if plain is None or long is None:
        raise ModelError("it refuses a plain conversation")

    def cut(text, *marks):
        parts = []
        for mark in marks:
            before, found, text = text.partition(mark)
            if not found or mark in text:
                raise ModelError("it leaves a message out, or writes it twice")
            parts.append(before)
        return [*parts, text]

    first, gen = cut(plain, talk[0])
    _, u2a, a2u, _ = cut(long, *talk[:3])
    pieces = {"first": first, "u2a": u2a, "a2u": a2u, "gen": gen}
    try:
        pieces["system"], pieces["after_system"], _ = cut(led or "", SYSTEM, talk[0])
    except ModelError:
        pass  # no place for a system message, or it is part of the user's
    strips = {role: strips_of(role, probes[3 * i : 3 * i + 3], "system" in pieces) for i, role in enumerate(ROLES)}
    check_chat(template, special, pieces, strips)
    return pieces, strips


def strip_probes(role):
    """Conversations whose content of that role is bare, between line ends, and between spaces."""
    chats = []
    for word in ("7qword", "\n7qword\n", " 7qword "):
        talk = ["a7q", "b7q", "c7q"]
        if role != "system":
            talk[ROLES.index(role) - 1] = word
        chats.append((conversation(talk, word if role == "system" else None), True))
    return chats


def strips_of(role, texts, has_system):
    """What the template cuts off a content of this role: a number as in run.STRIPS."""
    if role == "system" and not has_system:
        return 0
    rows = [text.split("7qword", 1) for text in texts if text and "7qword" in text]
    if len(rows) < 3:
        raise ModelError(f"it loses what the {role} says")
    cuts = []
    for side in (0, 1):
        lines, spaces = (rows[0][side] == row[side] for row in rows[1:])
        cuts.append(1 if lines and spaces else 2 if lines else 0)
    return cuts[0] + 3 * cuts[1]


def check_chat(template, special, pieces, strips):
    """Raises ModelError if a random conversation reads otherwise when the template itself renders it."""
    rng, words = random.Random(0), ["fox", " ", "\n", "  shoe", "é", "🙂", "\n\n", "{{x}}", "'s", "7", "<b>", "\t", "end."]
    say = lambda: "".join(rng.choice(words) for _ in range(rng.randint(0, 8))) + rng.choice(["x", "x ", "x\n"])
    chats = []
    for _ in range(60):
        system = say() if "system" in pieces and rng.random() < 0.5 else None
        chats.append((conversation([say() for _ in range(rng.choice([1, 1, 3, 3, 5]))], system), True))
    for (messages, _), want in zip(chats, render(template, special, chats)):
        if "".join(run.chat_parts(messages, pieces, strips)) != want:
            raise ModelError("fixed pieces cannot say what it does")


def find_template(folder):
    """-> (template or None, {"bos_token": …, "eos_token": …}) of a Hugging Face folder."""
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    special = {}
    for key in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = settings.get(key)
        special[key] = value.get("content", "") if isinstance(value, dict) else value or ""
    template = settings.get("chat_template")
    if isinstance(template, list):  # several by name
        template = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}.get("default")
    if (folder / "chat_template.jinja").exists():
        template = run._read_small(folder / "chat_template.jinja", "a template", 1 << 20).decode("utf-8", "replace")
    return template if isinstance(template, str) else None, special


def add_chat(fields, template, special, prefix_first):
    """The fields of a tokenizer with its section "chat"; a template that cannot be compiled is said so and left out."""
    try:
        pieces, strips = compile_chat(template, special)
    except ModelError as e:
        say(f"no chat: the template cannot be compiled: {printable(str(e))}; the model completes text")
        return fields
    chat = pack_chat(pieces, strips, fields, prefix_first)
    after = run._tokenizer_chat(chat, SimpleNamespace(n_vocab=len(fields["pieces"]), types=np.array(fields["types"])))[0]["a2u"]
    ends = [value for kind, value in after if kind == run.CHAT_ID][:1]  # what an answer ends with
    return {**fields, "chat": chat, "stops": sorted({*fields.get("stops", ()), *ends})}


def pack_chat(pieces, strips, fields, prefix_first):
    """-> the section "chat" of tokenizer.bin: strips; then each piece as a count and items, a control token's id, or text."""
    kinds = enumerate(zip(fields["pieces"], fields["types"]))
    controls = [(piece.decode(), i) for i, (piece, kind) in kinds if kind == run.CONTROL and piece]
    forms = [re.escape(text) for text, _ in sorted(controls, key=lambda row: -len(row[0]))]
    pattern, ids = re.compile("|".join(forms + [f"{DATE}[^{DATE}]*{DATE}"])), dict(controls)
    body = bytes(strips[role] for role in ROLES) + bytes([prefix_first])
    for name in run.CHAT:
        items, at, text = [], 0, pieces.get(name)
        for m in pattern.finditer(text or ""):
            items += [(run.CHAT_TEXT, text[at : m.start()].encode())] if at < m.start() else []
            dated = m[0].startswith(DATE)
            items.append((run.CHAT_DATE, m[0].strip(DATE).encode()) if dated else (run.CHAT_ID, ids[m[0]]))
            at = m.end()
        items += [(run.CHAT_TEXT, text[at:].encode())] if at < len(text or "") else []
        body += struct.pack("<I", NONE if text is None else len(items))
        for kind, value in items:
            raw = struct.pack("<I", value) if kind == run.CHAT_ID else value
            body += struct.pack("<II", kind, len(raw)) + raw
    return body


# -----------------------------------------------------------------------------
# quantise: float32 rows -> blocks of 16 rows; docs/format.md has the layout


def pack(rows, dtype):
    """float32 [n, cols], n a multiple of 16 unless last -> (uint8 bytes, float16 scales or None, what a reader gets back)."""
    n, cols = rows.shape
    tall = padded(n, BLOCK)
    if dtype in ("f32", "f16", "bf16"):
        whole = np.zeros((tall, cols), np.float32)
        whole[:n] = rows
        blocks = np.ascontiguousarray(whole.reshape(tall // BLOCK, BLOCK, cols).transpose(0, 2, 1))
        if dtype == "f32":
            return blocks.view(np.uint8).reshape(-1), None, rows
        if dtype == "f16":
            half = blocks.astype("<f2")
            return half.view(np.uint8).reshape(-1), None, rows.astype(np.float16).astype(np.float32)
        brain = to_bfloat16(blocks)
        return brain.view(np.uint8).reshape(-1), None, to_float32(to_bfloat16(rows))
    wide = padded(cols, GROUP)
    whole = np.zeros((tall, wide), np.float32)
    whole[:n, :cols] = rows
    values, scales = (quantise8 if dtype == "q8_0" else quantise4)(whole.reshape(tall, -1, GROUP))
    back = (values * scales.astype(np.float32)[..., None]).reshape(tall, wide)[:n, :cols]
    return *interleaved(values, scales, dtype), back


def interleaved(values, scales, dtype):
    """Values [rows, groups, 32] and scales [rows, groups] -> the bytes of blocks of 16 rows, and their scales."""
    tall, wide = padded(len(values), BLOCK), values.shape[1] * GROUP
    if tall > len(values):
        values, scales = (np.concatenate((x, np.zeros((tall - len(x), *x.shape[1:]), x.dtype))) for x in (values, scales))
    values = values.reshape(tall // BLOCK, BLOCK, wide).astype(np.int16)
    if dtype == "q8_0":
        data = (values + 128).astype(np.uint8).reshape(-1, BLOCK, wide // 4, 4).transpose(0, 2, 1, 3)
    else:
        steps = (values + 8).astype(np.uint8).reshape(-1, BLOCK, wide // 8, 2, 4).transpose(0, 2, 3, 1, 4)
        data = steps[:, :, 0] | steps[:, :, 1] << 4
    scales = np.ascontiguousarray(scales.reshape(tall // BLOCK, BLOCK, -1).transpose(0, 2, 1))
    return np.ascontiguousarray(data).reshape(-1), scales


def to_bfloat16(x):
    """float32 -> uint16 holding the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def quantise8(x):
    """float32 [rows, groups, 32] -> values -127..127 float32, scales float16 [rows, groups] (llama.cpp's Q8_0)."""
    scales = (np.abs(x).max(-1) / 127).astype("<f2")
    return np.clip(np.rint(x * inverse(scales)[..., None]), -127, 127), scales


def quantise4(x):
    """As quantise8, to -8..7. Of several scales takes the one whose least-squares refinement leaves the smallest error."""
    at = np.abs(x).argmax(-1)[..., None]
    largest = np.take_along_axis(x, at, -1)[..., 0]
    best = np.full(largest.shape, np.inf, np.float32)
    values, scales = np.zeros_like(x), np.zeros(largest.shape, "<f2")
    for steps in (-8.0, -7.5, -7.0, -6.5, 7.0):
        first = np.clip(np.rint(x * inverse(largest / np.float32(steps))[..., None]), -8, 7)
        square = np.einsum("rgk,rgk->rg", first, first)
        scale = (np.einsum("rgk,rgk->rg", first, x) * inverse(square)).astype("<f2")
        q = np.clip(np.rint(x * inverse(scale)[..., None]), -8, 7)
        left = x - q * scale.astype(np.float32)[..., None]
        error = np.einsum("rgk,rgk->rg", left, left)
        better = error < best
        best[better], scales[better], values[better] = error[better], scale[better], q[better]
    return values, scales


def inverse(scales):
    """1 / scales in float32, 0 for 0."""
    scales = scales.astype(np.float32)
    return np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)


# -----------------------------------------------------------------------------
# write: under another name until it is whole


def say(text):
    print(f"export.py: {text}", file=sys.stderr, flush=True)


class Progress:
    """After the first second: a bar with the time left on a terminal, else a line for every tenth."""

    def __init__(self, total):
        self.total, self.done, self.shown, self.began = max(total, 1), 0, 0, time.perf_counter()
        self.terminal = sys.stderr.isatty()

    def add(self, n):
        self.done += n
        share, spent = self.done / self.total, time.perf_counter() - self.began
        left = spent * (1 / share - 1)
        if spent < 1:
            return
        if self.terminal:
            bar = "#" * int(30 * share)
            print(f"\r[{bar:30}] {share:4.0%}, {left:.0f} s left ", end="\n" if share >= 1 else "", file=sys.stderr, flush=True)
        elif int(share * 10) > self.shown:
            self.shown = int(share * 10)
            say(f"{self.shown}0 % written, {left:.0f} s left")


def layout(c, dtype, tokenizer=b"", types=None):
    """[(name, dtype, shape, layout)] of the tensors as they stand in the file. types: of matrices that differ from dtype."""
    rows = []
    for name, shape, role in run.tensor_plan(c):
        if role == "matrix":
            kind = (types or {}).get(name, dtype)
            rows.append((name, kind, shape, 1))
            if kind in ("q8_0", "q4_0"):
                rows.append((name + ".s", "f16", run.scale_shape(shape), 0))
        else:
            rows.append((name, role, (len(tokenizer),) if role == "u8" else shape, 0))
    return rows


def metadata(c, rows, hashes, note):
    """All that stands before the data: header page, tensor table, note. hashes: name -> SHA-256 of the tensor's bytes."""
    table_end = run.PAGE + len(rows) * run.RECORD
    data_off = padded(table_end + len(note), run.PAGE)
    table, at = b"", data_off
    for name, dtype, shape, blocks in rows:
        nbytes = run.tensor_bytes(dtype, shape, blocks)
        dims = (*shape, *[0] * (4 - len(shape)))
        group = GROUP if dtype in ("q8_0", "q4_0") else 0
        fields = (name.encode(), run.DTYPES[dtype], len(shape), *dims, at, nbytes, group, blocks, hashes.get(name, bytes(32)))
        table += run.RECORD_FIELDS.pack(*fields).ljust(run.RECORD, b"\0")
        at = padded(at + nbytes, 64)
    body = c.pack().ljust(run.PAGE - 0x60, b"\0") + table + note
    body = body.ljust(data_off - 0x60, b"\0")
    fields = (run.MAGIC, run.VERSION, run.ENDIAN, at, len(rows), run.RECORD, run.PAGE, data_off, table_end, len(note))
    return run.HEADER.pack(*fields, hashlib.sha256(body).digest()) + body


def matrix_bytes(name, matrix, dtype, errors):
    """Yield the packed bytes of a matrix piece by piece; its scales last, as one more piece behind None."""
    n, cols = matrix.shape
    step, scales = max(BLOCK, CHUNK // cols // BLOCK * BLOCK), []
    kind = name.split(".")[-1]
    for first in range(0, n, step):
        last = min(n, first + step)
        if dtype in ("q8_0", "q4_0") and isinstance(matrix, RandomRows):
            data, s = matrix.packed(dtype, first, last)
        elif dtype in ("q8_0", "q4_0") and (whole := matrix.blocks(dtype, first, last)):
            data, s = interleaved(*whole, dtype)
            if not np.isfinite(s).all():
                raise ModelError(f"tensor {name} holds NaN or infinity, expected finite weights; is the source damaged?")
        else:
            rows = matrix.read(first, last)
            if not np.isfinite(rows).all():
                raise ModelError(f"tensor {name} holds NaN or infinity, expected finite weights; is the source damaged?")
            if dtype == "f16" and np.abs(rows).max() > 65504:
                raise ModelError(f"tensor {name} reaches {np.abs(rows).max():.3g}, beyond float16's 65504; use --type bf16")
            most = {"q8_0": 127, "q4_0": 7}.get(dtype)  # times the largest scale that float16 has
            if most and np.abs(rows).max() > 65504 * most:
                raise ModelError(f"tensor {name} reaches {np.abs(rows).max():.3g}, beyond what {dtype} holds; use --type bf16")
            data, s, back = pack(rows, dtype)
            sums = errors.setdefault(kind, [0.0, 0.0])
            sums[0] += float(np.square(rows - back, dtype=np.float64).sum())
            sums[1] += float(np.square(rows, dtype=np.float64).sum())
        yield data
        scales.append(s)
    if scales[0] is not None:
        yield None
        yield np.concatenate(scales).view(np.uint8).reshape(-1)


def write_model(f, source, c, dtype, tokenizer, note, progress=None):
    """Write a whole model.bin to the open file f. -> {kind of matrix: relative rms error}."""
    small = (".router", ".shared_gate", ".ab")  # and what they decide is much
    exact = {row[0]: "f32" for row in run.tensor_plan(c) if row[0].endswith(small)}
    rows, hashes, errors = layout(c, dtype, tokenizer, {**(getattr(source, "types", None) or {}), **exact}), {}, {}
    none = np.zeros(c.n_layers, "<i4")
    small = {"rope": source.rope, "window": getattr(source, "window", none), "rope_id": getattr(source, "rope_id", none)}
    small["tokenizer"] = np.frombuffer(tokenizer, np.uint8)
    head = metadata(c, rows, {}, note)
    run._parse_meta(head, run.HEADER.unpack_from(head)[3])  # what run.py would refuse is not begun
    f.write(bytes(len(head)))
    progress = progress or Progress(sum(run.tensor_bytes(*row[1:]) for row in rows))

    def put(name, pieces):
        digest, size = hashlib.sha256(), 0
        for piece in pieces:
            if piece is None:
                break
            f.write(piece)
            digest.update(piece)
            size += len(piece)
            progress.add(len(piece))
        f.write(bytes(padded(size, 64) - size))
        hashes[name] = digest.digest()
        forget()

    for name, kind, _shape, blocks in rows:
        if blocks:
            pieces = matrix_bytes(name, source.tensors[name], kind, errors)
            put(name, pieces)
        elif name.endswith(".s"):
            put(name, pieces)
        else:
            value = small[name] if name in small else to_float32(np.asarray(source.tensors[name]))
            if kind == "f32" and not np.isfinite(value).all():
                raise ModelError(f"tensor {name} holds NaN or infinity, expected finite weights; is the source damaged?")
            put(name, [np.ascontiguousarray(value).view(np.uint8).reshape(-1)])
    f.seek(0)
    f.write(metadata(c, rows, hashes, note))
    return {kind: math.sqrt(lost / max(whole, 1e-300)) for kind, (lost, whole) in errors.items()}


class Outputs:
    """Files that appear under their names together and whole, or not at all."""

    def __init__(self, overwrite):
        self.overwrite, self.pairs = overwrite, []

    def open(self, path):
        if path.exists() and not self.overwrite:
            raise ModelError(f"{printable(str(path))}: exists already; expected a new name; choose another -o, or --overwrite")
        for stale in path.parent.glob(path.name + ".tmp*"):
            pid = stale.name[len(path.name) + 4 :]
            # in a container the next export may have the number of the dead one
            if pid.isdecimal() and (int(pid) == os.getpid() or not alive(int(pid))):
                stale.unlink(missing_ok=True)
        temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
        f = os.fdopen(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644), "wb")
        self.pairs.append((temporary, path, f))
        return f

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        try:
            if failure is None:
                for _, _, f in self.pairs:
                    f.flush()
                    os.fsync(f.fileno())
                    f.close()
                for temporary, path, _ in self.pairs:
                    os.replace(temporary, path)
                if os.name == "posix" and self.pairs:
                    folder = os.open(self.pairs[0][1].parent, os.O_RDONLY)
                    os.fsync(folder)
                    os.close(folder)
        finally:
            for temporary, _, f in self.pairs:
                try:
                    f.close()
                except OSError:
                    pass  # a full disk again; the error that counts is already on its way
                temporary.unlink(missing_ok=True)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def export_tokenizer(args):
    """SOURCE -> tokenizer.bin alone."""
    output, source = Path(args.output or "tokenizer.bin"), Path(args.source)
    try:
        raw = lone_tokenizer(source)
        with Outputs(args.overwrite) as outputs:
            outputs.open(output).write(raw)
    except OSError as e:
        where = printable(str(e.filename or args.source))
        raise ModelError(f"{where}: {e.strerror or e}; expected a tokenizer; check the path") from None
    known = run.Tokenizer(output)
    known.selftest()
    chat = "with a chat template" if known.chat else "no chat template"
    say(f"{printable(str(output))}: {known.n_vocab:,} tokens, {chat}, self-test passed")


def stored_types(source):
    return "/".join(sorted(set((getattr(source, "types", None) or {"": "q8_0"}).values())))


def export(args):
    """SOURCE -> model.bin (and tokenizer.bin), verified."""
    output = Path(args.output)
    beside = output.parent / "tokenizer.bin"
    if not output.parent.is_dir():
        raise ModelError(f"-o {printable(args.output)}: its folder does not exist; expected one that does; create it")
    if args.random:
        source, label = random_source(args.random, args.seed), args.random
    else:
        path, label = Path(args.source), printable(Path(args.source).name)
        inside = path.is_dir() and output.parent.resolve() == path.resolve() and output.name.endswith(".safetensors")
        if inside or (output.exists() and path.exists() and output.resolve() == path.resolve()):
            raise ModelError(f"-o {printable(args.output)}: is the source itself; expected another file; choose another -o")
        try:
            source = read_source(path, args.allow_pickle)
        except ModelError as e:
            raise ModelError(str(e) if str(e).startswith(str(path)) else f"{printable(args.source)}: {e}") from None
        except (OSError, *DAMAGED) as e:
            raise ModelError(f"{printable(args.source)}: cannot be read ({printable(str(e))[:100]}); is it whole?") from None
    say(f"{source.kind}, {label}: {source.config.n_layers} layers of {source.config.dim}")
    if args.type:
        source.types = None
    elif getattr(source, "notice", ""):
        say(source.notice)
    dtype = args.type or "q8_0"
    tokenizer = find_tokenizer(args, source) or b""
    c = source.config
    if tokenizer:
        known = run.Tokenizer(tokenizer)
        if known.n_vocab > c.vocab_size:
            sizes = f"the tokenizer has {known.n_vocab} tokens, the model {c.vocab_size}"
            raise ModelError(f"{sizes}; expected the model's own; choose with --tokenizer")
        c = replace(c, tokenizer_sha256=hashlib.sha256(tokenizer).digest())
        c = replace(c, flags=c.flags | FLAGS["tokenizer"]) if args.embed_tokenizer else c
    elif args.embed_tokenizer:
        raise ModelError("--embed-tokenizer: there is no tokenizer to embed; expected one; choose with --tokenizer FILE")
    made = f"{source.kind}, {label} as {args.type or stored_types(source)}"
    note = "; ".join(filter(None, (made, printable(getattr(source, "note", ""))[:4096])))
    embedded = tokenizer if args.embed_tokenizer else b""
    try:
        with Outputs(args.overwrite) as outputs:
            errors = write_model(outputs.open(output), source, c, dtype, embedded, note.encode("utf-8", "replace"))
            if tokenizer and not embedded and not (beside.exists() and beside.read_bytes() == tokenizer):
                outputs.open(beside).write(tokenizer)
    except OSError as e:
        where = f"{printable(args.output)}: cannot be written ({e.strerror or e})"
        raise ModelError(f"{where}; nothing was changed; free space or choose another -o") from None
    except DAMAGED as e:
        found = f"its tensors do not fit together ({printable(repr(e))[:80]})"
        raise ModelError(f"{printable(args.source or label)}: {found}; expected whole matrices; is it damaged?") from None
    model = run.open_model(output)
    run.verify(model)
    if args.verbose:
        for t in model.tensors.values():
            print(f"{t.name:24} {t.dtype:5} {' x '.join(map(str, t.shape)):>20} {t.nbytes:>14,}")
    if errors and dtype != "f32":
        say("relative rms error: " + ", ".join(f"{kind} {e:.2e}" for kind, e in errors.items()))
    say(f"{printable(args.output)}: {model.size:,} bytes, verified, id {model.model_id[:16]}")
    hint = ' -p "Once upon a time"' if tokenizer else " --info"
    say(f"next: python run.py {printable(args.output)}{hint}")


# -----------------------------------------------------------------------------
# command line

EXAMPLES = """\
examples:
  python export.py stories15M.bin --tokenizer tokenizer.model
  python export.py TinyLlama-1.1B/ -o tiny.bin --type q4_0 --embed-tokenizer
  python export.py --random 1.1B -o random.bin
"""


def main(argv=None):
    """Run the command line; -> exit code."""
    ap = run.Parser(
        prog="export.py",
        description="Turn a trained model into model.bin and tokenizer.bin, which run.py runs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    ap.add_argument("source", nargs="?", help="llama2.c .bin or .pt, our trainer's ckpt.pt, or a Hugging Face folder")
    ap.add_argument("-o", "--output", metavar="FILE", help="default model.bin")
    ap.add_argument("--type", choices=run.MATRIX_TYPES, help="of the matrices (default q8_0; of a GGUF, what it holds)")
    ap.add_argument("--tokenizer", metavar="FILE", help="or none; default: what lies in or beside the source")
    ap.add_argument("--tokenizer-only", action="store_true", help="write just tokenizer.bin, from any source or tokenizer file")
    ap.add_argument("--chat-template", metavar="FILE", help="Jinja; default: the source's")
    ap.add_argument("--embed-tokenizer", action="store_true", help="put the tokenizer into the model file")
    ap.add_argument("--allow-pickle", action="store_true", help="read pytorch_model.bin and .pth (without running their code)")
    ap.add_argument("--overwrite", action="store_true", help="replace an existing output")
    ap.add_argument("--random", choices=SHAPES, help="random weights of a Llama shape instead of a source, to measure speed")
    ap.add_argument("--seed", type=int, default=0, help="of --random (default 0)")
    ap.add_argument("-v", "--verbose", action="store_true", help="list the tensors")
    args = ap.parse_args(argv)
    np.seterr(all="ignore")  # what is not finite is refused in words
    if bool(args.source) == bool(args.random):
        ap.error("give one source: a checkpoint, a folder, or --random SHAPE")
    if args.tokenizer_only and args.random:
        ap.error("--random has no tokenizer; give a source with --tokenizer-only")
    if args.tokenizer_only and args.chat_template:
        ap.error("--chat-template goes into a whole export; leave out --tokenizer-only")
    try:
        if args.tokenizer_only:
            export_tokenizer(args)
        else:
            args.output = args.output or "model.bin"
            export(args)
    except ModelError as e:
        print(f"export.py: error: {e}", file=sys.stderr)
        return 1
    except MemoryError:
        text = f"{printable(args.source or args.random)}: takes more memory than there is; expected room for its largest matrix"
        print(f"export.py: error: {text}; close other programs", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.unraisablehook = run.come_again
    sys.exit(main())
