"""docs/transcripts, played again: three people's first hour, line by line. TWOFILE_REWRITE=1 writes them anew instead."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from helpers.places import ROOT
from helpers.process import call
from helpers.transcripts import Typed, alike, anew, replayed, steps
from twofile.compiler import kept

FOLDER = ROOT / "docs" / "transcripts"
NEEDS = {  # beside numpy and numba
    "newcomer": ["llguidance"],
    "pipeline": ["llguidance"],
    "service": ["starlette", "uvicorn", "jsonschema", "prometheus_client", "llguidance"],
}


@pytest.fixture(scope="module")
def kernels():
    """Compiled already, so that no transcript tells of it; -> the folder above them."""
    call(ROOT / "model.bin", "-p", "x", "-n", "1", "-q")
    return str(kept._top().parent)


@pytest.fixture
def place(tmp_path, kernels):
    """(a folder as a clone is, its environment): python is this one, the kernels are there."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "twofile", clone / "twofile")
    for name in ("run.py", "export.py", "model.bin", "tokenizer.bin"):
        shutil.copy(ROOT / name, clone)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    (tmp_path / "home").mkdir()
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    return clone, {"PATH": path, "HOME": str(tmp_path / "home"), "NUMBA_CACHE_DIR": kernels, "LANG": "C.UTF-8"}


@pytest.mark.skipif(os.name != "posix" or not shutil.which("bash"), reason="no bash here")
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.md")), ids=lambda path: path.stem)
def test_a_transcript(path, place):
    """Each command prints what stands there, and ends as it says."""
    for package in NEEDS[path.stem]:
        pytest.importorskip(package)
    differs, now = replayed(path, *place)
    if os.environ.get("TWOFILE_REWRITE"):
        path.write_text(now)
    else:
        assert not differs, f"{differs}\n\nif it is to be so: TWOFILE_REWRITE=1, then read what became of docs/transcripts"


WRONG = """\
Some words.

```console
$ echo one; echo two >&2; (exit 3)
one
two
(exit code 3)
$ printf '%s\\n' a b |
> sort -r; echo "1.5 t/s"
b
c
… t/s
$ env -i PATH="$PATH" bash
$ set -e; echo "${HOME-none}"
none
$ false
(exit code 1)
$ echo "${HOME:+some}"
some
```

```text
$ echo not played
```
"""


def test_a_transcript_that_is_wrong(tmp_path, place):
    """Is told by its place, with what is there and what should be; and becomes right when it is written anew."""
    path = tmp_path / "wrong.md"
    path.write_text(WRONG)
    differs, now = replayed(path, *place)
    assert re.fullmatch(
        r"wrong\.md:8: \$ printf '%s\\n' a b \|\nsort -r; echo \"1.5 t/s\"\n--- the transcript\n\+\+\+ this run\n"
        r"@@ .* @@\n b\n-c\n-… t/s\n\+a\n\+1.5 t/s",
        differs,
    ), differs
    path.write_text(now)
    assert now == WRONG.replace("\nc\n", "\na\n") and replayed(path, *place) == ("", now)
    path.write_text(WRONG.replace("(exit code 3)\n", "").replace("\nc\n", "\na\n"))
    assert "+(exit code 3)" in replayed(path, *place)[0]


def test_what_a_terminal_shows_may_come_in_any_pieces(tmp_path):
    """Also where a block ends within a letter, or within the end of a line."""
    pieces = "stty -opost; printf 'a\\r'; sleep 0.2; printf '\\n\\303'; sleep 0.2; printf '\\244> '"
    t = Typed(["sh", "-c", pieces], tmp_path, os.environ)
    assert t.until("> $", 20) == "a\n\xe4> " and t.leave() == 0


def test_what_is_alike():
    assert alike(["a … c", "…", "z"], ["a b c", "d", "e", "z"]) and alike([], []) and alike(["…"], [""])
    for want, got in ((["a…"], ["b"]), (["…", "z"], ["z"]), (["a"], ["a", "b"]), (["a.c"], ["abc"]), ([], ["a"]), (["…"], [])):
        assert not alike(want, got)
    assert anew(["x … s"], ["x 3 s", "gen 5 tok 7.1 t/s"]) == ["x … s", "gen 5 tok … t/s"]
    with pytest.raises(AssertionError, match="line 2: 'x' is no command"):
        steps("```console\nx\n```")


def test_each_transcript_is_short_and_linked():
    """Each is some screens, and the README or docs/usage.md lead to it; what stands for anything stands for little."""
    names = {path.name for path in FOLDER.glob("*.md")}
    told = "".join((ROOT / name).read_text() for name in ("README.md", "docs/usage.md"))
    linked = {Path(link).name for link in re.findall(r"\((?:docs/)?(transcripts/\w+\.md)\)", told)}
    assert names == linked == {f"{name}.md" for name in NEEDS}
    for path in FOLDER.glob("*.md"):
        text = path.read_text()
        assert text.count("\n") <= 260 and max(map(len, text.split("\n"))) <= 500
        assert len(steps(text)) >= 12 and not any("…" in step.output for step in steps(text))
