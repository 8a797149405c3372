"""The modes of the program: how each is asked for, and what is refused; --program, which tells the forward."""

import itertools
import re

import pytest

from helpers.places import ROOT
from helpers.process import call
from twofile.front.batch import check_batch
from twofile.front.common import PROMPT
from twofile.front.mode import unprompted
from twofile.front.modes import MODES, all_flags, parse_args
from twofile.model import Model

MODEL = ROOT / "model.bin"
PLAIN = MODES[-1]
VALUES = {"--shard": "0/2", "--id": "0123456789abcdef"}  # of flags that do not take any word
SOME = [flag for flag in all_flags() if flag.some]
UNPROMPTED = {name for mode in MODES if mode.check in (unprompted, check_batch) for name in mode.flags[0].names}
ASKED = [mode for mode in MODES if mode.flags[:1] and mode is not PLAIN]


def words(flag):
    """The flag on a command line, with a value if it takes one."""
    value = VALUES.get(flag.long, "2" if flag.how.get("type") is int else "x")
    return [flag.long] if flag.how.get("action") == "store_true" else [flag.long, value]


def parsed(*given):
    """Settings of a line with a prompt, where the mode that it asks for reads one."""
    asked = [] if UNPROMPTED.intersection(given) else ["-p", "the fox"]
    return parse_args(["model.bin", *asked, *given])


def refusal(capsys, *given):
    """What the parser says before it ends the program."""
    with pytest.raises(SystemExit) as caught:
        parsed(*given)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_without_a_flag_text_is_written():
    assert parsed().mode is PLAIN and not any(mode is PLAIN for mode in ASKED) and len(ASKED) == len(MODES) - 1


@pytest.mark.parametrize("mode", ASKED, ids=lambda mode: mode.name)
def test_a_mode_is_asked_for_by_its_first_flag(mode):
    """And by no other, and by each of its names."""
    asks = words(mode.flags[0])
    for name in mode.flags[0].names:
        assert parsed(name, *asks[1:]).mode is mode
    for other in (flag for flag in mode.flags[1:] if not flag.some):
        assert not mode.is_asked_for(parsed(*words(other)).given)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_flags_that_fit_a_mode_and_flags_that_do_not(mode, capsys):
    """Of those that go with some modes only: what fits is taken, every other one is refused by its name and the mode's."""
    asks = words(mode.flags[0]) if mode in ASKED else []
    for flag in SOME:
        if mode.takes(flag):
            settings = parsed(*asks, *words(flag), *(word for need in flag.needs[:1] for word in words(need)))
            assert settings.mode is mode and flag.is_given(settings.given)
        else:
            takers = " or ".join(m.name for m in MODES if flag in (*m.flags, *m.fits))
            says = f"{flag.long} does nothing with {mode.name}, expected {takers}; leave it out"
            assert says in refusal(capsys, *asks, *words(flag))


def test_each_of_those_flags_fits_a_mode():
    assert [flag.long for flag in SOME if not any(mode.takes(flag) for mode in MODES)] == []
    assert len(SOME) >= 8 and PROMPT not in SOME


def test_two_modes_at_once_are_refused_by_name(capsys):
    """In whichever order they are asked for, the one of the two that stands first in MODES is named first."""
    for first, second in itertools.combinations(ASKED, 2):
        asks = words(first.flags[0]), words(second.flags[0])
        for one, two in (asks, asks[::-1]):
            said = refusal(capsys, *one, *two)
            assert f"{first.name} and {second.name}: expected one of them; run them one after the other" in said


# --program


@pytest.fixture(scope="module")
def records():
    model = Model(MODEL, n_threads=1, verbose=False)
    return model, model.ready().program.records


def lines(*args):
    done = call(MODEL, "--program", *args)
    assert done.returncode == 0
    return done.stdout.decode().splitlines()


def test_the_program_is_told_a_line_a_record(records):
    """Place, kernel and operands by name; every matrix, scale and norm with its type and shape."""
    model, records = records
    told = lines()
    assert len(told) == len(records) > 10 * model.config.n_layers
    for line, record in zip(told, records):
        place, kernel, given = re.fullmatch(r"(\S+(?: \d+)?) +(\S+) +(.*)", line).groups()
        assert (place, kernel) == (record.place, record.kernel.name)
        names = re.findall(r"(?:^| )(\w+)=", given)
        assert names == [name for name in record.kernel.operands.declared if record.given.get(name) is not None]
    places = ["embedding", *(f"layer {i}" for i in range(model.config.n_layers)), "output"]
    assert list(dict.fromkeys(record.place for record in records)) == places
    for name, t in model.file.tensors.items():
        if name not in ("rope", "window", "rope_id", "tokenizer"):
            assert f"={name}({t.type.name} {'x'.join(map(str, t.shape))})" in "\n".join(told), name


def test_the_program_with_shares_of_the_time(records):
    """Of one token and of a prompt of 128: two columns before the same lines, each of about 100 %."""
    _, records = records
    head, *told = lines("-v", "-t", "1")
    assert head.split() == ["one", "128", "place,", "kernel,", "operands"] and len(told) == len(records)
    shares, rest = zip(*(re.fullmatch(r" *(\d+\.\d% +\d+\.\d%) (.*)", line).groups() for line in told))
    assert list(rest) == lines()
    for column in zip(*(map(float, re.findall(r"[\d.]+", share)) for share in shares)):
        assert sum(column) == pytest.approx(100, abs=0.05 * len(records)) and min(column) >= 0  # each rounded to 0.1
