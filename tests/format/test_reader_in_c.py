"""A reader in C, written from docs/format.md, finds the same and refuses the same."""

import subprocess

import numpy as np

from helpers.harms import CASES, damaged
from helpers.models import make_model
from helpers.places import ROOT
from helpers.reader import build_reader
from helpers.records import PIECES
from helpers.switches import SWITCHES
from twofile.modelfile import open_model


def test_a_reader_in_c_agrees(models, good, tmp_path):
    """Written from docs/format.md: the same tensors, the same sums; and it refuses what run.py refuses."""
    reader = build_reader(tmp_path)

    assert len((ROOT / "tests" / "reader.c").read_text().splitlines()) <= 352
    more = [make_model(tmp_path / f"s{i}.bin", "q8_0", **sizes) for i, sizes in enumerate(SWITCHES.values())]
    more.append(make_model(tmp_path / "pieces.bin", "q8_0", types=PIECES, dim=80))
    for path in [*models.values(), *more]:
        done = subprocess.run([reader, path], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        want = [f"{t.name} {int(t.data.sum(dtype=np.uint64))}" for t in open_model(path).tensors.values()]
        assert done.stdout.splitlines() == want
    bad = {}
    for i, name in enumerate(CASES):
        bad[name] = tmp_path / f"{i}.bin"
        bad[name].write_bytes(damaged(name, good))
    done = subprocess.run([reader, *bad.values()], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    accepted = [name for name, said in zip(bad, done.stdout.splitlines(), strict=True) if said == "accepted"]
    assert accepted == []
