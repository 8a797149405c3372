"""The shape of the source: the maps in the docstrings, what may be imported, the sizes of sections, what the README tells."""

import ast
import re
import subprocess
import sys

import pytest

from helpers.places import ROOT

README = (ROOT / "README.md").read_text()
# Lines a section may have; a ceiling, not a target. The words for five instruction sets and the compiler that makes
# numba unnecessary at run time are the price of start-up time and speed.
BUDGETS = {
    "model file": 612,
    "simd": 360,
    "compiler": 260,
    "kernels": 1180,
    "forward": 705,
    "tokenizer": 495,
    "sampler": 60,
    "writer": 200,
    "model": 585,
    "bench": 195,
    "batch": 250,
    "chat": 165,
    "command line": 510,
}
LONGEST = 70  # lines of a function


def sections(source):
    """{name: lines} of each section, by its banner."""
    parts = re.split(r"^# -{70,}\n# ([a-z ]+)(?::.*)?\n", source, flags=re.M)
    return {name: body.count("\n") for name, body in zip(parts[1::2], parts[2::2])}


@pytest.mark.parametrize("file", ["run.py", "export.py"])
def test_the_map_names_the_sections_in_order(file):
    source = (ROOT / file).read_text()
    listed = re.findall(r"^    ([a-z]+(?: [a-z]+)?) {2,}\S", ast.get_docstring(ast.parse(source), clean=False), re.M)
    assert listed == list(sections(source))


def test_sections_keep_their_budgets():
    found = sections((ROOT / "run.py").read_text())
    assert found.keys() == BUDGETS.keys()
    assert {name: n for name, n in found.items() if n > BUDGETS[name]} == {}


@pytest.mark.parametrize("file", ["run.py", "export.py"])
def test_functions_are_short(file):
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < LONGEST, node.name


def imports(file):
    found = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names)


def test_run_needs_numpy_and_numba_and_nothing_else():
    assert imports("run.py") <= {"numpy", "numba", "llvmlite"}
    assert imports("export.py") <= {"numpy", "run"}


def test_importing_run_starts_nothing():
    code = "import sys, threading, run; assert threading.active_count() == 1; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_what_the_readme_says_exists():
    """Every path and every flag of a command in the README is there; so is every `make` target."""
    commands = re.findall(r"^(?:\$ |    )?((?:python|make|pip) .*)$", README, re.M)
    assert len(commands) >= 10
    for command in commands:
        words = command.split()
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), command
        elif words[:1] == ["python"] and words[1].endswith(".py"):
            assert (ROOT / words[1]).exists(), command
            shown = subprocess.run([sys.executable, ROOT / words[1], "--help"], capture_output=True, text=True).stdout
            for flag in re.findall(r"(?<=\s)--?[a-z][a-z-]*", command.split("|")[0]):
                assert words[1].startswith("train/") or re.search(rf"(?<![\w-]){flag}(?![\w-])", shown), (command, flag)


def test_every_flag_is_in_the_readme():
    for program in ("run.py", "export.py"):
        shown = subprocess.run([sys.executable, ROOT / program, "--help"], capture_output=True, text=True).stdout
        for flag in set(re.findall(r"(?<=[\s,])--[a-z][a-z-]*", shown)) - {"--help"}:
            assert f"`{flag}" in README or f" {flag}" in README or f"{flag}`" in README, (program, flag)
