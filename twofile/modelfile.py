"""A model file, checked and mapped."""

import hashlib
import os
import re
from types import SimpleNamespace

import numpy as np

from .errors import ModelError, printable
from .files import open_regular, padded
from .format.config import CONFIG, Config, _check_config
from .format.table import HEADER, PAGE, RECORD, Tensor, _read_meta, _read_table
from .format.types import MATRIX_TYPES, scale_shape
from .layers.plan import tensor_plan


def open_model(path):
    """Check the whole description of a model file, then map it.

    -> SimpleNamespace(path, config, tensors {name: Tensor}, model_id (hex), note, size (bytes)). Nothing but the header
    pages and the small tensors is read. Raises ModelError for every file this program could not run safely.
    """
    name = printable(str(path))
    fd, size = open_regular(path, "a model.bin")
    with os.fdopen(fd, "rb") as f:
        try:
            meta = _read_meta(f, size)
            model = _parse_meta(meta, size)
            # numpy slices of a memmap are slow, so the subclass is dropped once, here
            raw = np.asarray(np.memmap(f, np.uint8, "r"))
            if len(raw) != size:
                raise ModelError(
                    "changed while it was being opened; expected a file at rest; try again"
                )
            model.tensors = {t.name: _with_data(t, raw) for t in model.tensors}
            _check_values(model, fd)
        except ModelError as e:
            raise ModelError(f"{name}: {e}") from None
        except (OSError, ValueError) as e:
            raise ModelError(
                f"{name}: cannot be mapped ({e}); expected a readable file; check the disk"
            ) from None
    model.path, model.size = str(path), size
    return model


def _with_data(t, raw):
    return Tensor(
        t.name, t.dtype, t.shape, t.off, t.nbytes, t.sha256, raw[t.off : t.off + t.nbytes]
    )


def _parse_meta(meta, size):
    """Header, config, table and note against each other and against the plan -> namespace without data."""
    _, _, _, _, n, _, _, data_off, note_off, note_len, digest = HEADER.unpack_from(meta)
    if len(meta) != data_off or hashlib.sha256(meta[0x60:]).digest() != digest:
        raise ModelError(
            "metadata checksum does not match: the header is damaged; copy or export the file again"
        )
    if any(meta[0x60 + CONFIG.size : PAGE]):
        raise ModelError("reserved header bytes are set, expected zeros; use a newer run.py")
    end = PAGE + n * RECORD
    last = note_off + note_len
    ends_well = (
        padded(last, PAGE) == data_off and not any(meta[last:]) and (meta[last - 1] or not note_len)
    )
    if note_off != end or note_len > 1 << 20 or not ends_well:
        raise ModelError(
            f"note of {note_len:,} bytes at {note_off:,}, expected at most 1 MiB at {end:,}; export again"
        )
    c = Config.unpack(meta[0x60:PAGE])
    _check_config(c)
    tensors = _read_table(meta, n, data_off)
    if padded(tensors[-1].off + tensors[-1].nbytes, 64) != size:
        raise ModelError(
            f"tensors end at {tensors[-1].off + tensors[-1].nbytes:,} of {size:,} bytes; export again"
        )
    _check_plan(c, tensors)
    return SimpleNamespace(
        config=c,
        tensors=tensors,
        model_id=digest.hex(),
        note=meta[note_off : note_off + note_len].decode("utf-8", "replace"),
    )


def _check_plan(c, tensors):
    """The table must be what the config calls for: nothing missing, nothing more, in order."""
    found = [(t.name, t.shape, t.dtype) for t in tensors]
    kinds, want = {t.name: t.dtype for t in tensors}, []
    for name, shape, role in tensor_plan(c):
        dtype = (
            kinds.get(name)
            if role == "matrix" and kinds.get(name) in MATRIX_TYPES
            else "f32"
            if role == "matrix"
            else role
        )
        if role == "u8":
            shape = next((t.shape for t in tensors if t.name == name and len(t.shape) == 1), shape)
        want.append((name, shape, dtype))
        if dtype in ("q8_0", "q4_0"):
            want.append((name + ".s", scale_shape(shape), "f16"))
    if found != want:
        known, there = set(want), set(found)
        extra, missing = [t for t in found if t not in known], [t for t in want if t not in there]
        show = lambda rows: ", ".join(f"{n} {s} {d}" for n, s, d in rows[:3]) or "none"
        raise ModelError(
            f"tensors do not fit the config: unexpected {show(extra)}; missing {show(missing)}; export again"
        )


def _check_values(model, fd):
    """The tensors that steer the others, or multiply everything, must be finite and in range."""
    c, t = model.config, model.tensors
    # read, not mapped: the kernel reads far ahead at a page fault, which in a huge file takes seconds
    read = lambda x: os.pread(fd, x.nbytes, x.off) if hasattr(os, "pread") else x.data
    window, rope_id = (np.frombuffer(read(t[name]), "<i4") for name in ("window", "rope_id"))
    if window.min() < 0 or rope_id.min() < -1 or rope_id.max() >= c.n_rope:
        raise ModelError(
            f"window or rope_id out of range, expected 0 or more, and -1..{c.n_rope - 1}; export again"
        )
    scales = [x for x in t.values() if x.dtype == "f16" and len(x.shape) == 3]
    # reading more would take longer than opening should, and a file with holes can promise any number: verify() reads all
    scales, left = [] if sum(x.nbytes for x in scales) > 8 << 20 else scales, 32 << 20
    for tensor in [x for x in t.values() if x.dtype == "f32" and len(x.shape) != 2] + scales:
        left -= tensor.nbytes
        if left < 0:
            break
        if not np.isfinite(
            np.frombuffer(read(tensor), "<f4" if tensor.dtype == "f32" else "<f2")
        ).all():
            raise ModelError(
                f"tensor {tensor.name} holds NaN or infinity, expected finite numbers; export again"
            )


MODEL_ID = re.compile("[0-9a-fA-F]{16,64}")


def check_id(model, wanted):
    """Raises ModelError unless the model id, which the hashes of all tensors are part of, begins with wanted, and every tensor
    as it is mapped has its hash."""
    if not MODEL_ID.fullmatch(wanted):
        raise ModelError(
            f"--id: {printable(wanted)[:80]!r}, expected 16 to 64 digits of what --info shows"
        )
    path = printable(model.path)
    if not model.model_id.startswith(wanted.lower()):
        raise ModelError(
            f"{path}: model id {model.model_id}, expected {wanted.lower()}; get the file that has it"
        )
    for t in model.tensors.values():
        if hashlib.sha256(t.data).digest() != t.sha256:
            raise ModelError(
                f"{path}: checksum of {t.name} does not match its data; copy or export the file again"
            )


def verify(model):
    """Compare every tensor with its stored SHA-256; raises ModelError naming the first that differs."""
    path = printable(model.path)
    with open(
        model.path, "rb"
    ) as f:  # read, not mapped: a check of a file leaves no trace in this process's memory
        for t in model.tensors.values():
            f.seek(t.off)
            digest, finite = hashlib.sha256(), True
            for at in range(0, t.nbytes, 1 << 22):
                part = f.read(min(1 << 22, t.nbytes - at))
                if len(part) < min(1 << 22, t.nbytes - at):
                    raise ModelError(
                        f"{path}: was cut short while {t.name} was read; expected a file at rest; try again"
                    )
                digest.update(part)
                if t.dtype in ("f32", "f16"):
                    finite &= bool(
                        np.isfinite(np.frombuffer(part, "<f4" if t.dtype == "f32" else "<f2")).all()
                    )
            if digest.digest() != t.sha256:
                raise ModelError(
                    f"{path}: checksum of {t.name} does not match its data; copy or export the file again"
                )
            if not finite:
                raise ModelError(
                    f"{path}: tensor {t.name} holds NaN or infinity, expected finite numbers; export again"
                )
