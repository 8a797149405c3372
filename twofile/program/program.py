"""A forward as data: records, checked to stay inside their rooms; as text."""

import time
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from ..errors import ModelError
from ..format.types import padded
from .buffers import Constant, Mapped, Place, Room
from .operands import (
    CHUNK,
    COUNT,
    FN,
    N_PAIRS,
    N_TOKENS,
    N_WANTED,
    POSITIONS,
    RECORD_BYTES,
    TOKENS,
    WAIT,
    WANTED_MAX,
    Number,
    Real,
    Rows,
    Scratch,
)


class Sizes(NamedTuple):
    """What a program is recorded for: the slots of the cache (texts at once), the positions of
    each, the threads, the tokens of the vocabulary, the pairs of token and expert of a pass, the
    pages of the cache."""

    slots: int
    positions: int
    threads: int
    vocab: int
    pairs: int
    pages: int


class Record(NamedTuple):
    """One step of a program: where in the model it stands, its kernel, what the kernel takes.

    count: N_TOKENS, N_WANTED or N_PAIRS, of which it has a row each. wait: whether all threads
    wait for each other behind it.
    """

    place: str
    kernel: object
    given: dict
    count: int
    wait: bool

    def words(self):
        """The int64 words of the record, but for the kernel's address."""
        row = np.zeros(RECORD_BYTES // 8, np.int64)
        row[WAIT // 8], row[COUNT // 8] = self.wait, self.count
        for name, operand in self.kernel.operands.declared.items():
            if operand.names(name):
                at = getattr(self.kernel.operands, name) // 8
                words = operand.words(self.given[name])
                row[at : at + len(words)] = words
        return row


class Program:
    """Records in the order in which they are played, and the rooms that they work in."""

    def __init__(self, sizes):
        self.sizes, self.records, self.rooms, self.shared, self.place = sizes, [], [], {}, ""
        self.many = {N_TOKENS: CHUNK, N_WANTED: WANTED_MAX, N_PAIRS: sizes.pairs}
        self.limits = {TOKENS: sizes.vocab, POSITIONS: sizes.positions}  # of the pass's ids

    def at(self, place):
        """Where in the model the next records stand: "layer 3"."""
        self.place = place

    def add(self, kernel, count=N_TOKENS, wait=True, **given):
        """Append a record. given: {operand: a Place (or None), an int, a float}. TypeError for one
        that the kernel does not know, and for one that is missing or of another kind."""
        full = {}
        for name, operand in kernel.operands.declared.items():
            if isinstance(operand, Scratch):
                continue
            full[name] = given.pop(name, operand.default)
            if not operand.fits(full[name]):
                wants = f"expected {type(operand).__name__}"
                raise TypeError(f"{kernel.name}: {name} is {full[name]!r}, {wants}")
        if given:
            raise TypeError(f"{kernel.name} takes no {', '.join(given)}")
        self.records.append(Record(self.place, kernel, full, count, wait))

    def room(self, name, nbytes):
        """A Room of its own; memory is taken when the program is made."""
        self.rooms.append(Room(name, nbytes))
        return self.rooms[-1]

    def rows(self, name, wide, many=CHUNK):
        """The shared room of that name, for so many rows of wide bytes: a Place at its start."""
        if name not in self.shared:
            self.shared[name] = self.room(name, 0)
        self.shared[name].ask(many * wide)
        return Place(self.shared[name], 0, wide)

    def constant(self, name, data, multiple=16):
        """The Place of a padded copy of these numbers."""
        self.rooms.append(Constant(name, data, multiple))
        return Place(self.rooms[-1])

    def once(self, name, make):
        """The constant of that name; made the first time that it is asked for."""
        if name not in self.shared:
            self.shared[name] = self.constant(name, make()).room
        return Place(self.shared[name])

    def facts(self, record):
        """What a reach is reckoned from: the record's operands, and the sizes of the forward."""
        given, kernel = record.given, record.kernel
        return SimpleNamespace(
            **given,
            many=self.many[record.count],
            type=kernel.type,
            limits=self.limits,
            **self.sizes._asdict(),
        )

    def reaches(self, record):
        """Yield (operand, Place, bytes, whether it writes them) of all that the record's kernel
        may touch, from the numbers that the kernel itself goes by; scratch has no Place."""
        facts = self.facts(record)
        for name, operand in record.kernel.operands.declared.items():
            if isinstance(operand, Scratch):
                yield name, None, operand.reach(facts), True
            elif not isinstance(operand, (Number, Real)) and record.given[name] is not None:
                place = record.given[name]
                yield name, place, operand.bytes(facts, place), operand.writes

    def make(self, most):
        """Take the memory; MemoryError(bytes) if it is more than most, before any is touched."""
        found = [n for r in self.records for _, place, n, _ in self.reaches(r) if place is None]
        self.scratch_step = padded(max(found, default=0), 128)
        self.scratch = self.room("scratch", self.sizes.threads * self.scratch_step)
        self.nbytes = sum(room.nbytes for room in self.rooms)
        if self.nbytes > most:
            raise MemoryError(self.nbytes)
        self.check()
        for room in self.rooms:
            room.make()

    def check(self):
        """All that the records' kernels may touch lies in its room, and only rooms that are there
        for it are written; else ModelError. Kernels look at nothing: this arithmetic, once and in
        Python's exact ints, is what keeps them inside."""
        for record in self.records:
            for name, place, nbytes, writes in self.reaches(record):
                if place is None:
                    spare = self.scratch_step - nbytes
                else:
                    spare = place.room.nbytes - place.at - nbytes
                    spare = spare if place.room.writable or not writes else -nbytes
                if spare < 0 or place and place.at < 0 or nbytes < 0:
                    where = f"{name} of {record.kernel.name} in {record.place}"
                    found = f"reaches {-spare:,} bytes too far, expected none; please report it"
                    raise ModelError(f"internal: {where} {found}")

    def words(self, address):
        """int64 [records, words]: the program as it is played. address: {kernel's name: where its
        code is}; counts are still offsets into the pass."""
        rows = np.array([record.words() for record in self.records], np.int64)
        rows[:, FN // 8] = [address[record.kernel.name] for record in self.records]
        return rows


def listing(program):
    """[(place, kernel, operands)] of every record, as text. Of an operand in a room: its name, the
    byte where it begins if not 0, [bytes from row to row]; of a tensor: name, type, shape."""
    return [(r.place, r.kernel.name, " ".join(operand_texts(r))) for r in program.records]


def operand_texts(record):
    """name=value of what a record gives its kernel; what is absent is left out."""
    for name, operand in record.kernel.operands.declared.items():
        value = record.given.get(name)
        if isinstance(operand, Real):
            yield f"{name}={value:.6g}"
        elif isinstance(operand, Number):
            yield f"{name}={int(value)}"
        elif value is not None:
            yield f"{name}={place_text(operand, value)}"


def place_text(operand, place):
    room, at = place.room, f"+{place.at}" if place.at else ""
    if isinstance(room, Mapped):
        tensor = room.tensor
        return f"{room.name}{at}({tensor.dtype} {'x'.join(map(str, tensor.shape))})"
    if isinstance(room, Constant):
        return f"{room.name}{at}(f32 {len(room.data)})"
    return f"{room.name}{at}" + (f"[{place.step}]" if isinstance(operand, Rows) else "")


def record_times(forward, n, seconds=0.3, least=5):
    """Seconds that each record takes in a pass of n tokens, one after the other, the best of at
    least so many passes: float64 [records]."""
    player = forward.player
    rows = player.program.copy()
    rows[:, WAIT // 8] = 1  # so that each can be played by itself
    forward([0] * n, range(n), [0] * n, [n - 1])  # the pass is set, the cache filled
    best, end = np.full(len(rows), np.inf), time.perf_counter() + seconds
    while least > 0 or time.perf_counter() < end:
        least -= 1
        for i in range(len(rows)):
            start = time.perf_counter()
            player.run(rows[i : i + 1])
            best[i] = min(best[i], time.perf_counter() - start)
    return best
