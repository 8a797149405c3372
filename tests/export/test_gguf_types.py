"""Every type of a GGUF: kept to the bit, in pieces where parts differ, turned and said where it cannot be kept."""

import numpy as np
import pytest

from helpers.ggufs import random_blocks, random_llama
from twins.weights import bits_at, read_tensors, unpack_matrix
from twofile.export.blocks import Blocks
from twofile.export.layouts import LAYOUTS
from twofile.export.main import main
from twofile.format.config import Config
from twofile.model import Model
from twofile.modelfile import open_model, verify

gguf = pytest.importorskip("gguf")
SIZES = dict(dim=256, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=64, ffn_dim=512, vocab_size=80, max_ctx=64)
SIZES |= dict(norm=0, eps=1e-5, n_rope=1)


def small(path, kinds, head=True, **more):
    return random_llama(path, Config("llama", **{**SIZES, **more}, head=head), kinds)


def exported(path, *options):
    out = path.with_suffix(".bin")
    assert main([str(path), "-o", str(out), "--overwrite", "--tokenizer", "none", *options]) == 0
    verify(open_model(out))
    return out


def dequantised(path):
    """{tensor: float32} of a GGUF by the gguf package."""
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(str(path)).tensors}


def turned(x, heads):
    """Rows of q or k of a Llama's GGUF, whose rotary pairs are neighbours, as ours are: halves."""
    return x.reshape(heads, -1, 2, x.shape[-1]).swapaxes(1, 2).reshape(x.shape)


def same(path):
    """Every weight of the model is that of the GGUF, in float32; -> {name: type} of its tensors."""
    ours, theirs = read_tensors(exported(path)), dequantised(path)
    blk = lambda i, name: theirs[f"blk.{i}.{name}.weight"]
    for i in range(2):
        q, k, v = (blk(i, f"attn_{x}") for x in "qkv")
        pairs = {"qkv": np.concatenate((turned(q, 4), turned(k, 2), v)), "o": blk(i, "attn_output"), "down": blk(i, "ffn_down")}
        pairs["gate_up"] = np.concatenate((blk(i, "ffn_gate"), blk(i, "ffn_up")))
        for name, want in pairs.items():
            assert np.array_equal(ours[f"l{i}.{name}"].astype(np.float32), want), name
    assert np.array_equal(ours["embed"].astype(np.float32), theirs["token_embd.weight"])
    return {name: t.dtype for name, t in open_model(path.with_suffix(".bin")).tensors.items()}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_blocks_are_kept_to_the_bit(kind):
    """Of random bits, all of them: what a reader by the document gets is what the gguf package gets, in float32; rows that
    are no whole block of 16."""
    kind, rng = gguf.GGMLQuantizationType[kind], np.random.default_rng(0)
    raw = random_blocks(rng, kind, 35, 768)
    for at in (0, 1):  # scales of all sizes and signs, subnormal ones too
        raw[at::2, -2:] = rng.integers(0, 0x7C00, (len(raw[at::2]), 1), np.uint16).view(np.uint8)
    blocks = Blocks(raw, kind, 768)
    want = gguf.quants.dequantize(raw, kind)
    data, beside = blocks[:20].laid([blocks[20:]])
    parts = [beside.get(end, np.zeros(0)).tobytes() for end in (".s", ".d")]
    got = unpack_matrix(blocks.type.name, want.shape, data.tobytes(), *parts)
    assert np.array_equal(got.astype(np.float32), want) and want.any() and np.isfinite(want).all()
    assert not any(array[-1][..., 3:].any() for array in beside.values())  # of rows that fill the last block up
    bits = bits_at(data.astype(int), blocks.type.name, np.full((13, 768), 2), *np.indices((13, 768)) + [[[3]], [[0]]], 24)
    assert (bits == blocks.type.zero).all()


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_file_of_a_type_is_kept(kind, tmp_path):
    types = same(small(tmp_path / "m.gguf", lambda name: kind))
    assert {types[name] for name in ("l0.qkv", "l1.down", "l0.gate_up", "embed", "head")} == {kind.lower()}
    model = Model(tmp_path / "m.bin", verbose=False)
    assert np.isfinite(model.logits([1, 2, 3])).all() and model.info["type"] == kind.lower()


def test_parts_of_other_types_are_pieces(tmp_path):
    """As Q4_K_M has them: v and down with more bits in some layers; gate and up of two types; a head that is the embedding."""

    def kinds(name):
        if "attn_v" in name or "ffn_down" in name:
            return "Q6_K" if "blk.0" in name else "Q4_K"
        return {"attn_k": "Q5_0", "ffn_up": "IQ4_XS", "token_embd": "Q8_0"}.get(name.split(".")[-2], "Q4_K")

    path = small(tmp_path / "m.gguf", kinds, head=False)
    types = same(path)
    assert [types.get(f"l0.qkv{end}") for end in ("", ".1", ".2", ".3")] == ["q4_k", "q5_0", "q6_k", None]
    assert [types.get(f"l1.qkv{end}") for end in ("", ".1", ".2", ".3")] == ["q4_k", "q5_0", "q4_k", None]
    assert (types["l0.gate_up"], types["l0.gate_up.1"], types["embed"]) == ("q4_k", "iq4_xs", "q8_0") and "head" not in types
    info = Model(tmp_path / "m.bin", verbose=False).info
    assert info["type"] == "q4_k/iq4_xs/q6_k/q5_0/q8_0"
    assert info["bytes"] < 1.1 * path.stat().st_size


def test_numbers_and_bits_may_be_pieces_of_one_matrix(tmp_path):
    types = same(small(tmp_path / "m.gguf", lambda name: {"attn_v": "F16", "ffn_up": "BF16"}.get(name.split(".")[-2], "Q5_K")))
    assert (types["l0.qkv"], types["l0.qkv.1"], types["l0.gate_up.1"]) == ("q5_k", "f16", "bf16")


@pytest.mark.parametrize("kind, becomes", [("IQ3_S", "q4_k"), ("IQ2_XXS", "q4_k"), ("TQ2_0", "q4_k")])
def test_types_of_fewer_bits_become_q4_k_and_it_says_so(kind, becomes, tmp_path, capsys):
    path = small(tmp_path / "m.gguf", lambda name: kind if "ffn" in name else "Q6_K")
    out = exported(path)
    assert f"{kind} become {becomes}" in capsys.readouterr().err
    model = open_model(out)
    assert (model.tensors["l0.down"].dtype, model.tensors["l0.qkv"].dtype) == (becomes, "q6_k")
    want, got = dequantised(path)["blk.0.ffn_down.weight"], read_tensors(out)["l0.down"]
    assert np.square(got - want).mean() < 0.02 * np.square(want).mean()


def test_parts_that_cannot_be_pieces_become_q8_0_and_are_named(tmp_path, capsys):
    """Rows that are no whole blocks of 16; and gate and up of experts, which lie expert by expert."""
    path = small(tmp_path / "m.gguf", lambda name: "Q4_0" if "attn_k" in name else "Q4_1", head_dim=8, n_kv_heads=1)
    out = exported(path)
    assert (
        "2 matrices whose parts must be of one type become q8_0: l0.qkv (q4_1, q4_0, q4_1), l1.qkv" in capsys.readouterr().err
    )
    model = open_model(out)
    assert (model.tensors["l0.qkv"].dtype, model.tensors["l0.o"].dtype) == ("q8_0", "q4_1")
    experts = dict(n_experts=3, top_k=2, expert_ffn=64)
    kinds = lambda name: "Q5_1" if "ffn_up_exps" in name else "F32" if "inp" in name else "Q5_0"
    out = exported(small(tmp_path / "e.gguf", kinds, **experts))
    assert "l0.experts_up (q5_0, q5_1, q5_0" in capsys.readouterr().err
    types = {name: t.dtype for name, t in open_model(out).tensors.items()}
    assert (types["l0.experts_up"], types["l0.experts_down"]) == ("q8_0", "q5_0")


def test_experts_of_every_type_are_kept(tmp_path):
    for kind in ("Q4_K", "Q6_K", "IQ4_NL", "Q2_K"):
        experts = dict(n_experts=3, top_k=2, expert_ffn=256)
        path = small(tmp_path / "e.gguf", lambda name, kind=kind: "F32" if "inp" in name else kind, **experts)
        ours, theirs = read_tensors(exported(path)), dequantised(path)
        gate, up, down = (theirs[f"blk.1.ffn_{part}_exps.weight"] for part in ("gate", "up", "down"))
        want = np.concatenate((gate, up), 1).reshape(-1, 256)
        assert np.array_equal(ours["l1.experts_up"].astype(np.float32), want)
        assert np.array_equal(ours["l1.experts_down"].astype(np.float32), down.reshape(-1, 256))
        assert np.isfinite(Model(path.with_suffix(".bin"), verbose=False).logits([1, 2, 3])).all()


@pytest.mark.parametrize("kind, at", [("Q4_K", 0), ("Q4_K", 2), ("Q6_K", 208), ("Q5_1", 2), ("IQ4_XS", 0)])
def test_scales_that_are_no_numbers_are_refused(kind, at, tmp_path, capsys):
    path = small(tmp_path / "m.gguf", lambda name: kind)
    tensor = next(t for t in gguf.GGUFReader(str(path)).tensors if t.name == "blk.1.ffn_down.weight")
    with open(path, "r+b") as f:
        f.seek(tensor.data_offset + at)
        f.write(np.array([np.inf], "<f2").tobytes())
    assert main([str(path), "-o", str(tmp_path / "m.bin"), "--tokenizer", "none"]) == 1
    assert "l1.down holds NaN or infinity" in capsys.readouterr().err and not (tmp_path / "m.bin").exists()


def test_a_type_that_is_asked_for_turns_all(tmp_path):
    out = exported(small(tmp_path / "m.gguf", lambda name: "Q5_K" if "attn_v" in name else "Q4_K"), "--type", "q8_0")
    assert {t.dtype for t in open_model(out).tensors.values() if len(t.shape) == 2} == {"q8_0"}
