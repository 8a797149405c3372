"""Flags as users of llama.cpp and llama2.c type them: each is itself, or refused by its name; none is another's."""

import pytest

from helpers.process import call, refused
from twofile.command.main import act
from twofile.command.table import COMMANDS
from twofile.export.main import EXPORT_FLAGS
from twofile.export.main import main as export_main
from twofile.front.bench import BENCH_FLAGS
from twofile.front.habits import CONVERTER, HABITS, LLAMA_CPP, LLAMA_SERVER, MEANT, OLLAMA
from twofile.front.modes import all_flags, parse_args
from twofile.front.spelling import apart
from twofile.serve.main import SERVE_FLAGS, parsed_args


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
        ("-co", "there are no colours"),
        ("--color=auto", "--color is llama.cpp's"),
        ("-hf x", "twofile export SOURCE"),
        ("--mlock", "--mlock is llama.cpp's; the file is mapped, always"),
        ("--no-mmap", "--no-mmap is llama.cpp's; the file is mapped, always"),
        ("--dry-multiplier 0.8", "repetition is held down by --repeat-penalty"),
        ("-ctk q8_0", "keys and values are of one type, which is --kv TYPE"),
        ("-tb 4", "-t is for both"),
        ("--stream", "--stream is no flag; it is always so; leave it out"),
        ("-i story", "llama2.c's; the prompt is -p TEXT"),
        ("-b 1", "llama2.c's"),
        ("-ngl99", "-ngl is llama.cpp's; everything runs on the processor"),
        ("-ub512", "-ub is llama.cpp's; how many tokens are read at once is fixed"),
        ("--keep 4", "a text ends, a conversation forgets its oldest turns"),
        ("--format json", "--format is ollama's; the form is --json-schema FILE; '{}' is any object"),
        ("-mli", "a line that ends with \\ goes on in the next"),
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
        ("--tmp 1", "--tmp is no flag, expected one of --help; did you mean --temp?"),
        ("--repeat 1", "did you mean --repeat-penalty?"),
        ("--temprature 1", "did you mean --temp?"),
        ("--seeed 1", "did you mean --seed?"),
        ("--formt x", "--formt is no flag, expected one of --help; leave it out"),
        ("--lo x", "--lo is no flag, expected one of --help; leave it out"),
        ("--wholly-other", "--wholly-other is no flag, expected one of --help; leave it out"),
        ("-n gl", "-n is 'gl', expected a whole number; change it"),
        ("--temp=warm", "--temp is 'warm', expected a number; change it"),
        ("-f -q", "-f has no value, expected FILE behind it; give one"),
        ("--kv", "--kv has no value, expected one of f16, f32, q8_0 behind it"),
        ("--kv f8", "--kv is 'f8', expected one of f16, f32, q8_0; change it"),
        ("-q=1", "-q is '1', expected no value; write -q alone"),
        ("-f\x1b[31m", r"-f\x1b[31m is no flag"),
    ],
)
def test_refused_by_the_name_that_was_typed(argv, says):
    with pytest.raises(Refused) as caught:
        words("model.bin", "-p", "hi", *argv.split(" "))
    assert says in str(caught.value) and "\x1b" not in str(caught.value)


OFTEN = """--keep --lora --warmup --no-warmup --no-perf --perf --prio --in-prefix --in-suffix --list-devices --draft
--offline --numa --rope-scaling --rope-scale --rope-freq-base --rope-freq-scale --yarn-orig-ctx
--yarn-ext-factor --swa-full --no-kv-offload --context-shift --no-context-shift --override-kv -lv --verbosity
--log-file --log-verbose --log-disable --reasoning-budget --reasoning-format --jinja --no-display-prompt -ptc
-fit -sp -md -cram --prompt-cache-all -ub -gan -sm -ts -mg --poll --cpu-mask -dev --control-vector
--split-mode --tensor-split --main-gpu --cpu-moe --verbose-prompt --check-tensors --mmproj --dynatemp-range"""


def test_flags_of_llama_cpp_have_a_line_each():
    """By its name, that says what to do; never that another flag was meant."""
    for flag in OFTEN.split():
        with pytest.raises(Refused, match=f"^{flag} is llama.cpp's; .{{9,}}"):
            words(flag, "1")


@pytest.mark.parametrize(
    "argv, want",
    [
        ("-n20", "-n=20"),
        ("-n-1", "-n=-1"),
        ("-t4 -c512 -s42 -np8", "-t=4 -c=512 -s=42 -np=8"),
        ("-n=20", "-n=20"),
        ("-s -5 --temp -.5", "-s=-5 --temp=-.5"),
        ("--temperature 1 --predict 3", "--temp=1 --n-predict=3"),
        ("-p -ngl", "-p=-ngl"),
        ("-p -e -n 3", "-p=-e -n=3"),
        ("-r -fa", "-r=-fa"),
        ("-f - --batch -", "-f=- --batch=-"),
        ("--choices a -5 b -q", "--choices a -5 b -q"),
        ("-h", "-h"),
        ("-V --prompt-file x --system y", "--version --file=x --system-prompt=y"),
        ("-no-cnv -cnv -sysf f", "-no-cnv -cnv -sysf=f"),
    ],
)
def test_what_is_meant_is_taken(argv, want):
    assert words("model.bin", *argv.split()) == (want.split(), ["model.bin"])


def test_words_that_are_no_flags():
    assert words("m", "-q", "a text", "-n", "3") == (["-q", "-n=3"], ["m", "a text"])
    assert words("m", "-q", "--", "-ngl", "-p") == (["-q"], ["m", "-ngl", "-p"])


def prompt_of(*argv):
    settings = parse_args(argv)
    return settings.model, settings.prompt


def test_a_text_behind_the_model_is_the_prompt(capsys):
    assert prompt_of("model.bin", "a text", "-n", "3") == prompt_of("model.bin", "-n", "3", "a text") == ("model.bin", "a text")
    assert prompt_of("-m", "model.bin", "a text") == prompt_of("model.bin", "--", "a text") == ("model.bin", "a text")
    for argv, says in (
        (["model.bin", "two", "words"], "'words' is one word too many, expected MODEL and TEXT; put the text in quotes"),
        (["model.bin", "a", "-p", "b"], "'a' beside -p, expected one prompt"),
        (["-m", "model.bin", __file__], "give one model file; a prompt that is a file's name is -p TEXT"),
    ):
        with pytest.raises(SystemExit) as caught:
            parse_args(argv)
        assert caught.value.code == 2 and says in capsys.readouterr().err


def test_escapes():
    """-e: as llama.cpp has them, in what is typed; a byte at a time, so that two make an é. Without it backslashes stay."""
    typed = r"a\nb\t\x41\\n\q\xc3\xa9\x4"
    given = ["model.bin", typed, "-r", r"\n", "-sys", r"x\r", "--continue", r"\'y\""]
    settings = parse_args([*given, "-e"])
    assert settings.prompt == "a\nb\tA\\n\\qé\\x4" and settings.stop == ["\n"]
    assert (settings.system, settings.begun) == ("x\r", "'y\"")
    plain = parse_args(given)
    assert (plain.prompt, plain.stop, plain.system, plain.begun) == (typed, [r"\n"], r"x\r", r"\'y\"")


def test_glued_numbers_arrive():
    settings = parse_args("model.bin -p x -n20 -t2 -c512 -s42".split())
    assert (settings.n_predict, settings.threads, settings.ctx_size, settings.seed) == (20, 2, 512, 42)


def test_no_habit_is_a_flag_of_ours():
    ours = {name for flag in all_flags() for name in flag.names}
    assert set(MEANT.values()) <= ours and not MEANT.keys() & (ours | HABITS.keys())
    assert not ours & HABITS.keys() and len(HABITS) > 40
    assert not {name for flag in BENCH_FLAGS for name in flag.names} & LLAMA_CPP.keys()


@pytest.mark.parametrize(
    "argv, says",
    [
        ("pull x", "pull is ollama's; no model is fetched; make one of a file or folder with twofile export SOURCE"),
        ("show x", "show is ollama's; a model is described by MODEL --info"),
        ("list", "list is ollama's; a model is a file"),
        ("serve -p 8080", "-p is no flag; the port is --port N"),
        ("serve -m m.bin", "-m is llama-server's; a model stands by itself: serve model.bin"),
        ("serve m.bin -ngl 9", "-ngl is llama.cpp's; everything runs on the processor"),
        ("serve m.bin --prot 1", "--prot is no flag, expected one of --help; did you mean --port?"),
        ("serve m.bin --timeout x", "--timeout is 'x', expected a number; change it"),
        ("export x --outtype f16", "--outtype is llama.cpp's; it is --type TYPE"),
        ("export x --seed q", "--seed is 'q', expected a whole number; change it"),
        ("export x --tpye f16", "--tpye is no flag, expected one of --help; did you mean --type?"),
        ("export a b", "2 sources, expected one"),
    ],
)
def test_in_commands(argv, says, capsys):
    """Commands of ollama's, flags of llama-server's and of llama.cpp's converter; exit code 2, no file is looked at."""
    ways = {"serve": parsed_args, "export": export_main}
    first, *rest = argv.split()
    with pytest.raises(SystemExit) as caught:
        ways[first](rest) if first in ways else act(argv.split())
    assert caught.value.code == 2 and f"error: {says}" in capsys.readouterr().err


def test_habits_of_the_server_and_the_exporter_are_no_flags_of_theirs():
    for habits, flags in ((LLAMA_SERVER, SERVE_FLAGS), (CONVERTER, EXPORT_FLAGS)):
        extra = habits.keys() - LLAMA_CPP.keys()
        assert extra and not extra & {name for flag in flags for name in flag.names}
    assert not OLLAMA.keys() & {command.name for command in COMMANDS}


def test_on_the_command_line(tiny):
    """Exit code 2, nothing on stdout; also behind --bench."""
    refused(call(tiny, "-p", "hi", "-n", "2", "-ngl", "0"), "error: -ngl is llama.cpp's", code=2)
    refused(call(tiny, "-p", "hi", "-hf", "x"), "error: -hf is llama.cpp's", "with export.py SOURCE", code=2)
    refused(call("--bench", tiny, "-ngl", "0"), "--bench: error: -ngl is llama.cpp's", code=2)
    refused(call("--bench", tiny, "-fa", "1"), "--bench: error: -fa is llama.cpp's", code=2)
