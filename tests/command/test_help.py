"""Help: one screen, and topics that leave nothing out; of the same flags as the command lines."""

import io
import re
import subprocess
import sys

import pytest

from helpers.places import ROOT
from twofile.command.main import act, batched, chatting, is_bare
from twofile.command.table import COMMANDS, flags_of, kind, told
from twofile.command.topics import PARSERS, SCREEN_TOPICS, TOPICS, shown
from twofile.front.modes import all_flags
from twofile.tools.toolbox import BUILT_IN


def test_one_screen():
    """Of 40 lines and 80 columns at most, with every command and every topic; of the flags those that are there."""
    lines = shown(SCREEN_TOPICS).splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) < 80 and not any(line.endswith(" ") for line in lines)
    text = "\n".join(lines)
    for command in COMMANDS:
        assert re.search(rf"^  {command.name} {re.escape(command.given)} +{re.escape(command.help)}$", text, re.M)
    topics = text.partition("Topics of help: ")[2]
    assert re.split(r",\s+", topics) == list(TOPICS)
    names = {name for flag in all_flags() for name in flag.names}
    found = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text)
    assert len(set(found) - {"-o"}) > 12 and set(found) <= names


def test_topics_leave_no_flag_out():
    """Each flag is told in a topic beside all and run, and in all, with its help."""
    flat = lambda text: " ".join(text.split())
    small = flat(" ".join(shown(topic) for topic in TOPICS if topic not in ("all", "run")))
    whole = flat(shown("all"))
    for name in PARSERS:
        for flag in flags_of(name):
            if told(flag) and flag.long != "--version":
                for where in (small, whole):
                    names = [name for name in flag.names if name.startswith("-")]
                    assert [name for name in names if not re.search(rf"(?<![\w-]){name}(?![\w-])", where)] == []
                    assert told(flag).replace(" ", "") in where.replace(" ", ""), flag.long


def test_what_has_a_page_or_an_extra_has_a_topic():
    """Of docs/ all pages but those that tell of no flag by themselves; of the extras those that bring a thing to do."""
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    pages -= set("usage library reference speed attacks families format architecture".split())
    listed = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = set(re.findall(r"^(\w+) = ", listed, re.M)) - {"train", "dev", "docs"}
    assert pages >= {"tools", "memory", "structure"} and extras >= {"export", "serve"} and pages | extras <= set(TOPICS)


def test_tools_are_told():
    """Each tool by its name, and the flags that go with them; memory's and the forms' in topics of theirs."""
    assert all(re.search(rf"^  {name}(=FOLDER)? ", shown("tools"), re.M) for name in BUILT_IN)
    for topic, flags in (("tools", "--tools --mcp --yes"), ("memory", "--memory"), ("structure", "--regex --grammar")):
        assert [flag for flag in flags.split() if f"\n  {flag} " not in shown(topic)] == []


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic(topic, capsys):
    """Text that fits a terminal; `run`, `serve`, ... of their own parsers."""
    assert act(["help", topic]) == 0
    text = capsys.readouterr().out
    assert text == shown(topic) and len(text) > 100 and max(map(len, text.splitlines())) <= 82 and text[-2] != "\n"
    if topic in PARSERS:
        assert text.startswith("usage: twofile")


@pytest.mark.parametrize("words", ["help", "-h", "--help", "help --help", "completion -h"])
def test_ways_to_ask_for_the_screen(words, capsys):
    assert act(words.split()) == 0 and capsys.readouterr().out == shown(SCREEN_TOPICS)


@pytest.mark.parametrize("words, topic", [("chat --help", "chat"), ("batch -h", "batch")])
def test_ways_to_ask_for_a_topic(words, topic, capsys):
    assert act(words.split()) == 0 and capsys.readouterr().out == shown(topic)


def test_nothing_at_all_is_help_in_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert act([]) == 0 and capsys.readouterr().out == shown(SCREEN_TOPICS)


def test_a_reader_that_leaves_early():
    command = f"'{sys.executable}' -m twofile help all | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.splitlines()[1] in ("0", "141")


@pytest.mark.parametrize(
    "words, want",
    [
        ("a b -q", "-q --batch=b -- a"),
        ("-o x a -np 3 b", "-o=x -np=3 --batch=b -- a"),
        ("-p -p a", "-p=-p --batch=a --"),
        ("-n20 --seed=1 - a", "-n=20 --seed=1 --batch=a -- -"),
        ("--temperature 0 -n 4 b", "--temp=0 -n=4 --batch=b --"),
        ("--predict 4 a b", "--n-predict=4 --batch=b -- a"),
        ("a b --choices yes no -q", "--choices yes no -q --batch=b -- a"),
        ("-q -- -a", "-q --batch=-a --"),
        ("-m a b", "-m=a --batch=b --"),
        ("a --help", "--help"),
        ("", None),
        ("-m a b c", None),
        ("a b c", None),
    ],
)
def test_files_among_flags_of_batch(words, want):
    """By whatever name of a flag, as the program itself takes them."""
    assert batched(words.split()) == (want and want.split())


def test_flags_of_chat_are_no_model(capsys):
    for words in ("", "--temperature 0", "-n 3 --predict 4", "--choices a b"):
        assert chatting(words.split()) == ["--chat", *words.split()]
        assert "for a larger one" in capsys.readouterr().err
    for words in ("a --temperature 0", "--temperature 0 -m a", "-q"):
        assert chatting(words.split()) and capsys.readouterr().err == ""
    with pytest.raises(SystemExit):
        chatting(["--temperature"])
    assert "--temperature has no value, expected X behind it" in capsys.readouterr().err


def test_what_looks_like_a_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").write_text("")
    bare = ("serv", "Once upon", "Once upon a time.", "He ran. Then he", "Why?")
    assert [word for word in (*bare, "model", "a.bin", "./x", "my models/x", "-p", "") if is_bare(word)] == list(bare)


@pytest.mark.parametrize(
    "word, hint",
    [
        ("hlep", "did you mean help? a prompt is given by -p TEXT"),
        ("chta", "did you mean chat? a prompt"),
        ("xyz", "completion; a prompt is given by -p TEXT"),
        ("Once upon a time.", "completion; a prompt is given by -p TEXT"),
    ],
)
def test_what_a_first_word_may_have_meant(word, hint, capsys):
    assert act([word]) == 2 and hint in capsys.readouterr().err


def test_what_a_shell_may_complete():
    """Each flag that takes a value is of one kind; files and folders are named so in help."""
    kinds = {(name, flag.long): kind(flag) for name in PARSERS for flag in flags_of(name) if told(flag)}
    assert kinds["run", "--model"] == kinds["export", "--imatrix"] == kinds["serve", "--api-key"] == "files"
    assert kinds["run", "--cache-dir"] == kinds["serve", "--cache-dir"] == "folders"
    assert kinds["run", "--kv"] == ["f16", "f32", "q8_0"] and kinds["run", "--quiet"] == "" and kinds["run", "--seed"] is None
