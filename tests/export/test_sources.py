"""Exporting: every source to the same canonical tensors, every type back within its error, and refusals by name."""

import json
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import time
import zipfile

import naive
import numpy as np
import pytest
from conftest import ROOT, TYPES, shared

import export
import run

SHAPE = dict(dim=48, ffn=76, layers=2, heads=4, kv=2, vocab=93, ctx=64)  # head_dim 12


def weights(shape=SHAPE, tied=False, bias=False, seed=0):
    """Random float32 arrays by Meta's names."""
    s, rng = shape, np.random.default_rng(seed)
    narrow = s["dim"] // s["heads"] * s["kv"]
    sizes = {"tok_embeddings.weight": (s["vocab"], s["dim"]), "norm.weight": (s["dim"],)}
    for i in range(s["layers"]):
        at = f"layers.{i}."
        sizes |= {at + "attention_norm.weight": (s["dim"],), at + "ffn_norm.weight": (s["dim"],)}
        for name, rows in (("wq", s["dim"]), ("wk", narrow), ("wv", narrow), ("wo", s["dim"])):
            sizes[f"{at}attention.{name}.weight"] = (rows, s["dim"])
            if bias:
                sizes[f"{at}attention.{name}.bias"] = (rows,)
        for name, size in (("w1", (s["ffn"], s["dim"])), ("w2", (s["dim"], s["ffn"])), ("w3", (s["ffn"], s["dim"]))):
            sizes[f"{at}feed_forward.{name}.weight"] = size
            if bias:
                sizes[f"{at}feed_forward.{name}.bias"] = size[:1]
    if not tied:
        sizes["output.weight"] = (s["vocab"], s["dim"])
    return {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}


def llama2c_file(path, w, version=0, tied=False, shape=SHAPE):
    """A llama2.c checkpoint, written by its own README's description."""
    s, layers = shape, range(shape["layers"])
    ints = [s["dim"], s["ffn"], s["layers"], s["heads"], s["kv"], s["vocab"], s["ctx"]]
    stack = lambda name: [w[f"layers.{i}.{name}.weight"] for i in layers]
    norms = [*stack("attention_norm"), *stack("ffn_norm"), w["norm.weight"]]
    att = [stack(f"attention.{n}") for n in ("wq", "wk", "wv", "wo")]
    ffn = [stack(f"feed_forward.{n}") for n in ("w1", "w2", "w3")]
    head = [] if tied else [w["output.weight"]]
    if version == 0:
        ints[5] *= 1 if tied else -1
        parts = [w["tok_embeddings.weight"], *stack("attention_norm"), *sum(att, []), *stack("ffn_norm"), *sum(ffn, [])]
        parts += [w["norm.weight"], np.zeros((2, s["ctx"], s["dim"] // s["heads"] // 2), np.float32), *head]
        path.write_bytes(struct.pack("<7i", *ints) + b"".join(p.astype("<f4").tobytes() for p in parts))
        return path
    header = b"24ka" + struct.pack("<i7iB", version, *ints, tied)
    if version == 2:
        header += struct.pack("<i", 16)
    body = b"".join(p.astype("<f4").tobytes() for p in norms)
    for p in [w["tok_embeddings.weight"], *sum(att, []), *sum(ffn, []), *head]:
        if version == 1:
            body += p.tobytes()
        else:
            groups = p.reshape(-1, 16)
            scale = np.abs(groups).max(1) / 127
            body += np.rint(groups / scale[:, None]).astype(np.int8).tobytes() + scale.astype("<f4").tobytes()
    path.write_bytes(header.ljust(256, b"\0") + body)
    return path


class Storage:
    """What torch pickles for a tensor, without torch."""

    def __init__(self, kind, key, size):
        self.pid = ("storage", kind, key, "cpu", size)


class Global:
    def __init__(self, module, name):
        self.module, self.name = module, name


class Tensor:
    def __init__(self, storage, shape):
        self.storage, self.shape = storage, shape


class TorchPickler(pickle._Pickler):
    """Writes the pickle of a torch.save archive; the pure-Python pickler lets globals be named freely."""

    dispatch = dict(pickle._Pickler.dispatch)

    def persistent_id(self, value):
        return value.pid if isinstance(value, Storage) else None

    def save_global_name(self, value):
        self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())

    def save_tensor(self, value):
        stride = np.cumprod([1, *value.shape[:0:-1]])[::-1].tolist()
        self.save_global_name(Global("torch._utils", "_rebuild_tensor_v2"))
        self.save((value.storage, 0, value.shape, tuple(stride), False, None))
        self.write(pickle.REDUCE)

    dispatch[Global], dispatch[Tensor] = save_global_name, save_tensor


def torch_file(path, w, args=None, extra=None, dtype="Float", compress=False, bare=False):
    """A torch zip checkpoint as llama2.c saves it; bare: only the weights, as other programs do."""
    import io

    s = SHAPE
    args = args or dict(
        dim=s["dim"],
        n_layers=s["layers"],
        n_heads=s["heads"],
        n_kv_heads=s["kv"],
        vocab_size=s["vocab"],
        max_seq_len=s["ctx"],
        multiple_of=4,
    )
    model, members = {}, {}
    for i, (name, array) in enumerate(w.items()):
        members[str(i)] = (array.astype("<f2") if dtype == "Half" else array).tobytes()
        model[("" if bare else "_orig_mod.") + name] = Tensor(
            Storage(Global("torch", dtype + "Storage"), str(i), array.size), array.shape
        )
    out = io.BytesIO()
    whole = {"model": model, "model_args": args, "iter_num": 7, "config": {"a": 1.5, "b": None}, **(extra or {})}
    TorchPickler(out, 2).dump(model if bare else whole)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as z:
        z.writestr("ckpt/data.pkl", out.getvalue())
        for key, raw in members.items():
            z.writestr(f"ckpt/data/{key}", raw)
    return path


def safetensors_file(path, arrays, kind="F32"):
    header, at, body = {}, 0, b""
    for name, a in arrays.items():
        raw = (
            export.to_bfloat16(a).tobytes()
            if kind == "BF16"
            else a.astype({"F32": "<f4", "F16": "<f2"}[kind]).tobytes()
        )
        header[name] = {"dtype": kind, "shape": list(a.shape), "data_offsets": [at, at + len(raw)]}
        at, body = at + len(raw), body + raw
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def folder(path, w, kind="F32", shards=1, tied=False, bias=False, **config):
    """A Hugging Face folder; wq and wk go to half-split order, as its converter does, by another way than export.py's."""
    s, path = SHAPE, path / "hf"
    path.mkdir()
    back = {v: k for k, v in export.META_NAMES.items()}
    arrays = {}
    for name, a in w.items():
        parts = name.split(".")
        layer = parts[1] if parts[0] == "layers" else ""
        key = back[
            (".".join(["layers.{}", *parts[2:]]) if layer else name).removesuffix("bias").removesuffix("weight")
            + "weight"
        ]
        if key in ("wq", "wk"):
            heads = s["heads"] if key == "wq" else s["kv"]
            a = a.reshape(heads, s["dim"] // s["heads"] // 2, 2, -1).swapaxes(1, 2).reshape(a.shape)
        new = export.HF_NAMES[key].format(layer)
        arrays[new.removesuffix("weight") + "bias" if name.endswith("bias") else new] = a
    names = list(arrays)
    for i in range(shards):
        part = {n: arrays[n] for n in names[i::shards]}
        safetensors_file(path / (f"model-{i}.safetensors" if shards > 1 else "model.safetensors"), part, kind)
    if shards > 1:
        index = {n: f"model-{i % shards}.safetensors" for i, n in enumerate(names)}
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    j = dict(
        architectures=["LlamaForCausalLM"],
        hidden_size=s["dim"],
        num_hidden_layers=s["layers"],
        num_attention_heads=s["heads"],
    )
    j |= dict(
        num_key_value_heads=s["kv"],
        intermediate_size=s["ffn"],
        vocab_size=s["vocab"],
        max_position_embeddings=s["ctx"],
        hidden_act="silu",
    )
    j |= dict(
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
        attention_bias=bias,
        mlp_bias=bias,
        bos_token_id=1,
        eos_token_id=[2, 5],
    )
    (path / "config.json").write_text(json.dumps({**j, **config}))
    return path


def convert(source, out, *options):
    """Export in process; -> exit code 0 or the message."""
    args = [str(source), "-o", str(out), "--tokenizer", "none", "--overwrite", *options]
    try:
        code = export.main(args)
    except SystemExit as e:
        code = e.code
    return code


def tensors(path):
    return {k: v for k, v in naive.read(path).items()}


@pytest.fixture
def want(tmp_path):
    """The canonical float32 tensors of weights(), by the plainest route: a version 0 file."""
    assert convert(llama2c_file(tmp_path / "v0.bin", weights()), tmp_path / "v0.model", "--type", "f32") == 0
    return tensors(tmp_path / "v0.model")


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_rope_rows_are_reordered(want):
    """Pair (2j, 2j + 1) of each head of wq and wk stands at (j, j + 6); wv is as it was."""
    w = weights()
    for head in range(4):
        for j in range(6):
            for old, new in ((2 * j, j), (2 * j + 1, j + 6)):
                assert np.array_equal(
                    want["l1.qkv"][12 * head + new], w["layers.1.attention.wq.weight"][12 * head + old]
                )
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
    assert run.open_model(out).config.eos == 2


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
        "BF16": lambda a: export.to_float32(export.to_bfloat16(a)),
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


@pytest.mark.parametrize("dtype", TYPES)
def test_types_come_back_within_their_error(tmp_path, want, dtype):
    """And the padding of rows and columns is zero."""
    assert convert(llama2c_file(tmp_path / "s.bin", weights()), tmp_path / "m.bin", "--type", dtype) == 0
    got, model = tensors(tmp_path / "m.bin"), run.open_model(tmp_path / "m.bin")
    bound = {"f32": 0, "f16": 3e-4, "bf16": 2e-3, "q8_0": 6e-3, "q4_0": 0.1}[dtype]
    for name, x in want.items():
        error = np.sqrt(((got[name] - x) ** 2).mean() / max((x**2).mean(), 1e-30))
        assert error <= (bound if x.ndim == 2 else 0), (name, error)
        t = model.tensors[name]
        if t.dtype in ("q8_0", "q4_0"):
            tall, wide = (run.padded(n, m) for n, m in zip(t.shape, (16, 32)))
            whole = naive.matrix(
                t.dtype, (tall, wide), t.data.tobytes(), np.ones((tall // 16, wide // 32, 16), "<f2").tobytes()
            )
            assert not whole[t.shape[0] :].any() and not whole[:, t.shape[1] :].any()
    run.verify(model)


def test_q4_scale_search_beats_the_plain_rule():
    """The plain rule: the value of largest size becomes -8."""
    x = np.random.default_rng(0).standard_normal((64, 20, 32)).astype(np.float32)
    values, scales = export.quantise4(x)
    assert values.min() >= -8 and values.max() <= 7
    largest = np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)
    plain = (largest / -8).astype(np.float16).astype(np.float32)
    naive_q = np.clip(np.rint(x / plain), -8, 7) * plain
    ours = np.square(values * scales.astype(np.float32)[..., None] - x).mean()
    print(f"relative rms error {np.sqrt(ours):.4f}, plain rule {np.sqrt(np.square(naive_q - x).mean()):.4f}")
    assert ours < 0.95 * np.square(naive_q - x).mean()


@pytest.mark.parametrize("x", [0.0, 1e-8, 1e-30, 6e4])
def test_extreme_groups(x):
    """Zeros, values whose scale vanishes in float16, and the largest: finite, and never worse than zero."""
    rows = np.full((16, 32), x, np.float32)
    for dtype in ("q8_0", "q4_0"):
        _, scales, back = export.pack(rows, dtype)
        assert np.isfinite(scales).all() and (np.abs(back - rows) <= np.abs(rows) + 1e-30).all()
        if x == 6e4:
            assert np.abs(back / rows - 1).max() < 1e-3


def test_rope_scaling():
    """linear divides all frequencies; llama3's as transformers computes it (values of Llama 3.2 1B)."""
    plain = export.rope_table(64, 500000.0)[0, 0]
    assert np.allclose(export.rope_table(64, 500000.0, {"type": "linear", "factor": 4.0})[0, 0], plain / 4)
    s = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    got, wavelength = export.rope_table(64, 500000.0, s)[0, 0], 2 * np.pi / plain
    assert np.allclose(got[wavelength < 8192 / 4], plain[wavelength < 8192 / 4])
    assert np.allclose(got[wavelength > 8192], plain[wavelength > 8192] / 32)
    between = (wavelength >= 8192 / 4) & (wavelength <= 8192)
    assert between.any() and ((got < plain) & (got > plain / 32))[between].all()


def hostile(path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {path.parent}/owned",)

    with zipfile.ZipFile(path, "w") as z:
        z.writestr("ckpt/data.pkl", pickle.dumps({"model": Evil(), "model_args": {}}))
    return path


def broken_folder(change, **config):
    def make(tmp):
        path = folder(tmp, weights(), **config)
        change(path)
        return path

    return make


def edit_header(**fields):
    """Change the first tensor's entry in the safetensors header."""

    def change(path):
        raw = (path / "model.safetensors").read_bytes()
        size = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8 : 8 + size])
        header["model.embed_tokens.weight"] |= fields
        text = json.dumps(header).encode()
        (path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])

    return change


def write(name, raw):
    return lambda path: (path / name).write_bytes(raw)


def params(path, w, shards=1, **more):
    """Meta's folder: each matrix cut over the shards as its model-parallel layers are; norms in every one."""
    path.mkdir()
    s = SHAPE
    sizes = dict(dim=s["dim"], n_layers=s["layers"], n_heads=s["heads"], n_kv_heads=s["kv"], norm_eps=1e-5, vocab_size=-1)
    (path / "params.json").write_text(json.dumps({**sizes, "max_seq_len": s["ctx"], **more}))
    for n in range(shards):
        cut = lambda a, axis, n=n: np.ascontiguousarray(np.array_split(a, shards, axis)[n])
        across = lambda name: name.endswith(("wo.weight", "w2.weight")) or "embeddings" in name
        part = {name: a if a.ndim == 1 else cut(a, int(across(name))) for name, a in w.items()}
        part["rope.freqs"] = np.ones(3, np.float32)
        torch_file(path / f"consolidated.{n:02}.pth", part, bare=True)
    return path


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
    arrays = {name: np.asarray(x) for name, x in export.read_safetensors(hf / "model.safetensors").items()}
    shutil.copytree(hf, tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").unlink()
    torch_file(tmp_path / "old" / "pytorch_model.bin", arrays, bare=True)
    assert convert(tmp_path / "old", b) == 1 and "--allow-pickle" in capsys.readouterr().err
    assert convert(tmp_path / "old", b, "--allow-pickle") == 0
    one, two = tensors(a), tensors(b)
    assert one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)
    hostile(tmp_path / "old" / "pytorch_model.bin")
    assert convert(tmp_path / "old", b, "--allow-pickle") == 1 and "refused" in capsys.readouterr().err


def test_meta_without_leave_or_with_parts_missing_is_refused(tmp_path, capsys):
    whole = params(tmp_path / "meta", weights(), 2)
    for options, change, says in (
        ((), NOTHING, "--allow-pickle"),
        (("--allow-pickle",), lambda p: (p / "consolidated.01.pth").unlink(), "expected \\(93, 48\\)"),
        (("--allow-pickle",), lambda p: (p / "params.json").write_text("{}"), "KeyError\\('dim'\\)"),
        (("--allow-pickle",), lambda p: (p / "consolidated.00.pth").unlink(), "no consolidated"),
    ):
        change(whole)
        assert convert(whole, tmp_path / "x.bin", *options) == 1
        assert __import__("re").search(says, capsys.readouterr().err), says


def drop(w, name):
    return {k: v for k, v in w.items() if k != name}


NOTHING = lambda path: None
INDEX = json.dumps({"weight_map": {"a": "../evil.safetensors"}}).encode()
REFUSALS = {
    "no such file": (lambda t: t / "none.bin", "not found"),
    "X1 no config": (broken_folder(lambda p: (p / "config.json").unlink()), "config.json: not found"),
    "X1 architecture": (
        broken_folder(NOTHING, architectures=["MambaForCausalLM"]),
        "'MambaForCausalLM' is not supported; known: Llama, Mistral",
    ),
    "X1 bad JSON": (broken_folder(write("config.json", b"{")), "not readable JSON"),
    "X1 sizes missing": (
        broken_folder(write("config.json", b'{"architectures": ["LlamaForCausalLM"]}')),
        "hidden_size",
    ),
    "X2 rope": (broken_folder(NOTHING, rope_scaling={"rope_type": "dynamic", "factor": 2.0}), "rope type 'dynamic'"),
    "X2 activation": (broken_folder(NOTHING, hidden_act="mish"), "activation 'mish'"),
    "X2 quantised": (broken_folder(NOTHING, quantization_config={"bits": 4}), "quantization_config"),
    "X3 missing": (lambda t: folder(t, drop(weights(), "norm.weight")), "model.norm.weight is missing"),
    "X3 left over": (lambda t: folder(t, weights(bias=True)), "attention_bias is False, but the weights say otherwise"),
    "X3 wrong shape": (broken_folder(NOTHING, intermediate_size=80), r"\(76, 48\), expected \(80, 48\)"),
    "X4 pickled weights": (
        broken_folder(lambda p: (p / "model.safetensors").rename(p / "pytorch_model.bin")),
        "only pytorch_model.bin, whose loading can run code",
    ),
    "X4 hostile pickle": (lambda t: hostile(t / "evil.pt"), "asks for (posix|nt).system"),
    "X4 bare pickle": (
        lambda t: (t / "a.pkl").write_bytes(pickle.dumps({"x": list(range(999))})) and t / "a.pkl",
        "a bare pickle",
    ),
    "X5 huge header": (
        broken_folder(write("model.safetensors", struct.pack("<Q", 1 << 50) + bytes(500))),
        "header of 1,125,899,906,842,624",
    ),
    "X5 bad header": (
        broken_folder(write("model.safetensors", struct.pack("<Q", 4) + b"nope")),
        "not what safetensors writes",
    ),
    "X5 overlap": (broken_folder(edit_header(data_offsets=[64, 64 + 93 * 48 * 4])), "overlaps"),
    "X5 wrong length": (broken_folder(edit_header(shape=[93, 47])), "overlaps"),
    "X5 overflow": (broken_folder(edit_header(shape=[1 << 62, 1 << 62])), "overlaps"),
    "X5 type": (broken_folder(edit_header(dtype="F8_E4M3")), "type F8_E4M3"),
    "X5 negative": (broken_folder(edit_header(data_offsets=[-4, 17852])), "overlaps"),
    "X5 index points outside": (broken_folder(write("model.safetensors.index.json", INDEX)), "no plain file name"),
    "X6 shard missing": (
        broken_folder(write("model.safetensors.index.json", b'{"weight_map": {"a": "b.safetensors"}}')),
        "b.safetensors is missing",
    ),
    "X6 truncated": (
        broken_folder(lambda p: (p / "model.safetensors").write_bytes((p / "model.safetensors").read_bytes()[:-9])),
        "cut short",
    ),
    "X6 trailing": (
        broken_folder(lambda p: (p / "model.safetensors").write_bytes((p / "model.safetensors").read_bytes() + b"x")),
        "tensors end at",
    ),
    "no weights": (broken_folder(lambda p: (p / "model.safetensors").unlink()), "no weights"),
    "GGUF": (lambda t: (t / "a.gguf").write_bytes(b"GGUF" + bytes(500)) and t / "a.gguf", "GGUF"),
    "llama2.c truncated": (
        lambda t: (t / "s.bin").write_bytes(llama2c_file(t / "r.bin", weights()).read_bytes()[:-9]) and t / "s.bin",
        "truncated",
    ),
    "llama2.c longer": (
        lambda t: (
            (t / "s.bin").write_bytes(llama2c_file(t / "r.bin", weights()).read_bytes() + b"xxxx") and t / "s.bin"
        ),
        "promises",
    ),
    "llama2.c version 9": (
        lambda t: (t / "s.bin").write_bytes(b"24ka" + struct.pack("<i", 9) + bytes(600)) and t / "s.bin",
        "version 9",
    ),
    "noise": (lambda t: (t / "s.bin").write_bytes(bytes(range(256)) * 9) and t / "s.bin", "no sizes of a model"),
    "short": (lambda t: (t / "s.bin").write_bytes(b"x" * 9) and t / "s.bin", "9 bytes"),
    "compressed checkpoint": (lambda t: torch_file(t / "a.pt", weights(), compress=True), "is compressed"),
    "checkpoint without weights": (lambda t: torch_file(t / "a.pt", {}), "lack"),
    "plain zip": (
        lambda t: zipfile.ZipFile(t / "a.zip", "w").writestr("readme", "x" * 300) or t / "a.zip",
        "without data.pkl",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refused_by_name(name, tmp_path, capsys):
    make, says = REFUSALS[name]
    source = make(tmp_path)
    began = time.perf_counter()
    code = convert(source, tmp_path / "out.model")
    err = capsys.readouterr().err
    last = err.strip().splitlines()[-1]
    assert code == 1 and last.startswith("export.py: error: ") and __import__("re").search(says, last), last
    assert time.perf_counter() - began < 2 and "Traceback" not in err
    assert not list(tmp_path.glob("out.model*")) and not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "storage, says",
    [
        ({"shape": (93, 480)}, "reaches past"),
        ({"key": "99"}, "which is not in it"),
    ],
)
def test_checkpoint_that_reaches_outside(tmp_path, capsys, storage, says, monkeypatch):
    w = weights()
    real = Tensor.__init__

    def lie(self, s, shape):
        real(self, s, shape)
        if shape == (93, 48):
            self.shape = storage.get("shape", shape)
            s.pid = (*s.pid[:2], storage.get("key", s.pid[2]), *s.pid[3:])

    monkeypatch.setattr(Tensor, "__init__", lie)
    assert convert(torch_file(tmp_path / "a.pt", w), tmp_path / "m.bin") == 1
    assert says in capsys.readouterr().err


def test_x7_numbers_that_do_not_fit(tmp_path, capsys):
    w = weights()
    w["layers.1.feed_forward.w2.weight"][3, 5] = 1e6
    assert convert(llama2c_file(tmp_path / "a.bin", w), tmp_path / "m.bin", "--type", "f16") == 1
    assert "l1.down reaches 1e+06" in capsys.readouterr().err
    w["layers.1.feed_forward.w2.weight"][3, 5] = np.nan
    assert convert(llama2c_file(tmp_path / "a.bin", w), tmp_path / "m.bin", "--type", "bf16") == 1
    assert "l1.down holds NaN" in capsys.readouterr().err


def test_x9_names_are_guarded(tmp_path, capsys):
    source, out = llama2c_file(tmp_path / "a.bin", weights()), tmp_path / "m.bin"
    assert export.main([str(source), "-o", str(out), "--tokenizer", "none"]) == 0
    before = out.read_bytes()
    assert export.main([str(source), "-o", str(out), "--tokenizer", "none"]) == 1
    assert "exists already" in capsys.readouterr().err and out.read_bytes() == before
    assert export.main([str(source), "-o", str(source), "--tokenizer", "none", "--overwrite"]) == 1
    assert "is the source itself" in capsys.readouterr().err
    assert export.main([str(source), "-o", str(tmp_path / "no" / "m.bin"), "--tokenizer", "none"]) == 1
    assert "folder does not exist" in capsys.readouterr().err


def test_x10_a_full_disk_leaves_the_old_file(tmp_path, capsys, monkeypatch):
    source, out = llama2c_file(tmp_path / "a.bin", weights()), tmp_path / "m.bin"
    assert convert(source, out) == 0
    before = out.read_bytes()
    real = export.metadata

    def full(*args):
        full.count += 1
        if full.count == 2:
            raise OSError(28, "No space left on device")
        return real(*args)

    full.count = 0
    monkeypatch.setattr(export, "metadata", full)
    assert convert(source, out, "--type", "q4_0") == 1
    assert (
        "No space left" in capsys.readouterr().err and out.read_bytes() == before and not list(tmp_path.glob("*.tmp*"))
    )


def test_x11_killed_exports_leave_nothing_half_written(tmp_path):
    """The old file stays; the next export sweeps up after the dead."""
    source, out = llama2c_file(tmp_path / "a.bin", weights()), tmp_path / "m.bin"
    assert convert(source, out) == 0
    before = out.read_bytes()
    for delay in (0.3, 0.6, 0.9):
        p = subprocess.Popen(
            [sys.executable, ROOT / "export.py", "--random", "15M", "-o", out, "--overwrite"], stderr=subprocess.DEVNULL
        )
        time.sleep(delay)
        p.send_signal(signal.SIGKILL)
        p.wait()
        run.verify(run.open_model(out))
        if out.read_bytes() != before:
            break  # it was quick enough to finish: then the new file is whole
    assert convert(source, out) == 0 and not list(tmp_path.glob("m.bin.tmp*"))


def test_same_source_same_bytes(tmp_path):
    source = llama2c_file(tmp_path / "a.bin", weights())
    for name in ("one", "two"):
        assert convert(source, tmp_path / name) == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_memory_stays_small_whatever_the_size(tmp_path):
    """110M weights, made up as float32 rows, or read from a file of 438 MB (of zeros): the export stays under 300 MB."""
    dim, ffn, layers, vocab = 768, 2048, 12, 32000
    with open(tmp_path / "zeros.bin", "wb") as f:
        f.write(struct.pack("<7i", dim, ffn, layers, 12, 12, vocab, 512))
        f.truncate(28 + 4 * (vocab * dim + layers * (4 * dim * dim + 3 * dim * ffn + 2 * dim) + dim + 512 * 64))
    script = "import sys; sys.path.insert(0, sys.argv[1]); import export, run\nassert export.main(sys.argv[2:]) == 0\n"
    script += "print(run.peak_rss())"
    peaks = {}
    for source, dtype in ((["--random", "110M"], "f16"), (["--random", "110M"], "q8_0"), ([tmp_path / "zeros.bin"], "q8_0")):
        command = [sys.executable, "-c", script, ROOT, *source, "-o", tmp_path / "r.bin", "--type", dtype, "--overwrite"]
        done = subprocess.run([*command, "--tokenizer", "none"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks[str(source[0]), dtype] = int(done.stdout) / 2**20
    print("peak MB", peaks)
    assert 0 < max(peaks.values()) < 300
    assert resource is not None
    for name in ("a", "b"):
        assert export.main(["--random", "15M", "-o", str(tmp_path / name), "--seed", "3"]) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    logits = run.Model(tmp_path / "a", verbose=False).logits([1, 2, 3])
    assert np.isfinite(logits).all() and logits.std() > 0.1


def test_our_trainers_checkpoint(tmp_path):
    """Tokenizer inside, documents that begin and end with token 0."""
    pytest.importorskip("tokenizers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    t = Tokenizer(models.BPE())
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    t.train_from_iterator(["the fox and the shoe and the fox"] * 9, trainer)
    shape = {**SHAPE, "vocab": t.get_vocab_size()}
    args = dict(
        dim=48,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        vocab_size=shape["vocab"],
        hidden_dim=76,
        max_seq_len=64,
        norm_eps=1e-5,
        rope_theta=10000.0,
    )
    extra = {"tokenizer": t.to_str(), "note": "made by a test"}
    source = torch_file(tmp_path / "ckpt.pt", weights(shape, tied=True), args, extra)
    for options in ([], ["--embed-tokenizer"]):
        assert export.main([str(source), "-o", str(tmp_path / "model.bin"), "--overwrite", *options]) == 0
        m = run.Model(tmp_path / "model.bin", verbose=False)
        assert (
            m.tokenize("the fox")[0] == 0
            and m.detokenize(m.tokenize("the fox")) == "the fox"
            and m.tokenizer.stops == {0}
        )
        assert "made by a test" in m.file.note
        (tmp_path / "tokenizer.bin").unlink(missing_ok=True)


def test_pretrain_smoke(tmp_path):
    """Train, export, run, end to end, where torch is installed."""
    pytest.importorskip("torch")
    pytest.importorskip("tokenizers")
    done = subprocess.run(
        [sys.executable, ROOT / "train" / "pretrain.py", "--smoke", "--out", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert export.main([str(tmp_path / "ckpt.pt"), "-o", str(tmp_path / "model.bin")]) == 0
    text = run.Model(tmp_path / "model.bin", verbose=False).generate("A fox", max_tokens=20, seed=1, ignore_eos=True)
    assert len(text) > 10
    pytest.importorskip("jinja2")
    chat, preferred = tmp_path / "chat", tmp_path / "preferred"
    for program, options in (
        ("finetune.py", ["--base", tmp_path / "ckpt.pt", "--out", chat]),
        ("prefer.py", ["--chat", chat / "ckpt.pt", "--out", preferred]),
    ):
        done = subprocess.run([sys.executable, ROOT / "train" / program, "--smoke", *options], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert export.main([str(preferred / "ckpt.pt"), "-o", str(preferred / "model.bin"), "--embed-tokenizer"]) == 0
    model = run.Model(preferred / "model.bin", verbose=False)
    ids = model.encode_chat([{"role": "user", "content": "Tell me a story."}])
    assert [model.tokenizer.name(i) for i in (ids[0], ids[1], ids[-1])] == ["<|endoftext|>", "<|user|>", "<|assistant|>"]
    assert "<|end|>" in map(model.tokenizer.name, model.tokenizer.stops)


def test_a_killed_training_ends_with_the_same_weights(tmp_path):
    """Killed after its first checkpoint and started again, each stage ends as if nothing had been."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("tokenizers")
    base = tmp_path / "base"
    for program, options in (("pretrain.py", []), ("finetune.py", ["--base", base / "ckpt.pt"])):
        command = [sys.executable, ROOT / "train" / program, "--smoke", "--threads", "1", *map(str, options)]
        whole, cut = (base if not options else tmp_path / "whole"), tmp_path / f"cut {program}"
        subprocess.run([*command, "--out", whole], capture_output=True, check=True)
        with subprocess.Popen([*command, "--out", cut], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while not (cut / "resume.pt").exists() and process.poll() is None:
                time.sleep(0.01)
            process.kill()
        done = subprocess.run([*command, "--out", cut], capture_output=True, text=True)
        assert done.returncode == 0 and "resuming at step" in done.stdout, done.stderr
        one, two = (torch.load(folder / "ckpt.pt", weights_only=True)["model"] for folder in (whole, cut))
        assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one), program


def test_hf_llama_from_shared(tmp_path):
    assert export.main([str(shared("checkpoints/tinystories-656k")), "-o", str(tmp_path / "m.bin")]) == 0
    m = run.Model(tmp_path / "m.bin", verbose=False)
    assert m.tokenizer.stops == {2} and m.generate("Once upon a time", max_tokens=30, temperature=0).startswith(", ")


def test_tokenizer_only(tmp_path, capsys):
    """Of a tokenizer's own file and of a folder the same bytes; of what has none, a message and no file."""
    source = shared("checkpoints/tinystories-656k")
    one, two = tmp_path / "one.bin", tmp_path / "two.bin"
    assert export.main([str(source), "--tokenizer-only", "-o", str(one)]) == 0
    assert export.main([str(source / "tokenizer.json"), "--tokenizer-only", "-o", str(two)]) == 0
    assert run.Tokenizer(one).pieces == run.Tokenizer(two).pieces and run.Tokenizer(one).encode("Once upon a time")
    tok512 = shared("checkpoints/stories260K/tok512.bin")
    assert export.main([str(tok512), "--tokenizer-only", "-o", str(tmp_path / "t.bin")]) == 0
    assert run.Tokenizer(tmp_path / "t.bin").n_vocab == 512
    capsys.readouterr()
    for wrong in (tmp_path, tmp_path / "none.json", ROOT / "README.md"):
        assert export.main([str(wrong), "--tokenizer-only", "-o", str(tmp_path / "x.bin")]) == 1
        err = capsys.readouterr().err
        assert err.startswith("export.py: error: ") and "Traceback" not in err and not (tmp_path / "x.bin").exists()
    assert export.main([str(tok512), "--tokenizer-only", "-o", str(one)]) == 1 and "exists already" in capsys.readouterr().err
