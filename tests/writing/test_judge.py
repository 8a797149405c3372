"""Given texts: log-likelihoods beside a float64 forward, perplexity beside llama.cpp's."""

import json
import lzma
import math
import os
import subprocess

import numpy as np
import pytest

from helpers.models import make_model
from helpers.places import shared
from helpers.process import call
from helpers.vocabularies import byte_bpe
from twins.forward import slow_logits
from twins.weights import read_tensors
from twofile.errors import ModelError
from twofile.export.main import main
from twofile.model import Model


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """A random f32 model that reads bytes; context 40."""

    path = tmp_path_factory.mktemp("exact") / "model.bin"
    return make_model(path, "f32", vocab_size=263, tokenizer=byte_bpe(), embed=True, max_ctx=40)


def chances(path, ids):
    """float64 [len(ids), vocab]: naive log-probabilities of what follows each beginning."""
    m = Model(path, verbose=False)
    x = slow_logits(m.config, read_tensors(path), np.array(ids))
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def test_score_is_that_of_a_naive_forward(exact):
    m = Model(exact, verbose=False)
    for n in (2, 3, 17, 18, 40, 41):  # around the 16 that come at once; the last may stand one behind the context
        ids = [(7 * i * i + 3) % 263 for i in range(n)]
        rows = chances(exact, ids[:-1])
        got, greedy = m.score(ids)
        assert got == pytest.approx(rows[np.arange(n - 1), ids[1:]], abs=2e-4)
        assert greedy.tolist() == (rows.argmax(1) == ids[1:]).tolist()
        assert m.score(ids, n - 1)[0] == pytest.approx(got[-1:], abs=1e-12)
    with pytest.raises(ModelError, match="41 tokens"):
        m.score([5] * 42)


def test_loglikelihood(exact):
    m = Model(exact, verbose=False)
    before, ids = m.tokenize("the fox"), m.tokenize("the fox ran")
    rows = chances(exact, ids)
    first = len(before)
    want = sum(rows[i - 1, ids[i]] for i in range(first, len(ids)))
    assert ids[:first] == before  # or else the text would show nothing
    assert m.loglikelihood("the fox", " ran") == (pytest.approx(want, abs=1e-3), False)
    assert m.loglikelihood("the fox ", "ran")[0] == pytest.approx(want, abs=1e-3)  # white space goes over
    assert m.loglikelihood(before, ids[first:])[0] == pytest.approx(want, abs=1e-3)
    assert m.loglikelihood("the fox", "") == (0, True)
    best = int(rows[-1].argmax())
    assert m.loglikelihood(ids, [best])[1] is True
    assert m.loglikelihood("", "the fox")[0] == m.loglikelihood([], m.tokenize("the fox", add_bos=False))[0]


def test_rolling_counts_each_token_once_in_full_windows(exact):
    """As lm-evaluation-harness rolls: [begin + 39] predict 40, then 40 more, then the last 40 inputs for what is left."""
    m = Model(exact, verbose=False)
    ids = [(5 * i * i + 1) % 263 for i in range(100)]
    whole = [m.prompts.begin(), *ids]
    want = 0
    for first, end in ((1, 41), (41, 81), (81, 101)):
        inputs = whole[max(0, end - 41) : end - 1]
        rows = chances(exact, inputs)[-(end - first) :]
        want += sum(row[i] for row, i in zip(rows, whole[first:end]))
    assert m.loglikelihood_rolling(ids) == pytest.approx(want, abs=5e-3)
    assert m.loglikelihood_rolling([]) == 0 and m.loglikelihood_rolling(ids[:3]) < 0


def test_perplexity_is_of_the_second_halves(exact):
    m = Model(exact, verbose=False)
    text = "".join(chr(97 + (i * i) % 26) for i in range(150))
    ids, nats = m.tokenize(text), []
    for i in range(len(ids) // 20):
        part = ids[20 * i : 20 * (i + 1)]
        rows = chances(exact, part)
        nats += [-rows[j - 1, part[j]] for j in range(11, 20)]
    found = m.perplexity(text, 20)
    assert found["perplexity"] == pytest.approx(math.exp(np.mean(nats)), rel=1e-3) and found["tokens"] == len(nats)
    error = np.std(nats) / math.sqrt(len(nats) - 1) * found["perplexity"]
    assert found["error"] == pytest.approx(error, rel=1e-2)
    with pytest.raises(ModelError, match="two windows"):
        m.perplexity("short")


@pytest.mark.parametrize("n_ctx, llama_cpp", [(128, 4.4228), (100, 4.4502), (64, 4.7963)])
def test_perplexity_is_llama_cpps(n_ctx, llama_cpp, tmp_path):
    """The figures are llama-perplexity's (llama.cpp of llama-cpp-python 0.3.36) on these f16 weights and this text.
    LLAMA_PERPLEXITY=PATH LLAMA_QUANTIZE=PATH measures them again."""
    pytest.importorskip("gguf")
    source = shared("checkpoints/stories260K/stories260Ktok512.gguf")
    text = lzma.open(shared("corpus/tinystories.txt.xz"), "rt").read()[-200000:].replace("\n<|endoftext|>\n", "\n")[:60000]
    (tmp_path / "text.txt").write_text(text)
    out = tmp_path / "m.bin"
    assert main([str(source), "-o", str(out), "--type", "f16"]) == 0
    done = call(out, "--perplexity", "-c", n_ctx, "-f", tmp_path / "text.txt", "--json")
    found = json.loads(done.stdout)
    assert found["perplexity"] == pytest.approx(llama_cpp, rel=1e-3) and found["n_ctx"] == n_ctx
    if os.environ.get("LLAMA_PERPLEXITY"):
        f16 = tmp_path / "m.gguf"
        subprocess.run([os.environ["LLAMA_QUANTIZE"], source, f16, "F16"], check=True, capture_output=True)
        theirs = subprocess.run(
            [os.environ["LLAMA_PERPLEXITY"], "-m", f16, "-f", tmp_path / "text.txt", "-c", str(n_ctx)],
            capture_output=True,
            text=True,
        )
        said = float((theirs.stdout + theirs.stderr).split("PPL = ")[1].split()[0])
        assert found["perplexity"] == pytest.approx(said, rel=1e-3)
