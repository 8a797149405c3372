"""Checkpoints of every kind, written by their own descriptions, and the tensors that they become."""

import json
import os
import pickle
import struct
import zipfile

import numpy as np

from twins.weights import read_tensors
from twofile.export.families.names import HF_NAMES, META_NAMES
from twofile.export.main import main
from twofile.export.pack import to_bfloat16

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


STORAGES = {"bool": "Bool", "int64": "Long", "uint8": "Byte", "float64": "Double", "complex64": "ComplexFloat"}


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
            Storage(Global("torch", STORAGES.get(array.dtype.name, dtype) + "Storage"), str(i), array.size), array.shape
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
        raw = to_bfloat16(a).tobytes() if kind == "BF16" else a.astype({"F32": "<f4", "F16": "<f2"}[kind]).tobytes()
        header[name] = {"dtype": kind, "shape": list(a.shape), "data_offsets": [at, at + len(raw)]}
        at, body = at + len(raw), body + raw
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def folder(path, w, kind="F32", shards=1, tied=False, bias=False, **config):
    """A Hugging Face folder; wq and wk go to half-split order, as its converter does, by another way than export.py's."""
    s, path = SHAPE, path / "hf"
    path.mkdir()
    back = {v: k for k, v in vars(META_NAMES).items()}
    arrays = {}
    for name, a in w.items():
        parts = name.split(".")
        layer = parts[1] if parts[0] == "layers" else ""
        key = back[
            (".".join(["layers.{}", *parts[2:]]) if layer else name).removesuffix("bias").removesuffix("weight") + "weight"
        ]
        if key in ("wq", "wk"):
            heads = s["heads"] if key == "wq" else s["kv"]
            a = a.reshape(heads, s["dim"] // s["heads"] // 2, 2, -1).swapaxes(1, 2).reshape(a.shape)
        new = getattr(HF_NAMES, key).format(layer)
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
        code = main(args)
    except SystemExit as e:
        code = e.code
    return code


def tensors(path):
    return {k: v for k, v in read_tensors(path).items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def hostile(path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {path.parent}/owned",)

    with zipfile.ZipFile(path, "w") as z:
        z.writestr("ckpt/data.pkl", pickle.dumps({"model": Evil(), "model_args": {}}))
    return path


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
