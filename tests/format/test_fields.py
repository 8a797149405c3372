"""The config: one table of fields, from which packing, the check of ranges, the parts and the document follow."""

import random
import subprocess
import sys

import pytest

from helpers.places import ROOT
from twofile.errors import ModelError
from twofile.format.config import CONFIG, CONFIG_BYTES, PARTS, Config, unpack_config
from twofile.format.fields import ACTIVATIONS, ANY, FIELDS, FLAGS, MANY_KINDS, OPTIONAL, check_ranges
from twofile.format.types import BLOCK, MATRIX_TYPES, TYPES, type_of

PLAIN = Config("llama", dim=64, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=16, ffn_dim=96, vocab_size=50, max_ctx=99)


def some_numbers(rng):
    """Random numbers of every field that has a place, most of them in no sound model."""
    found = {"arch_tag": "some", "kinds": bytes(rng.randrange(4) for _ in range(MANY_KINDS))}
    for field in FIELDS:
        if field.code == "I" and field.at:
            found[field.name] = rng.choice([0, rng.randrange(1 << 16)])
        elif field.code == "f" and field.at:
            found[field.name] = float(rng.randrange(100))
    return found | {"flags": rng.randrange(1 << len(FLAGS)), "tokenizer_sha256": rng.randbytes(32)}


def test_packing_is_undone_by_unpacking():
    rng = random.Random(0)
    for _ in range(100):
        numbers = some_numbers(rng)
        raw = Config(**numbers).pack()
        assert len(raw) == CONFIG_BYTES and not any(raw[CONFIG.size :])
        back = unpack_config(raw)
        assert {name: back[name] for name in numbers} == numbers
        assert Config(**back) == Config(**numbers) and Config(**back).pack() == raw


def test_each_number_has_one_place_and_each_place_one_number():
    places = [row.at for row in (*FIELDS, *FLAGS) if row.at]
    assert len(set(places)) == len(places) and len({f.name for f in FIELDS}) == len(FIELDS)
    assert [flag.bit for flag in FLAGS] == [1 << i for i in range(len(FLAGS))]
    assert {at.split(".")[0] for at in places if "." in at} == set(PARTS) >= set(OPTIONAL)
    assert CONFIG.size == 476


def test_parts_that_are_not_there_are_none():
    assert all(getattr(PLAIN, part) is None for part in OPTIONAL)
    assert PLAIN.heads.n == 4 and PLAIN.heads.size == 16 and PLAIN.ffn.gated and PLAIN.norms.pre and not PLAIN.output.own
    more = PLAIN.changed(n_experts=4, top_k=2, ungated=True, head=True)
    assert more.experts.n == 4 and more.experts.chosen == 2 and not more.ffn.gated and more.output.own
    assert more.delta is None and PLAIN.experts is None
    assert more.changed(n_experts=0, top_k=0, head=False, ungated=False) == PLAIN


def test_a_misspelt_number_or_part_is_an_error():
    with pytest.raises(TypeError, match="no number of a config: n_head"):
        PLAIN.changed(n_head=4)
    with pytest.raises(AttributeError):
        PLAIN.heads.sise  # noqa: B018
    with pytest.raises(AttributeError, match="does not change"):
        PLAIN.dim = 3


@pytest.mark.parametrize("field", [f for f in FIELDS if f.code == "I" and f.most != ANY], ids=lambda f: f.name)
def test_every_range_ends_where_it_says(field):
    numbers = PLAIN.numbers()
    for value in (field.least, field.most):
        check_ranges({**numbers, field.name: value})
    for value in [field.most + 1] + [field.least - 1] * (field.least > 0):
        with pytest.raises(ModelError, match=f"{field.name} is {value}, expected {field.least}..{field.most}"):
            check_ranges({**numbers, field.name: value})


@pytest.mark.parametrize("field", [f for f in FIELDS if f.code == "f"], ids=lambda f: f.name)
def test_real_numbers_are_finite_and_not_negative(field):
    if field.at.startswith("sampling"):
        pytest.skip("layers/stack.py checks these")
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ModelError, match=f"{field.name} is {value}"):
            check_ranges({**PLAIN.numbers(), field.name: value})
    if not field.at:
        with pytest.raises(ModelError, match="expected 0 in this version"):
            check_ranges({**PLAIN.numbers(), field.name: 1.0})


def test_every_activation_has_its_kernels():
    from twofile.kernels.activation import FUNCTIONS

    assert tuple(FUNCTIONS) == ACTIVATIONS
    assert all(gated for _, gated in FUNCTIONS.values())


def test_types_know_their_bytes():
    assert [t.number for t in TYPES] == list(range(1, len(TYPES) + 1)) and len({t.name for t in TYPES}) == len(TYPES)
    for t in MATRIX_TYPES:
        rows, cols = 17, 33
        wide = 64 if t.quantised else 33
        assert t.nbytes((rows, cols), True) == 32 * wide * t.bits // 8 and t.nbytes((rows, 64), False) == 17 * 64 * t.bits // 8
        assert t.group == (t.share if t.quantised else 0)
        beside = {end: (kind.name, shape) for end, kind, shape in t.beside((rows, cols))}
        assert set(beside) == ({".s", ".d"} if t.above else {".s"} if t.quantised else set())
        for shape in (shape for _, shape in beside.values()):
            assert shape[0] == 2 and shape[-1] == BLOCK
    of = lambda name: {end: (kind.name, shape) for end, kind, shape in type_of(name).beside((17, 260))}
    assert of("q4_0") == {".s": ("f16", (2, 9, 16))} and of("q5_1") == {".s": ("f16", (2, 9, 2, 16))}
    assert of("q4_k") == {".s": ("u8", (2, 9, 2, 16)), ".d": ("f16", (2, 2, 2, 16))}
    assert of("q6_k") == {".s": ("i8", (2, 18, 16)), ".d": ("f16", (2, 2, 16))}
    assert of("q2_k") == {".s": ("u8", (2, 18, 16)), ".d": ("f16", (2, 2, 2, 16))}


def test_the_document_says_what_the_program_says():
    done = subprocess.run([sys.executable, ROOT / "tools" / "tables.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
