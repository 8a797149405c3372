"""What layers keep of the tokens before: keys and values of all, or states."""

import numpy as np

from ..format.types import padded
from .buffers import Place
from .operands import KEYS


class Cache:
    """The rooms of a program's cache. kind: the CacheType. kept: {layer: [Kept]}, what each keeps.

    What can be cut lies in pages: of 64 positions the keys and values of all layers, side by side
    [heads, bytes], of which a type may mix those of the 64. Which pages are a slot's is in table,
    int64 [slot, block]: at first each has its own, as far as they go round. States are float32
    [slot, numbers].
    """

    def __init__(self, program, kind, kept):
        sizes = program.sizes
        self.type, self.slots, self.pages = kind, sizes.slots, sizes.pages
        self.blocks, self.offsets, self.states = padded(sizes.positions, KEYS) // KEYS, {}, {}
        self.page_bytes = 0
        for layer, parts in kept.items():
            for part in parts:
                if part.cut:
                    self.offsets[layer, part.name] = self.page_bytes
                    self.page_bytes += part_bytes(part, kind, KEYS)
                else:
                    nbytes = sizes.slots * part_bytes(part, kind, 0)
                    room = program.room(f"{part.name} {layer}", nbytes)
                    self.states[layer, part.name] = room
        self.kept = [part for parts in kept.values() for part in parts if part.cut]
        self.room = program.room("cache", sizes.pages * self.page_bytes)
        self.table = Place(program.room("table", 8 * sizes.slots * self.blocks))

    def begin(self):
        """What stands in the table at first."""
        rows = self.rows()
        rows[:] = np.arange(rows.size).reshape(rows.shape) % max(1, self.pages)

    def rows(self):
        """The table, int64 [slots, blocks]."""
        return self.table.room.view(np.int64, self.slots, self.blocks)

    def place(self, layer, name):
        if (layer, name) in self.states:
            return Place(self.states[layer, name])
        return Place(self.room, self.offsets[layer, name], self.page_bytes)

    def page(self, n):
        """The bytes of a page, uint8 [page_bytes]."""
        return self.room.view(np.uint8, self.pages, self.page_bytes)[n]

    def copy(self, source, page):
        """Give a page what another has."""
        self.page(page)[:] = self.page(source)

    def parts(self, n):
        """A page's keys and values of layer after layer: uint8 views [heads, bytes]."""
        page, at = self.page(n), 0
        for part in self.kept:
            nbytes = part_bytes(part, self.type, KEYS)
            yield page[at : at + nbytes].reshape(part.heads, -1)
            at += nbytes

    def state(self, slot):
        """What cannot be cut to fewer positions: uint8 views [bytes]; none where all layers are
        attention. All inputs come before all states."""
        for _, room in sorted(self.states.items(), key=lambda item: item[0][1]):
            yield room.view(np.uint8, self.slots, room.nbytes // self.slots)[slot]

    def states_of(self, raw):
        """Copies of what state() gives of a slot, from the end of bytes, uint8, where they stand
        side by side."""
        parts, at = [], len(raw) - sum(part.nbytes for part in self.state(0))
        for part in self.state(0):
            parts.append(raw[at : at + part.nbytes].copy())
            at += part.nbytes
        return parts


def part_bytes(part, kind, positions):
    """Bytes of what a layer keeps of one sequence of so many positions."""
    if part.cut:
        return part.heads * padded(positions, KEYS) * kind.width(part.numbers)
    return 4 * part.numbers
