"""What layers keep of the tokens before: keys and values of all, or states."""

import numpy as np

from ..format.types import padded
from .buffers import Place
from .operands import KEYS


class Cache:
    """The rooms of a program's cache. kind: the CacheType. kept: {layer: [Kept]}, what each keeps.

    What can be cut is [slot, heads, positions filled up to 64s, bytes of a position], of which a
    type may mix those of a block of 64; states are float32 [slot, numbers].
    """

    def __init__(self, program, kind, kept):
        sizes = program.sizes
        self.type, self.kept, self.slots = kind, kept, sizes.slots
        self.positions = padded(sizes.positions, KEYS)
        self.rooms = {}
        for layer, parts in kept.items():
            for part in parts:
                nbytes = sizes.slots * part_bytes(part, kind, sizes.positions)
                self.rooms[layer, part.name] = program.room(f"{part.name} {layer}", nbytes)

    def place(self, layer, name):
        return Place(self.rooms[layer, name])

    def parts(self, cut):
        """[(Kept, its Room)], layer after layer: those that can be cut, or the states."""
        found = [(part, self.rooms[i, part.name]) for i, kept in self.kept.items() for part in kept]
        return [(part, room) for part, room in found if part.cut == cut]

    def cached(self, slot, n):
        """The keys and values of a slot's first n positions (to the end of a block of 64): uint8
        views [heads, positions, bytes], keys and values of layer after layer."""
        for part, room in self.parts(True):
            shape = self.slots, part.heads, self.positions, self.type.width(part.numbers)
            yield room.view(np.uint8, *shape)[slot, :, : padded(n, KEYS)]

    def state(self, slot):
        """What cannot be cut to fewer positions: uint8 views [bytes]; none where all layers are
        attention. All inputs come before all states."""
        found = sorted(self.parts(False), key=lambda item: item[0].name)
        for part, room in found:
            yield room.view(np.uint8, self.slots, 4 * part.numbers)[slot]

    def copy(self, source, slot, n):
        """Give a slot the first n positions of another, whose states know just these."""
        for there, here in zip(self.cached(source, n), self.cached(slot, n)):
            here[:] = there
        for there, here in zip(self.state(source), self.state(slot)):
            here[:] = there


def part_bytes(part, kind, positions):
    """Bytes of what a layer keeps of one sequence of so many positions."""
    if part.cut:
        return part.heads * padded(positions, KEYS) * kind.width(part.numbers)
    return 4 * part.numbers
