"""What kernels declare is what they do: whatever stands outside, they neither write it nor go by it."""

import numpy as np
import pytest

from helpers.logits import SILENT
from helpers.models import make_model
from helpers.records import EVERY
from twofile.forward import Forward
from twofile.kernels.cache import CACHE_NAMES
from twofile.machines.host import host
from twofile.modelfile import open_model
from twofile.program.buffers import Mapped
from twofile.program.operands import N_PAIRS, N_TOKENS, N_WANTED, Flat, Rows

N_CTX, SLOTS = 100, 2
PASSES = (  # tokens of slots at positions, which are wanted: a beginning, then one token each, then many
    ([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3], range(18), [1] * 18, range(2, 18)),
    ([7, 2], [0, 18], [0, 1], [0, 1]),
    ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [0] * 5, [4]),
)


def declared(forward, record, n_rows):
    """[(room, bool mask of its bytes, writes)] of a record's operands, row by row as they are declared."""
    program, found = forward.program, []
    facts = program.facts(record)
    for name, operand in record.kernel.operands.declared.items():
        place = record.given.get(name)
        if not isinstance(operand, (Rows, Flat)) or place is None or isinstance(place.room, Mapped):
            continue  # a tensor of the file is only mapped for reading
        room = place.room
        mask, reach = np.zeros(room.nbytes, bool), operand.reach(facts)
        if isinstance(operand, Rows):
            many = operand.many(facts) if operand.many(facts) != facts.many else n_rows
            for i in range(many):
                mask[place.at + i * place.step : place.at + i * place.step + reach] = True
        else:
            mask[place.at : place.at + reach] = True
        found.append((room, mask, operand.writes))
    return found


def filling(record, room):
    """bool mask of the bytes of a state that fill its rows up and say nothing: they may hold anything finite."""
    given, shape = record.given, None
    if "inputs" in given and given["out"] and given["out"].room is room:  # zeros, of either sign
        shape, columns = (-1, given["out"].step // 4), np.arange(given["out"].step // 4) >= given["width"]
    elif "inputs" in given and given["inputs"].room is room:
        shape, n = (-1, given["cols"]), given["width"]
        columns = np.arange(given["cols"]) >= n
    elif "states" in given and given["states"].room is room:
        blocks = -(-given["values"] // 16)
        shape = (-1, blocks, given["keys"], 16)
        columns = (np.arange(blocks)[:, None, None] * 16 + np.arange(16)) >= given["values"]
    if shape is None:
        return np.zeros(room.nbytes, bool)
    mask = np.zeros(room.nbytes // 4, bool)
    whole = len(mask) // np.prod(shape[1:]) * np.prod(shape[1:])
    mask[:whole].reshape(shape)[:] = columns
    return mask.repeat(4)


def bytes_of(room):
    return room.view(np.uint8, room.nbytes)


def check(forward, index, counts, rng):
    """Play one record twice from the same state, the second time with noise in all that it does not declare."""
    program, player = forward.program, forward.player
    record, row = program.records[index], player.program[index : index + 1].copy()
    row[:, 1] = 1  # it waits, so that it can be played by itself
    rooms = [room for room in program.rooms if room.nbytes and room.name not in ("ids", "scratch")]
    before = [bytes_of(room).copy() for room in rooms]
    masks = {id(room): [np.zeros(room.nbytes, bool), np.zeros(room.nbytes, bool)] for room in rooms}
    for room, mask, writes in declared(forward, record, counts[record.count]):
        if id(room) not in masks:
            continue  # the ids of the pass
        masks[id(room)][0] |= mask
        if writes:
            masks[id(room)][1] |= mask
    player.run(row)
    first = [bytes_of(room).copy() for room in rooms]
    noise = [rng.standard_normal(room.nbytes // 4 + 1).astype(np.float32).view(np.uint8)[: room.nbytes] for room in rooms]
    for room, old, other in zip(rooms, before, noise):
        outside = ~masks[id(room)][0]
        bytes_of(room)[:] = np.where(outside, other, old)
    bytes_of(program.scratch)[:] = rng.integers(0, 256, program.scratch.nbytes, np.uint8)
    player.run(row)
    where = f"{record.kernel.name} in {record.place}"
    for room, old, one, other in zip(rooms, before, first, noise):
        inside, written = masks[id(room)]
        two = bytes_of(room)
        assert np.array_equal(one[~written], old[~written]), f"{where} writes {room.name} where it does not say so"
        assert np.array_equal(two[~inside], other[~inside]), f"{where} writes {room.name} beyond what it declares"
        meant = inside & ~filling(record, room)
        assert np.array_equal(two[meant], one[meant]), f"{where} goes by what it does not declare: {room.name}"
        two[:] = one  # go on as if it had been played once
    return record.kernel.name


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    place = tmp_path_factory.mktemp("every")
    return [make_model(place / f"{i}.bin", **{"seed": i, **sizes}) for i, sizes in enumerate(EVERY)]


@pytest.mark.parametrize("number", range(len(EVERY)))
def test_kernels_touch_what_they_declare_and_go_by_nothing_else(number, every):
    """Every record of every kind of model, in passes of many tokens, of one for each text, and of some more."""
    forward = Forward(open_model(every[number]), N_CTX, SLOTS, CACHE_NAMES[number % 3], 1, SILENT)
    rng, seen = np.random.default_rng(number), set()
    for tokens, positions, slots, wanted in PASSES:
        tokens = [t % forward.config.vocab_size for t in tokens]
        forward(tokens, positions, slots, wanted)  # sets the words of the pass; states have seen it once more
        chosen = forward.config.experts.chosen if forward.config.experts else 0
        counts = {N_TOKENS: len(tokens), N_WANTED: len(wanted), N_PAIRS: len(tokens) * chosen}
        for index in range(len(forward.program.records)):
            seen.add(check(forward, index, counts, rng))
    assert len(seen) > 8


def test_a_kernel_that_reaches_too_little_is_found(every, monkeypatch):
    """The check itself: with a row declared half as long, or one slot of two, the noise is seen."""
    forward = Forward(open_model(every[0]), N_CTX, SLOTS, "f16", 1, SILENT)
    forward(*PASSES[0])
    counts, rng = {N_TOKENS: 18, N_WANTED: 16, N_PAIRS: 0}, np.random.default_rng(0)
    caught, missed = set(), set()
    for index, record in enumerate(forward.program.records[:14]):
        operands = record.kernel.operands
        for name, operand in list(operands.declared.items()):
            place = record.given.get(name)
            inside = isinstance(operand, (Rows, Flat)) and place is not None and not isinstance(place.room, Mapped)
            inside = inside and name != "table"  # noise in it would be addresses
            if inside and operand.reach(forward.program.facts(record)):  # or the type has no use for it
                half = operand._replace(reach=lambda r, operand=operand: operand.reach(r) // 2)
                monkeypatch.setitem(operands.declared, name, half)
                try:
                    check(forward, index, counts, rng)
                except AssertionError:
                    caught.add((record.kernel.name, name))
                else:
                    missed.add((record.kernel.name, name))
                monkeypatch.setitem(operands.declared, name, operand)
                forward(*PASSES[0])
    signed = host().machine.name in ("avx2", "neon")  # whose start() is 0: they take weights with their sign, and no sums qc
    unread = {("matmul_q8_0", "qc")} if signed else set()
    assert missed & {("matmul_q8_0", "qc")} - caught == unread
    assert len(caught) > 12 and missed - caught - unread <= {("rope_f16", "factors")}, (missed - caught, caught)
