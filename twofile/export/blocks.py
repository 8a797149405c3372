"""Blocks of a GGUF as our types have them, to the bit."""

import numpy as np

from ..compiler.kernel import Kernel
from ..format.types import BLOCK
from ..words.memory import peek
from .arrays import Part
from .compiled import compiled, once
from .damage import reading
from .layouts import LAYOUTS
from .say import need

# of a record: addresses of the rows, of one that fills the last block up, of where the bits, NAME.s
# and NAME.d go; how many rows, bytes of a row, blocks of a row
RAW, FILL, W, S, D, ROWS, STEP, COUNT = range(0, 64, 8)


def repacking(layout):
    """-> what puts rows of a Layout into blocks of 16 rows."""
    kind, size, block, columns = layout.type, layout.size, layout.block, layout.columns
    w_step, s_step, d_step = block_bytes(kind, columns)

    def repack(record, pas, t, threads):
        rows, count = peek(record + ROWS), peek(record + COUNT)
        w, s, d = peek(record + W), peek(record + S), peek(record + D)
        for first in range(0, rows, 16):
            for lane in range(16):
                row = peek(record + FILL)
                if first + lane < rows:
                    row = peek(record + RAW) + (first + lane) * peek(record + STEP)
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


@once
def repacker(name):
    """The compiled function for a gguf type of that name."""
    layout = LAYOUTS[name]
    kernel = Kernel(f"repack_{name.lower()}", lambda machine: repacking(layout))
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
        record = np.zeros(8, np.int64)
        places = {RAW: raw, FILL: fill, W: data, S: beside[".s"], D: beside.get(".d")}
        for place, array in places.items():
            record[place // 8] = 0 if array is None else array.ctypes.data
        record[[ROWS // 8, STEP // 8, COUNT // 8]] = len(raw), raw.shape[1], cols // layout.columns
        repacker(self.kind.name)(record.ctypes.data, 0, 0, 1)
        return data, beside
