"""A model reads a text, and what its matrices are given is summed."""

import numpy as np

from ...format.types import GROUP, SUPER, padded
from ...forward import Forward
from ...program.operands import CHUNK, N_PAIRS, WAIT, WANTED_MAX
from ...program.player import Player
from ..compiled import compiled
from ..rounding.moments import COLS, MOMENTS, ROWS, STEP, SUMS, X
from ..say import say

WINDOW = 512  # tokens of the text that know of each other, at most
EVERY = CHUNK // WANTED_MAX  # of so many tokens one has its logits taken
TOGETHER = 1 << 14  # tokens of which products of columns are summed, at most about
GOLDEN = 0.618034  # its multiples' fractions lie evenly: of windows, in whatever order


class Sums:
    """Of a matrix's input: float64 sums of squares [parts, columns], and of how many rows [parts];
    parts are experts, or one. products: float32 [supers, 256, 256], of each two columns of 256, of
    `together` rows; None of experts."""

    def __init__(self, parts, cols):
        self.squares, self.counts = np.zeros((parts, cols)), np.zeros(parts)
        supers, self.together = padded(cols, SUPER) // SUPER, 0
        self.products = np.zeros((supers, SUPER, SUPER), np.float32) if parts == 1 else None

    def add(self, part, rows):
        """rows: float32 [n, columns filled up to whole groups]."""
        cols = self.squares.shape[1]
        self.squares[part] += np.square(rows[:, :cols], dtype=np.float64).sum(0)
        self.counts[part] += len(rows)

    def add_products(self, rows, moments):
        """rows: as of add. moments: the compiled kernel."""
        record = np.zeros(7, np.int64)
        rows = np.ascontiguousarray(rows)
        given = {X: rows.ctypes.data, STEP: rows.strides[0], ROWS: len(rows)}
        given |= {COLS: rows.shape[1], SUMS: self.products.ctypes.data}
        for place, value in given.items():
            record[place // 8] = value
        moments(record.ctypes.data, 0, 0, len(self.products))
        self.together += len(rows)

    def means(self):
        """float64 [parts, columns]; of a part that saw no row, that of all."""
        whole = self.squares.sum(0) / max(self.counts.sum(), 1)
        counts = self.counts[:, None]
        return np.where(counts > 0, self.squares / np.maximum(counts, 1), whole)


class Watcher(Player):
    """Plays a pass in pieces, up to each record behind which all threads wait; before each the
    inputs of its quantised matrices are read. wanted: the names of these; sums: {name: Sums};
    together: whether products are summed."""

    def __init__(self, program, *given):
        super().__init__(program, *given)
        self.steps, self.wanted = program.records, frozenset()
        self.sums, self.together = {}, True
        self.moments = compiled(MOMENTS, say)

    def run(self, program=None):
        if program is not None:
            return super().run(program)
        first, rows = 0, self.program
        for last in range(len(rows)):
            if rows[last, WAIT // 8]:
                for record in self.steps[first : last + 1]:
                    if record.given.get("q") is not None and "w" in record.given:
                        self.look(record)
                super().run(rows[first : last + 1])
                first = last + 1

    def look(self, record):
        """Read the input of a record that multiplies a quantised matrix."""
        tensor, experts = record.given["w"].room.tensor, record.given.get("experts", 1)
        if tensor.name not in self.wanted:  # of a matrix in pieces the first is enough
            return
        x = given_rows(record.given, int(self.words[record.count // 8]), tensor.shape[1])
        if tensor.name not in self.sums:
            self.sums[tensor.name] = Sums(experts, tensor.shape[1])
        sums = self.sums[tensor.name]
        if record.count == N_PAIRS:
            for expert, begin, count in runs_of(record.given["runs"], experts):
                sums.add(expert, x[begin : begin + count])
            return
        sums.add(0, x)
        if self.together and sums.products is not None:
            sums.add_products(x, self.moments)


def given_rows(given, n, cols):
    """float32 [n, columns filled up to whole groups] that a record's matrix is multiplied with."""
    groups = padded(cols, GROUP) // GROUP
    q, scales = rows_at(given["q"], n, np.int8), rows_at(given["qs"], n, np.float32)
    whole = q[:, : groups * GROUP].reshape(n, groups, GROUP) * scales[:, :groups, None]
    return whole.reshape(n, -1)


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


def windows_of(texts, begins, n_ctx):
    """The ids of texts in windows that know nothing of each other: a text begins its own; where it
    is longer than one, the next begins with the ids of begins. n_ctx: the model's."""
    size, windows = min(WINDOW, n_ctx), []
    for ids in texts:
        windows.append(ids[:size])
        step = size - len(begins)
        windows += [[*begins, *ids[at : at + step]] for at in range(size, len(ids), step)]
    return windows


def input_sums(model, windows, threads, wanted, read=lambda n: None):
    """What the quantised matrices of a model file, of those names, are given while it reads
    windows of ids: {name: Sums}. read: is told of how many ids more are read."""
    forward = Watched(model, max(map(len, windows)), 1, "f32", threads, say)
    forward.player.wanted = wanted
    share = TOGETHER / sum(map(len, windows))
    for number, ids in enumerate(windows):
        forward.player.together = number * GOLDEN % 1 < share
        for at in range(0, len(ids), CHUNK):
            n = len(ids[at : at + CHUNK])
            forward(ids[at : at + n], range(at, at + n), [0] * n, range(0, n, EVERY))
        read(len(ids))
    forward.close()
    return forward.player.sums
