"""What --tools names."""

import re

import pytest

from twofile.errors import ModelError
from twofile.tools.toolbox import BUILT_IN, built_in


def names(*texts):
    tools = built_in(texts)
    for tool in tools:
        tool.close()
    return [tool.name for tool in tools]


def test_tools_by_name(tmp_path):
    assert names() == [] and names("calculator") == ["calculator"]
    assert names("date, calculator", f"files={tmp_path}") == ["date", "calculator", "files"]
    assert names(f"search,files={tmp_path}") == names("search", f"files={tmp_path}") == ["search", "files"]


def test_each_reads_below_its_own_folder(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").write_text("needle")
    files, search = built_in([f"files={tmp_path}/a,search={tmp_path}/b"])
    assert files.run({}) == "a.txt  6 bytes" and search.run({"words": "needle"}) == "b.txt:1: needle"
    files.close(), search.close()


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "an empty name is no tool"),
        ("calculator,", "an empty name is no tool"),
        ("sums", "sums is no tool, expected some of calculator, date, python, files, search, shell"),
        ("eval\x1b[31m", r"eval\x1b[31m is no tool"),
        ("date,calculator,date", "date stands there twice"),
        ("calculator=notes", "calculator: a folder, expected none; write calculator alone"),
        ("files", "files: no folder is named, expected the one to read below; write files=FOLDER"),
        ("search", "write search=FOLDER"),
        ("files=/no/such", "expected a folder; name one, as in tools files=notes"),
        ("files=", "no folder is named"),
    ],
)
def test_what_is_wrong_is_one_line_of_four_parts(text, says):
    with pytest.raises(ModelError) as e:
        built_in([text])
    assert says in str(e.value) and re.match(r"tools.*: .*, expected .*; \w+", str(e.value)) and str(e.value).isprintable()


def test_what_is_harmless_and_what_is_told(tmp_path):
    """python and shell are asked for each time they are not allowed; the others may run in a pipe."""
    harmless = {}
    for name in BUILT_IN:
        try:
            (tool,) = built_in([f"{name}={tmp_path}" if name in ("files", "search") else name])
        except ModelError:
            continue  # no python here
        harmless[name] = tool.harmless
        told = tool.described()
        assert told["name"] == name and told["parameters"]["type"] == "object" and told["strict"]
        assert told["parameters"]["additionalProperties"] is False and len(told["description"]) < 400
        tool.close()
    assert not harmless["shell"] and not harmless.get("python")
    assert all(harmless[name] for name in ("calculator", "date", "files", "search"))
