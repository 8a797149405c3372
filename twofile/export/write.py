"""model.bin, from its first page to its last tensor."""

import hashlib
import math
from typing import NamedTuple

import numpy as np

from ..errors import ModelError
from ..format.table import ENDIAN, HEADER, MAGIC, PAGE, RECORD, RECORD_FIELDS, VERSION
from ..format.types import BLOCK, F32, Type, padded, type_of
from ..layers.stack import expected_tensors
from ..modelfile import parse_meta
from .arrays import AT_A_TIME, forget, to_float32
from .damage import reading
from .pack import PACKERS
from .say import Progress


class Row(NamedTuple):
    """A tensor as the table will have it. blocked: a matrix, in blocks of rows."""

    name: str
    type: Type
    shape: tuple
    blocked: bool


def layout(c, type, tokenizer=b"", types=None):
    """[Row] in the order of the file. types: of matrices that differ from type, by name; those of
    few numbers, which decide much, are float32."""
    rows = []
    for name, shape, role, small in expected_tensors(c):
        if role == "matrix":
            kind = F32 if small else (types or {}).get(name, type)
            rows.append(Row(name, kind, shape, True))
            if kind.quantised:
                rows.append(Row(name + ".s", kind.scale, kind.scales(shape), False))
        else:
            shape = (len(tokenizer),) if name == "tokenizer" else shape
            rows.append(Row(name, type_of(role), shape, False))
    return rows


def metadata(c, rows, hashes, note):
    """All that stands before the data: header page, tensor table, note. hashes: name -> SHA-256 of
    the tensor's bytes."""
    table_end = PAGE + len(rows) * RECORD
    data_off = padded(table_end + len(note), PAGE)
    table, at = b"", data_off
    for name, kind, shape, blocked in rows:
        nbytes = kind.nbytes(shape, blocked)
        dims = (*shape, *[0] * (4 - len(shape)))
        sha = hashes.get(name, bytes(32))
        fields = (name.encode(), kind.number, len(shape), *dims, at, nbytes)
        record = RECORD_FIELDS.pack(*fields, kind.group, blocked, sha)
        table += record.ljust(RECORD, b"\0")
        at = padded(at + nbytes, 64)
    with reading():  # what a source says may not fit the config's fields
        config = c.pack()
    body = config.ljust(PAGE - 0x60, b"\0") + table + note
    body = body.ljust(data_off - 0x60, b"\0")
    fields = (MAGIC, VERSION, ENDIAN, at, len(rows), RECORD, PAGE, data_off, table_end, len(note))
    return HEADER.pack(*fields, hashlib.sha256(body).digest()) + body


def refuse_infinite(name, numbers):
    if not np.isfinite(numbers).all():
        found = f"tensor {name} holds NaN or infinity"
        raise ModelError(f"{found}, expected finite weights; is the source damaged?")


def matrix_bytes(name, matrix, type, errors):
    """Yield the packed bytes of a matrix piece by piece; its scales last, as one more piece behind
    None. errors: kind of matrix -> sums of squares, of what is lost and of all."""
    n, cols = matrix.shape
    step, all_scales = max(BLOCK, AT_A_TIME // cols // BLOCK * BLOCK), []
    packer = PACKERS[type]
    for first in range(0, n, step):
        last = min(n, first + step)
        if ready := matrix.packed(type, first, last):
            data, scales = ready
            refuse_infinite(name, scales)
        else:
            rows = matrix.read(first, last)
            refuse_infinite(name, rows)
            if packer.most and np.abs(rows).max() > packer.most:
                found = f"tensor {name} reaches {np.abs(rows).max():.3g}, beyond {packer.limit}"
                raise ModelError(f"{found}; use --type bf16")
            data, scales, back = packer.pack(rows)
            sums = errors.setdefault(name.split(".")[-1], [0.0, 0.0])
            sums[0] += float(np.square(rows - back, dtype=np.float64).sum())
            sums[1] += float(np.square(rows, dtype=np.float64).sum())
        yield data
        all_scales.append(scales)
    if type.quantised:
        yield None
        yield np.concatenate(all_scales).view(np.uint8).reshape(-1)


def steering(source, c, tokenizer):
    """The tensors that say how the others are used, by name."""
    none = np.zeros(c.n_layers, "<i4")
    window, rope_id = (none if x is None else x for x in (source.window, source.rope_id))
    raw = np.frombuffer(tokenizer, np.uint8)
    return {"rope": source.rope, "window": window, "rope_id": rope_id, "tokenizer": raw}


def write_model(f, source, c, type, tokenizer, note, progress=None):
    """Write a whole model.bin to the open file f. source: a Source; c: its config; type: of the
    matrices, where source.types does not say; tokenizer, note: bytes. -> {kind of matrix: relative
    rms error}. Raises ModelError, OSError."""
    rows, hashes, errors = layout(c, type, tokenizer, source.types), {}, {}
    values = {**source.tensors, **steering(source, c, tokenizer)}
    head = metadata(c, rows, {}, note)
    # what run.py would refuse is not begun
    parse_meta(head, HEADER.unpack_from(head)[3])
    f.write(bytes(len(head)))
    progress = progress or Progress(sum(row.type.nbytes(row.shape, row.blocked) for row in rows))

    def put(name, pieces):
        digest, size = hashlib.sha256(), 0
        for piece in pieces:
            if piece is None:
                break
            f.write(piece)
            digest.update(piece)
            size += len(piece)
            progress.add(len(piece))
        f.write(bytes(padded(size, 64) - size))
        hashes[name] = digest.digest()
        forget()

    for name, kind, _, blocked in rows:
        if blocked:
            pieces = matrix_bytes(name, values[name], kind, errors)
            put(name, pieces)
            if kind.quantised:
                put(name + ".s", pieces)
        elif name not in hashes:
            value = np.ascontiguousarray(plain(name, values[name], kind))
            put(name, [value.view(np.uint8).reshape(-1)])
    f.seek(0)
    f.write(metadata(c, rows, hashes, note))
    return {kind: math.sqrt(lost / max(whole, 1e-300)) for kind, (lost, whole) in errors.items()}


def plain(name, value, type):
    """The numbers of a tensor that is no matrix."""
    if type is not F32:
        return value
    value = to_float32(np.asarray(value))
    refuse_infinite(name, value)
    return value
