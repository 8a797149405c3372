"""Log-probabilities: under names that do not collide, over one set of tokens everywhere."""

import json

import numpy as np
import pytest

from helpers.models import make_model
from helpers.process import call
from helpers.vocabularies import byte_bpe, spm
from twofile.chunk import Chunk
from twofile.logprobs import by_name, chat_logprob, label
from twofile.model import Model
from twofile.sampler import log_softmax
from twofile.tokenizer.file import CONTROL, NORMAL
from twofile.tokenizer.tokenizer import Tokenizer

PIECES = [b"\xf0", b"\x9f", b"\xf0\x9f", b" \xf0\x9f", "é".encode(), "\ufffd".encode(), b"a", b"\n", b"bytes:\\xf0", b"bytes:"]
PIECES += [rb"\xf0", b"bytes:\\x5cxf0", b"\\\xff", b"\x1b\x80", b"<|end|>", b"<|end|>"]
LABELS = [r"bytes:\xf0", r"bytes:\x9f", r"bytes:\xf0\x9f", r"bytes: \xf0\x9f", "é", "\ufffd", "a", "\n", r"bytes:bytes:\x5cxf0"]
LABELS += ["bytes:", r"\xf0", r"bytes:bytes:\x5cx5cxf0", r"bytes:\x5c\xff", r"bytes:\x1b\x80", "<|end|>", "<|end|>"]


def vocabulary(pieces):
    """A byte-level tokenizer whose last tokens have these pieces."""
    fields = dict(pieces=[*(bytes([b]) for b in range(256)), *pieces], types=[NORMAL] * (255 + len(pieces)) + [CONTROL])
    return byte_bpe(**fields, prio=[-float(i) for i in range(256 + len(pieces))], eos=None, stops=())


def test_labels():
    """A text is itself; what is none is its bytes as OpenAI writes them; other bytes, another label."""
    t = Tokenizer(vocabulary(PIECES))
    assert [label(t, 256 + i) for i in range(len(PIECES))] == LABELS
    all_of = {t.pieces[i]: label(t, i) for i in range(t.n_vocab)}
    assert len(set(all_of.values())) == len(all_of)
    assert label(None, 7) == "7" and label(t, t.n_vocab) == "?"


def test_tokens_of_the_same_bytes():
    """As many names as tokens: the one that was chosen, or else the likeliest, has the text, the others say which they are."""
    t = Tokenizer(vocabulary(PIECES))
    one, two = t.n_vocab - 2, t.n_vocab - 1
    assert by_name(t, [(one, -1.0), (97, -2.0), (two, -3.0)], 97) == {"<|end|>": -1.0, "a": -2.0, f"token_id:{two}": -3.0}
    assert by_name(t, [(one, -1.0), (two, -3.0)], two) == {f"token_id:{one}": -1.0, "<|end|>": -3.0}
    assert by_name(t, [(one, -1.0)], two) == {f"token_id:{one}": -1.0}  # the chosen one is not among the likeliest
    assert by_name(t, [(one, -1.0)], 97) == {"<|end|>": -1.0}
    assert by_name(None, [(3, -1.0), (4, -2.0)], 3) == {"3": -1.0, "4": -2.0}
    content = chat_logprob(t, Chunk("", two, None, -3.0, ((one, -1.0), (two, -3.0))))
    names = [x["token"] for x in content["top_logprobs"]]
    assert content["token"] == "<|end|>" and names == [f"token_id:{one}", "<|end|>"]


@pytest.fixture(scope="module", params=["bytes", "sentencepiece"])
def model(request, tmp_path_factory):
    """Seven rows more than the tokenizer has tokens."""
    vocab, raw = (263, byte_bpe()) if request.param == "bytes" else (268, spm())
    path = tmp_path_factory.mktemp("rows") / "m.bin"
    return Model(make_model(path, "f32", vocab_size=vocab + 7, tokenizer=raw, embed=True), verbose=False)


FREE = dict(seed=2, ignore_eos=True, temperature=4.0, top_k=0, top_p=1.0, min_p=0.0)


def test_own_chances_stand_under_own_names(model):
    """Of parts of characters too, in every place of a text, the prompt's tokens included."""
    value = model("é🙂 the", 40, logprobs=100, echo=True, **FREE)["choices"][0]["logprobs"]
    parts = 0
    for name, chance, top in list(zip(value["tokens"], value["token_logprobs"], value["top_logprobs"]))[1:]:
        parts += name.startswith("bytes:")
        assert len(top) == 100 and (name not in top or top[name] == chance) and "\ufffd" not in top
    assert parts > 5


def test_chat_objects_tell_them_in_openais_form(talker):
    """A list, so that nothing can collide: token, logprob, bytes, and the likeliest, best first."""
    m, ask = Model(talker, verbose=False), [{"role": "user", "content": "é🙂"}]
    chunks = [c for c in m.stream(m.encode_chat(ask), 12, logprobs=4, **FREE) if c.token is not None]
    value = m.create_chat_completion(ask, 12, logprobs=True, top_logprobs=4, **FREE)
    assert value["object"] == "chat.completion" and value["id"].startswith("chatcmpl-")
    (choice,) = value["choices"]
    assert list(choice) == ["index", "message", "logprobs", "finish_reason"] and choice["logprobs"]["refusal"] is None
    content = choice["logprobs"]["content"]
    assert [x["logprob"] for x in content] == [c.logprob for c in chunks] and len(content) == 12
    assert b"".join(bytes(x["bytes"]) for x in content).decode("utf-8", "replace") == choice["message"]["content"]
    for told, chunk in zip(content, chunks):
        assert told["token"] == label(m.tokenizer, chunk.token) and told["bytes"] == [*m.tokenizer.pieces[chunk.token]]
        assert [x["logprob"] for x in told["top_logprobs"]] == [p for _, p in chunk.top]
        assert [x["token"] for x in told["top_logprobs"]] == [label(m.tokenizer, i) for i, _ in chunk.top]
    same = lambda **how: m.create_chat_completion(ask, 12, **how, **FREE)["choices"][0]["logprobs"]
    assert same(logprobs=4) == choice["logprobs"] and same() is None is same(logprobs=False)
    assert {len(x["top_logprobs"]) for x in same(logprobs=True)["content"]} == {0}


def test_without_a_tokenizer(models):
    m = Model(models["f32"], verbose=False)
    value = m([1, 2], 5, logprobs=3, seed=1, ignore_eos=True)["choices"][0]["logprobs"]
    assert all(name.isdigit() for name in value["tokens"]) and {len(top) for top in value["top_logprobs"]} == {3}


# one set of tokens


def test_everything_is_normalised_over_the_tokens_that_can_be_written(model):
    """Scores, echoed prompts, written tokens, perplexity: all over the tokenizer's tokens, which the sampler chooses from."""
    n, ids = model.tokenizer.n_vocab, model.tokenize("the fox and the hen")
    want = log_softmax(model.logits(ids)[:, :n])
    own = want[np.arange(len(ids) - 1), ids[1:]]
    assert abs(log_softmax(model.logits(ids))[:, :n] - want).min() > 1e-4  # or else it would show nothing
    chances, greedy = model.score(ids)
    assert chances.tolist() == own.tolist() and greedy.tolist() == (want[:-1].argmax(1) == ids[1:]).tolist()
    lists = model(ids, 0, echo=True, logprobs=0)["choices"][0]["logprobs"]
    assert lists["token_logprobs"] == [None, *own]
    assert model.loglikelihood(ids[:3], ids[3:])[0] == pytest.approx(own[2:].sum(), abs=1e-9)
    chunks = [c for c in model.stream(ids, 20, logprobs=2, **FREE) if c.token is not None]
    new = [c.token for c in chunks]
    assert max(new) < n and [c.logprob for c in chunks] == model.score(ids + new, len(ids))[0].tolist()
    begin = model.prompts.begin()
    whole = model.loglikelihood_rolling(ids)
    assert whole == pytest.approx(model.score([begin, *ids])[0].sum(), abs=1e-9)
    text = "the fox " * 8
    part = model.tokenize(text)[:20]
    found = model.perplexity(text, 10)
    nats = [-x for at in (0, 10) for x in model.score(part[at : at + 10], 6)[0]]
    if model.tokenizer.n_vocab == 263 and len(model.tokenize(text)) < 30:
        assert np.log(found["perplexity"]) == pytest.approx(np.mean(nats), abs=1e-9)


def test_on_the_command_line(model):
    value = json.loads(call(model.file.path, "-p", "the fox", "--score", "--json").stdout)
    assert sum(value["logprobs"]["token_logprobs"][1:]) == pytest.approx(value["logprob"], abs=1e-9)
    want = float(model.score(model.tokenize("the fox"))[0].sum())
    assert value["logprob"] == pytest.approx(want, abs=1e-9)


def test_rows_that_are_no_tokens(model):
    """They can be given, not written: no chance, and no error."""
    n = model.tokenizer.n_vocab
    chances, greedy = model.score([5, n, 6, n + 6])
    assert np.isneginf(chances[[0, 2]]).all() and np.isfinite(chances[1]) and not greedy[[0, 2]].any()
    lists = model([5, n, 6], 0, echo=True, logprobs=1)["choices"][0]["logprobs"]
    assert lists["tokens"][1] == "?" and lists["token_logprobs"] == [None, *chances[:2]]
