"""model.bin, from its first page to its last tensor."""

import contextvars
import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from ..errors import ModelError
from ..format.table import ENDIAN, HEADER, MAGIC, PAGE, RECORD, RECORD_FIELDS, VERSION
from ..format.types import BLOCK, F32, Type, padded, type_of
from ..layers.kind import piece_name
from ..layers.stack import expected_tensors
from ..modelfile import parse_meta
from .arrays import AT_A_TIME, forget, to_float32
from .damage import reading
from .pack import PACKERS
from .say import Progress


class Row(NamedTuple):
    """A tensor as the table will have it. blocked: a matrix, in blocks of rows, or of that of the
    name `whole` the rows from the first on."""

    name: str
    type: Type
    shape: tuple
    blocked: bool
    whole: str = ""
    first: int = 0


def layout(c, type, tokenizer=b"", types=None):
    """[Row] in the order of the file. types: {name: [(rows, Type)]}, the pieces of matrices that
    differ from type; those of few numbers, which decide much, are float32."""
    rows = []
    for name, shape, role, small, _ in expected_tensors(c):
        if role == "matrix":
            pieces, first = (types or {}).get(name, [(shape[0], type)]), 0
            for number, (count, kind) in enumerate([(shape[0], F32)] if small else pieces):
                part, whole = piece_name(name, number), (count, shape[1])
                rows.append(Row(part, kind, whole, True, name, first))
                rows += [Row(part + end, k, s, False) for end, k, s in kind.beside(whole)]
                first += count
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
    for name, kind, shape, blocked, *_ in rows:
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


def every_piece(rows, values, errors):
    """Yield the bytes of all tensors, some at a time, and a None behind each. errors: kind of
    matrix -> sums of squares, of what is lost and of all."""
    beside = {}
    for row in rows:
        if row.blocked:
            yield from matrix_bytes(row, values[row.whole], errors, beside)
        elif row.name in beside:
            yield beside.pop(row.name)
        else:
            value = np.ascontiguousarray(plain(row.name, values[row.name], row.type))
            yield value.view(np.uint8).reshape(-1)
        yield None


def ahead(pieces):
    """The same pieces, of which the next is made while one is used."""
    run = contextvars.copy_context().run
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(run, next, pieces, Ellipsis)
        while (piece := coming.result()) is not Ellipsis:
            coming = pool.submit(run, next, pieces, Ellipsis)
            yield piece


def matrix_bytes(row, matrix, errors, beside):
    """Yield the packed bytes of a Row of a matrix, some rows at a time. beside: gets the bytes of
    the tensors beside it, by their names."""
    (n, cols), found = row.shape, {}
    step = max(BLOCK, AT_A_TIME // cols // BLOCK * BLOCK)
    for first in range(row.first, row.first + n, step):
        data, more = packed_rows(row, matrix, first, min(row.first + n, first + step), errors)
        yield data
        for end, part in more.items():
            found.setdefault(row.name + end, []).append(part)
    for name, parts in found.items():
        beside[name] = np.concatenate(parts).view(np.uint8).reshape(-1)


def packed_rows(row, matrix, first, last, errors):
    """Some rows of a matrix as pack.laid gives them: moved as they are, or rounded."""
    kind, packer = row.type, PACKERS[row.type]
    if ready := matrix.packed(kind, first, last):
        data, beside = ready
        for part in beside.values():
            refuse_infinite(row.name, part)
        return data, beside
    rows = matrix.read(first, last)
    refuse_infinite(row.name, rows)
    if packer.most and np.abs(rows).max() > packer.most:
        found = f"tensor {row.name} reaches {np.abs(rows).max():.3g}, beyond {packer.limit}"
        raise ModelError(f"{found}; use --type bf16")
    data, beside, back = packer.pack(rows)
    sums = errors.setdefault(row.whole.split(".")[-1], [0.0, 0.0])
    sums[0] += float(np.square(rows - back, dtype=np.float64).sum())
    sums[1] += float(np.square(rows, dtype=np.float64).sum())
    return data, beside


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

    pieces = ahead(every_piece(rows, values, errors))
    for row in rows:
        digest, size = hashlib.sha256(), 0
        while (piece := next(pieces)) is not None:
            f.write(piece)
            digest.update(piece)
            size += len(piece)
            progress.add(len(piece))
        f.write(bytes(padded(size, 64) - size))
        hashes[row.name] = digest.digest()
        forget()
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
