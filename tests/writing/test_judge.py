"""Given texts: log-likelihoods beside a float64 forward, perplexity beside llama.cpp's, choices."""

import json
import lzma
import math
import os
import pickle
import subprocess
import threading

import naive
import naive_forward
import numpy as np
import pytest
from conftest import call, make_model, shared

import export
import run


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """A random f32 model that reads bytes; context 40."""
    from test_tokenizer import byte_bpe

    path = tmp_path_factory.mktemp("exact") / "model.bin"
    return make_model(path, "f32", vocab_size=263, tokenizer=byte_bpe(), embed=True, max_ctx=40)


def chances(path, ids):
    """float64 [len(ids), vocab]: naive log-probabilities of what follows each beginning."""
    m = run.Model(path, verbose=False)
    x = naive_forward.logits(m.config, naive.read(path), np.array(ids))
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def test_score_is_that_of_a_naive_forward(exact):
    m = run.Model(exact, verbose=False)
    for n in (2, 3, 17, 18, 40, 41):  # around the 16 that come at once; the last may stand one behind the context
        ids = [(7 * i * i + 3) % 263 for i in range(n)]
        rows = chances(exact, ids[:-1])
        got, greedy = m.score(ids)
        assert got == pytest.approx(rows[np.arange(n - 1), ids[1:]], abs=2e-4)
        assert greedy.tolist() == (rows.argmax(1) == ids[1:]).tolist()
        assert m.score(ids, n - 1)[0] == pytest.approx(got[-1:], abs=1e-12)
    with pytest.raises(run.ModelError, match="41 tokens"):
        m.score([5] * 42)


def test_loglikelihood(exact):
    m = run.Model(exact, verbose=False)
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
    m = run.Model(exact, verbose=False)
    ids = [(5 * i * i + 1) % 263 for i in range(100)]
    whole = [m._begin(), *ids]
    want = 0
    for first, end in ((1, 41), (41, 81), (81, 101)):
        inputs = whole[max(0, end - 41) : end - 1]
        rows = chances(exact, inputs)[-(end - first) :]
        want += sum(row[i] for row, i in zip(rows, whole[first:end]))
    assert m.loglikelihood_rolling(ids) == pytest.approx(want, abs=5e-3)
    assert m.loglikelihood_rolling([]) == 0 and m.loglikelihood_rolling(ids[:3]) < 0


def test_perplexity_is_of_the_second_halves(exact):
    m = run.Model(exact, verbose=False)
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
    with pytest.raises(run.ModelError, match="two windows"):
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
    assert export.main([str(source), "-o", str(out), "--type", "f16"]) == 0
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


def test_score_on_the_command_line(tiny):
    m = run.Model(tiny, verbose=False)
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
    m = run.Model(tiny, verbose=False)
    words = ["hen", "fox", "the hen and", "zzzz"]
    want = sorted(words, key=lambda w: -m.loglikelihood("the", " " + w)[0])
    done = call(tiny, "-p", "the", "--choices", *words)
    assert done.stdout.decode() == want[0] + "\n" and want[1] in done.stderr.decode()
    value = json.loads(call(tiny, "-p", "the", "--json", "--choices", *words).stdout)
    assert [row["text"] for row in value["choices"]] == want and value["choice"] == want[0]
    m = run.Model(talker, verbose=False)
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


def test_a_pickled_model_maps_the_same_file(tiny):
    m = run.Model(tiny, n_ctx=64, n_threads=1, verbose=False)
    raw = pickle.dumps(m)
    again = pickle.loads(raw)
    assert len(raw) < 1000 and again.n_ctx == 64 and again.n_threads == 1
    assert again.generate("the", max_tokens=20, seed=4) == m.generate("the", max_tokens=20, seed=4)


def test_threads_share_a_model(tiny):
    """Streams in several threads, and a batch meanwhile: each as if it were alone."""
    m = run.Model(tiny, verbose=False)
    prompts = ["the", "a fox", "hen", "the fox and"]
    alone = {p: m.generate(p, max_tokens=40, seed=3, ignore_eos=True) for p in prompts}
    scored = m.score(m.tokenize("the fox and the hen"))[0]
    wrong = []

    def work(p):
        for _ in range(3):
            if m.generate(p, max_tokens=40, seed=3, ignore_eos=True) != alone[p]:
                wrong.append(p)
            if not np.array_equal(m.score(m.tokenize("the fox and the hen"))[0], scored):
                wrong.append("score")

    def many():
        found = [w.written for w in m.best_of("the", 3, seed=3, max_tokens=40, ignore_eos=True)]
        if alone["the"] not in found:
            wrong.append("batch")

    threads = [threading.Thread(target=work, args=(p,)) for p in prompts] + [threading.Thread(target=many)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
