"""model.bin, from its first page to its last tensor."""

import hashlib
import math

import numpy as np

from ..errors import ModelError
from ..files import padded
from ..format.table import ENDIAN, HEADER, MAGIC, PAGE, RECORD, RECORD_FIELDS, VERSION
from ..format.types import BLOCK, DTYPES, GROUP, scale_shape, tensor_bytes
from ..layers.plan import tensor_plan
from ..modelfile import _parse_meta
from .arrays import AT_A_TIME, forget, to_float32
from .pack import interleaved, pack
from .say import Progress
from .sources.random import RandomRows


def layout(c, dtype, tokenizer=b"", types=None):
    """[(name, dtype, shape, layout)] of the tensors as they stand in the file. types: of matrices that differ from dtype."""
    rows = []
    for name, shape, role in tensor_plan(c):
        if role == "matrix":
            kind = (types or {}).get(name, dtype)
            rows.append((name, kind, shape, 1))
            if kind in ("q8_0", "q4_0"):
                rows.append((name + ".s", "f16", scale_shape(shape), 0))
        else:
            rows.append((name, role, (len(tokenizer),) if role == "u8" else shape, 0))
    return rows


def metadata(c, rows, hashes, note):
    """All that stands before the data: header page, tensor table, note. hashes: name -> SHA-256 of the tensor's bytes."""
    table_end = PAGE + len(rows) * RECORD
    data_off = padded(table_end + len(note), PAGE)
    table, at = b"", data_off
    for name, dtype, shape, blocks in rows:
        nbytes = tensor_bytes(dtype, shape, blocks)
        dims = (*shape, *[0] * (4 - len(shape)))
        group = GROUP if dtype in ("q8_0", "q4_0") else 0
        fields = (
            name.encode(),
            DTYPES[dtype],
            len(shape),
            *dims,
            at,
            nbytes,
            group,
            blocks,
            hashes.get(name, bytes(32)),
        )
        table += RECORD_FIELDS.pack(*fields).ljust(RECORD, b"\0")
        at = padded(at + nbytes, 64)
    body = c.pack().ljust(PAGE - 0x60, b"\0") + table + note
    body = body.ljust(data_off - 0x60, b"\0")
    fields = (MAGIC, VERSION, ENDIAN, at, len(rows), RECORD, PAGE, data_off, table_end, len(note))
    return HEADER.pack(*fields, hashlib.sha256(body).digest()) + body


def matrix_bytes(name, matrix, dtype, errors):
    """Yield the packed bytes of a matrix piece by piece; its scales last, as one more piece behind None."""
    n, cols = matrix.shape
    step, scales = max(BLOCK, AT_A_TIME // cols // BLOCK * BLOCK), []
    kind = name.split(".")[-1]
    for first in range(0, n, step):
        last = min(n, first + step)
        if dtype in ("q8_0", "q4_0") and isinstance(matrix, RandomRows):
            data, s = matrix.packed(dtype, first, last)
        elif dtype in ("q8_0", "q4_0") and (whole := matrix.blocks(dtype, first, last)):
            data, s = interleaved(*whole, dtype)
            if not np.isfinite(s).all():
                raise ModelError(
                    f"tensor {name} holds NaN or infinity, expected finite weights; is the source damaged?"
                )
        else:
            rows = matrix.read(first, last)
            if not np.isfinite(rows).all():
                raise ModelError(
                    f"tensor {name} holds NaN or infinity, expected finite weights; is the source damaged?"
                )
            if dtype == "f16" and np.abs(rows).max() > 65504:
                raise ModelError(
                    f"tensor {name} reaches {np.abs(rows).max():.3g}, beyond float16's 65504; use --type bf16"
                )
            most = {"q8_0": 127, "q4_0": 7}.get(dtype)  # times the largest scale that float16 has
            if most and np.abs(rows).max() > 65504 * most:
                raise ModelError(
                    f"tensor {name} reaches {np.abs(rows).max():.3g}, beyond what {dtype} holds; use --type bf16"
                )
            data, s, back = pack(rows, dtype)
            sums = errors.setdefault(kind, [0.0, 0.0])
            sums[0] += float(np.square(rows - back, dtype=np.float64).sum())
            sums[1] += float(np.square(rows, dtype=np.float64).sum())
        yield data
        scales.append(s)
    if scales[0] is not None:
        yield None
        yield np.concatenate(scales).view(np.uint8).reshape(-1)


def write_model(f, source, c, dtype, tokenizer, note, progress=None):
    """Write a whole model.bin to the open file f. -> {kind of matrix: relative rms error}."""
    small = (".router", ".shared_gate", ".ab")  # and what they decide is much
    exact = {row[0]: "f32" for row in tensor_plan(c) if row[0].endswith(small)}
    rows, hashes, errors = (
        layout(c, dtype, tokenizer, {**(getattr(source, "types", None) or {}), **exact}),
        {},
        {},
    )
    none = np.zeros(c.n_layers, "<i4")
    small = {
        "rope": source.rope,
        "window": getattr(source, "window", none),
        "rope_id": getattr(source, "rope_id", none),
    }
    small["tokenizer"] = np.frombuffer(tokenizer, np.uint8)
    head = metadata(c, rows, {}, note)
    _parse_meta(head, HEADER.unpack_from(head)[3])  # what run.py would refuse is not begun
    f.write(bytes(len(head)))
    progress = progress or Progress(sum(tensor_bytes(*row[1:]) for row in rows))

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

    for name, kind, _shape, blocks in rows:
        if blocks:
            pieces = matrix_bytes(name, source.tensors[name], kind, errors)
            put(name, pieces)
        elif name.endswith(".s"):
            put(name, pieces)
        else:
            value = small[name] if name in small else to_float32(np.asarray(source.tensors[name]))
            if kind == "f32" and not np.isfinite(value).all():
                raise ModelError(
                    f"tensor {name} holds NaN or infinity, expected finite weights; is the source damaged?"
                )
            put(name, [np.ascontiguousarray(value).view(np.uint8).reshape(-1)])
    f.seek(0)
    f.write(metadata(c, rows, hashes, note))
    return {kind: math.sqrt(lost / max(whole, 1e-300)) for kind, (lost, whole) in errors.items()}
