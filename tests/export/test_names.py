"""Folders whoever saved them: buffers that nobody reads, names with more or less before them, keys of other classes."""

import json
import re

import numpy as np
import pytest

from families import weights
from helpers.checkpoints import torch_file
from helpers.hub import CASES, write_folder
from twofile.export.main import main

F8 = np.dtype([("F8_E4M3", "u1")])  # what write_folder takes for a type that numpy has not
MASK = np.tril(np.ones((1, 1, 64, 64), bool))


def arrays_of(name):
    """As in files: without the rows of logits where they are the embedding's."""
    return weights(CASES[name]["tensors"])


def exported(tmp_path, name, arrays=None, place="other", **config):
    """-> exit code, the bytes of the model file that a case with these arrays and settings gives. None: not there."""
    case = {"config": {**CASES[name]["config"], **config}, "tensors": {}}
    case["config"] = {key: value for key, value in case["config"].items() if value is not Ellipsis}
    (tmp_path / place).mkdir()
    folder = write_folder(tmp_path / place / "hf", case, more=arrays_of(name) if arrays is None else arrays)
    return converted(folder)


def converted(folder, *flags):
    out = folder.parent / "m.bin"
    code = main([str(folder), "-o", str(out), "--type", "f32", "--tokenizer", "none", *flags])
    return code, out.read_bytes() if out.exists() else None


def check_same(tmp_path, name, arrays=None, **config):
    assert exported(tmp_path, name, arrays, **config) == exported(tmp_path, name, place="plain")


def check_refused(tmp_path, capsys, says, name, arrays=None, **config):
    code, raw = exported(tmp_path, name, arrays, **config)
    err = capsys.readouterr().err.strip().splitlines()
    assert code == 1 and raw is None and err[-1].startswith("export.py: error: ") and "Traceback" not in str(err)
    assert re.search(says, err[-1]), err[-1]
    assert err[-1].count(";") >= 1


AT = "model.layers.0.self_attn."
BUFFERS = {
    "llama": {
        AT + "rotary_emb.inv_freq": np.ones(8),
        AT + "rotary_emb.cos_cached": np.ones((1, 1, 8, 8), np.float32),
        AT + "rotary_emb.sin_cached": np.ones((1, 1, 8, 8), np.float16),
        "model.rotary_emb.original_inv_freq": np.ones(8, np.int64),
        "model.rotary_emb.long_inv_freq": np.ones(4, F8),
        AT + "rotary_emb.on": np.ones((), bool),
        "model.position_ids": np.arange(64)[None],
        AT + "k_scale": np.ones((), np.float32),
        AT + "v_scale": np.ones(1, F8),
        "v_head.summary.weight": np.ones((1, 32), np.float32),
        "v_head.summary.bias": np.ones(1, np.float32),
        AT + "seen": np.ones((3, 3), bool),
        **{f"model.counts.{kind}": np.ones(3, kind) for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")},
    },
    "gpt2": {"transformer.h.0.attn.bias": MASK, "transformer.h.1.attn.bias": MASK.astype(np.uint8)}
    | {"transformer.h.2.attn.bias": MASK.astype(np.float32), "transformer.h.0.attn.masked_bias": np.array(-1e4, np.float32)},
    "pythia": {"gpt_neox.layers.0.attention.bias": MASK, "gpt_neox.layers.0.attention.masked_bias": np.array(-1e9)}
    | {"gpt_neox.layers.0.attention.rotary_emb.inv_freq": np.ones(2, np.float16)},
    "gpt-j": {"transformer.h.0.attn.bias": MASK, "transformer.h.0.attn.masked_bias": np.array(-1e4, np.float16)},
    "gpt-neo": {"transformer.h.0.attn.attention.bias": MASK, "transformer.h.1.attn.attention.masked_bias": np.array(-1e9)},
    "opt": {"model.decoder.embed_positions.position_ids": np.arange(64)},
}


@pytest.mark.parametrize("name", BUFFERS)
def test_buffers_that_nobody_reads_may_be_of_any_type(name, tmp_path):
    check_same(tmp_path, name, {**arrays_of(name), **BUFFERS[name]})


def test_what_is_left_out_is_said(tmp_path, capsys):
    assert exported(tmp_path, "llama", {**arrays_of("llama"), **BUFFERS["llama"]})[0] == 0
    err = capsys.readouterr().err
    assert "13 tensors are left out, which a Llama does not read: " in err and "rotary" not in err


@pytest.mark.parametrize(
    "dtype, says", [(bool, "BOOL"), (np.int64, "I64"), (np.int8, "I8"), (np.uint16, "U16"), (F8, "F8_E4M3")]
)
@pytest.mark.parametrize("tensor", ["model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_a_type_that_is_not_read_is_refused_where_it_is_used(tensor, dtype, says, tmp_path, capsys):
    arrays = arrays_of("llama")
    arrays[tensor] = np.ones(arrays[tensor].shape, dtype)
    says = f"model.safetensors: tensor {tensor} has type {says}; expected F32, F16, BF16 or F64; save"
    check_refused(tmp_path, capsys, says, "llama", arrays)


def test_bytes_are_no_numbers(tmp_path, capsys):
    """As bitsandbytes keeps matrices of 8 bits, of the shape that they had."""
    arrays = arrays_of("llama")
    arrays[AT + "q_proj.weight"] = np.ones(arrays[AT + "q_proj.weight"].shape, np.uint8)
    check_refused(tmp_path, capsys, "q_proj.weight has type uint8; expected F32", "llama", arrays)


def test_numbers_of_64_bits(tmp_path):
    check_same(tmp_path, "llama", {name: array.astype(np.float64) for name, array in arrays_of("llama").items()})


def test_numbers_too_large_for_32_bits_are_refused(tmp_path, capsys):
    arrays = arrays_of("llama")
    arrays["model.norm.weight"] = np.full(32, 1e300)
    check_refused(tmp_path, capsys, "out_norm.w", "llama", arrays)


AROUND = {
    "module.": lambda name: "module." + name,
    "_orig_mod.": lambda name: "_orig_mod." + name,
    "base_model.model.": lambda name: "base_model.model." + name,
    "all of them": lambda name: "module._orig_mod.base_model.model." + name,
    "twice": lambda name: "module.module." + name,
    "inside": lambda name: name.replace("model.layers.1.", "model.layers.1._fsdp_wrapped_module.").replace(
        "mlp.", "_orig_mod.mlp."
    ),
    "of a trainer": lambda name: "pretrained_model." + name,
    "of another wrapper": lambda name: "model." + name,
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", ["llama", "llama3.1", "gpt2", "opt", "falcon 7b"])
def test_what_programs_put_before_names(name, around, tmp_path):
    check_same(tmp_path, name, {AROUND[around](key): array for key, array in arrays_of(name).items()})


BASES = {"llama3.1": "LlamaModel", "gpt2": "GPT2Model", "opt": "OPTModel", "falcon 7b": "FalconModel", "gpt-neo": "GPTNeoModel"}
BASES |= {"gemma2": "Gemma2Model", "gemma3": "Gemma3TextModel", "cohere": "CohereModel", "starcoder2": "Starcoder2Model"}


@pytest.mark.parametrize("before", ["", "module.", "base_model.model._orig_mod."])
@pytest.mark.parametrize("name", BASES)
def test_a_base_model_whose_output_is_its_embedding(name, before, tmp_path):
    first = next(key for key in arrays_of(name) if "embed" in key or "wte" in key).partition(".")[0] + "."
    arrays = {before + key.removeprefix(first): array for key, array in arrays_of(name).items()}
    check_same(tmp_path, name, arrays, architectures=[BASES[name]], tie_word_embeddings=True)


@pytest.mark.parametrize("name, label", [("llama", "LlamaModel"), ("pythia", "GPTNeoXModel"), ("mistral", "MistralModel")])
def test_a_base_model_without_an_output_is_refused(name, label, tmp_path, capsys):
    head = "embed_out.weight" if name == "pythia" else "lm_head.weight"
    arrays = {key.partition(".")[2]: array for key, array in arrays_of(name).items() if key != head}
    for said in (False, ...):  # also where config.json says nothing of it
        (tmp_path / str(said)).mkdir()
        says = f"tensor {head} is missing, and config.json does not tie it to .*; is this its base model alone"
        check_refused(tmp_path / str(said), capsys, says, name, arrays, architectures=[label], tie_word_embeddings=said)


def test_an_output_of_its_own_beside_a_base_model(tmp_path):
    arrays = {key if "lm_head" in key else key.removeprefix("model."): array for key, array in arrays_of("llama").items()}
    check_same(tmp_path, "llama", arrays)


def test_tied_by_config_but_two_matrices(tmp_path, capsys):
    """transformers 5 keeps both."""
    arrays = arrays_of("llama")
    one, two = exported(tmp_path, "llama", arrays, tie_word_embeddings=True), exported(tmp_path, "llama", place="plain")
    assert (
        one == two
        and "config.json ties lm_head.weight to model.embed_tokens.weight, but they differ" in capsys.readouterr().err
    )
    arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"].astype(np.float64)
    same = exported(tmp_path, "llama", arrays, place="same", tie_word_embeddings=True)[1]
    alone = {name: array for name, array in arrays.items() if name != "model.embed_tokens.weight"}
    assert same == exported(tmp_path, "llama", alone, place="alone", tie_word_embeddings=True)[1] and len(same) < len(two[1])


@pytest.mark.parametrize(
    "label, kind",
    [
        ("LLaMAForCausalLM", "llama"),
        ("LLaMaForCausalLM", "llama"),
        ("llamaforcausallm", None),
        ("Llama", None),
        ("FSDPLlamaForCausalLM", "llama"),
        ("PeftModelForCausalLM", "llama"),
        ("AutoModelForCausalLMWithValueHead", "llama"),
    ],
)
def test_a_class_by_its_neighbours_names(label, kind, tmp_path):
    check_same(tmp_path, "llama", architectures=[label], model_type=kind or "llama")


@pytest.mark.parametrize(
    "label, more",
    [
        ("LlamaForSequenceClassification", {}),
        ("FSDPLlamaForCausalLM", {"model_type": "llava"}),
        ("OtherForCausalLM", {"auto_map": {"AutoModelForCausalLM": "other.OtherForCausalLM"}}),
        ("XLlama", {}),
    ],
)
def test_other_classes_are_refused(label, more, tmp_path, capsys):
    check_refused(
        tmp_path, capsys, f"architecture '{label}' is not supported; known: Llama", "llama", architectures=[label], **more
    )


OTHERS = dict(attention_bias=True, mlp_bias=True, use_bias=True, qkv_bias=False, alibi=True, clip_qkv=8.0, use_qk_norm=True)
OTHERS |= dict(qk_layernorm=True, rotary_dim=2, partial_rotary_factor=0.5, rotary_pct=0.5, _remove_final_layer_norm=True)
TYPES = dict(layer_types=["sliding_attention"] * 4, sliding_window=3)
IGNORED = {  # case: keys of config.json that its class does not read
    "qwen2": {**OTHERS, "attention_bias": False},
    "mistral nemo": OTHERS,
    "phi3": {**OTHERS, **dict.fromkeys(("partial_rotary_factor", "rotary_pct"), 1.0), "layer_types": ["full_attention"] * 4},
    "mixtral": {**OTHERS, "layer_types": ["sliding_attention"] * 4, "moe_intermediate_size": 8},
    "llama": {key: v for key, v in OTHERS.items() if key not in ("attention_bias", "mlp_bias")} | TYPES,
    "granite": {key: v for key, v in OTHERS.items() if key not in ("attention_bias", "mlp_bias")} | TYPES,
    "qwen3": {key: v for key, v in OTHERS.items() if key != "attention_bias"},
    "hunyuan": {"use_qk_norm": True, "use_cla": False, "mlp_bias": True},
    "pythia": dict(num_key_value_heads=1, head_dim=4, rotary_dim=2, mlp_bias=False, rope_theta=77.0),
    "gpt2": dict(num_key_value_heads=1, head_dim=4, intermediate_size=7, hidden_act="silu", max_position_embeddings=999),
    "gpt-j": dict(num_key_value_heads=1, head_dim=4, intermediate_size=7, hidden_act="silu", rope_scaling={"type": "su"}),
    "gpt-neo": dict(num_key_value_heads=1, head_dim=4, hidden_act="silu"),
    "opt": dict(num_key_value_heads=1, head_dim=4, hidden_act="silu", attention_bias=False, mlp_bias=False),
    "falcon 40b": dict(num_key_value_heads=1, head_dim=4, intermediate_size=7, use_bias=True),
    "phi": dict(attention_bias=False, mlp_bias=False, use_qk_norm=True),
    "stablelm": dict(head_dim=4, attention_bias=True, use_qk_norm=True),
    "starcoder2": dict(attention_bias=False, mlp_bias=False, qk_layernorm=True),
    "gpt-oss": dict(moe_intermediate_size=8, mlp_bias=True),
    "olmoe": dict(moe_intermediate_size=8, mlp_bias=True),
}


@pytest.mark.parametrize("name", IGNORED)
def test_keys_that_a_class_does_not_read(name, tmp_path):
    check_same(tmp_path, name, **IGNORED[name])


@pytest.mark.parametrize(
    "name, key, value",
    [
        ("phi", "qk_layernorm", True),
        ("stablelm", "qk_layernorm", True),
        ("cohere", "use_qk_norm", True),
        ("olmo", "clip_qkv", 8.0),
        ("olmoe", "clip_qkv", 8.0),
        ("falcon 7b", "alibi", True),
        ("opt", "_remove_final_layer_norm", True),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("gpt2", "scale_attn_weights", False),
        ("gemma3", "use_bidirectional_attention", True),
    ],
)
def test_keys_that_a_class_reads_and_we_do_not_run(name, key, value, tmp_path, capsys):
    check_refused(tmp_path, capsys, f"config.json: {key} {value}".lower() + "|" + f"{key} {value}", name, **{key: value})


ACTS = {"gpt2": "activation_function", "gpt-j": "activation_function", "gpt-neo": "activation_function", "phi": "hidden_act"}
ACTS |= {"pythia": "hidden_act", "opt": "activation_function", "starcoder2": "hidden_act", "nemotron": "hidden_act"}
ACTS |= {"arcee": "hidden_act", "nanochat": "hidden_act", "gemma2": "hidden_activation", "gemma3": "hidden_activation"}


@pytest.mark.parametrize("name", ACTS)
def test_an_activation_that_goes_without_saying(name, tmp_path):
    check_same(tmp_path, name, **{ACTS[name]: ...})


ZEROS = {
    "llama": ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj", "input_layernorm"),
    "mistral": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "qwen2": ("self_attn.o_proj", "mlp.gate_proj"),
    "cohere": ("input_layernorm", "self_attn.v_proj"),
    "glm4": ("self_attn.o_proj",),
    "qwen3": ("self_attn.q_norm",),
}


@pytest.mark.parametrize("name", ZEROS)
def test_biases_of_zeros_are_dropped_and_others_refused(name, tmp_path, capsys):
    arrays = arrays_of(name)
    for part in ZEROS[name]:
        for i in range(4):
            at = f"model.layers.{i}.{part}."
            arrays[at + "bias"] = np.zeros(len(arrays[at + "weight"]), np.float32)
    arrays |= {"lm_head.bias": np.zeros(72, np.float32), "model.norm.bias": np.zeros(32, np.float32)}
    check_same(tmp_path, name, arrays)
    assert f"{4 * len(ZEROS[name]) + 2} tensors are left out" in capsys.readouterr().err
    for n, bias in enumerate([f"model.layers.2.{ZEROS[name][0]}.bias", "model.norm.bias", "lm_head.bias"]):
        other = {**arrays, bias: arrays[bias] + np.float32(1e-6)}
        (tmp_path / str(n)).mkdir()
        says = f"{re.escape(bias)} is a bias that is not zero; expected none in this class|not used: {re.escape(bias)}"
        check_refused(tmp_path / str(n), capsys, says, name, other)


def test_biases_that_config_promises(tmp_path, capsys):
    says = "q_proj.bias is missing; expected it by what config.json says of biases"
    check_refused(tmp_path, capsys, says, "qwen3", attention_bias=True)


def test_no_token_that_ends_a_text(tmp_path):
    """An empty list of them says the same as none."""
    empty, none = (exported(tmp_path, "llama", place=str(said), eos_token_id=said) for said in ([], None))
    assert empty[0] == 0 and empty == none


def test_an_adapter_is_not_merged_here(tmp_path, capsys):
    arrays = arrays_of("llama")
    arrays |= {AT + f"q_proj.lora_{x}.weight": np.ones((2, 32), np.float32) for x in "AB"}
    check_refused(
        tmp_path, capsys, "2 tensors of an adapter: .*lora_A.weight; expected a model alone; merge it", "llama", arrays
    )
    arrays = {key.replace("q_proj.", "q_proj.base_layer."): array for key, array in arrays_of("llama").items()}
    (tmp_path / "2").mkdir()
    check_refused(tmp_path / "2", capsys, "4 tensors of an adapter: .*base_layer", "llama", arrays)


@pytest.mark.parametrize(
    "file, says",
    [
        ("adapter_config.json", "an adapter alone, without the model that it is for; expected a model; merge"),
        ("m-00001-of-00002.gguf", "no config.json, but m-00001-of-00002.gguf; expected a Hugging Face folder; give that file"),
        ("README.md", "config.json: not found"),
    ],
)
def test_folders_of_something_else(file, says, tmp_path, capsys):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / file).write_text("{}")
    assert converted(tmp_path / "hf") == (1, None)
    assert says in capsys.readouterr().err


def test_quantised_matrices_under_other_names(tmp_path, capsys):
    """As AutoGPTQ left them, which says so in a file of its own."""
    arrays = arrays_of("llama")
    for key in [key for key in arrays if key.endswith("_proj.weight")]:
        arrays[key.removesuffix("weight") + "qweight"] = arrays.pop(key).astype(np.int32)
    says = "q_proj.weight is missing, but there is .*q_proj.qweight; expected F32.*not quantised"
    check_refused(tmp_path, capsys, says, "llama", arrays)


def test_two_names_that_become_one(tmp_path, capsys):
    arrays = arrays_of("llama")
    arrays["module.model.norm.weight"] = arrays["model.norm.weight"]
    check_refused(tmp_path, capsys, "model.norm.weight stands twice, once under a longer name; expected", "llama", arrays)


def test_a_whole_file_counts_more_than_an_index(tmp_path):
    case = CASES["llama"]
    for place, index in (("a", None), ("b", {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}), ("c", {})):
        (tmp_path / place).mkdir()
        folder = write_folder(tmp_path / place / "hf", case)
        if index is not None:
            (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        assert converted(folder) == (0, (tmp_path / "a" / "m.bin").read_bytes())


def test_pytorch_model_bin_with_buffers(tmp_path, capsys):
    made = {**arrays_of("llama"), AT + "seen": np.ones((2, 2), bool), "model.position_ids": np.arange(9)}
    made |= {AT + "rotary_emb.inv_freq": np.ones(4), "model.freqs_cis": np.ones(4, np.uint8)}
    found = []
    for place, arrays in (("a", made), ("b", {"module." + k: v for k, v in made.items()}), ("c", arrays_of("llama"))):
        (tmp_path / place).mkdir()
        folder = write_folder(tmp_path / place / "hf", {"config": CASES["llama"]["config"], "tensors": {}})
        (folder / "model.safetensors").unlink()
        torch_file(folder / "pytorch_model.bin", arrays, bare=True)
        found.append(converted(folder, "--allow-pickle"))
    assert found[0] == found[1] == found[2] and found[0][0] == 0
    torch_file(folder / "pytorch_model.bin", {**made, "model.norm.weight": np.ones(32, np.int64)}, bare=True)
    assert converted(folder, "--allow-pickle", "--overwrite")[0] == 1
    said = "pytorch_model.bin: tensor model.norm.weight has type int64; expected F32, F16, BF16 or F64"
    assert said in capsys.readouterr().err


def test_the_text_part_of_a_base_model_that_sees_pictures(tmp_path):
    text = {key: value for key, value in CASES["gemma3"]["config"].items() if key != "architectures"}
    both = {"architectures": ["Gemma3Model"], "model_type": "gemma3", "text_config": text, "vision_config": {}}
    arrays = {key.replace("model.", "language_model.", 1): array for key, array in arrays_of("gemma3").items()}
    arrays["vision_tower.x.weight"] = np.ones((3, 3), np.float32)
    (tmp_path / "other").mkdir()
    folder = write_folder(tmp_path / "other" / "hf", {"config": both, "tensors": {}}, more=arrays)
    assert converted(folder) == exported(tmp_path, "gemma3", place="plain")
