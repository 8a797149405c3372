"""What a kernel takes, by name; the words of a record and of a pass."""

import struct
from typing import NamedTuple

from .buffers import Place

CHUNK = 128  # tokens of a pass at most
WANTED_MAX = 16  # of which this many can have their logits taken
KEYS = 64  # keys of a block: attention sums in these, so that any chunking gives the same bits

# A record is RECORD_BYTES of int64: the kernel's address, whether all threads wait for each other
# behind it, the address of how many rows it has, how many bytes before its use a weight is asked
# for (the processor's own guesses stop at every page), how much of its work threads have taken;
# then its operands. A step is the number of bytes from one token to the next.
FN, WAIT, COUNT, AHEAD, TAKEN, OPERANDS = 0, 8, 16, 24, 32, 40
RECORD_BYTES = 256

# A pass: what changes from one forward to the next. Addresses of int64 [n]: TOKENS, POSITIONS,
# SLOTS, and WANTED (which tokens' logits are wanted).
N_TOKENS, N_WANTED, N_PAIRS, TOKENS, POSITIONS, SLOTS, WANTED = range(0, 56, 8)
IDS = TOKENS, POSITIONS, SLOTS, WANTED  # the rows of int64 [4, CHUNK] that the addresses are of
N_RECORDS, SCRATCH, SCRATCH_STEP, PASS_SPINS, PASS_WORKERS = range(56, 96, 8)

# The records from behind one that waits to the next that does are a group; of it there are as many
# tickets as threads. PASS_GROUP: in one word the group's number, which only grows, how many tickets
# it has (none: no group is open) and how many are taken. Then: how many are done, its first record,
# where the program ends, whose ticket is the first.
PASS_GROUP, PASS_FINISHED, PASS_FIRST, PASS_END, PASS_OPENER = range(128, 168, 8)
# How many threads sleep until the next group; since when that is not counted yet. In a pass: how
# long all threads together have slept so; how long because another had been stopped.
PASS_SLEEPERS, PASS_SINCE, PASS_SLEPT, PASS_HELD = range(192, 224, 8)
# How many threads shall take part; the others' calls, and how many rest until one; whether to end;
# which thread shall try whether its core is free, what it found; how long a pass took, when it
# ended.
PASS_USE, PASS_CALL, PASS_RESTING, PASS_STOP = range(256, 288, 8)
PASS_TRY, PASS_FOUND, PASS_TOOK, PASS_AT = range(288, 320, 8)
IS_FREE, IS_NOT = 1, 2  # what can be found
PASS_SYSTEM = 320  # the words of program/system.py
PASS_OWN = 448  # from here 64 bytes for each thread, as kernels/wait.py has them


class Rows(NamedTuple):
    """A row for each of the record's tokens: an address, and a step unless it is that of like.

    reach(r) -> bytes of a row that the kernel may touch, from the record's numbers (r.width) and
    the forward's sizes (r.many rows, r.slots, r.pairs ...). many: as reach, of how many rows, if
    not of as many as the record has. Loads of whole vectors may go on to SPARE bytes behind.
    """

    reach: object
    writes: bool = False
    optional: bool = False
    like: str = ""
    many: object = lambda r: r.many
    default = None

    def fits(self, value):
        return self.optional if value is None else isinstance(value, Place)

    def names(self, name):
        return (name,) if self.like else (name, name + "_step")

    def words(self, place):
        if place is None:
            return (0,) if self.like else (0, 0)
        return (place.address,) if self.like else (place.address, place.step)

    def bytes(self, r, place):
        return (self.many(r) - 1) * place.step + self.reach(r)


class Flat(NamedTuple):
    """One piece of memory, whatever the tokens. reach(r) -> bytes that the kernel may touch."""

    reach: object
    writes: bool = False
    optional: bool = False
    default = None

    def fits(self, value):
        return self.optional if value is None else isinstance(value, Place)

    def names(self, name):
        return (name,)

    def words(self, place):
        return (0 if place is None else place.address,)

    def bytes(self, r, place):
        return self.reach(r)


class Number(NamedTuple):
    """A whole number."""

    meaning: str
    default: int | None = None

    def fits(self, value):
        return isinstance(value, int)

    def names(self, name):
        return (name,)

    def words(self, value):
        return (int(value),)


class Real(NamedTuple):
    """A float32, in the low half of its word."""

    meaning: str
    default: float | None = None

    def fits(self, value):
        return isinstance(value, (int, float))

    def names(self, name):
        return (name,)

    def words(self, value):
        return struct.unpack("<i", struct.pack("<f", value))


class Scratch(NamedTuple):
    """Room of a thread's own, at SCRATCH of the pass. reach(r) -> bytes of it."""

    reach: object

    def names(self, name):
        return ()


class Operands(tuple):
    """Operands of a kernel: each a byte offset into its record, by name (x, x_step). To numba it is
    a named tuple, whose values are constants.

    about: what the kernel does. declared: {name: Rows, Flat, Number, Real or Scratch}.
    """

    _fields = ()

    def _asdict(self):
        return dict(zip(self._fields, self))


def operands(about, *groups, **given):
    """Declare a kernel's operands: those of groups first, so that they stand at the same offsets
    in every kernel that begins with them. -> Operands"""
    declared = {}
    for part in (*(group.declared for group in groups), given):
        declared |= part
    names = [word for name, operand in declared.items() for word in operand.names(name)]
    if OPERANDS + 8 * len(names) > RECORD_BYTES:
        raise TypeError(f"{len(names)} words of operands, a record has room for fewer")
    offsets = range(OPERANDS, OPERANDS + 8 * len(names), 8)
    more = {"_fields": tuple(names), "about": about, "declared": declared}
    return type("Operands", (Operands,), {**dict(zip(names, offsets)), **more})(offsets)
