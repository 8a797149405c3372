"""Matrices in pieces by rows: read as one, and refused where they are none."""

import struct
import subprocess

import numpy as np
import pytest

from helpers.models import make_model, mend
from helpers.reader import build_reader
from helpers.records import PIECES
from twins.weights import read_tensors
from twofile.errors import ModelError
from twofile.format.table import PAGE, RECORD
from twofile.layers.stack import bind
from twofile.model import Model
from twofile.modelfile import open_model, verify

ROWS, N_ROWS = 120, 72  # of l0.qkv; where a record has them


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("pieces") / "m.bin", "q8_0", types=PIECES, dim=80)


def changed(raw, **rows):
    """The file with other numbers of rows in records, by names with _ for a dot."""
    raw = bytearray(raw)
    for i in range(int.from_bytes(raw[0x18:0x1C], "little")):
        at = PAGE + i * RECORD
        name = bytes(raw[at : at + 64]).rstrip(b"\0").decode()
        if name.replace(".", "_") in rows:
            struct.pack_into("<Q", raw, at + N_ROWS, rows[name.replace(".", "_")])
    return mend(raw)


def test_pieces_are_one_matrix(path):
    """In memory and to the twin; every piece where the one before ends."""
    model = open_model(path)
    verify(model)
    qkv = bind(model.config, model.tensors).layers[0].qkv
    assert (qkv.rows, qkv.cols) == (ROWS, 80) and [p.first for p in qkv.pieces] == [0, 80, 96]
    assert [(p.rows, p.type.name) for p in qkv.pieces] == PIECES["l0.qkv"]
    assert [sorted(p.beside) for p in qkv.pieces] == [[".d", ".s"], [], [".d", ".s"]]
    assert read_tensors(path)["l0.qkv"].shape == (ROWS, 80)


def test_what_is_no_pieces_is_refused(path, tmp_path):
    """By run.py and by the reader in C: rows too many, too few, a piece that ends inside a block."""
    raw, reader = path.read_bytes(), build_reader(tmp_path)
    wrong = [dict(l0_qkv_2=23), dict(l0_qkv_2=25), dict(l0_qkv=72), dict(l0_qkv=72, l0_qkv_2=32), dict(l0_gate_up=8)]
    for n, rows in enumerate([{}, *wrong]):
        other = tmp_path / f"{n}.bin"
        other.write_bytes(changed(raw, **rows))
        said = subprocess.run([reader, other], capture_output=True, text=True)
        assert bool(said.returncode) == bool(rows), (rows, said.stderr)
        if rows:
            with pytest.raises(ModelError, match="tensors do not fit the config|bytes, expected"):
                open_model(other)


@pytest.mark.parametrize("name", ["embed", "l0.experts_up", "l0.experts_down"])
def test_rows_that_are_taken_by_number_are_whole(name, tmp_path):
    """The embedding's, and those of experts."""
    sizes = dict(n_experts=2, top_k=1, expert_ffn=16, bias=False) if "experts" in name else dict(dim=80)
    whole = open_model(make_model(tmp_path / "w.bin", "q8_0", **sizes)).tensors[name].shape[0]
    pieces = {name: [(16, "q8_0"), (whole - 16, "q8_0")]}
    with pytest.raises(ModelError, match="tensors do not fit the config"):
        open_model(make_model(tmp_path / "m.bin", "q8_0", types=pieces, **sizes))


def test_many_pieces_give_what_one_gives(tmp_path):
    """A matrix cut into pieces of the same type: the same logits to the bit, for any number of threads and tokens."""
    sizes, found = dict(dim=80, seed=3), set()
    cut = {
        "l0.qkv": [(48, "q5_k"), (32, "q5_k"), (40, "q5_k")],
        "l1.down": [(16, "q5_k")] * 5,
        "head": [(80, "q5_k"), (13, "q5_k")],
    }
    for types in ({}, cut):
        path = make_model(tmp_path / f"{len(types)}.bin", "q5_k", types=types, **sizes)
        for threads in (1, 2, 3):
            model, ids = Model(path, n_threads=threads, verbose=False), list(range(3, 22))
            found.add(model.logits(ids).tobytes())
            found.add(np.concatenate([model.logits(ids[:n])[-1:] for n in range(1, 20)]).tobytes())
    assert len(found) == 1
