"""PyTorch's checkpoints: llama2.c's, and our trainer's."""

import struct
import zipfile

import numpy as np

from ...errors import ModelError, printable
from ..arrays import PLAIN, Unread, equal, mapped, of_numbers
from ..damage import by_kind, by_words, reading, theirs
from .hubnames import unwrapped
from .llama2c import llama2c
from .pickled import Bounded, unpickle


def load_torch(path):
    """What torch.save wrote into a zip file, without torch and without running code of its pickle;
    tensors are mapped."""
    raw, storages, body = mapped(path), {}, None
    for member, data in torch_members(path, raw):
        if member in ("data.pkl", "byteorder") and len(data) > 32 << 20:
            found = f"a {member} of {len(data):,} bytes"
            raise ModelError(f"{found}; expected at most 32 MiB; refused")
        if member == "data.pkl":
            body = data.tobytes()
        elif member == "byteorder" and data.tobytes() != b"little":
            raise ModelError("a big-endian checkpoint; expected little-endian")
        elif member.startswith("data/"):
            storages[member[5:]] = data
    if body is None:
        raise ModelError("a zip archive without data.pkl; expected a torch checkpoint")
    with theirs("the checkpoint's pickle is damaged (", ")", by_kind):
        return unpickle(body, storages)


def torch_members(path, raw):
    """(name inside of its folder, mapped bytes) of the members of a zip file."""
    with Bounded(path) as f, reading(), zipfile.ZipFile(f) as z:
        members = z.infolist()
    for info in members:
        name = printable(info.filename)[:80]
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ModelError(f"member {name} is compressed; expected what torch.save writes")
        if not 0 <= info.header_offset <= len(raw) - 30:
            raise ModelError(f"member {name} is not in the file; is it truncated?")
        # of the local header: name and extra field
        names = struct.unpack_from("<HH", raw, info.header_offset + 26)
        at = info.header_offset + 30 + sum(names)
        if at + info.file_size > len(raw):
            raise ModelError(f"member {name} reaches past the end; is the file truncated?")
        yield info.filename.partition("/")[2], raw[at : at + info.file_size]


def judged(file, array):
    """An array of a checkpoint, or Unread; bytes stay, of which some weights are made."""
    kept = of_numbers(array) or array.dtype == np.uint8
    return array if kept else Unread(file, array.dtype.name, array.shape, PLAIN)


def read_torch(path):
    """A checkpoint of llama2.c or of train/pretrain.py -> Source."""
    value = load_torch(path)
    parts = [value.get(key) for key in ("model_args", "model")] if isinstance(value, dict) else [0]
    if not all(isinstance(part, dict) for part in parts):
        found = "the checkpoint has no model_args and model"
        raise ModelError(f"{found}; expected one of llama2.c or of train/pretrain.py")
    return torch_source(value)


def torch_source(value):
    """The dict that llama2.c and train/pretrain.py save -> Source."""
    a = value["model_args"]
    arrays = unwrapped({str(k): v for k, v in value["model"].items()})
    arrays = {k: v for k, v in arrays.items() if not k.startswith("freqs_")}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            found = f"{printable(name)[:80]} is no tensor"
            raise ModelError(f"{found}; expected weights; is the checkpoint damaged?")
    arrays = {name: judged("the checkpoint", array) for name, array in arrays.items()}
    after = "; expected a checkpoint of llama2.c or of train/pretrain.py"
    with theirs("model_args or weights lack ", after, lambda e: by_words(e, 80)):
        dim, layers, heads = int(a["dim"]), int(a["n_layers"]), int(a["n_heads"])
        embed = arrays["tok_embeddings.weight"].shape[0]
        ffn = arrays["layers.0.feed_forward.w1.weight"].shape[0]
        kv, max_ctx = int(a.get("n_kv_heads") or heads), int(a.get("max_seq_len", 2048))
        theta, eps = float(a.get("rope_theta", 10000.0)), float(a.get("norm_eps", 1e-5))
    shared = arrays.get("output.weight")
    tied = shared is None or equal(shared, arrays["tok_embeddings.weight"])
    if tied:
        arrays.pop("output.weight", None)
    own = "tokenizer" in value
    kind = "train/pretrain.py" if own else "llama2.c .pt"
    s = llama2c(kind, arrays, (dim, ffn, layers, heads, kv, embed), tied, max_ctx, theta, eps)
    if own:  # documents of our trainer begin and end with token 0
        s.config = s.config.changed(bos=0, eos=0)
        text = lambda key: value[key] if isinstance(value.get(key), str) else ""
        s.tokenizer_json, s.note = text("tokenizer"), text("note")
        s.chat_template = text("chat_template")
    return s
