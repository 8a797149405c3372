"""The command line as a user meets it: bytes on stdout, words on stderr, exit codes; and what can go wrong around it."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from helpers.models import make_model
from helpers.places import ROOT
from helpers.process import call, refused, start
from helpers.vocabularies import byte_bpe
from twofile.front.main import main
from twofile.model import Model
from twofile.modelfile import open_model

BUNDLED = ROOT / "model.bin"


def test_stdout_is_the_text_and_nothing_else(tiny):
    m = Model(tiny, verbose=False)
    want = m.generate("the fox", max_tokens=30, seed=7, ignore_eos=True)
    done = call(tiny, "-p", "the fox", "-n", "30", "-s", "7", "--ignore-eos")
    assert done.returncode == 0 and done.stdout.decode() == want + "\n"
    assert re.search(
        r"prompt \d+ tok [\d.]+ t/s \| gen 30 tok [\d.]+ t/s \| ttft [\d.]+ s \| stop: length \| seed 7\n$",
        done.stderr.decode(),
    )


def test_quiet_is_silent_and_echo_repeats_the_prompt(tiny):
    plain = call(tiny, "-p", "the", "-n", "9", "-s", "1", "-q")
    echo = call(tiny, "-p", "the", "-n", "9", "-s", "1", "-q", "--echo")
    assert plain.stderr == b"" and echo.stdout == b"the" + plain.stdout


def test_the_reported_seed_reproduces_the_run(tiny):
    first = call(tiny, "-p", "a", "-n", "40", "--temp", "3")
    seed = re.search(r"seed (\d+)", first.stderr.decode())[1]
    assert call(tiny, "-p", "a", "-n", "40", "--temp", "3", "-s", seed, "-t", "1").stdout == first.stdout
    assert call(tiny, "-p", "a", "-n", "40", "--temp", "3", "-s", seed, "-t", "auto").stdout == first.stdout
    assert call(tiny, "-p", "a", "-n", "40", "--temp", "3", "-s", "-5").returncode == 0
    seeds = {re.search(rb"seed (-?\d+)", call(tiny, "-p", "a", "-n", "1", "-s", "-1").stderr)[1] for _ in range(2)}
    assert len(seeds) == 2 and b"-1" not in seeds  # random, as llama.cpp has it


def test_where_a_prompt_comes_from(tiny, tmp_path):
    """-p, a file with one line end dropped, stdin, and file before -p."""
    (tmp_path / "p.txt").write_bytes(b"the\n\n")
    same = lambda *a, stdin=b"": call(tiny, *a, "-n", "20", "-s", "3", "-q", "--echo", stdin=stdin).stdout
    want = same("-p", "the\n")
    assert same("-f", str(tmp_path / "p.txt")) == same("-f", "-", stdin=b"the\n\n") == same(stdin=b"the\n\n") == want
    assert same("-f", str(tmp_path / "p.txt"), "-p", "x").startswith(b"the\n\nx")
    assert same("-p", "-1 is a number").startswith(b"-1 is a number")
    assert same("-p", "--help").startswith(b"--help")


def test_a_text_ends_with_one_newline(tiny):
    """In a pipe too; one that ends with one gets no other. In JSON it is as it is."""
    how = ("-n", "6", "-s", "3", "-q")
    text = json.loads(call(tiny, "the", *how, "--json").stdout)["choices"][0]["text"]
    assert not text.endswith("\n")
    assert call(tiny, "the", *how).stdout.decode() == call(tiny, "the", *how, "--best-of", "1").stdout.decode() == text + "\n"
    newline = ("--logit-bias", "10+100", "-n", "2", "--temp", "0", "-q")
    assert call(tiny, "the", *newline).stdout == call(tiny, "the", *newline, "--best-of", "1").stdout == b"\n\n"
    assert call(tiny, "the", "-n", "0", "--echo", "-q").stdout == b"the\n"


def test_nothing_to_read_is_wrong_usage(tiny, tmp_path, capsys):
    """What was to fill a pipe or file has failed: nothing is invented, also where -p stands behind it."""
    empty = tmp_path / "empty"
    for content in (b"", b"\n", b"\xef\xbb\xbf\n"):
        empty.write_bytes(content)
        for more in ([], ["-p", "x"], ["--tokenize"], ["--score"]):
            assert main([str(tiny), "-f", str(empty), *more]) == 2
            out, err = capsys.readouterr()
            assert out == "" and err.startswith(f"twofile: error: {empty} is empty, expected a prompt")
    refused(call(tiny, stdin=b"\xef\xbb\xbf\n"), "standard input is empty, expected a prompt; give text", code=2)
    refused(call(tiny, "-f", "-", "-p", "x", stdin=b""), "standard input is empty", code=2)
    assert call(tiny, "-p", "x", "-n", "1", stdin=b"").returncode == 0  # nobody asked to read it


def test_an_answer_that_was_begun(tiny):
    """--continue: the rest of an answer; without a template, of the text. --echo repeats what was begun."""
    how = ("-n", "9", "-s", "4", "-q", "--temp", "0")
    assert call(tiny, "the f", "--continue", "ox", *how).stdout == call(tiny, "the fox", *how).stdout
    assert call(tiny, "the f", "--continue", "ox", *how, "--echo").stdout.startswith(b"the fox")
    m = Model(BUNDLED, verbose=False)
    ids = m.encode_chat([{"role": "user", "content": "Who are you?"}])
    whole = m.generate(ids, 12, temperature=0.0)
    for at in (5, 9):  # after a word, and in one
        ids = m.encode_chat([{"role": "user", "content": "Who are you?"}], begun=whole[:at])
        said = call(BUNDLED, "Who are you?", "--continue", whole[:at], *how).stdout.decode()
        assert said.removesuffix("\n") == m.generate(ids, 9, temperature=0.0)
        assert m.detokenize(ids).endswith(whole[:at])
    done = call(BUNDLED, "x", "--chat", "--continue", "y")
    refused(done, "--continue does nothing with --chat", code=2)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_notices_that_cannot_be_written(tiny):
    """Are no error of the text, nor of a refusal."""
    want = call(tiny, "the", "-n", "5", "-s", "1", "-q").stdout
    for args, code, text in (
        (["the", "-n", "5", "-s", "1", "-v"], 0, want),
        (["-n", "x"], 2, b""),
        (["-f", "/no/such"], 1, b""),
    ):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([sys.executable, ROOT / "run.py", tiny, *args], stdout=subprocess.PIPE, stderr=full)
        assert (done.returncode, done.stdout) == (code, text)


def test_zero_tokens_prints_nothing(tiny):
    done = call(tiny, "-p", "the", "-n", "0")
    assert done.returncode == 0 and done.stdout == b"" and b"stop: length" in done.stderr


@pytest.mark.parametrize("stop", ["the", " t", "\x05"])
def test_stop_text_is_not_printed(tiny, stop):
    m = Model(tiny, verbose=False)
    free = m.generate("a", max_tokens=150, seed=5, temperature=2.0, top_k=0, top_p=1.0, min_p=0.0, ignore_eos=True)
    for cut in (stop, free[20:23]):
        got = list(m.stream("a", 150, stop=[cut], seed=5, temperature=2.0, top_k=0, top_p=1.0, min_p=0.0, ignore_eos=True))
        text = "".join(c.text for c in got)
        assert text == free.split(cut)[0]
        assert got[-1].finish_reason == ("stop" if cut in free else "length")


@pytest.mark.parametrize(
    "args, says",
    [
        (["-n", "-2"], "-n is -2"),
        (["-n", "x"], "-n is 'x', expected a whole number; change it"),
        (["--temp", "abc"], "--temp is 'abc', expected a number; change it"),
        (["--temp", "nan"], "temperature is nan"),
        (["--temp", "-1"], "temperature is -1"),
        (["--top-p", "-0.1"], "top_p is -0.1"),
        (["--top-p", "1.1"], "top_p is 1.1"),
        (["--top-k", "-5"], "top_k is -5"),
        (["--min-p", "2"], "min_p is 2"),
        (["--repeat-penalty", "0"], "repeat_penalty is 0"),
        (["-t", "0.8"], "the temperature is --temp"),
        (["-c", "-1"], "-c is -1"),
        (["--no-such-flag"], "--no-such-flag is no flag"),
        (["-p"], "-p has no value, expected TEXT behind it; give one"),
        (["-m", "x"], "give one model file"),
    ],
)
def test_usage_errors(tiny, args, says):
    done = call(tiny, *args)
    assert done.returncode == 2 and done.stdout == b"" and says in done.stderr.decode()


@pytest.mark.parametrize(
    "args, says",
    [
        (["-t", "0"], "0 threads, expected 1"),
        (["-t", "1000000"], "1000000 threads"),
        (["-c", "201"], "context of 201 tokens, expected 1 to the 200"),
        (["-p", ""], "the prompt is empty"),
        (["-p", "x" * 300], "300 tokens, expected 1 to 200"),
        (["-f", "/no/such/file", "-n", "1"], "not found"),
        (["-z", "/no/such/file"], "not found"),
        (["-z", str(ROOT / "run.py")], "expected"),
    ],
)
def test_errors_have_words_and_code_1(tiny, args, says):
    done = call(tiny, *args)
    err = done.stderr.decode()
    assert (
        done.returncode == 1
        and done.stdout == b""
        and says in err
        and err.startswith("run.py: error: ")
        and err.count("\n") == 1
    )


def test_no_model(tmp_path):
    assert call().returncode == 2
    done = call(tmp_path / "new\nline\x1b[31m.bin", "-p", "x")
    assert done.returncode == 1 and b"not found" in done.stderr and b"\x1b" not in done.stderr


def test_info_tokenize_verify_version(tiny, models):
    info = call(tiny, "--info").stdout.decode()
    assert open_model(tiny).model_id in info and "q8_0" in info and "263" in info
    assert call(models["f32"], "--info").returncode == 0
    assert call(tiny, "--verify").stdout.endswith(b"match their SHA-256\n")
    assert call(tiny, "--tokenize", "-p", "the\nx").stdout == b"257\tthe\n10\t\\n\n120\tx\n"
    assert call(tiny, "--tokenize", "-p", "é").stdout == b"195\tbytes:\\xc3\n169\tbytes:\\xa9\n"
    assert call("--version").stdout.startswith(b"run.py ")
    help_text = call("--help").stdout.decode()
    assert "examples:" in help_text and max(map(len, help_text.splitlines())) <= 100


def test_text_in_any_locale_and_any_bytes(tiny):
    for env in ({"LANG": "C", "LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}):
        done = call(tiny, "-p", "naïve 🙂", "-n", "5", "-s", "1", "-q", "--echo", **env)
        assert done.returncode == 0 and done.stdout.startswith("naïve 🙂".encode())
    done = call(tiny, "-n", "3", "-s", "1", "--echo", stdin=b"a\xff\x00b")
    assert done.returncode == 0 and done.stdout.startswith("a\ufffd\x00b".encode()) and b"not UTF-8" in done.stderr


@pytest.fixture(scope="session")
def endless(tmp_path_factory):
    """A model whose context takes a while to fill."""
    path = tmp_path_factory.mktemp("endless") / "model.bin"
    sizes = {"vocab_size": 263, "max_ctx": 1 << 17, "dim": 256, "ffn_dim": 512, "n_layers": 4}
    return make_model(path, "q8_0", tokenizer=byte_bpe(), embed=True, **sizes)


def test_a_reader_that_leaves_early(endless):
    done = subprocess.run(
        f"'{sys.executable}' '{ROOT}/run.py' '{endless}' -p the --ignore-eos -q | head -c 20 | wc -c; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        timeout=120,
    )
    assert done.stdout.split() == [b"20", b"141"] and done.stderr == b""


@pytest.mark.parametrize("sig, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_promptly(endless, sig, code):
    Model(endless, verbose=False).generate("the", max_tokens=2)  # the kernels are there
    p = start(endless, "-p", "the", "--ignore-eos", "-q")
    assert p.stdout.read(10)
    p.send_signal(sig)
    began = time.perf_counter()
    _, err = p.communicate(timeout=30)
    assert p.returncode == code and err == b"" and time.perf_counter() - began < 5


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk(tiny):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, ROOT / "run.py", tiny, "-p", "the", "-q"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and b"cannot be written" in done.stderr and b"Traceback" not in done.stderr


def test_without_a_kernel_cache(tiny, tmp_path):
    """E4, E5: a cache that is new, or damaged, cut or foreign: the same text. No folder: tests/compiler/test_kept.py."""
    args = (tiny, "-p", "the", "-n", "20", "-s", "3")
    want = call(*args, "-q").stdout
    cache = tmp_path / "cache"
    assert call(*args, NUMBA_CACHE_DIR=str(cache)).stdout == want
    assert b"compil" not in call(*args, NUMBA_CACHE_DIR=str(cache)).stderr
    kept = sorted(p for p in cache.rglob("*") if p.is_file())
    assert len(kept) > 8
    kept[0].write_bytes(b"")
    kept[1].write_bytes(kept[1].read_bytes()[:-100])
    kept[2].write_bytes(os.urandom(5000))
    done = call(*args, NUMBA_CACHE_DIR=str(cache))
    assert done.stdout == want and done.stderr.count(b"damaged") == 3 and b"compiling 3 kernels" in done.stderr
    assert b"compil" not in call(*args, NUMBA_CACHE_DIR=str(cache)).stderr


def test_importing_does_nothing():
    script = "import sys, run; print(sorted({'numba', 'llvmlite', 'argparse'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == "" and "numba" not in done.stdout and "llvmlite" not in done.stdout


def test_warm_runs_never_import_numba(tiny):
    call(tiny, "-p", "the", "-n", "1")
    script = f"import sys, run; run.Model({str(tiny)!r}).generate('the', max_tokens=3); print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n" and done.stderr == ""


@pytest.mark.parametrize("closed, code", [(">&-", 1), ("2>&-", 0), ("<&-", 0), (">&- 2>&-", 1)])
def test_closed_streams(tiny, closed, code):
    """What a shell closed is not written to, and nothing goes where it does not belong."""
    command = [sys.executable, str(ROOT / "run.py"), str(tiny), "-p", "the", "-n", "5", "-s", "1"]
    done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *command], capture_output=True, timeout=120)
    assert done.returncode == code and b"Traceback" not in done.stderr
    assert done.stdout == (b"" if code else call(tiny, "-p", "the", "-n", "5", "-s", "1", "-q").stdout)
    if closed == ">&-":
        assert done.stderr.startswith(b"run.py: error: standard output cannot be written (it is closed)")
