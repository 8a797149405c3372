"""Sources that are refused by name. Rows X of the list of harms."""

import json
import pickle
import struct
import time
import zipfile

import numpy as np
import pytest

from helpers.checkpoints import Tensor, convert, folder, hostile, llama2c_file, params, torch_file, weights


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


def index_alone(raw):
    """An index, and no whole file beside it, which would count."""

    def change(path):
        (path / "model.safetensors").unlink()
        (path / "model.safetensors.index.json").write_bytes(raw)

    return change


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
    "a name of a hub": (
        lambda t: "Qwen/Qwen2.5-0.5B",
        "not found; expected a file or folder on this machine; nothing is downloaded",
    ),
    "an address": (
        lambda t: "https://a.b/c/d/e",
        "not found; expected a file or folder on this machine; nothing is downloaded",
    ),
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
    "X2 rope": (broken_folder(NOTHING, rope_scaling={"rope_type": "ntk", "factor": 2.0}), "rope type 'ntk'"),
    "X2 rope without a factor": (broken_folder(NOTHING, rope_scaling={"type": "linear"}), "linear does not say factor"),
    "X2 rope without bounds": (
        broken_folder(NOTHING, rope_scaling={"rope_type": "llama3", "factor": 8.0}),
        "llama3 does not say low_freq_factor, high_freq_factor",
    ),
    "X2 su without factors": (broken_folder(NOTHING, rope_scaling={"type": "su"}), "say short_factor, long_factor"),
    "X2 a factor of words": (
        broken_folder(NOTHING, rope_scaling={"type": "yarn", "factor": "four"}),
        "config.json: .*'four'.*; is it complete",
    ),
    "X2 an endless factor": (
        broken_folder(NOTHING, rope_scaling={"type": "yarn", "factor": 1e300}),
        "max_ctx|context",
    ),
    "X2 more layers than there can be": (broken_folder(NOTHING, num_hidden_layers=1 << 40), "n_layers"),
    "X2 activation": (broken_folder(NOTHING, hidden_act="mish"), "activation 'mish'"),
    "X2 quantised": (broken_folder(NOTHING, quantization_config={"bits": 4}), "quantization_config"),
    "X3 missing": (lambda t: folder(t, drop(weights(), "norm.weight")), "model.norm.weight is missing"),
    "X3 left over": (lambda t: folder(t, weights(bias=True)), "q_proj.bias is a bias that is not zero; expected none"),
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
    "X5 type": (broken_folder(edit_header(dtype="I32")), "embed_tokens.weight has type I32; expected F32, F16"),
    "X5 type of another size": (broken_folder(edit_header(dtype="F8_E4M3")), "overlaps"),
    "X5 type that nobody knows": (broken_folder(edit_header(dtype="F7")), "type F7; known: F64, F32"),
    "X5 type that is none": (broken_folder(edit_header(dtype=["F32"])), "cannot be read|F32"),
    "X5 negative": (broken_folder(edit_header(data_offsets=[-4, 17852])), "overlaps"),
    "X5 index points outside": (broken_folder(index_alone(INDEX)), "no plain file name"),
    "X6 shard missing": (
        broken_folder(index_alone(b'{"weight_map": {"a": "b.safetensors"}}')),
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
        lambda t: (t / "s.bin").write_bytes(llama2c_file(t / "r.bin", weights()).read_bytes() + b"xxxx") and t / "s.bin",
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
