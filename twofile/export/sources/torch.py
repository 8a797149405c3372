"""PyTorch's checkpoints: llama2.c's, and our trainer's."""

import struct
import zipfile
from dataclasses import replace

import numpy as np

from ...errors import ModelError, printable
from ..arrays import mapped
from ..say import DAMAGED
from .llama2c import llama2c
from .pickled import Bounded, unpickle


def load_torch(path):
    """What torch.save wrote into a zip file, without torch and without running code of its pickle; tensors are mapped."""
    raw, storages, body = mapped(path), {}, None
    with Bounded(path) as f, zipfile.ZipFile(f) as z:
        for info in z.infolist():
            top, _, rest = info.filename.partition("/")
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise ModelError(
                    f"member {printable(info.filename)[:80]} is compressed; expected what torch.save writes"
                )
            if not 0 <= info.header_offset <= len(raw) - 30:
                raise ModelError(
                    f"member {printable(info.filename)[:80]} is not in the file; is it truncated?"
                )
            # of the local header: name and extra field
            names = struct.unpack_from("<HH", raw, info.header_offset + 26)
            at = info.header_offset + 30 + sum(names)
            if at + info.file_size > len(raw):
                raise ModelError(
                    f"member {printable(info.filename)[:80]} reaches past the end; is the file truncated?"
                )
            if rest in ("data.pkl", "byteorder") and info.file_size > 32 << 20:
                raise ModelError(
                    f"a {rest} of {info.file_size:,} bytes; expected at most 32 MiB; refused"
                )
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
        raise ModelError(
            f"the checkpoint's pickle is damaged ({type(e).__name__}: {printable(str(e))[:80]})"
        ) from None
    return value


def is_weight(v):
    return isinstance(v, np.ndarray) and v.dtype in (np.float32, np.float16, np.float64, np.uint16)


def read_torch(path):
    """A checkpoint of llama2.c or of train/pretrain.py."""
    value = load_torch(path)
    if (
        not isinstance(value, dict)
        or not isinstance(value.get("model_args"), dict)
        or not isinstance(value.get("model"), dict)
    ):
        raise ModelError(
            "the checkpoint has no model_args and model; expected one of llama2.c or of train/pretrain.py"
        )
    return torch_source(value)


def equal(a, b):
    """Whether two matrices are the same, compared a few rows at a time."""
    return a.shape == b.shape and all(
        np.array_equal(a[i : i + 1024], b[i : i + 1024]) for i in range(0, len(a), 1024)
    )


def torch_source(value):
    """The dict that llama2.c and train/pretrain.py save -> source."""
    a, arrays = (
        value["model_args"],
        {str(k).removeprefix("_orig_mod."): v for k, v in value["model"].items()},
    )
    arrays = {k: v for k, v in arrays.items() if not k.startswith("freqs_")}
    for name, array in arrays.items():
        if not is_weight(array):
            raise ModelError(
                f"{printable(name)[:80]} is no tensor of numbers; expected weights; is the checkpoint damaged?"
            )
    try:
        dim, layers, heads = int(a["dim"]), int(a["n_layers"]), int(a["n_heads"])
        embed, ffn = (
            arrays["tok_embeddings.weight"].shape[0],
            arrays["layers.0.feed_forward.w1.weight"].shape[0],
        )
        kv, max_ctx = int(a.get("n_kv_heads") or heads), int(a.get("max_seq_len", 2048))
        theta, eps = float(a.get("rope_theta", 10000.0)), float(a.get("norm_eps", 1e-5))
    except DAMAGED as e:
        found = f"model_args or weights lack {printable(str(e))[:80]}"
        raise ModelError(
            f"{found}; expected a checkpoint of llama2.c or of train/pretrain.py"
        ) from None
    shared = arrays.get("output.weight")
    tied = shared is None or equal(shared, arrays["tok_embeddings.weight"])
    if tied:
        arrays.pop("output.weight", None)
    own = "tokenizer" in value
    kind, shape = (
        "train/pretrain.py" if own else "llama2.c .pt",
        (dim, ffn, layers, heads, kv, embed),
    )
    s = llama2c(kind, arrays, shape, tied, max_ctx, theta, eps)
    if own:  # documents of our trainer begin and end with token 0
        s.config = replace(s.config, bos=0, eos=0)
        text = lambda key: value[key] if isinstance(value.get(key), str) else ""
        s.tokenizer_json, s.note, s.chat_template = (
            text("tokenizer"),
            text("note"),
            text("chat_template"),
        )
    return s
