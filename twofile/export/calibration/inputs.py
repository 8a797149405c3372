"""A model reads a text, and the mean squares of every matrix's input are kept."""

import numpy as np

from ...format.types import GROUP, padded
from ...forward import Forward
from ...program.operands import CHUNK, N_PAIRS, WAIT, WANTED_MAX
from ...program.player import Player

WINDOW = 512  # tokens of the text that know of each other, at most
EVERY = CHUNK // WANTED_MAX  # of so many tokens one has its logits taken


class Sums:
    """Of a matrix's input: float64 sums of squares [parts, columns], and of how many rows [parts];
    parts are experts, or one."""

    def __init__(self, parts, cols):
        self.squares, self.counts = np.zeros((parts, cols)), np.zeros(parts)
        self.H = [np.zeros((min(256, cols - i),) * 2) for i in range(0, cols, 256)]

    def add(self, part, rows):
        self.squares[part] += np.square(rows, dtype=np.float64).sum(0)
        self.counts[part] += len(rows)
        for i, h in enumerate(self.H):
            r = rows[:, 256 * i : 256 * i + 256].astype(np.float64)
            h += r.T @ r

    def means(self):
        """float64 [parts, columns]; of a part that saw no row, that of all."""
        whole = self.squares.sum(0) / max(self.counts.sum(), 1)
        counts = self.counts[:, None]
        return np.where(counts > 0, self.squares / np.maximum(counts, 1), whole)


class Watcher(Player):
    """Plays a pass in pieces, up to each record behind which all threads wait; before each the
    inputs of its matrices are read. sums: {name of a matrix: Sums}."""

    def __init__(self, program, ids, code):
        super().__init__(program, ids, code)
        self.steps, self.sums = program, {}

    def run(self, program=None):
        if program is not None:
            return super().run(program)
        first, rows = 0, self.program
        for last in range(len(rows)):
            if rows[last, WAIT // 8]:
                for record in self.steps.records[first : last + 1]:
                    self.look(record)
                super().run(rows[first : last + 1])
                first = last + 1

    def look(self, record):
        """Read the input of a record that multiplies a matrix."""
        place = record.given.get("w")
        if place is None or "ids" in record.given:
            return
        n = int(self.words[record.count // 8])
        cols = place.room.tensor.shape[1]
        x = given_rows(record.given, n, cols)
        name, experts = place.room.name, record.given.get("experts", 1)
        sums = self.sums.setdefault(name, Sums(experts, cols))
        if record.count == N_PAIRS:
            for expert, begin, count in runs_of(record.given["runs"], experts):
                sums.add(expert, x[begin : begin + count])
        else:
            sums.add(0, x)


def given_rows(given, n, cols):
    """float32 [n, cols] that a record's matrix is multiplied with."""
    if given.get("x") is not None:
        return rows_at(given["x"], n, np.float32)[:, :cols]
    groups = padded(cols, GROUP) // GROUP
    q, scales = rows_at(given["q"], n, np.int8), rows_at(given["qs"], n, np.float32)
    whole = q[:, : groups * GROUP].reshape(n, groups, GROUP) * scales[:, :groups, None]
    return whole.reshape(n, -1)[:, :cols]


def rows_at(place, n, kind):
    """The first n rows at a Place, as a view."""
    whole = place.room.view(np.uint8, place.room.nbytes)
    return whole[place.at : place.at + n * place.step].view(kind).reshape(n, -1)


def runs_of(place, experts):
    """[(expert, its first pair, how many pairs)] as the kernel route leaves them."""
    raw = place.room.view(np.uint8, place.room.nbytes)[place.at : place.at + 8 + 24 * experts]
    found = raw.view(np.int64)
    return found[1 : 1 + 3 * int(found[0])].reshape(-1, 3).tolist()


class Watched(Forward):
    """A Forward whose player watches."""

    players = Watcher


def input_squares(model, ids, threads, notice, read=lambda done: None):
    """The mean squares of what each matrix of a model file is given while it reads ids, in windows
    that know nothing of each other: {name: float64 [parts, columns]}. read: is told how many ids
    are read."""
    window = min(WINDOW, model.config.max_ctx)
    forward = Watched(model, window, 1, "f32", threads, notice)
    for begin in range(0, len(ids), window):
        part = ids[begin : begin + window]
        for at in range(0, len(part), CHUNK):
            tokens = part[at : at + CHUNK]
            n = len(tokens)
            forward(tokens, range(at, at + n), [0] * n, range(0, n, EVERY))
            read(begin + at + n)
    forward.close()
    input_squares.sums = forward.player.sums
    return {name: sums.means() for name, sums in forward.player.sums.items()}
