"""Folders as they lie on the Hub, and transformers' logits."""

import json
import struct

import numpy as np

from families import KEPT, tokens, weights
from helpers.logits import closeness
from helpers.places import ROOT
from twofile.export.main import main
from twofile.model import Model

CASES = json.loads((ROOT / "tests" / "golden" / "families.json").read_text())
KINDS = {"float64": "F64", "float32": "F32", "float16": "F16", "bool": "BOOL", "complex64": "C64"}
KINDS |= {f"{sign}int{bits}": f"{letter}{bits}" for sign, letter in (("", "I"), ("u", "U")) for bits in (8, 16, 32, 64)}
LOGITS = np.load(ROOT / "tests" / "golden" / "families.npz")


def write_folder(folder, case, drop=(), more=()):
    """A Hugging Face folder of a case's config and weights."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(case["config"]))
    header, body = {}, b""
    for name, array in {**weights(case["tensors"]), **dict(more)}.items():
        if name not in drop:
            kind, raw = KINDS.get(array.dtype.name, array.dtype.name), array.tobytes()
            if array.dtype.names:  # of a type that numpy has not: bytes by its name
                (kind,) = array.dtype.names
            header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(raw)]}
            body += raw
    head = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + body)
    return folder


def check(name, case, tmp_path, folder=None):
    folder, out = folder or write_folder(tmp_path / "hf", case), tmp_path / "model.bin"
    assert main([str(folder), "-o", str(out), "--type", "f32", "--tokenizer", "none"]) == 0
    model = Model(out, verbose=False)
    rms, largest = closeness(model.logits(tokens())[KEPT], LOGITS[name].astype(float))
    assert rms <= 1e-5 and largest <= 1e-4, (rms, largest)
    return rms, largest
