"""Blocks of a GGUF as our types have them, to the bit."""

import functools

import numpy as np

from ..compiler.kernel import Kernel
from ..format.types import BLOCK
from ..program.operands import RECORD_BYTES, Flat, Number, operands
from ..words.memory import peek
from .arrays import Part
from .compiled import compiled
from .damage import reading
from .layouts import LAYOUTS
from .say import need

BLOCKS = operands(
    "Rows of a GGUF's blocks become blocks of 16 rows.",
    raw=Flat(lambda r: r.n_rows * r.step),
    fill=Flat(lambda r: r.step),  # a row that fills the last block up
    w=Flat(lambda r: r.n_rows * r.step, writes=True),
    s=Flat(lambda r: r.n_rows * r.step, writes=True),
    d=Flat(lambda r: r.n_rows * r.step, writes=True, optional=True),
    n_rows=Number("rows"),
    step=Number("bytes of a row"),
    count=Number("blocks of a row"),
)


def repacking(layout):
    """BLOCKS of a Layout."""
    kind, size, block, columns = layout.type, layout.size, layout.block, layout.columns
    w_step, s_step, d_step = block_bytes(kind, columns)

    def repack(record, pas, t, threads):
        rows, count = peek(record + BLOCKS.n_rows), peek(record + BLOCKS.count)
        w, s, d = peek(record + BLOCKS.w), peek(record + BLOCKS.s), peek(record + BLOCKS.d)
        for first in range(0, rows, 16):
            for lane in range(16):
                row = peek(record + BLOCKS.fill)
                if first + lane < rows:
                    row = peek(record + BLOCKS.raw) + (first + lane) * peek(record + BLOCKS.step)
                for j in range(count):
                    at = w + j * w_step, s + j * s_step, d + j * d_step
                    block(row + j * size, at[0], at[1], at[2], lane)
            w, s, d = w + count * w_step, s + count * s_step, d + count * d_step
        return 0

    return repack


def block_bytes(kind, columns):
    """Of 16 rows of so many columns: bytes of the bits, of NAME.s, of NAME.d."""
    each = {end: k.nbytes(shape, False) for end, k, shape in kind.beside((BLOCK, columns))}
    return kind.nbytes((BLOCK, columns), True), each[".s"], each.get(".d", 0)


@functools.cache
def repacker(name):
    """The compiled function for a gguf type of that name."""
    layout = LAYOUTS[name]
    kernel = Kernel(f"repack_{name.lower()}", lambda machine: repacking(layout), BLOCKS)
    return compiled(kernel)


class Blocks(Part):
    """Rows of quantised blocks of a GGUF: raw uint8 [rows, bytes], of gguf's type kind."""

    def __init__(self, raw, kind, cols):
        self.raw, self.kind, self.shape = raw, kind, (len(raw), cols)
        self.type = LAYOUTS[kind.name].type if kind.name in LAYOUTS else None

    def __getitem__(self, rows):
        return Blocks(self.raw[rows], self.kind, self.shape[1])

    def floats(self):
        dequantize, raw = need("gguf.quants").dequantize, np.ascontiguousarray(self.raw)
        with reading():
            found = dequantize(raw, self.kind)
        return found.reshape(self.shape).astype(np.float32, copy=False)

    def laid(self, others):
        """As pack.laid, with the rows of other parts of its type behind its own."""
        layout, cols = LAYOUTS[self.kind.name], self.shape[1]
        raw = np.ascontiguousarray(np.concatenate([self.raw, *(part.raw for part in others)]))
        fill = np.tile(np.frombuffer(layout.fill, np.uint8), cols // layout.columns)
        blocks = -(-len(raw) // BLOCK)
        data = np.empty(blocks * block_bytes(self.type, cols)[0], np.uint8)
        shape = blocks * BLOCK, cols
        beside = {end: np.empty(s, kind.numpy) for end, kind, s in self.type.beside(shape)}
        record = np.zeros(RECORD_BYTES // 8, np.int64)
        given = dict(raw=raw, fill=fill, w=data, s=beside[".s"], d=beside.get(".d"))
        given |= dict(n_rows=len(raw), step=raw.shape[1], count=cols // layout.columns)
        for name, value in given.items():
            if value is not None:
                value = value.ctypes.data if isinstance(value, np.ndarray) else value
                record[getattr(BLOCKS, name) // 8] = value
        repacker(self.kind.name)(record.ctypes.data, 0, 0, 1)
        return data, beside
