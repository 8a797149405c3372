"""Every architecture that export.py knows, against transformers' logits of a tiny model (made by make_families.py)."""

import json

import numpy as np
import pytest

from families import tokens, weights
from helpers.hub import CASES, check, write_folder
from twofile.export.families.table import FAMILIES
from twofile.export.main import main
from twofile.model import Model
from twofile.modelfile import open_model


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_transformers(name, tmp_path):
    check(name, CASES[name], tmp_path)


@pytest.mark.parametrize("kind", ["f32", "q4_0"])
@pytest.mark.parametrize("name", ["lfm2", "qwen3.5", "qwen3.5 moe", "qwen3 next", "gemma4", "gemma4 31b"])
def test_one_token_at_a_time_gives_the_same_bits(name, kind, tmp_path):
    folder, out = write_folder(tmp_path / "hf", CASES[name]), tmp_path / "model.bin"
    assert main([str(folder), "-o", str(out), "--type", kind, "--tokenizer", "none"]) == 0
    whole, one = Model(out, n_threads=1, verbose=False).logits(tokens()), Model(out, n_threads=2, verbose=False)
    one.ready()
    rows = [one.forward([token], [i], [0], [0])[0].copy() for i, token in enumerate(tokens())]
    assert np.array_equal(rows, whole)


def hub(name):
    """A case with its config.json as it lies on the Hub: of older versions of transformers."""
    case = json.loads(json.dumps(CASES[name]))
    j = case["config"]
    rope = j.pop("rope_parameters", None) or {}
    for key in ("layer_types", "tie_word_embeddings") if name != "llama3.1" else ("layer_types",):
        j.pop(key, None)
    if "full_attention" in rope:
        rope = rope["full_attention"]
    j["rope_theta"] = rope.pop("rope_theta", 10000.0)
    share = rope.pop("partial_rotary_factor", None)
    if share is not None:
        j["rotary_pct" if "gpt_neox" in j["model_type"] else "partial_rotary_factor"] = share
    if rope.get("rope_type", "default") != "default":
        j["rope_scaling"] = rope
    if name == "gemma3":
        j |= {"rope_local_base_freq": 10000.0, "sliding_window_pattern": 6}
    return case


@pytest.mark.parametrize("name", ["llama3.1", "llama yarn", "mistral", "qwen2", "phi3", "phi3 long", "phi4 mini", "smollm3"])
def test_configs_of_the_hub(name, tmp_path):
    check(name, hub(name), tmp_path)


@pytest.mark.parametrize("name", "gemma gemma2 gemma3 olmo2 pythia gpt-neo cohere opt exaone4 glm4".split())
def test_configs_of_the_hub_of_other_families(name, tmp_path):
    check(name, hub(name), tmp_path)


@pytest.mark.parametrize("name", ["llama", "gpt-neo", "qwen3 moe", "seed oss", "ernie 4.5"])
def test_the_type_alone_tells_the_family(name, tmp_path):
    case = json.loads(json.dumps(CASES[name]))
    del case["config"]["architectures"]
    check(name, case, tmp_path)


def test_gpt2_as_first_published(tmp_path):
    """Names without a prefix, the masks of attention among the weights."""
    case, made = CASES["gpt2"], weights(CASES["gpt2"]["tensors"])
    renamed = {name.removeprefix("transformer."): array for name, array in made.items()}
    masks = {f"h.{i}.attn.bias": np.ones((1, 1, 64, 64)) for i in range(4)}
    folder = write_folder(tmp_path / "hf", case, drop=made, more={**renamed, **masks})
    check("gpt2", case, tmp_path, folder)


def test_gpt_oss_as_published(tmp_path):
    """Experts in MXFP4: the same model.bin as from their numbers, which another way of reading gives."""
    case, made = CASES["gpt-oss"], weights(CASES["gpt-oss"]["tensors"])
    rng, packed, plain = np.random.default_rng(0), dict(made), dict(made)
    levels = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]
    for name in [name for name in made if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, cols, rows = made[name].shape
        blocks = rng.integers(0, 256, (experts, rows, cols // 32, 16), np.uint8)
        scales = rng.integers(120, 125, (experts, rows, cols // 32), np.uint8)
        del packed[name]
        packed |= {name + "_blocks": blocks, name + "_scales": scales}
        values = np.empty((experts, rows, cols), np.float32)
        for e, r, k in np.ndindex(values.shape):
            byte = int(blocks[e, r, k // 32, k % 32 // 2])
            values[e, r, k] = levels[byte >> 4 if k % 2 else byte & 15] * 2.0 ** (int(scales[e, r, k // 32]) - 127)
        plain[name] = np.ascontiguousarray(values.transpose(0, 2, 1))
    out = [tmp_path / "a.bin", tmp_path / "b.bin"]
    for path, arrays in zip(out, (packed, plain)):
        quantised = {"quantization_config": {"quant_method": "mxfp4"}} if arrays is packed else {}
        changed = {**case, "config": {**case["config"], **quantised}}
        folder = write_folder(tmp_path / path.stem, changed, set(made) - set(arrays), arrays)
        assert main([str(folder), "-o", str(path), "--type", "f16", "--tokenizer", "none"]) == 0
    one, two = (open_model(path).tensors for path in out)
    assert all(np.array_equal(one[name].data, two[name].data) for name in two)


def test_qwen35_moe_as_published(tmp_path):
    """All experts of a layer in one; beside eyes, and a layer that guesses further ahead."""
    case, made = json.loads(json.dumps(CASES["qwen3.5 moe"])), weights(CASES["qwen3.5 moe"]["tensors"])
    fused, text = {}, case["config"]
    for i in range(2):
        at = f"model.layers.{i}.mlp.experts."
        take = lambda e, part, at=at: made.pop(f"{at}{e}.{part}_proj.weight")
        fused[at + "gate_up_proj"] = np.stack([np.concatenate([take(e, "gate"), take(e, "up")]) for e in range(6)])
        fused[at + "down_proj"] = np.stack([take(e, "down") for e in range(6)])
    inside = lambda name: name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name
    more = {inside(k): v for k, v in {**made, **fused}.items()}
    more |= {"model.visual.x.weight": np.zeros((2, 2), np.float32), "mtp.layers.0.x.weight": np.zeros((2, 2), np.float32)}
    text.pop("architectures")
    both = {"architectures": ["Qwen3_5MoeForConditionalGeneration"], "model_type": "qwen3_5_moe", "text_config": text}
    check("qwen3.5 moe", case, tmp_path, write_folder(tmp_path / "hf", {"config": both, "tensors": {}}, more=more))


def test_keys_that_layers_share_may_lie_in_the_file(tmp_path):
    """As on the Hub: Gemma 4's last layers have matrices for keys and values that nothing reads."""
    case = CASES["gemma4"]
    extra = {f"model.layers.4.self_attn.{x}_proj.weight": np.ones((32, 32), np.float32) for x in "kv"}
    extra["model.layers.4.self_attn.k_norm.weight"] = np.ones(16, np.float32)
    check("gemma4", case, tmp_path, write_folder(tmp_path / "hf", case, more=extra))


@pytest.mark.parametrize(
    "name, changes, says",
    [
        ("gemma4", dict(enable_moe_block=True), "enable_moe_block True is not supported"),
        ("gemma4", dict(use_bidirectional_attention="all"), "use_bidirectional_attention all is not supported"),
        ("gemma4", dict(vocab_size_per_layer_input=70), "vocab_size_per_layer_input is not 72"),
        ("gemma4", dict(per_layer_config={"2": {"head_dim": 16}, "4": {"head_dim": 8}}), "more than two shapes"),
        ("gemma4", dict(layer_types=["sliding_attention"] * 5), "more than two shapes"),
        ("lfm2", dict(conv_bias=True), "conv_bias True is not supported"),
        ("lfm2", dict(layer_types=["conv", "mamba"] * 2), "layer_types: mamba"),
        ("lfm2", dict(layer_types=["conv"] * 3), "layer_types: 3 of 5"),
        ("qwen3.5", dict(linear_num_key_heads=3), "3 and 4 heads of 8 and 12"),
        ("qwen3.5", dict(linear_key_head_dim=None), "cannot be read|expected"),
    ],
)
def test_what_hybrids_do_not_support_is_refused_by_name(name, changes, says, tmp_path, capsys):
    import re

    case = json.loads(json.dumps(CASES[name]))
    case["config"] |= changes
    folder = write_folder(tmp_path / "hf", case)
    assert main([str(folder), "-o", str(tmp_path / "x.bin"), "--tokenizer", "none"]) == 1
    assert re.search(says, capsys.readouterr().err)


def test_its_makers_sampling_travels_in_the_file(tmp_path):
    for n, (said, want) in enumerate(
        [
            ({"temperature": 0.6, "top_p": 0.9, "top_k": 20, "eos_token_id": 5}, dict(temperature=0.6, top_p=0.9, top_k=20)),
            ({"do_sample": False}, {}),
            ({"temperature": "hot", "top_p": 7, "top_k": -1}, {}),
        ]
    ):
        folder = write_folder(tmp_path / str(n), CASES["qwen3"])
        (folder / "generation_config.json").write_text(json.dumps(said))
        out = tmp_path / f"{n}.bin"
        assert main([str(folder), "-o", str(out), "--tokenizer", "none"]) == 0
        model = Model(out, verbose=False)
        assert model.sampling == want and (model.info["sampling"] or {}) == want
        ways = {}, {"temperature": 0.8, "top_k": 40, "top_p": 0.95, **want}, {"temperature": 90.0, "top_k": 0, "top_p": 1.0}
        one, two, other = ([c.token for c in model.stream([1, 2, 3], 30, seed=4, ignore_eos=True, **how)] for how in ways)
        assert one == two != other


def test_what_is_left_over_or_missing_is_refused(tmp_path, capsys):
    case = CASES["qwen3"]
    for n, (drop, more, says) in enumerate(
        [
            ((), {"model.layers.0.extra.weight": np.ones(3)}, "1 tensors were not used: model.layers.0.extra.weight"),
            (["model.layers.2.self_attn.k_norm.weight"], {}, "model.layers.2.self_attn.k_norm.weight is missing"),
            (["model.layers.1.mlp.up_proj.weight"], {}, "model.layers.1.mlp.up_proj.weight is missing"),
        ]
    ):
        folder = write_folder(tmp_path / str(n), case, drop, more)
        assert main([str(folder), "-o", str(tmp_path / "x.bin"), "--tokenizer", "none"]) == 1
        assert says in capsys.readouterr().err and not (tmp_path / "x.bin").exists()


def test_every_architecture_has_a_case():
    assert {case["config"]["architectures"][0] for case in CASES.values()} == {
        family.hub.label for family in FAMILIES if family.hub
    }


@pytest.mark.parametrize("form", ["old", "new"])
@pytest.mark.parametrize(
    "name, label", [("gemma3", "Gemma3"), ("ministral3", "Mistral3"), ("gemma4", "Gemma4"), ("qwen3.5", "Qwen3_5")]
)
def test_a_model_that_sees_pictures_gives_its_text_part(name, label, form, tmp_path, capsys):
    """As Gemma 3 from 4B on and Ministral 3 lie on the Hub, before and since transformers 5; the logits are the same."""
    case = json.loads(json.dumps(CASES[name]))
    text = case["config"]
    text.pop("architectures")
    both = {"architectures": [f"{label}ForConditionalGeneration"], "model_type": label.lower(), "text_config": text}
    both |= {"vision_config": {}, "eos_token_id": [2, 3]}
    if form == "new":
        move = lambda name: name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name
        eye = "model.vision_tower.x.weight"
    else:
        move, eye = lambda name: "language_model." + name, "vision_tower.x.weight"
    made = {move(k): v for k, v in weights(case["tensors"]).items()}
    folder = write_folder(tmp_path / "hf", {"config": both, "tensors": {}}, more={**made, eye: np.zeros((3, 3), np.float32)})
    check(name, case, tmp_path, folder)
    assert "1 tensors of pictures are left out" in capsys.readouterr().err
