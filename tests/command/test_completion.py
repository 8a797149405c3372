"""Completions as shells do them: bash and zsh in a terminal, fish by its own question."""

import shutil
import subprocess

import pytest

from helpers.terminal import Shell
from twofile.command.completion import completion, tables
from twofile.command.table import COMMANDS, SHELLS

FLAGS = {name: [n for flag in table for n in flag.names] for name, table in tables().items()}


@pytest.fixture
def folder(tmp_path):
    """A script for each shell, a file and a folder that begin alike."""
    for shell in SHELLS:
        (tmp_path / f"script.{shell}").write_text(completion(shell))
    (tmp_path / "story one.bin").write_text("")
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages.bin").write_text("")
    return tmp_path


def need(shell):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")


def bash_words(folder, *words):
    """What the function finds for the last of these words."""
    need("bash")
    script = 'source "$0"; COMP_WORDS=(twofile "$@"); COMP_CWORD=$#; _twofile; printf "%s\\n" "${COMPREPLY[@]}"'
    command = ["bash", "--norc", "-c", script, folder / "script.bash", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout.split()


def test_bash_knows_every_flag(folder):
    """Of the command that stands first, and no other's."""
    for name, flags in FLAGS.items():
        first = [] if name == "run" else [name]
        assert sorted(bash_words(folder, *first, "model.bin", "-")) == sorted([*flags, "--help"])
    assert bash_words(folder, "chat", "--ju") == bash_words(folder, "--ju") == ["--judge"]


def test_bash_knows_words(folder):
    assert bash_words(folder, "") == [command.name for command in COMMANDS]
    assert bash_words(folder, "model.bin", "") == [] and bash_words(folder, "completion", "") == list(SHELLS)
    assert bash_words(folder, "--kv", "f") == bash_words(folder, "--kv", "=", "f") == ["f16", "f32"]
    assert bash_words(folder, "--kv", "=") == ["f16", "f32", "q8_0"]
    assert bash_words(folder, "export", "--type", "q4_") == ["q4_0", "q4_1", "q4_k"]
    assert "exit-codes" in bash_words(folder, "help", "") and bash_words(folder, "bench", "-o", "j") == ["json", "jsonl"]


STARTS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source script.bash"),
    "zsh": (["zsh", "-f", "-i"], "autoload -U compinit; compinit -u -D; source script.zsh"),
}


@pytest.mark.parametrize("shell", STARTS)
def test_in_a_terminal(shell, folder):
    """Commands, flags, words, files with a space in them, folders alone; nothing for a number."""
    need(shell)
    program = Shell(*STARTS[shell], folder)
    try:
        program.type("twofile ser\t", "ve ")
        program.type("--api-k\t", "--api-key ")
        program.type("story\t", r"story\\ one\.bin")
        program.type("\x15twofile --kv q\t", r"--kv q8_0 ")
        program.type("\x15twofile -m story\t", r"-m story\\ one\.bin ")
        program.type("\x15twofile serve --cache-dir pag\t", r"--cache-dir pages/")
        program.type("\x15twofile story\t", r"twofile story\\ one\.bin ")
        program.type("\x15twofile run x --clea\t", "--clean ")
        program.type("\x15twofile help exi\t", "help exit-codes ")
        shown = program.type("\x15twofile -n story\t; echo en''d\n", "\nend\n")
        assert "one.bin" not in shown
    finally:
        program.close()


def fish(folder, line):
    need("fish")
    command = ["fish", "--no-config", "-c", 'source script.fish; complete -C "$argv"', line]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    return [row.partition("\t")[0] for row in done.stdout.splitlines()]


def test_fish(folder):
    for command in COMMANDS:
        assert command.name in fish(folder, f"twofile {command.name[:2]}")
    for name, flags in FLAGS.items():
        line = "twofile " + ("" if name == "run" else f"{name} ")
        found = fish(folder, f"{line}-") + fish(folder, f"{line}--")
        assert set(flags) <= set(found)
    assert fish(folder, "twofile --kv ") == ["f16", "f32", "q8_0"] and fish(folder, "twofile -n story") == []
    assert fish(folder, "twofile -m story") == fish(folder, "twofile story") == ["story one.bin"]
    assert fish(folder, "twofile serve --cache-dir pag") == ["pages/"] and fish(folder, "twofile help exi") == ["exit-codes"]
    assert fish(folder, "twofile serve --ju") == [] and fish(folder, "twofile completion ") == sorted(SHELLS)


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_whole(shell, folder):
    """As each shell reads them without running them."""
    need(shell)
    done = subprocess.run([shell, "-n", folder / f"script.{shell}"], capture_output=True)
    assert done.returncode == 0 and done.stderr == b""
