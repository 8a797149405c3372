"""More bits for the matrices whose rounding a model feels most."""

from types import SimpleNamespace

import numpy as np

from ...format.fields import ATTENTION, ATTENTION2
from ...format.types import BLOCK, Q3_K, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, padded
from ...forward import Forward
from ...layers.attention import seen
from ...layers.kind import piece_name
from ...layers.stack import expected_tensors, kind_of
from ...machine import available_cores
from ...program.operands import CHUNK, WANTED_MAX
from ...sampler import log_softmax
from ..say import Progress, say

ABOVE = {  # what has more bits than a Type, from less to more
    "q2_k": (Q3_K, Q4_K),
    "q3_k": (Q4_K, Q5_K),
    "q4_k": (Q5_K, Q6_K),
    "iq4_xs": (Q5_K, Q6_K),
    "q5_k": (Q6_K, Q8_0),
    "q4_0": (Q5_0, Q8_0),
    "iq4_nl": (Q5_0, Q8_0),
    "q4_1": (Q5_1, Q8_0),
    "q5_0": (Q8_0,),
    "q5_1": (Q8_0,),
}
MORE = 0.35  # bits a weight, over all, that are spent
PARTS = "", "values", "gates of values"  # how pieces are called, by their numbers
TOKENS = 256  # of the text, on which it is measured


class Unit:
    """What has one type: rows of a matrix, from its first piece `number` on. felt: how far the
    model's answers are moved when it is rounded: the mean KL divergence in nats."""

    def __init__(self, matrix, number, rows, cols):
        self.matrix, self.number, self.rows, self.cols = matrix, number, rows, cols
        self.felt = 0.0

    @property
    def name(self):
        return piece_name(self.matrix, self.number)


def units_of(c):
    """[Unit] of a model: whole matrices, but of q, k and v in one, v by itself; none that stays
    float32."""
    found = []
    for slot in expected_tensors(c):
        if slot.role == "matrix" and not slot.small:
            counts = [slot.shape[0]]
            if slot.name.endswith(".qkv"):
                counts = [n for n in rows_of_values(c, int(slot.name[1:].split(".")[0])) if n]
                counts = counts if sum(counts) == slot.shape[0] else [slot.shape[0]]
            found += [Unit(slot.name, i, n, slot.shape[1]) for i, n in enumerate(counts)]
    return found


def rows_of_values(c, i):
    """Rows of queries and keys, of values, of what comes behind, in matrix qkv of layer i; [] where
    values are not whole blocks of their own."""
    if c.kind(i) not in (ATTENTION, ATTENTION2) or seen(c, i) != i:
        return []
    kv, size = kind_of(c, i).heads(c)
    rows = [
        (c.heads.n + kv) * size,
        kv * size,
        kind_of(c, i).rows(c, i) - (c.heads.n + 2 * kv) * size,
    ]
    return [] if any(n % BLOCK for n in rows) else rows


def pieces_of(c, kind, types=None):
    """Source.types: each Unit a piece, of its Type in types, else of kind."""
    found = {}
    for unit in units_of(c):
        pieces = found.setdefault(unit.matrix, [])
        pieces.append((unit.rows, (types or {}).get(unit.name, kind)))
    return found


def measured_mix(exact, rounded, kind, windows):
    """Source.types that spend MORE bits a weight where they help most.

    exact, rounded: model files of the same pieces, in q8_0 and in kind; windows: of ids, the first
    of which are read. For each Unit the model is run exact but for that one, and its answers are
    compared: what it feels of that rounding alone. Small errors of several add up. With a bit more
    an error is half as large and its square a quarter: so a step from one type to the next, by b
    bits, is worth (1 - 4^-b) of what is felt so far, and costs b for each weight. The steps are
    taken in the order of worth by cost until the bits are spent; one that would spend too much is
    left out."""
    units, c = units_of(exact.config), exact.config
    windows = list(beginning(windows, TOKENS))
    wanted, bar = answers(exact, exact.tensors, windows), Progress(len(units), "measured")
    chances = np.exp(wanted)
    for unit in units:
        own = {name: t for name, t in rounded.tensors.items() if belongs(name, unit.name)}
        told = answers(exact, {**exact.tensors, **own}, windows)
        unit.felt = float((chances * (wanted - told)).sum(1).mean())
        bar.add(1)
    chosen, spent = spend(units, kind)
    every = sum(unit.rows * unit.cols for unit in units)
    kinds = {}
    for unit in units:
        if unit.name in chosen:
            label = PARTS[unit.number] or unit.matrix.split(".")[-1]
            counts = kinds.setdefault(chosen[unit.name].name, {})
            counts[label] = counts.get(label, 0) + 1
    for name, counts in kinds.items():
        say(f"mix: {name} for " + ", ".join(f"{n} {label}" for label, n in counts.items()))
    say(f"mix: {spent / every:.2f} bits a weight more than {kind.name}")
    return pieces_of(c, kind, chosen)


def belongs(name, whole):
    """Whether a tensor is that piece of a matrix, or stands beside it."""
    return name == whole or name in (whole + ".s", whole + ".d")


def beginning(windows, left):
    """Windows of so many ids in all, the last cut short; an iterator."""
    for ids in windows:
        if left > 0:
            yield ids[:left]
            left -= len(ids)


def answers(model, tensors, windows):
    """float64 [sampled tokens, vocabulary]: log-probabilities after some of the ids of windows, of
    a model file with these tensors."""
    file, longest = SimpleNamespace(config=model.config, tensors=tensors), max(map(len, windows))
    forward, found = Forward(file, longest, 1, "f32", available_cores(), say), []
    for ids in windows:
        for at in range(0, len(ids), CHUNK):
            n = len(ids[at : at + CHUNK])
            some = range(0, n, CHUNK // WANTED_MAX)
            rows = forward(ids[at : at + n], range(at, at + n), [0] * n, some)
            found.append(log_softmax(rows))
    forward.close()
    return np.concatenate(found)


def bits(kind, unit):
    """Of a Unit in a Type, with all that is beside it."""
    shape = (padded(unit.rows, BLOCK), unit.cols)
    beside = sum(part.nbytes(s, False) for _, part, s in kind.beside(shape))
    return 8 * (kind.nbytes(shape, True) + beside)


def spend(units, kind):
    """-> {name of a Unit: its Type}, of those that get more than kind, and the bits that it
    takes."""
    left = MORE * sum(unit.rows * unit.cols for unit in units)
    steps, chosen, spent = [], {}, 0
    for unit in units:
        felt, before = unit.felt, kind
        for after in ABOVE[kind.name]:
            cost = bits(after, unit) - bits(before, unit)
            worth = felt * (1 - 4.0 ** -(cost / (unit.rows * unit.cols)))
            if worth > 0:
                steps.append((worth / cost, unit.name, before, after, cost))
            felt, before = felt - worth, after
    for _, name, before, after, cost in sorted(steps, key=lambda step: -step[0]):
        if chosen.get(name, kind) is before and spent + cost <= left:
            chosen[name], spent = after, spent + cost
    return chosen, spent
