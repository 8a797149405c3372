"""Given texts on the command line: scores, choices, perplexity."""

import json
import math

import pytest

from helpers.process import call
from twofile.model import Model


def test_score_on_the_command_line(tiny):
    m = Model(tiny, verbose=False)
    want = float(m.score(m.tokenize("the fox ran"))[0].sum())
    done = call(tiny, "-p", "the fox ran", "--score")
    assert float(done.stdout) == pytest.approx(want, abs=1e-4) and b"bits per byte" in done.stderr
    value = json.loads(call(tiny, "-p", "the fox ran", "--score", "--json", "--logprobs", "2").stdout)
    assert value["logprob"] == pytest.approx(want) and sum(value["logprobs"]["token_logprobs"][1:]) == pytest.approx(want)
    assert all(1 <= len(row) <= 2 for row in value["logprobs"]["top_logprobs"][1:])  # two tokens may have one name
    assert value["bits_per_byte"] == pytest.approx(-want / math.log(2) / value["bytes"])
    done = call(tiny, "-p", "", "--score")
    assert done.returncode == 1 and b"2 or more" in done.stderr


def test_choices(tiny, talker):
    m = Model(tiny, verbose=False)
    words = ["hen", "fox", "the hen and", "zzzz"]
    want = sorted(words, key=lambda w: -m.loglikelihood("the", " " + w)[0])
    done = call(tiny, "-p", "the", "--choices", *words)
    assert done.stdout.decode() == want[0] + "\n" and want[1] in done.stderr.decode()
    value = json.loads(call(tiny, "-p", "the", "--json", "--choices", *words).stdout)
    assert [row["text"] for row in value["choices"]] == want and value["choice"] == want[0]
    m = Model(talker, verbose=False)
    ask = m.encode_chat([{"role": "user", "content": "the"}])
    value = json.loads(call(talker, "-p", "the", "--json", "--choices", *words).stdout)
    for row in value["choices"]:
        ids = m.tokenize(row["text"], add_bos=False)
        assert row["logprob"] == pytest.approx(m.loglikelihood(ask, ids)[0])
    assert call(tiny, "-p", "the", "--choices", "").returncode in (0, 1)


def test_perplexity_on_the_command_line(tiny, tmp_path):
    (tmp_path / "book.txt").write_text("the fox and the hen " * 60)
    done = call(tiny, "--perplexity", "-f", tmp_path / "book.txt", "-c", "64")
    assert done.stdout.startswith(b"Final estimate: PPL = ") and b"+/-" in done.stdout and b"bits per byte" in done.stderr
    done = call(tiny, "--perplexity", "-p", "short")
    assert done.returncode == 1 and b"two windows" in done.stderr
