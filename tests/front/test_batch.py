"""--batch where memory is scarce, where lines fail, and of a pipe."""

import json
import os
import threading

import pytest

from helpers.models import make_model
from helpers.rooms import patch
from twofile.errors import ModelError
from twofile.front.main import main
from twofile.model import Model


def test_a_context_that_memory_does_not_hold_is_halved_and_said(tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level("INFO", "twofile")
    path = make_model(tmp_path / "m.bin", "q8_0", max_ctx=1 << 20)
    each = Model(path, verbose=False).cache_bytes(1 << 18)
    patch(monkeypatch, "total_memory", lambda: 4 * each + 1000)
    m = Model(path)
    assert m.n_ctx == 1 << 18 and "context of 262144 tokens; 1048576 would take" in caplog.text
    assert m.generate([1, 2, 3], max_tokens=5, ignore_eos=True, temperature=0) is not None
    assert Model(path, n_ctx=1 << 19, verbose=False).generate([1, 2, 3], max_tokens=5) is not None  # asked for
    with pytest.raises(ModelError, match="choose a smaller n_ctx"):
        Model(path, n_ctx=1 << 20, verbose=False).generate([1, 2, 3])  # no less will do
    (tmp_path / "lines").write_text('{"prompt": [1], "max_tokens": 2}\n' * 5)
    assert main([str(path), "--batch", str(tmp_path / "lines"), "-o", str(tmp_path / "out"), "-np", "4"]) == 0
    assert "context of 262144 tokens" in capsys.readouterr().err


@pytest.fixture
def run(talker, tmp_path, capfdbinary):
    """run(words, ...) -> (exit code, stdout as JSON, stderr) of a batch with an empty second line of two."""
    (tmp_path / "in").write_text('"the fox"\n""\n')
    begin = [str(talker), "-n", "3", "-s", "1", "--batch"]

    def run_it(*words, source=tmp_path / "in"):
        code = main([*begin, str(source), *map(str, words)])
        out, err = capfdbinary.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err.decode()

    return run_it


def test_lines_that_failed_are_told_and_the_exit_code_says_so(run, tmp_path):
    """Quietly too, and again by --resume: when the rest of the output is written, and when it is whole."""
    code, rows, err = run()
    assert code == 1 and "2 lines (1 failed)" in err and "run.py" not in err and "twofile:" not in err
    assert rows[1] == {"id": 2, "error": "line 2: the prompt is empty, expected a message; give text"}
    told = "twofile: error: 1 of 2 lines failed; expected none; read their field error\n"
    code, again, err = run("-q")
    assert (code, again, err) == (1, rows, told)
    out = tmp_path / "out"
    assert run("-q", "-o", out) == (1, [], told) and run("-q", "-o", out, "--resume") == (1, [], told)
    whole = out.read_bytes()
    assert json.loads(whole.splitlines()[0]) == rows[0]
    (tmp_path / "in").write_text('""\n"the fox"\n')
    out.unlink()
    (tmp_path / "out.part").write_bytes(whole.splitlines(True)[1])
    assert run("-q", "-o", out, "--resume") == (1, [], told) and out.read_bytes().count(b"\n") == 2
    (tmp_path / "in").write_text('"error"\n')
    code, rows, err = run("-q")
    assert code == 0 and err == "" and rows[0]["text"]


def test_an_answer_knows_nothing_of_the_lines_before(run, tmp_path):
    """Not even how much of its prompt they have left in the cache."""
    (tmp_path / "in").write_text('"the fox and the hen"\n' * 3)
    code, rows, _ = run("-np", "1", "-q")
    assert code == 0 and len({row.pop("seed") for row in rows}) == 3
    counts = [(row["usage"].keys(), row["usage"]["prompt_tokens"]) for row in rows]
    assert counts == [({"prompt_tokens", "completion_tokens", "total_tokens"}, counts[0][1])] * 3


def test_lines_of_a_pipe(run, tmp_path):
    """As a shell's <(command); what it says is waited for."""
    want = run("-q")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Timer(0.2, (tmp_path / "pipe").write_bytes, [(tmp_path / "in").read_bytes()])
    writer.start()
    assert run("-q", source=tmp_path / "pipe") == want
    writer.join()


def test_a_pipe_is_no_output_to_go_on_with(run, tmp_path):
    os.mkfifo(tmp_path / "out")
    for words in ((), ("--resume",)):
        code, _, err = run("-q", "-o", tmp_path / "out", *words)
        assert code == 1 and ("exists" in err or "not a regular file; expected a file, or a new name" in err)
