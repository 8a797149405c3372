"""A model file, checked and mapped; what it says of itself."""

import hashlib
import math
import os
import re
from typing import NamedTuple

import numpy as np

from .errors import ModelError, WrongType, WrongValue, printable, set_by, shown
from .files import open_regular
from .format.config import CONFIG, Config, unpack_config
from .format.fields import check_ranges
from .format.table import HEADER, PAGE, RECORD, Tensor, read_meta, read_table
from .format.types import BLOCK, F16, F32, U8, padded, type_of
from .layers.kind import piece_name
from .layers.stack import TABLES, check_config, expected_tensors
from .machine import available_cores


class ModelFile(NamedTuple):
    """A checked and mapped model.bin. tensors: {name: Tensor}; model_id: hex; size: bytes."""

    path: str
    size: int
    config: Config
    tensors: dict[str, Tensor]
    model_id: str
    note: str


def open_model(path: str | os.PathLike[str]) -> ModelFile:
    """Check the whole description of a model file, then map it -> ModelFile.

    Nothing but the header pages and the small tensors is read. Raises ModelError for every file
    this program could not run safely.
    """
    fd, size = open_regular(path, "a model.bin")
    name = printable(str(path))
    with os.fdopen(fd, "rb") as f:
        try:
            config, tensors, model_id, note = parse_meta(read_meta(f, size), size)
            # numpy slices of a memmap are slow, so the subclass is dropped once, here
            raw = np.asarray(np.memmap(f, np.uint8, "r"))
            if len(raw) != size:
                found = "changed while it was being opened"
                raise ModelError(f"{found}; expected a file at rest; try again")
            data = {t.name: t._replace(data=raw[t.off : t.off + t.nbytes]) for t in tensors}
            check_values(config, data, fd)
        except ModelError as e:
            raise ModelError(f"{name}: {e}") from None
        except (OSError, ValueError) as e:
            found = f"{name}: cannot be mapped ({e})"
            raise ModelError(f"{found}; expected a readable file; check the disk") from None
    return ModelFile(str(path), size, config, data, model_id, note)


def parse_meta(meta, size):
    """Header, config, table and note against each other and against what the config calls for ->
    Config, [Tensor] without data, model id (hex), note."""
    _, _, _, _, n, _, _, data_off, note_off, note_len, digest = HEADER.unpack_from(meta)
    if len(meta) != data_off or hashlib.sha256(meta[0x60:]).digest() != digest:
        found = "metadata checksum does not match: the header is damaged"
        raise ModelError(f"{found}; copy or export the file again")
    if any(meta[0x60 + CONFIG.size : PAGE]):
        raise ModelError("reserved header bytes are set, expected zeros; use a newer run.py")
    end = PAGE + n * RECORD
    last = note_off + note_len
    fits = padded(last, PAGE) == data_off
    ends_well = fits and not any(meta[last:]) and (meta[last - 1] or not note_len)
    if note_off != end or note_len > 1 << 20 or not ends_well:
        found = f"note of {note_len:,} bytes at {note_off:,}"
        raise ModelError(f"{found}, expected at most 1 MiB at {end:,}; export again")
    numbers = unpack_config(meta[0x60:PAGE])
    check_ranges(numbers)
    c = Config(**numbers)
    check_config(c)
    tensors = read_table(meta, n, data_off)
    end = tensors[-1].off + tensors[-1].nbytes
    if padded(end, 64) != size:
        raise ModelError(f"tensors end at {end:,} of {size:,} bytes; export again")
    check_plan(c, tensors)
    note = meta[note_off : note_off + note_len].decode("utf-8", "replace")
    return c, tensors, digest.hex(), note


def check_plan(c, tensors):
    """The table must be what the config calls for: nothing missing, nothing more, in order."""
    found = [(t.name, t.shape, t.type) for t in tensors]
    there, want = {t.name: t for t in tensors}, []
    for slot in expected_tensors(c):
        tensor = there.get(slot.name)
        if slot.role == "matrix":
            want += matrix_rows(slot, there)
        elif slot.role == "u8" and tensor and len(tensor.shape) == 1:
            want.append((slot.name, tensor.shape, U8))  # the config does not know its length
        else:
            want.append((slot.name, slot.shape, type_of(slot.role)))
    if found != want:
        known, have = set(want), set(found)
        extra, missing = [t for t in found if t not in known], [t for t in want if t not in have]
        show = lambda rows: ", ".join(f"{n} {s} {d.name}" for n, s, d in rows[:3]) or "none"
        what = f"unexpected {show(extra)}; missing {show(missing)}"
        raise ModelError(f"tensors do not fit the config: {what}; export again")


def matrix_rows(slot, there):
    """[(name, shape, Type)] that the table must have of a matrix, in as many pieces as it has; all
    but the last are whole blocks. there: {name: Tensor}."""
    want, (left, cols), number = [], slot.shape, 0
    while left:
        name = piece_name(slot.name, number)
        tensor = there.get(name)
        kind = tensor.type if tensor and tensor.type.matrix else F32
        rows = tensor.shape[0] if tensor else left
        rows = left if slot.whole or rows > left or rows % BLOCK else rows
        want.append((name, (rows, cols), kind))
        want += [(name + end, s, beside) for end, beside, s in kind.beside((rows, cols))]
        left, number = left - rows, number + 1
    return want


def check_values(c, t, fd):
    """The tensors that steer the others, or multiply everything, must be finite and in range."""
    # read, not mapped: at a page fault the kernel reads far ahead, which in a huge file takes
    # seconds
    read = lambda x: os.pread(fd, x.nbytes, x.off) if hasattr(os, "pread") else x.data
    window, rope_id = (np.frombuffer(read(t[name]), "<i4") for name in ("window", "rope_id"))
    if window.min() < 0 or rope_id.min() < -1 or rope_id.max() >= c.rope.tables:
        found = "window or rope_id out of range"
        raise ModelError(f"{found}, expected 0 or more, and -1..{c.rope.tables - 1}; export again")
    scales = [x for x in t.values() if x.type is F16 and len(x.shape) > 2]
    # reading more would take longer than opening should, and a file with holes can promise any
    # number: verify() reads all
    scales, left = [] if sum(x.nbytes for x in scales) > 8 << 20 else scales, 32 << 20
    for tensor in [x for x in t.values() if x.type is F32 and len(x.shape) != 2] + scales:
        left -= tensor.nbytes
        if left < 0:
            break
        if not np.isfinite(np.frombuffer(read(tensor), tensor.type.numpy)).all():
            found = f"tensor {tensor.name} holds NaN or infinity"
            raise ModelError(f"{found}, expected finite numbers; export again")


MODEL_ID = re.compile("[0-9a-fA-F]{16,64}")


def check_id(model, wanted):
    """Raises ModelError unless the model id, which the hashes of all tensors are part of, begins
    with wanted, and every tensor as it is mapped has its hash."""
    if not isinstance(wanted, str) or not MODEL_ID.fullmatch(wanted):
        found = f"{set_by('id')}: {shown(wanted)}"
        wants = f"expected 16 to 64 digits of what {set_by('info')} shows"
        raise (WrongValue if isinstance(wanted, str) else WrongType)(f"{found}, {wants}")
    path = printable(model.path)
    if not model.model_id.startswith(wanted.lower()):
        found = f"{path}: model id {model.model_id}"
        raise ModelError(f"{found}, expected {wanted.lower()}; get the file that has it")
    for t in model.tensors.values():
        if hashlib.sha256(t.data).digest() != t.sha256:
            refuse_sum(path, t)


def refuse_sum(path, t):
    found = f"{path}: checksum of {t.name} does not match its data"
    raise ModelError(f"{found}; copy or export the file again")


def verify(model: ModelFile) -> None:
    """Compare every tensor with its stored SHA-256; raises ModelError naming the first that
    differs."""
    if not isinstance(model, ModelFile):
        raise WrongType(f"verify() is given {shown(model)}, expected what open_model() gives")
    from concurrent.futures import ThreadPoolExecutor  # 10 ms, which other runs need not wait

    with ThreadPoolExecutor(available_cores()) as pool:
        checks = [pool.submit(check_tensor, model.path, t) for t in model.tensors.values()]
        try:
            for check in checks:
                check.result()
        finally:
            pool.shutdown(cancel_futures=True)


def check_tensor(path, t):
    """As verify, of one tensor."""
    name = printable(path)
    with open(path, "rb") as f:  # read, not mapped: a check of a file leaves no trace in this
        f.seek(t.off)  # process's memory
        digest, finite = hashlib.sha256(), True
        for at in range(0, t.nbytes, 1 << 22):
            part = f.read(min(1 << 22, t.nbytes - at))
            if len(part) < min(1 << 22, t.nbytes - at):
                found = f"{name}: was cut short while {t.name} was read"
                raise ModelError(f"{found}; expected a file at rest; try again")
            digest.update(part)
            if t.type in (F32, F16):
                finite &= bool(np.isfinite(np.frombuffer(part, t.type.numpy)).all())
    if digest.digest() != t.sha256:
        refuse_sum(name, t)
    if not finite:
        found = f"{name}: tensor {t.name} holds NaN or infinity"
        raise ModelError(f"{found}, expected finite numbers; export again")


def sampling_said(config):
    """The fields of Sampling that a model's makers chose, as {name: number}."""
    said = {
        "temperature": config.sampling.temperature,
        "top_p": config.sampling.top_p,
        "top_k": config.sampling.top_k,
    }
    return {name: round(value, 6) for name, value in said.items() if value}


def matrix_types(file, slots):
    """Names of the types of a file's matrices, those of most parameters first."""
    sizes = {}
    for slot in slots:
        number = 0
        while slot.role == "matrix" and (x := file.tensors.get(piece_name(slot.name, number))):
            sizes[x.dtype] = sizes.get(x.dtype, 0) + math.prod(x.shape)
            number += 1
    return sorted(sizes, key=lambda name: (-sizes[name], name))


def about(file, n_ctx, kept, tokenizer):
    """A file of open_model as a dict of plain values. n_ctx: the context in use. kept: bytes of a
    cache of so many positions. tokenizer: its Tokenizer, or None."""
    c = file.config
    slots = [slot for slot in expected_tensors(c) if slot.name not in TABLES]
    learned = [slot for slot in slots if slot.role in ("matrix", "f32")]
    types = matrix_types(file, slots)
    return {
        "file": file.path,
        "bytes": file.size,
        "model_id": file.model_id,
        "architecture": printable(c.arch_tag),
        "parameters": sum(math.prod(slot.shape) for slot in learned),
        "type": "/".join(types),
        "dim": c.dim,
        "layers": c.n_layers,
        "heads": c.heads.n,
        "kv_heads": c.heads.kv,
        "head_dim": c.heads.size,
        "ffn_dim": c.ffn.width,
        "vocab_size": c.vocab_size,
        "max_ctx": c.max_ctx,
        "ctx": n_ctx,
        "memory_at_ctx": file.size + kept,
        "kv_bytes_at_ctx": kept,
        "sampling": sampling_said(c) or None,
        "tokenizer": tokenizer and tokenizer.sha256.hex(),
        "chat": tokenizer and tokenizer.chat_form(),
        "note": printable(file.note),
    }
