"""model.bin: what is written is what is read, and every harm is refused in words. Rows M1 to M25 of the list of harms."""

import os
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

from helpers.harms import CASES, damaged
from helpers.hostile import holes
from helpers.models import AWKWARD, mend
from helpers.places import ROOT
from twofile.errors import ModelError
from twofile.export.sources.random import random_source
from twofile.export.write import layout, metadata
from twofile.format.config import Config
from twofile.format.types import F32, Q8_0, padded
from twofile.modelfile import open_model, verify


@pytest.mark.parametrize("name", CASES)
def test_bad_file_is_refused_in_words(name, good, tmp_path):
    says, path = CASES[name][1], tmp_path / "model.bin"
    path.write_bytes(damaged(name, good))
    began = time.perf_counter()
    with pytest.raises(ModelError, match=says) as caught:
        open_model(path)
    assert time.perf_counter() - began < 1
    message = str(caught.value)
    assert "model.bin" in message and "\n" not in message and message.count(";") + message.count("?") >= 1


def test_m1_not_a_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path, says in (
        (tmp_path / "none", "not found"),
        (tmp_path, "regular|opened"),
        (tmp_path / "fifo", "not a regular"),
        ("/dev/zero", "not a regular"),
    ):
        began = time.perf_counter()
        with pytest.raises(ModelError, match=says):
            open_model(path)
        assert time.perf_counter() - began < 1


def test_m10_flipped_weight_is_found_by_verify(good, tmp_path):
    raw = bytearray(good)
    (tmp_path / "m.bin").write_bytes(raw)
    t = open_model(tmp_path / "m.bin").tensors["l1.down"]
    raw[t.off + 5] ^= 1
    (tmp_path / "m.bin").write_bytes(raw)
    model = open_model(tmp_path / "m.bin")
    with pytest.raises(ModelError, match="checksum of l1.down"):
        verify(model)


def test_m25_note_is_printed_escaped(good, tmp_path):
    raw = bytearray(good)
    note = int.from_bytes(raw[0x30:0x38], "little")
    raw[note : note + 4] = b"\x1b[31"
    (tmp_path / "m.bin").write_bytes(mend(raw))
    done = subprocess.run([sys.executable, ROOT / "run.py", tmp_path / "m.bin", "--info"], capture_output=True)
    assert done.returncode == 0 and b"\x1b" not in done.stdout and b"\\x1b[31" in done.stdout


def test_no_single_bit_of_the_description_can_be_changed(good, tmp_path):
    """Every bit of the header, and a sample of the config, table and note: refused or, in the magic, not recognised."""
    off = int.from_bytes(good[0x28:0x30], "little")
    spots = list(range(0x60)) + list(np.random.default_rng(0).integers(0x60, off, 400))
    path = tmp_path / "m.bin"
    for at in spots:
        raw = bytearray(good)
        raw[at] ^= 1 << (at % 8)
        path.write_bytes(raw)
        with pytest.raises(ModelError):
            open_model(path)


def test_a_70b_file_opens_at_once(tmp_path):
    """Sparse, all but its first pages a hole: under a second, under 200 MB, and --info answers."""
    source = random_source("70B", 0)
    c = source.config
    rows = layout(c, Q8_0)
    meta = metadata(c, rows, {}, b"sparse")
    path = tmp_path / "70b.bin"
    with open(path, "wb") as f:
        f.write(meta)
        at = len(meta)
        for row in rows:
            at = padded(at + row.type.nbytes(row.shape, row.blocked), 64)
        try:
            f.truncate(at)
        except OSError as e:
            pytest.skip(f"this file system has no sparse files of {at:,} bytes: {e}")
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import run; began = time.perf_counter()\n"
        "m = run.open_model(sys.argv[2]); seconds = time.perf_counter() - began\n"
        "print(seconds, run.peak_rss())"
    )
    done = subprocess.run([sys.executable, "-c", script, ROOT, path], capture_output=True, text=True)
    seconds, memory = map(float, done.stdout.split())
    print(f"70B: {at:,} bytes opened in {seconds * 1000:.0f} ms, {memory / 1e6:.0f} MB")
    assert at > 70e9 and seconds < 1 and 1e6 < memory < 200e6
    done = subprocess.run([sys.executable, ROOT / "run.py", path, "--info"], capture_output=True, text=True)
    assert done.returncode == 0 and "70B" not in done.stderr and "8192" in done.stdout


def test_m13_every_matrix_lies_in_blocks(tmp_path):
    """A matrix of plain rows, all sizes fitting, would be read as blocks of 16: beyond its end."""
    c = Config("llama", **{**AWKWARD, "flags": 1})
    rows = [row._replace(blocked=row.blocked and row.name != "head") for row in layout(c, F32)]
    raw = metadata(c, rows, {}, b"")
    with pytest.raises(ModelError, match="'head'.*layout 0, 2 dims do not fit f32"):
        open_model(holes(tmp_path / "m.bin", raw, struct.unpack_from("<Q", raw, 16)[0]))
