"""Every architecture that export.py knows, against transformers' logits of a tiny model (made by make_families.py)."""

import json
import struct

import numpy as np
import pytest
from conftest import ROOT
from families import KEPT, tokens, weights
from test_forward import closeness

import export
import run

FAMILIES = json.loads((ROOT / "tests" / "golden" / "families.json").read_text())
LOGITS = np.load(ROOT / "tests" / "golden" / "families.npz")


def write_folder(folder, case, drop=(), more=()):
    """A Hugging Face folder of a case's config and weights."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(case["config"]))
    header, body = {}, b""
    for name, array in {**weights(case["tensors"]), **dict(more)}.items():
        if name not in drop:
            header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(body), len(body) + array.nbytes]}
            body += array.astype("<f4").tobytes()
    head = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + body)
    return folder


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_those_of_transformers(name, tmp_path):
    folder = write_folder(tmp_path / "hf", FAMILIES[name])
    out = tmp_path / "model.bin"
    assert export.main([str(folder), "-o", str(out), "--type", "f32", "--tokenizer", "none"]) == 0
    model = run.Model(out, verbose=False)
    rms, largest = closeness(model.logits(tokens())[KEPT], LOGITS[name].astype(float))
    assert rms <= 1e-5 and largest <= 1e-4, (rms, largest)


def test_every_architecture_has_a_case():
    assert {case["config"]["architectures"][0] for case in FAMILIES.values()} == set(export.FAMILIES)
