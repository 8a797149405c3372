"""GGUF files, as llama.cpp's converter writes them: logits of the original, blocks to the bit, tokenizer and template."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from families import KEPT, tokens, weights
from helpers.hub import CASES, LOGITS
from helpers.logits import closeness
from helpers.rooms import patch
from helpers.talks import CHATML, MARKS
from twins.weights import read_tensors
from twofile.export.families.rules import first_of
from twofile.export.families.table import FAMILIES
from twofile.export.main import main
from twofile.export.rope import rope_table
from twofile.export.sources.ggufparts import gguf_file
from twofile.export.tokenizers.splits import CASED_LETTERS, LISTED_PUNCTUATION
from twofile.model import Model
from twofile.modelfile import open_model
from twofile.tokenizer.tokenizer import Tokenizer

gguf = pytest.importorskip("gguf")
PARTS = {f"self_attn.{x}_proj": f"attn_{x}" for x in "qkv"} | {"self_attn.o_proj": "attn_output"}
PARTS |= {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm"}
PARTS |= {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "self_attn.qkv_proj": "attn_qkv"}
PARTS |= {"self_attn.query_layernorm": "attn_q_norm", "self_attn.key_layernorm": "attn_k_norm"}
PARTS["mlp.gate"] = PARTS["mlp.router"] = "ffn_gate_inp"
PARTS |= {"mlp.gate_up_proj": "ffn_up", "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm"}
TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
TOP |= {"lm_head.weight": "output.weight"}
FALCON = {"input_layernorm": "attn_norm", "ln_mlp": "attn_norm", "ln_attn": "attn_norm_2", "mlp.dense_h_to_4h": "ffn_up"}
FALCON |= {"mlp.dense_4h_to_h": "ffn_down", "self_attention.dense": "attn_output", "self_attention.query_key_value": "attn_qkv"}


def falcon(name):
    """The heads of q, then those of k, then those of v, which the original has group by group."""
    j, out = CASES[name]["config"], {}
    top = {"word_embeddings": "token_embd", "ln_f": "output_norm"}
    for theirs, array in weights(CASES[name]["tensors"]).items():
        _, *part, end = theirs.split(".")
        if part[0] in top:
            out[f"{top[part[0]]}.{end}"] = array
            continue
        if part[-1] == "query_key_value":
            groups = array.reshape(j["num_kv_heads"] if j["new_decoder_architecture"] else 1, -1, 8, array.shape[1])
            array = np.concatenate([x.reshape(-1, array.shape[1]) for x in (groups[:, :-2], groups[:, -2], groups[:, -1])])
        out[f"blk.{part[1]}.{FALCON['.'.join(part[2:])]}.{end}"] = array
    return out


def gpt_oss(layer, part, array):
    """-> [(name, array)]: gate and up apart, each expert's matrix as [rows, columns]."""
    at, bias = f"blk.{layer}.ffn_", part.endswith("_bias")
    end = "exps.bias" if bias else "exps.weight"
    turn = lambda x: np.ascontiguousarray(x if bias else x.swapaxes(1, 2))
    if "down" in part:
        return [(f"{at}down_{end}", turn(array))]
    return [(f"{at}gate_{end}", turn(array[..., ::2])), (f"{at}up_{end}", turn(array[..., 1::2]))]


HYBRIDS = {"lfm2": "LFM2", "qwen3_5_text": "QWEN35", "gemma4_text": "GEMMA4", "qwen3_next": "QWEN3NEXT"}
HYBRIDS["qwen3_5_moe_text"] = "QWEN35MOE"


def hybrid(name):
    """Of LFM2, Qwen3.5 and Gemma 4, as llama.cpp's conversion/ writes them."""
    j, out = CASES[name]["config"], {}
    arch = HYBRIDS[j["model_type"]]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch], j["num_hidden_layers"])
    keys, values, experts = j.get("linear_num_key_heads"), j.get("linear_num_value_heads"), {}
    for theirs, array in weights(CASES[name]["tensors"]).items():
        if theirs.endswith("A_log"):
            array = -np.exp(array)
        elif "QWEN3" in arch and theirs.endswith("norm.weight") and "linear_attn" not in theirs:
            array = array + 1
        if ".experts." in theirs:
            expert = int(theirs.split(".")[5])
            experts.setdefault(theirs.replace(f"experts.{expert}.", "experts."), {})[expert] = array
            continue
        if "in_proj_qkvz" in theirs:  # each key head's part of all four
            dk, dv = j["linear_key_head_dim"], j["linear_value_head_dim"] * values // keys
            parts = np.split(array.reshape(keys, -1, array.shape[1]), np.cumsum([dk, dk, dv]), axis=1)
            parts, at = [part.reshape(-1, array.shape[1]) for part in parts], f"blk.{theirs.split('.')[2]}.attn_"
            out |= {at + "qkv.weight": np.concatenate(parts[:3]), at + "gate.weight": parts[3]}
            continue
        if "linear_attn" in theirs and "linear_attn.norm" not in theirs and arch != "QWEN3NEXT":  # value heads in turns
            size = 1 if re.search("in_proj_[ab]|A_log|dt_bias", theirs) else j["linear_value_head_dim"]
            turned = np.arange(values * size).reshape(keys, -1, size).swapaxes(0, 1).reshape(-1)
            if "out_proj" in theirs:
                array = array[:, turned]
            else:
                first = len(array) - len(turned)
                array = np.concatenate((array[:first], array[first:][turned]))
        if "conv1d" in theirs or "conv.conv" in theirs:
            array = array[:, 0]
        theirs = theirs.replace("dt_bias", "dt_proj.bias") + (".weight" if theirs.endswith("layer_scalar") else "")
        out[names.get_name(theirs, try_suffixes=(".weight", ".bias"))] = np.ascontiguousarray(array)
    stacked = {name: np.stack([rows[e] for e in sorted(rows)]) for name, rows in experts.items()}
    return out | {names.get_name(name, try_suffixes=(".weight",)): rows for name, rows in stacked.items()}


def converted(name):
    """A case's weights under GGUF's names: rotary pairs side by side in q and k of llama, norms of Gemma plus one."""
    case = CASES[name]
    j, out = case["config"], {}
    if j["model_type"] == "falcon":
        return falcon(name)
    if j["model_type"] in HYBRIDS:
        return hybrid(name)
    kind = j["model_type"]
    after = "post_attention_norm" if kind in ("gemma3_text", "gpt_oss") else "ffn_norm"
    experts = {}
    for theirs, array in weights(case["tensors"]).items():
        if kind == "gpt_oss" and ".mlp.experts." in theirs:
            out |= gpt_oss(theirs.split(".")[2], theirs.split(".")[-1], array)
            continue
        if theirs.endswith("sinks"):
            out[f"blk.{theirs.split('.')[2]}.attn_sinks.weight"] = array
            continue
        if ".experts." in theirs:  # all of a layer in one tensor
            _, _, layer, *_, expert, part, _ = theirs.split(".")
            experts.setdefault(f"blk.{layer}.{PARTS['mlp.' + part]}_exps.weight", {})[int(expert)] = array
            continue
        if theirs in TOP:
            new = TOP[theirs]
        else:
            _, _, layer, *part, end = theirs.split(".")
            new = f"blk.{layer}.{ {**PARTS, 'post_attention_layernorm': after}['.'.join(part)] }.{end}"
        if kind in ("llama", "mistral", "ministral3") and (".attn_q." in new or ".attn_k." in new):
            heads = j["num_attention_heads"] if ".attn_q." in new else j["num_key_value_heads"]
            array = array.reshape(heads, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
        if "gemma" in kind and new.endswith("norm.weight"):
            array = array + 1
        out[new] = np.ascontiguousarray(array)
    return out | {name: np.stack([rows[e] for e in sorted(rows)]) for name, rows in experts.items()}


def write(path, arch, name, kinds=lambda name: "F32", extra=(), tokenizer=None, drop=None, **fields):
    """A GGUF of a case with metadata of its config; kinds: tensor name -> type of its matrix."""
    j = CASES[name]["config"]
    w = gguf.GGUFWriter(str(path), arch)
    w.add_context_length(j["max_position_embeddings"])
    w.add_embedding_length(j["hidden_size"])
    w.add_block_count(j["num_hidden_layers"])
    if "feed_forward_length" not in fields:
        w.add_feed_forward_length(j.get("intermediate_size") or j["ffn_hidden_size"])
    w.add_head_count(j["num_attention_heads"])
    if "attention__head_count_kv" not in fields:
        w.add_head_count_kv(j.get("num_key_value_heads") or j["num_kv_heads"])
    if "rms_norm_eps" in j or "norm_eps" in j:
        w.add_layer_norm_rms_eps(first_of(j, "rms_norm_eps", "norm_eps"))
    else:
        w.add_layer_norm_eps(first_of(j, "layer_norm_eps", "layer_norm_epsilon"))
    if j.get("head_dim") and "attention__key_length" not in fields:
        w.add_key_length(j["head_dim"])
    for key, value in fields.items():
        add = {float: w.add_float32, int: w.add_uint32, str: w.add_string, list: w.add_array}[type(value)]
        add(f"{arch}.{key.replace('__', '.')}", value)
    if tokenizer:
        tokenizer(w)
    for tensor, array in {**converted(name), **dict(extra)}.items():
        kind = gguf.GGMLQuantizationType[kinds(tensor) if array.ndim > 1 else "F32"]
        if tensor == drop:
            continue
        raw = array.astype(float) if kind.name == "F64" else gguf.quants.quantize(array, kind)
        w.add_tensor(tensor, raw, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


def exported(path, *options):
    out = path.with_suffix(".bin")
    assert main([str(path), "-o", str(out), *options]) == 0
    return out


GPT_OSS = dict(expert_count=5, expert_used_count=2, expert_feed_forward_length=64, attention__sliding_window=7)
YARN = dict(rope__scaling__type="yarn", rope__scaling__factor=4.0, rope__scaling__original_context_length=16)
GPT_OSS |= YARN
MINISTRAL3 = YARN | dict(attention__temperature_scale=0.3, rope__scaling__yarn_log_multiplier=1.0)
LFM2 = dict(attention__head_count_kv=[0, 2, 0, 0, 2], shortconv__l_cache=3, rope__freq_base=1e6, feed_forward_length=48)
QWEN35 = dict(ssm__conv_kernel=4, ssm__state_size=8, ssm__group_count=2, ssm__time_step_rank=4, ssm__inner_size=48)
QWEN35 |= dict(rope__dimension_count=4, attention__recurrent_layers=[True, True, False, True])
QWEN35MOE = dict(expert_count=6, expert_used_count=3, expert_feed_forward_length=24, feed_forward_length=56)
QWEN35MOE |= {**QWEN35, "ssm__time_step_rank": 2, "ssm__inner_size": 16, "attention__recurrent_layers": [True, False]}
QWEN3NEXT = {**QWEN35MOE, "ssm__time_step_rank": 4, "ssm__inner_size": 48}
GEMMA4 = dict(attention__key_length=16, attention__key_length_swa=8, attention__value_length_swa=8, attention__sliding_window=7)
GEMMA4 |= dict(attention__sliding_window_pattern=[True, True, False, True, False], attention__shared_kv_layers=2)
GEMMA4 |= dict(rope__freq_base=1e6, rope__freq_base_swa=1e4, rope__dimension_count=16, rope__dimension_count_swa=8)
GEMMA4 |= dict(feed_forward_length=[56, 56, 56, 112, 112], embedding_length_per_layer_input=16, final_logit_softcapping=3.0)
GEMMA4_31B = dict(GEMMA4, attention__key_length=12, rope__dimension_count=12, attention__head_count_kv=[2, 1, 2, 1])
GEMMA4_31B |= dict(attention__sliding_window_pattern=[True, False, True, False], attention__shared_kv_layers=0)
GEMMA4_31B |= dict(feed_forward_length=56, embedding_length_per_layer_input=0, final_logit_softcapping=0.0)


@pytest.mark.parametrize(
    "arch, name, fields",
    [
        ("llama", "llama", {}),
        ("llama", "llama3.1", dict(rope__freq_base=500000.0)),
        ("llama", "llama biases", {}),
        ("llama", "mistral nemo", {}),
        ("qwen2", "qwen2", {}),
        ("qwen3", "qwen3", {}),
        ("qwen3moe", "qwen3 moe", dict(expert_count=6, expert_used_count=3, expert_feed_forward_length=24)),
        ("gemma3", "gemma3", dict(rope__freq_base=1e6, attention__sliding_window=7)),
        ("phi3", "phi3", dict(attention__sliding_window=9)),
        ("command-r", "cohere", dict(logit_scale=0.3, rope__freq_base=500000.0)),
        ("cohere2", "cohere2", dict(logit_scale=0.3, attention__sliding_window=7)),
        ("chatglm", "glm", dict(rope__dimension_count=8)),
        ("falcon", "falcon 7b", dict(attention__head_count_kv=1)),
        ("falcon", "falcon 40b", {}),
        ("gpt-oss", "gpt-oss", GPT_OSS),
        ("mistral3", "ministral3", MINISTRAL3),
        ("hunyuan-dense", "hunyuan", dict(rope__freq_base=10000.0 * 1000 ** (16 / 14))),
        ("lfm2", "lfm2", LFM2),
        ("qwen35", "qwen3.5", QWEN35),
        ("qwen35moe", "qwen3.5 moe", QWEN35MOE),
        ("qwen3next", "qwen3 next", QWEN3NEXT),
        ("gemma4", "gemma4", GEMMA4),
        ("gemma4", "gemma4 31b", GEMMA4_31B),
    ],
)
def test_logits_are_those_of_the_original(arch, name, fields, tmp_path, monkeypatch):
    extra = {}
    if arch == "gpt-oss":  # the limit is in no metadata, and the case's is so low that it matters
        (family,) = [family for family in FAMILIES if family.gguf and family.gguf.arch == arch]
        lower = replace(family.gguf, numbers=lambda j: dict(act_alpha=1.702, act_limit=1.5))
        patch(monkeypatch, "FAMILIES", [replace(family, gguf=lower)])
    if name == "llama3.1":  # what llama.cpp's converter computes from rope_scaling
        scaling = CASES[name]["config"]["rope_parameters"]
        plain, stretched = rope_table(8, 500000.0), rope_table(8, 500000.0, scaling)
        extra["rope_freqs.weight"] = (plain / stretched)[0, 0]
    if arch == "gemma4":  # the share that turns
        half = fields["rope__dimension_count"] // 2
        extra["rope_freqs.weight"] = np.where(np.arange(half) < half // 4, 1, 1e30).astype(np.float32)
    path = write(tmp_path / "m.gguf", arch, name, extra=extra, **fields)
    model = Model(exported(path, "--type", "f32", "--tokenizer", "none"), verbose=False)
    rms, largest = closeness(model.logits(tokens())[KEPT], LOGITS[name].astype(float))
    assert rms <= 1e-5 and largest <= 1e-4


@pytest.mark.parametrize(
    "said, positions",
    [
        (dict(factor=4.0, original_context_length=64), 256),  # as a card tells
        (dict(factor=4.0, original_context_length=16), 64),
        (dict(factor=4.0), 256),
        (dict(factor=2.0, original_context_length=16), 64),
        (dict(factor=1e30), None),
    ],
)
def test_yarn_has_the_context_that_it_is_for(said, positions, tmp_path, capsys):
    fields = {f"rope__scaling__{key}": value for key, value in {"type": "yarn", **said}.items()}
    path = write(tmp_path / "m.gguf", "qwen2", "qwen2", **fields)
    if positions is None:
        assert main([str(path), "-o", str(tmp_path / "m.bin"), "--tokenizer", "none"]) == 1
        assert "max_ctx" in capsys.readouterr().err
        return
    model = open_model(exported(path, "--tokenizer", "none"))
    assert model.config.max_ctx == positions
    said = {"rope_type": "yarn", "original_max_position_embeddings": said.get("original_context_length", 64), **said}
    assert np.array_equal(read_tensors(path.with_suffix(".bin"))["rope"], rope_table(8, 10000.0, said))


@pytest.mark.parametrize("kind", ["I8", "I32", "I64", "Q8_1"])
def test_types_that_are_not_read_are_judged_where_they_are_used(kind, tmp_path, capsys):
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    raw = np.ones((72, 32 // block * size), np.uint8)

    def extra(w, name):
        w.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType[kind])

    path = write(tmp_path / "a.gguf", "qwen2", "qwen2", tokenizer=lambda w: extra(w, "masks"))
    out = str(tmp_path / "m.bin")
    assert main([str(path), "-o", out, "--tokenizer", "none"]) == (kind == "Q8_1")
    said = capsys.readouterr().err
    assert ("1 tensors are left out, which a GGUF of qwen2 does not read: masks" in said) == (kind != "Q8_1")
    path = write(
        tmp_path / "b.gguf", "qwen2", "qwen2", tokenizer=lambda w: extra(w, "token_embd.weight"), drop="token_embd.weight"
    )
    assert main([str(path), "-o", out, "--tokenizer", "none", "--overwrite"]) == 1
    said = f"b.gguf: tensor token_embd.weight has type {kind}; expected a type of which the package gguf makes numbers; take"
    assert said in capsys.readouterr().err


def test_numbers_of_64_bits(tmp_path):
    path = write(tmp_path / "a.gguf", "qwen2", "qwen2", lambda name: "F32" if "embd" not in name else "F64")
    plain = write(tmp_path / "b.gguf", "qwen2", "qwen2")
    assert np.array_equal(*(read_tensors(exported(p, "--tokenizer", "none"))["embed"] for p in (path, plain)))


def dequantised(path):
    """{tensor: float64} of a GGUF by the gguf package."""
    rows = gguf.GGUFReader(str(path)).tensors
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(float) for t in rows}


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0"])
def test_types_we_have_are_kept_to_the_bit(kind, tmp_path):

    path = write(tmp_path / "m.gguf", "qwen3", "qwen3", lambda name: kind if "down" not in name else "F16")
    ours, theirs = read_tensors(exported(path, "--tokenizer", "none")), dequantised(path)
    assert open_model(path.with_suffix(".bin")).tensors["l0.qkv"].dtype == kind.lower()
    for i in range(4):
        qkv = np.concatenate([theirs[f"blk.{i}.attn_{x}.weight"] for x in "qkv"])
        assert np.array_equal(ours[f"l{i}.qkv"], qkv)
        assert np.array_equal(ours[f"l{i}.down"], theirs[f"blk.{i}.ffn_down.weight"])
    assert np.array_equal(ours["embed"], theirs["token_embd.weight"])


def test_experts_are_kept_to_the_bit(tmp_path):

    fields = dict(expert_count=6, expert_used_count=3, expert_feed_forward_length=24)
    kinds = lambda name: "F16" if "ffn_down" in name or "output" in name else "Q8_0"
    path = write(tmp_path / "m.gguf", "qwen3moe", "qwen3 moe", kinds, **fields)
    ours, theirs = read_tensors(exported(path, "--tokenizer", "none")), dequantised(path)
    types = {name: t.dtype for name, t in open_model(path.with_suffix(".bin")).tensors.items()}
    assert (types["l0.experts_up"], types["l0.experts_down"], types["l0.router"]) == ("q8_0", "f16", "f32")
    for i in range(4):
        gate, up = (theirs[f"blk.{i}.ffn_{x}_exps.weight"].reshape(6, 24, 32) for x in ("gate", "up"))
        assert np.array_equal(ours[f"l{i}.experts_up"].reshape(6, 48, 32), np.concatenate((gate, up), 1))
        assert np.array_equal(ours[f"l{i}.experts_down"], theirs[f"blk.{i}.ffn_down_exps.weight"].reshape(-1, 24))


def test_experts_in_mxfp4_become_q8_0(tmp_path, capsys):
    """As gpt-oss is spread: the experts in MXFP4, whose values q8_0 has within a 250th of the largest."""

    kinds = lambda name: "MXFP4" if "_exps.weight" in name else "F32"
    path = write(tmp_path / "m.gguf", "gpt-oss", "gpt-oss", kinds, **GPT_OSS)
    ours, theirs = read_tensors(exported(path, "--tokenizer", "none")), dequantised(path)
    assert "MXFP4 become q8_0" in capsys.readouterr().err
    gate, up, down = (theirs[f"blk.1.ffn_{part}_exps.weight"] for part in ("gate", "up", "down"))
    for name, want in (("up", np.concatenate([gate, up], 1)), ("down", down)):
        want = want.reshape(-1, want.shape[-1])
        assert np.abs(ours[f"l1.experts_{name}"] - want).max() <= np.abs(want).max() / 250
    bias = np.concatenate([theirs[f"blk.1.ffn_{part}_exps.bias"] for part in ("gate", "up")], 1)
    assert np.array_equal(ours["l1.experts_up.b"], bias.reshape(-1))


def vocabulary(w):
    """A byte-level BPE with control tokens and a template, as the converter stores it."""
    T = pytest.importorskip("tokenizers")
    whole = T.Tokenizer(T.models.BPE(ignore_merges=True))
    whole.pre_tokenizer = T.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = T.pre_tokenizers.ByteLevel.alphabet()
    trainer = T.trainers.BpeTrainer(vocab_size=300, special_tokens=MARKS, initial_alphabet=alphabet, show_progress=False)
    whole.train_from_iterator(["the fox and the shoe were there, why is it so? 1234"] * 30, trainer)
    j = json.loads(whole.to_str())
    ordered = sorted(whole.get_vocab().items(), key=lambda row: row[1])
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list([text for text, _ in ordered])
    w.add_token_types([3 if text in MARKS else 1 for text, _ in ordered])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in j["model"]["merges"]])
    w.add_bos_token_id(2)
    w.add_eos_token_id(3)
    w.add_chat_template(CHATML)
    vocabulary.whole = whole


def test_tokenizer_and_template_come_from_the_file(tmp_path):
    path = tmp_path / "v.gguf"
    with pytest.raises(AssertionError):  # more tokens than the model has rows
        exported(write(path, "qwen3", "qwen3", tokenizer=vocabulary))
    w = gguf.GGUFWriter(str(path), "qwen3")
    vocabulary(w)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    assert main([str(path), "--tokenizer-only", "-o", str(tmp_path / "t.bin")]) == 0
    t = Tokenizer(tmp_path / "t.bin")
    t.selftest()
    for text in ("the fox", "  why? 77 é\n\n", "<|im_end|>x", "there were shoes"):
        plain = vocabulary.whole.encode(text, add_special_tokens=False).ids
        assert t.encode(text, add_bos=False) == plain or "<|" in text
    assert t.chat and {t.name(i) for i in t.stops} == {"</s>", "<|im_end|>"}
    ids = t.encode_chat([{"role": "user", "content": "why"}])
    assert t.name(ids[0]) == "<|im_start|>" and t.decode(ids).endswith("assistant\n")


def test_the_tokenizer_of_gemma_4(tmp_path):
    """Merges of whole characters, a space as one of them, bytes to fall back on: as the engine does it."""
    T = pytest.importorskip("tokenizers")
    model = T.models.BPE(byte_fallback=True, unk_token="<unk>")
    whole = T.Tokenizer(model)
    whole.normalizer = T.normalizers.Replace(" ", "\u2581")
    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<turn|>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = T.trainers.BpeTrainer(vocab_size=400, special_tokens=marks, show_progress=False)
    whole.train_from_iterator(["the fox and the shoe were there,\n\n\nwhy is it so? 1234", "  the  fox"] * 30, trainer)
    j = json.loads(whole.to_str())
    j["model"]["byte_fallback"], j["added_tokens"] = True, [t for t in j["added_tokens"] if "0x" not in t["content"]]
    whole = T.Tokenizer.from_str(json.dumps(j))
    ordered = sorted(j["model"]["vocab"].items(), key=lambda row: row[1])
    w = gguf.GGUFWriter(str(tmp_path / "v.gguf"), "gemma4")
    w.add_tokenizer_model("gemma4")
    w.add_token_list([text for text, _ in ordered])
    w.add_token_types([6 if text.startswith("<0x") else 3 if text in marks else 1 for text, _ in ordered])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in j["model"]["merges"]])
    w.add_bos_token_id(2)
    w.add_eos_token_id(1)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    assert main([str(tmp_path / "v.gguf"), "--tokenizer-only", "-o", str(tmp_path / "t.bin")]) == 0
    t = Tokenizer(tmp_path / "t.bin")
    for text in ("the fox", "  why? 77 \u00e9\n\n\n\n", "the  the\n\nshoe", "\u2581x \U0001f600"):
        assert t.encode(text, add_bos=False) == whole.encode(text, add_special_tokens=False).ids, text
        assert t.encode(text)[0] == 2
    assert {t.name(i) for i in t.stops} == {"<eos>", "<turn|>"}


@pytest.mark.parametrize(
    "harm, says",
    [
        (lambda raw: raw[:200], "not a whole GGUF|cannot be read"),
        (lambda raw: raw[:-5000], "not a whole GGUF"),
        (lambda raw: raw[:4] + b"\x09\0\0\0" + raw[8:], "not a whole GGUF"),
        (lambda raw: raw[:8] + b"\xff" * 8 + raw[16:], "not a whole GGUF"),
        (lambda raw: raw.replace(b"qwen3", b"mamba"), "architecture 'mamba' is not supported; known: llama"),
        (lambda raw: raw.replace(b"qwen3.embedding_length", b"qwen3.embedding_lengtX"), "embedding_length"),
        (lambda raw: raw.replace(b"blk.0.attn_q.weight", b"blk.0.attn_X.weight"), "attn_q.weight is missing"),
    ],
)
def test_damaged_files_are_refused(harm, says, tmp_path, capsys):
    path = write(tmp_path / "m.gguf", "qwen3", "qwen3")
    path.write_bytes(harm(path.read_bytes()))
    assert main([str(path), "-o", str(tmp_path / "x.bin"), "--tokenizer", "none"]) == 1
    err = capsys.readouterr().err
    assert re.search(says, err) and "Traceback" not in err and not (tmp_path / "x.bin").exists()


def test_our_reader_finds_what_the_packages_finds(tmp_path):
    """Names, values, shapes, types and bytes; ours is bounded, theirs is not."""
    path = write(tmp_path / "m.gguf", "qwen3", "qwen3", lambda name: "F16" if "down" in name else "Q8_0")
    fields, tensors = gguf_file(path)
    reader = gguf.GGUFReader(str(path))
    assert fields == {k: v.contents() for k, v in reader.fields.items() if not k.startswith("GGUF.")}
    for (name, shape, kind, data), theirs in zip(tensors, reader.tensors, strict=True):
        assert (name, list(shape), kind) == (theirs.name, theirs.shape.tolist()[::-1], theirs.tensor_type)
        assert bytes(data) == theirs.data.tobytes()


@pytest.mark.parametrize("name", ["falcon", "deepseek-llm", "deepseek-coder"])
def test_tokenizers_of_several_steps(name, tmp_path):
    """Falcon: punctuation apart, digits by three, cut among bytes; DeepSeek: sets that overlap, digits one by one. The ids of
    the engine, from tokenizer.json and from GGUF alike."""
    T = pytest.importorskip("tokenizers")
    P = T.pre_tokenizers
    whole, split = T.Tokenizer(T.models.BPE()), lambda pattern: P.Split(T.Regex(pattern), "isolated")
    if name == "falcon":
        steps = [P.Punctuation("contiguous"), P.ByteLevel(False), P.Digits(False), split("[0-9][0-9][0-9]")]
    else:
        sets = (f"[{CASED_LETTERS}]", LISTED_PUNCTUATION) if name == "deepseek-llm" else (r"\p{L}", r"\p{P}")
        steps = [split("[\r\n]"), *(split(rf"\s?{s}+") for s in sets), *[split(r"\s+$")] * (name == "deepseek-llm")]
        steps += [split("[一-龥ࠀ-一가-\ud7ff]+"), P.Digits(True), P.ByteLevel(False, use_regex=False)]
    whole.pre_tokenizer = P.Sequence(steps)
    whole.decoder = T.decoders.ByteLevel()
    texts = ["the fox, però! 1234567 apples.", "x² + y³ = 10000; ½ più ¼", "don't... it's 2026, «déjà» òò ٣٤"] * 20
    special = ["<|endoftext|>"]
    trainer = T.trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=P.ByteLevel.alphabet())
    whole.train_from_iterator(texts, trainer)
    (tmp_path / "tokenizer.json").write_text(whole.to_str())
    j, names = json.loads(whole.to_str()), sorted(whole.get_vocab(), key=whole.get_vocab().get)
    w = gguf.GGUFWriter(str(tmp_path / "v.gguf"), "falcon" if name == "falcon" else "llama")
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(name)
    w.add_token_list(names)
    w.add_token_types([3 if name in special else 1 for name in names])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in j["model"]["merges"]])
    w.add_eos_token_id(0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    rng = np.random.default_rng(0)
    bits = [*"the fox però ò²³¹½¼ 0123456789 ,.!'$+<=>^`|~ «»٣ \n\t漢é", "123", "'s", " the", "  "]
    for source in ("tokenizer.json", "v.gguf"):
        out = tmp_path / f"{source}.bin"
        assert main([str(tmp_path / source), "--tokenizer-only", "-o", str(out)]) == 0
        t = Tokenizer(out)
        t.selftest()
        for _ in range(1500):
            text = "".join(rng.choice(bits, rng.integers(1, 14)))
            assert t.encode(text, add_bos=False) == whole.encode(text, add_special_tokens=False).ids, text
            assert t.decode(t.encode(text, add_bos=False)) == text
