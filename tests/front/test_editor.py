"""A text in an editor: what is taken of it, and what is told if there is nothing to take."""

import os
import stat

import pytest

from twofile.errors import ModelError
from twofile.front.editor import in_editor, usual_editor

FILE = '"$2"'


def edited(tmp_path, script, text="old\n"):
    editor = tmp_path / "my editor.sh"
    editor.write_text(f"#!/bin/sh\n{script}\n")
    editor.chmod(0o700)
    return in_editor(f"'{editor}' --wait", text, "message.txt")


def test_what_is_saved_comes_back(tmp_path):
    assert edited(tmp_path, f"echo 'na\u00efve' >> {FILE}", "a\nb\n") == "a\nb\nna\u00efve"
    assert edited(tmp_path, f"printf '\\357\\273\\277x' > {FILE}") == "x"  # a mark of the order of bytes
    assert edited(tmp_path, f"printf 'new' > {FILE}.swp; mv {FILE}.swp {FILE}") == "new"
    assert edited(tmp_path, f": > {FILE}") == "" and edited(tmp_path, "true") is None
    assert edited(tmp_path, f"touch {FILE}") == "old"  # saved as it was


def test_nobody_else_can_read_it_and_nothing_is_left(tmp_path):
    place = tmp_path / "place"
    edited(tmp_path, f"echo {FILE} > {place}; stat -c %a $(dirname {FILE}) >> {place}")
    path, mode = place.read_text().split()
    assert int(mode, 8) & stat.S_IRWXO == int(mode, 8) & stat.S_IRWXG == 0 and not os.path.exists(os.path.dirname(path))


@pytest.mark.parametrize(
    "script, says",
    [("exit 3", "ended with 3"), (f"rm {FILE}", "left no file"), (f"rm {FILE}; mkfifo {FILE}", "left no file")],
)
def test_an_editor_that_fails_is_told(tmp_path, script, says):
    with pytest.raises(ModelError, match=says):
        edited(tmp_path, script)


@pytest.mark.parametrize("command, says", [("/no/such", "No such file"), ("'x", "No closing quotation"), ("/", "ermission")])
def test_an_editor_that_is_none_is_told(command, says):
    with pytest.raises(ModelError, match=f"^the editor {command} cannot be run .*{says}"):
        in_editor(command, "", "x")


def test_where_there_is_no_editor_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError, match="put the command of one into EDITOR"):
        usual_editor()
    monkeypatch.setenv("TMPDIR", "/no/such")
    monkeypatch.setattr("tempfile.tempdir", "/no/such")
    with pytest.raises(ModelError, match="no file for the editor can be made"):
        in_editor("true", "", "x")
