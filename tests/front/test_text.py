"""Where a prompt comes from, and what is said of the text that is written."""

import json
import re
import threading

import pytest

from helpers.process import call
from twofile.errors import RELEASE
from twofile.front.main import main


@pytest.fixture
def run(talker, capfdbinary):
    """run(words, ...) -> (exit code, stdout, stderr)"""

    def run_it(*words):
        code = main([str(talker), "-s", "1", *map(str, words)])
        return code, *(text.decode() for text in capfdbinary.readouterr())

    return run_it


def test_a_prompt_in_a_pipe(run, tmp_path):
    """As a shell's <(command) is one; a system prompt too. It is waited for, and an empty one is an error."""
    import os

    os.mkfifo(tmp_path / "pipe")

    def given(text, *words):
        writer = threading.Timer(0.1, (tmp_path / "pipe").write_text, [text])
        writer.start()
        found = run(*words, "-n", "5", "-q")
        writer.join()
        return found

    want = run("-p", "the fox", "-n", "5", "-q")
    assert want[0] == 0 and want[1] and given("the fox\n", "-f", tmp_path / "pipe") == want
    assert given("be kind", "-sysf", tmp_path / "pipe", "-p", "x") == run("-sys", "be kind", "-p", "x", "-n", "5", "-q")
    code, out, err = given("", "-f", tmp_path / "pipe")
    assert code == 2 and out == "" and f"{tmp_path}/pipe is empty, expected a prompt" in err
    code, out, err = run("-f", tmp_path)
    assert code == 1 and "a folder, not a regular file; expected a text file" in err


def test_the_null_device_is_empty(run):
    """As a file without bytes is; other devices are no files."""
    import os

    code, out, err = run("-f", os.devnull)
    assert (code, out) == (2, "") and f"{os.devnull} is empty, expected a prompt" in err
    assert run("-q", "-n", "2", "-p", "the fox", "-sysf", os.devnull) == run("-q", "-n", "2", "-p", "the fox")
    assert run("-q", "--batch", os.devnull) == (0, "", "")
    for flag in ("-f", "--batch"):
        code, out, err = run(flag, "/dev/zero")
        assert (code, out) == (1, "") and "/dev/zero: not a regular file" in err


def test_an_empty_message_is_none(run):
    """A variable that is not set, in a script: nothing is invented. Without a template it is the beginning of a text."""
    code, out, err = run("-p", "", "-n", "5")
    assert (code, out) == (2, "") and err == "twofile: error: the prompt is empty, expected a message; give text\n"
    code, out, err = run("-p", "x", "--choices", "yes", "")
    assert (code, out) == (1, "") and "--choices: one of them is empty, expected answers; give text" in err


def test_reading_a_prompt_takes_a_time(run):
    """-n 0: the prompt is read, and that has a speed."""
    code, out, err = run("-p", "the fox", "-n", "0", "--json")
    found = json.loads(out)["timings"]
    assert code == 0 and found["prompt_ms"] > 0 and 0 < found["prompt_per_second"] < 1e7 and found["predicted_n"] == 0


def test_a_form_that_was_cut(run):
    """Is told, quietly too; one that is whole, or ended as was asked, is not."""
    pytest.importorskip("llguidance")
    for more in ([], ["--best-of", "2"]):
        code, out, err = run("-p", "x", "--regex", "[a-z]{40}", "-n", "3", "-q", *more)
        assert code == 0 and out
        assert re.fullmatch(
            "twofile: --regex: cut after 3 tokens, which is the beginning of such a text; expected a whole one; raise -n\n", err
        )
        assert run("-p", "x", "--regex", "[a-z]{2}", "-q", *more)[2] == ""
    assert run("-p", "x", "--json-schema", "{}", "-c", "20", "-q", "--ignore-eos")[2].endswith("raise -c\n")
    assert run("-p", "x", "-n", "3", "-q")[2] == ""


def test_one_version():
    assert call("--version").stdout.decode().startswith(f"run.py {RELEASE}, format ")
