"""The man page: it is what the program says, and man shows it."""

import re
import shutil
import subprocess

import pytest

import manual
from helpers.places import ROOT
from twofile.command.manual import plain
from twofile.command.table import COMMANDS, flags_of, told
from twofile.command.topics import PARSERS

PAGE = ROOT / "docs" / "twofile.1"


def test_it_is_up_to_date():
    assert PAGE.read_text() == manual.manual(), "docs/twofile.1 is not what twofile/ says: make run.py"


def test_text_is_shown_as_it_stands():
    assert plain("a\\b") == "a\\eb" and plain("--x") == "\\-\\-x" and plain(".x") == "\\&.x" and plain("N,…") == "N,\\[u2026]"
    assert PAGE.read_text().isascii()


def test_it_is_rendered():
    """Every command, every flag and what it does; groff has nothing to complain of."""
    if not shutil.which("groff"):
        pytest.skip("groff is not installed")
    done = subprocess.run(["groff", "-man", "-Tutf8", "-P-cbou", "-ww", "-rLL=200n", PAGE], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    text = done.stdout.replace("‐", "-").replace("−", "-").replace("’", "'")
    for title in ("NAME", "SYNOPSIS", "COMMANDS", "OPTIONS", "TEXTS OF A FORM", "TOOLS", "MEMORY", "EXIT STATUS", "EXAMPLES"):
        assert re.search(rf"^{title}$", text, re.M)
    flat = " ".join(text.split())
    for command in COMMANDS:
        assert f"{command.name} {command.given} {command.help}" in flat
    for flag in (flag for name in PARSERS for flag in flags_of(name) if told(flag)):
        head = ", ".join(flag.names) if flag.names[0].startswith("-") else ""
        assert head in flat and " ".join(told(flag).split()) in flat, flag.long
