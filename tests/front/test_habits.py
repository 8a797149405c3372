"""Flags as users of llama.cpp and llama2.c type them: each is itself, or refused by its name; none is another's."""

import pytest

from helpers.process import call, refused
from twofile.front.bench import BENCH_FLAGS
from twofile.front.habits import HABITS, LLAMA_CPP, apart
from twofile.front.modes import all_flags, parse_args


class Refused(Exception):
    pass


def refuse(text):
    raise Refused(text)


def words(*argv):
    return apart(argv, all_flags(), refuse, HABITS)


@pytest.mark.parametrize(
    "argv, says",
    [
        ("-ngl 0", "-ngl is llama.cpp's; everything runs on the processor"),
        ("-ngl=99", "-ngl is llama.cpp's"),
        ("-fa", "-fa is llama.cpp's"),
        ("-fa on", "-fa is llama.cpp's"),
        ("-st", "-p TEXT without --chat is one turn"),
        ("-co", "there are no colours"),
        ("--color=auto", "--color is llama.cpp's"),
        ("-hf x", "twofile export SOURCE"),
        ("-e", "backslashes are text"),
        ("-ctk q8_0", "is --kv"),
        ("-tb 4", "-t is for both"),
        ("-i story", "llama2.c's; the prompt is -p TEXT"),
        ("-b 1", "llama2.c's"),
        ("-help", "-help is no flag, expected --help"),
        ("-version", "-version is no flag, expected --version"),
        ("-temp 1", "-temp is no flag, expected --temp"),
        ("-pfoo", "-pfoo is no flag, expected -p and a space before its value 'foo'"),
        ("-mmodel.bin", "-mmodel.bin is no flag, expected -m and a space"),
        ("-sysx", "-sysx is no flag, expected -sys and a space"),
        ("-nl", "-nl is no flag, expected -n and a space"),
        ("-n5x", "-n5x is no flag"),
        ("-npx", "-npx is no flag, expected -np and a space"),
        ("-qv", "-qv is no flag, expected -q; write it so"),
        ("-hv", "-hv is no flag"),
        ("-xyz", "-xyz is no flag, expected one of --help"),
        ("-f\x1b[31m", r"-f\x1b[31m is no flag"),
    ],
)
def test_refused_by_the_name_that_was_typed(argv, says):
    with pytest.raises(Refused) as caught:
        words("model.bin", "-p", "hi", *argv.split(" "))
    assert says in str(caught.value) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "argv, want",
    [
        ("-n20", "-n 20"),
        ("-n-1", "-n -1"),
        ("-t4 -c512 -s42 -np8", "-t 4 -c 512 -s 42 -np 8"),
        ("-n=20", "-n=20"),
        ("-s -5 --temp -.5", "-s -5 --temp -.5"),
        ("-p -ngl", "--prompt=-ngl"),
        ("-p -e -n 3", "--prompt=-e -n 3"),
        ("-r -fa", "--stop=-fa"),
        ("-f - --batch -", "-f - --batch -"),
        ("-h", "-h"),
        ("-no-cnv -cnv -sysf f", "-no-cnv -cnv -sysf f"),
        ("-- -ngl", "-- -ngl"),
        ("--no-such", "--no-such"),
    ],
)
def test_what_is_meant_is_taken(argv, want):
    assert words("model.bin", *argv.split()) == ["model.bin", *want.split()]


def test_glued_numbers_arrive():
    settings = parse_args("model.bin -p x -n20 -t2 -c512 -s42".split())
    assert (settings.n_predict, settings.threads, settings.ctx_size, settings.seed) == (20, 2, 512, 42)


def test_no_habit_is_a_flag_of_ours():
    ours = {name for flag in all_flags() for name in flag.names}
    assert not ours & HABITS.keys() and len(HABITS) > 40
    assert not {name for flag in BENCH_FLAGS for name in flag.names} & LLAMA_CPP.keys()


def test_on_the_command_line(tiny):
    """Exit code 2, nothing on stdout; also behind --bench."""
    refused(call(tiny, "-p", "hi", "-n", "2", "-ngl", "0"), "error: -ngl is llama.cpp's", code=2)
    refused(call(tiny, "-p", "hi", "-hf", "x"), "error: -hf is llama.cpp's", "with export.py SOURCE", code=2)
    refused(call("--bench", tiny, "-ngl", "0"), "--bench: error: -ngl is llama.cpp's", code=2)
    refused(call("--bench", tiny, "-fa", "1"), "--bench: error: -fa is llama.cpp's", code=2)
