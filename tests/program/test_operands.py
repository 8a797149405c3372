"""Operands: declared once; offsets, packing and the check of what a kernel reaches follow."""

import re
import struct

import pytest

from helpers.programs import every_kernel
from twofile.compiler.kernel import Kernel
from twofile.program.operands import (
    CHUNK,
    COUNT,
    N_PAIRS,
    N_TOKENS,
    N_WANTED,
    OPERANDS,
    RECORD_BYTES,
    WAIT,
    WANTED_MAX,
    Flat,
    Number,
    Real,
    Rows,
    Scratch,
    operands,
)
from twofile.program.program import Program, Sizes

SIZES = Sizes(slots=3, positions=100, threads=2, vocab=50, pairs=256, pages=6)
GROUP_OF = operands("a group", out=Rows(lambda r: 4 * r.cols, writes=True), cols=Number("columns"))
TAKEN = operands(
    "a kernel",
    GROUP_OF,
    x=Rows(lambda r: 4 * r.cols, optional=True),
    y=Rows(lambda r: r.cols, like="x", optional=True),
    w=Flat(lambda r: r.slots * r.cols),
    gain=Real("a factor"),
    add=Number("a switch", 0),
    room=Scratch(lambda r: 10 * r.cols),
)
TOY = Kernel("toy", lambda machine: None, TAKEN)


def program(**given):
    """A Program with one record of the toy, whose rooms just fit."""
    p = Program(SIZES)
    p.at("layer 7")
    places = {"out": p.rows("out", 32), "x": p.rows("x", 64), "w": None, "y": None, **given}
    places["w"] = places["w"] or p.rows("w", 3 * 8, 1)
    p.add(TOY, cols=8, gain=0.5, **places)
    return p


def test_offsets_follow_the_declaration_and_groups_come_first():
    words = ["out", "out_step", "cols", "x", "x_step", "y", "w", "gain", "add"]
    assert list(TAKEN._fields) == words and list(TAKEN) == list(range(OPERANDS, OPERANDS + 8 * len(words), 8))
    assert all(getattr(GROUP_OF, name) == getattr(TAKEN, name) for name in GROUP_OF._fields)
    assert TAKEN.about == "a kernel" and list(TAKEN.declared) == ["out", "cols", "x", "y", "w", "gain", "add", "room"]


def test_more_words_than_a_record_has_are_refused():
    most = (RECORD_BYTES - OPERANDS) // 8
    assert len(operands("", **{f"n{i}": Number("") for i in range(most)})) == most
    with pytest.raises(TypeError, match="room for fewer"):
        operands("", **{f"n{i}": Number("") for i in range(most + 1)})


def test_a_kernel_cannot_be_declared_without_its_reach():
    for sort in (Rows, Flat, Scratch):
        with pytest.raises(TypeError):
            sort()


def test_packing():
    p = program()
    p.make(1 << 30)
    row, given = p.records[0].words(), p.records[0].given
    at = lambda name: int(row[getattr(TAKEN, name) // 8])
    assert at("out") == given["out"].address and at("out_step") == 32 and at("cols") == 8
    assert at("x") == given["x"].address and at("x_step") == 64 and at("y") == 0 and at("add") == 0
    assert struct.pack("<q", at("gain"))[:4] == struct.pack("<f", 0.5)
    assert row[WAIT // 8] == 1 and row[COUNT // 8] == N_TOKENS


def test_a_whole_number_where_a_real_stands_is_that_number():
    """Today's bug of old: 1 for 1.0 was packed as an int, which the kernel read as 1e-45."""
    assert Real("").words(1) == Real("").words(1.0) == struct.unpack("<i", struct.pack("<f", 1.0))


@pytest.mark.parametrize(
    "given, says",
    [
        ({"cols": 8.0}, "cols is 8.0, expected Number"),
        ({"cols": None}, "cols is None, expected Number"),
        ({"gain": None}, "gain is None, expected Real"),
        ({"out": None}, "out is None, expected Rows"),
        ({"out": 4096}, "out is 4096, expected Rows"),
        ({"x": 4096}, "x is 4096, expected Rows"),
        ({"widht": 4}, "toy takes no widht"),
        ({"room": 4}, "toy takes no room"),
    ],
)
def test_an_operand_that_is_unknown_missing_or_of_another_sort_is_a_typeerror_at_once(given, says):
    p = Program(SIZES)
    right = {"out": p.rows("out", 32), "w": p.rows("w", 24, 1), "cols": 8, "gain": 1.0}
    p.add(TOY, **right)
    with pytest.raises(TypeError, match=re.escape(says)):
        p.add(TOY, **{**right, **given})
    with pytest.raises(TypeError, match="cols is None"):
        p.add(TOY, **{name: value for name, value in right.items() if name != "cols"})


def test_what_just_fits_passes_and_a_byte_less_does_not():
    from twofile.errors import ModelError

    p = program()
    p.make(1 << 30)
    (record,) = p.records
    assert {name for name, *_ in p.reaches(record)} == {"out", "x", "w", "room"}
    for name, place, nbytes, writes in p.reaches(record):
        assert writes == (name in ("out", "room"))
        if place is None:
            assert nbytes == 80 and p.scratch_step == 128 and p.scratch.nbytes == 2 * 128
            continue
        place.room.nbytes, whole = place.at + nbytes, place.room.nbytes
        p.check()
        place.room.nbytes -= 1
        with pytest.raises(ModelError, match=f"internal: {name} of toy in layer 7 reaches 1 bytes too far"):
            p.check()
        place.room.nbytes = whole
    p.scratch_step = 79
    with pytest.raises(ModelError, match="room of toy"):
        p.check()


def test_what_is_only_read_is_not_written():
    from twofile.errors import ModelError

    p = Program(SIZES)
    ones = p.constant("ones", [1.0] * 4096)
    p.add(TOY, out=ones, w=p.rows("w", 24, 1), cols=8, gain=1.0)
    with pytest.raises(ModelError, match="out of toy"):
        p.make(1 << 30)


def test_rows_are_as_many_as_the_record_has():
    for count, many in ((N_TOKENS, CHUNK), (N_WANTED, WANTED_MAX), (N_PAIRS, SIZES.pairs)):
        p = Program(SIZES)
        p.add(TOY, count, out=p.rows("out", 32, many), w=p.rows("w", 24, 1), cols=8, gain=1.0)
        ((_, _, nbytes, _), *_) = p.reaches(p.records[0])
        assert nbytes == (many - 1) * 32 + 32


def test_memory_is_counted_before_it_is_taken():
    p = program()
    with pytest.raises(MemoryError) as e:
        p.make(1000)
    assert e.value.args[0] == p.nbytes > 1000 and p.shared["out"].buffer is None


def test_every_kernel_of_a_program_says_what_it_does_and_writes():
    found = every_kernel()
    assert len(found) > 40
    for kernel in found.values():
        if kernel.operands is None:
            assert kernel.name in ("play", "rest", "rouse", "serve", "pick")
            continue
        places = [o for o in kernel.operands.declared.values() if isinstance(o, (Rows, Flat))]
        assert kernel.operands.about and any(o.writes for o in places), kernel.name
