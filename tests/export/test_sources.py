"""Every source to the same canonical tensors."""

import numpy as np
import pytest

from helpers.checkpoints import convert, folder, hostile, llama2c_file, params, same, tensors, torch_file, weights
from twofile.export.arrays import to_float32
from twofile.export.pack import to_bfloat16
from twofile.export.sources.pickled import Named
from twofile.export.sources.safetensors import read_safetensors
from twofile.modelfile import open_model


def test_rope_rows_are_reordered(want):
    """Pair (2j, 2j + 1) of each head of wq and wk stands at (j, j + 6); wv is as it was."""
    w = weights()
    for head in range(4):
        for j in range(6):
            for old, new in ((2 * j, j), (2 * j + 1, j + 6)):
                assert np.array_equal(want["l1.qkv"][12 * head + new], w["layers.1.attention.wq.weight"][12 * head + old])
    assert np.array_equal(want["l1.qkv"][48 + 24 :], w["layers.1.attention.wv.weight"])
    assert np.array_equal(want["l0.gate_up"][76:], w["layers.0.feed_forward.w3.weight"])


def test_every_source_gives_the_same_tensors(tmp_path, want):
    w, out = weights(), tmp_path / "m.bin"
    sources = [
        llama2c_file(tmp_path / "v1.bin", w, 1),
        torch_file(tmp_path / "a.pt", w),
        folder(tmp_path, w),
        folder(tmp_path / "two", w, shards=3) if not (tmp_path / "two").mkdir() else None,
    ]
    for source in sources:
        assert convert(source, out, "--type", "f32") == 0
        assert same(tensors(out), want), source
    assert open_model(out).config.eos == 2


def test_version_2_within_its_own_rounding(tmp_path, want):
    assert convert(llama2c_file(tmp_path / "v2.bin", weights(), 2), tmp_path / "m.bin", "--type", "f32") == 0
    got = tensors(tmp_path / "m.bin")
    assert all(np.abs(got[k] - want[k]).max() <= np.abs(want[k]).max() / 127 for k in want)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_folders_of_every_kind(tmp_path, tied, bias, kind):
    w = weights(tied=tied, bias=bias)
    assert convert(folder(tmp_path, w, kind, tied=tied, bias=bias), tmp_path / "m.bin", "--type", "f32") == 0
    got = tensors(tmp_path / "m.bin")
    rounded = {
        "F32": lambda a: a,
        "F16": lambda a: a.astype(np.float16),
        "BF16": lambda a: to_float32(to_bfloat16(a)),
    }[kind]
    assert np.array_equal(got["l1.down"], rounded(w["layers.1.feed_forward.w2.weight"]))
    assert ("head" in got) != tied and ("l0.qkv.b" in got) == bias
    if bias:
        q = rounded(w["layers.0.attention.wq.bias"]).reshape(4, 6, 2).swapaxes(1, 2).reshape(-1)
        assert np.array_equal(got["l0.qkv.b"][:48], q) and np.array_equal(
            got["l1.down.b"], rounded(w["layers.1.feed_forward.w2.bias"])
        )


def test_tied_checkpoints(tmp_path):
    w = weights(tied=True)
    for source in (
        llama2c_file(tmp_path / "v0.bin", w, 0, True),
        torch_file(tmp_path / "a.pt", {**w, "output.weight": w["tok_embeddings.weight"]}),
    ):
        assert convert(source, tmp_path / "m.bin", "--type", "f32") == 0
        assert "head" not in tensors(tmp_path / "m.bin")


def test_half_precision_checkpoint(tmp_path, want):
    assert convert(torch_file(tmp_path / "a.pt", weights(), dtype="Half"), tmp_path / "m.bin", "--type", "f32") == 0
    assert np.array_equal(tensors(tmp_path / "m.bin")["l0.o"], want["l0.o"].astype(np.float16))


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("dtype", ["f32", "q8_0"])
def test_metas_shards_are_the_model_that_llama2c_has(tmp_path, shards, dtype):
    a, b = tmp_path / "a.bin", tmp_path / "b.bin"
    assert convert(torch_file(tmp_path / "m.pt", weights()), a, "--type", dtype) == 0
    assert convert(params(tmp_path / "meta", weights(), shards), b, "--type", dtype, "--allow-pickle") == 0
    one, two = tensors(a), tensors(b)
    assert one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


def test_pytorch_model_bin_is_the_model_that_safetensors_has(tmp_path, capsys):
    import shutil

    hf, a, b = folder(tmp_path, weights()), tmp_path / "a.bin", tmp_path / "b.bin"
    assert convert(hf, a) == 0
    arrays = {name: np.asarray(x) for name, x in read_safetensors(hf / "model.safetensors").items()}
    shutil.copytree(hf, tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").unlink()
    torch_file(tmp_path / "old" / "pytorch_model.bin", arrays, bare=True)
    assert convert(tmp_path / "old", b) == 1 and "--allow-pickle" in capsys.readouterr().err
    assert convert(tmp_path / "old", b, "--allow-pickle") == 0
    one, two = tensors(a), tensors(b)
    assert one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)
    hostile(tmp_path / "old" / "pytorch_model.bin")
    assert convert(tmp_path / "old", b, "--allow-pickle") == 1 and "refused" in capsys.readouterr().err


def test_a_checkpoint_of_a_wrapped_model_with_buffers(tmp_path, want):
    """As llama2.c's model has them without flash attention, compiled, on several GPUs."""
    w = weights()
    made = {f"module.{name}": array for name, array in w.items()}
    made |= {f"module.layers.{i}.attention.mask": np.ones((1, 1, 8, 8), bool) for i in range(2)}
    made |= {"module.freqs_cis": np.ones(4, np.complex64), "module.steps": np.ones(1, np.int64)}
    made["module.norm.weight"] = w["norm.weight"].astype(np.float64)
    assert convert(torch_file(tmp_path / "a.pt", made), tmp_path / "m.bin", "--type", "f32") == 0
    assert same(tensors(tmp_path / "m.bin"), want)


def test_a_type_that_is_not_read_in_a_checkpoint(tmp_path, capsys):
    made = {**weights(), "norm.weight": np.ones(48, np.int64)}
    assert convert(torch_file(tmp_path / "a.pt", made), tmp_path / "m.bin") == 1
    assert "tensor norm.weight has type int64; expected F32, F16, BF16 or F64" in capsys.readouterr().err
    assert convert(params(tmp_path / "meta", made, 2), tmp_path / "m.bin", "--allow-pickle") == 1
    assert "consolidated.00.pth: tensor norm.weight has type int64" in capsys.readouterr().err
    made = {**weights(), "layers.0.attention.wq.weight": np.ones((48, 48), bool)}
    assert convert(params(tmp_path / "more", made, 2), tmp_path / "m.bin", "--allow-pickle") == 1
    assert "consolidated.00.pth: tensor layers.0.attention.wq.weight has type bool" in capsys.readouterr().err


def test_parameters_are_their_tensors():
    """torch.save of a module's parameters themselves wraps each once more."""
    tensor = np.ones(3, np.float32)
    assert Named("torch._utils _rebuild_parameter").make(tensor, True, {}) is tensor
