"""The header page and the table of tensors: read, refuse."""

import struct
from typing import NamedTuple

import numpy as np

from ..errors import EXPORTER, ModelError, printable, set_by
from .foreign import refuse_foreign
from .types import TYPES, Type, padded

MAGIC = b"\x89LMB\r\n\x1a\n"
VERSION = 1
ENDIAN = 0x01020304
PAGE, RECORD = 4096, 192
HEADER = struct.Struct("<8sIIQIIQQQQ32s")
RECORD_FIELDS = struct.Struct("<64sII4QQQII32s")
LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.")  # of a tensor's name
USE_EXPORT = f"convert the model with {EXPORTER}"
NO_MODEL = {  # what to do with a sound file in the place of a model.bin
    "tokenizer": "give the model.bin that goes with it",
    "pieces": f"give the model.bin; {EXPORTER} puts the tokenizer into it",
    "settings": f"convert the folder that holds it with {EXPORTER}",
    "shard": f"convert the folder that holds it with {EXPORTER}",
    "pickle": USE_EXPORT,
    "weights": USE_EXPORT,
}


class Tensor(NamedTuple):
    """One row of the tensor table. type: its Type; data: the mapped bytes, uint8 [nbytes],
    read-only."""

    name: str
    type: Type
    shape: tuple[int, ...]
    off: int
    nbytes: int
    sha256: bytes
    data: np.ndarray = None

    @property
    def dtype(self):
        """The type's name."""
        return self.type.name


def read_meta(f, size):
    """The bytes [0, data_off) of the file; checks what must hold before anything is allocated."""
    head = f.read(PAGE)
    if not head.startswith(MAGIC):
        refuse_magic(head)
    if size < 2 * PAGE or len(head) < PAGE:
        found = f"{size:,} bytes, shorter than the {2 * PAGE:,} of any model"
        raise ModelError(f"{found}; download or export it again")
    _, version, endian, file_size, n, record, table_off, data_off, *_ = HEADER.unpack_from(head)
    if endian == int.from_bytes(ENDIAN.to_bytes(4, "little"), "big"):
        found = "a big-endian file; expected little-endian"
        raise ModelError(f"{found}; export it again with this {EXPORTER}")
    if version != VERSION:
        found = f"format version {version}, this run.py reads {VERSION}"
        raise ModelError(f"{found}; export again or use a newer run.py")
    if endian != ENDIAN:
        found = f"byte order mark {endian:#x}, expected {ENDIAN:#x}"
        raise ModelError(f"{found}; the header is damaged, copy it again")
    if file_size != size:
        found = f"file is {size:,} bytes, header says {file_size:,} (truncated or appended to?)"
        raise ModelError(f"{found}; copy it again")
    if not 1 <= n <= 65536 or record != RECORD or table_off != PAGE:
        found = f"{n} tensors of {record} bytes at {table_off}"
        raise ModelError(f"{found}, expected 1..65536 of 192 at 4096; export again")
    last = min(size, PAGE + n * RECORD + (1 << 20) + PAGE)
    if data_off % PAGE or not PAGE + n * RECORD <= data_off <= last:
        found = f"header puts the data at {data_off:,}"
        raise ModelError(f"{found}, expected a page after the tensor table; export again")
    return head + f.read(data_off - PAGE)


def refuse_magic(head):
    """ModelError that says what people passed instead of a model.bin."""
    kept = {"cache": f"give the model.bin, and this with {set_by('load_cache()')}"}
    refuse_foreign(head, "a model.bin", NO_MODEL | kept)
    found = "empty" if not head else f"starts with {head[:8]!r}"
    raise ModelError(f"{found}, expected {MAGIC!r}; was it written by {EXPORTER}?")


def read_table(meta, n, data_off):
    """[Tensor] without data, each record checked by itself and against its neighbour; all
    arithmetic in Python's ints."""
    tensors, expected = [], data_off
    for i in range(n):
        raw = meta[PAGE + i * RECORD : PAGE + (i + 1) * RECORD]
        tensors.append(read_record(raw, i, expected))
        expected = padded(tensors[-1].off + tensors[-1].nbytes, 64)
    return tensors


def read_record(raw, i, expected):
    """A record of the table -> Tensor; expected: where its data must begin."""
    name, number, ndim, *rest = RECORD_FIELDS.unpack_from(raw)
    dims, (off, nbytes, group, layout, sha) = rest[:4], rest[4:]
    text = name.rstrip(b"\0").decode("ascii", "replace")

    def refuse(found):
        raise ModelError(f"tensor {i} ({printable(text)!r}): {found}; export again")

    if not text or name[-1] or set(text) - LETTERS:
        refuse("expected a name of a-z 0-9 _ . that ends in a zero byte")
    kind = TYPES[number - 1] if 1 <= number <= len(TYPES) else None
    if kind is None or not 1 <= ndim <= 4 or layout > 1 or any(raw[RECORD_FIELDS.size :]):
        found = f"type {number}, {ndim} dims, layout {layout} are not known"
        refuse(f"{found}; does it need a newer run.py")
    shape = tuple(dims[:ndim])
    if any(not 1 <= d <= 1 << 31 for d in shape) or any(dims[ndim:]):
        refuse(f"dims {dims}, expected 1..2^31 and zeros after")
    if group != kind.group or layout != (ndim == 2) or (kind.quantised and not layout):
        refuse(f"group {group}, layout {layout}, {ndim} dims do not fit {kind.name}")
    if off != expected or off % 64:
        refuse(f"begins at {off:,}, expected {expected:,} (overlap or hole)")
    if nbytes != (wants := kind.nbytes(shape, layout)):
        refuse(f"{nbytes:,} bytes, expected {wants:,} for {shape}")
    return Tensor(text, kind, shape, off, nbytes, sha)
