"""Texts of a form: what is written has it, whatever shares its passes; masks against lists of all texts; what is refused."""

import itertools
import json
import os
import pickle
import random
import re
import sys
import threading
import time

import numpy as np
import pytest

from helpers.models import make_model
from helpers.places import shared
from helpers.process import call
from helpers.switches import HYBRIDS
from helpers.vocabularies import byte_bpe, spm
from twofile.errors import ModelError
from twofile.forward import Forward
from twofile.front.modes import parse_args
from twofile.front.requests import read_request
from twofile.model import Model
from twofile.structure import Forms, form_asked
from twofile.tokenizer.tokenizer import Tokenizer
from twofile.writer import Writer

pytest.importorskip("llguidance", reason="texts of a form need llguidance: pip install -r requirements-dev.txt")
jsonschema = pytest.importorskip("jsonschema", reason="what is written is compared with jsonschema's opinion")

FOX = {
    "type": "object",
    "properties": {
        "the name": {"type": "string", "maxLength": 5},
        "the hens that the fox has seen": {"type": "integer", "minimum": 0, "maximum": 99},
        "red": {"type": "boolean"},
    },
    "required": ["the name", "the hens that the fox has seen", "red"],
    "additionalProperties": False,
}
HOW = dict(temperature=2.0, max_tokens=400)


def byte_model(path, **sizes):
    """A model with the byte-level tokenizer of the tests, and room for long texts."""
    return make_model(path, "q8_0", vocab_size=263, tokenizer=byte_bpe(), embed=True, max_ctx=900, **sizes)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return Model(byte_model(tmp_path_factory.mktemp("structure") / "m.bin"), n_threads=1, verbose=False)


@pytest.fixture
def passes(monkeypatch):
    """How many tokens each pass had."""
    seen, play = [], Forward.__call__

    def watched(self, tokens, *rest):
        seen.append(len(tokens))
        return play(self, tokens, *rest)

    monkeypatch.setattr(Forward, "__call__", watched)
    return seen


def some_schema(rng, deep=3):
    """A random schema whose texts are short."""
    kind = rng.choice("object array string integer number boolean enum any null".split() if deep else ["string", "integer"])
    if kind == "object":
        names = rng.sample(["the", "the fox", "a", 'q"', "é", "hen"], rng.randint(0, 4))
        fields = {name: some_schema(rng, deep - 1) for name in names}
        return {"type": "object", "properties": fields, "required": names[::2], "additionalProperties": False}
    if kind == "array":
        return {
            "type": "array",
            "items": some_schema(rng, deep - 1),
            "minItems": rng.randint(0, 2),
            "maxItems": rng.randint(2, 4),
        }
    if kind == "enum":
        return {"enum": [rng.choice(["the", 3, None, True, {"a": 1}]), "then"]}
    if kind == "any":
        return {"anyOf": [some_schema(rng, deep - 1), {"type": "null"}]}
    if kind in ("integer", "number"):
        return {"type": kind, "minimum": rng.randint(-9, 0), "maximum": rng.randint(1, 999)}
    return {"type": kind} | ({"maxLength": rng.randint(0, 6)} if kind == "string" else {})


# what is written


@pytest.mark.parametrize("seed", range(40))
def test_what_is_written_validates(model, seed):
    """Of random schemas, by a model of random weights; the text that is cut is the beginning of such a text."""
    schema = some_schema(random.Random(seed))
    w = Writer(model, "the fox", seed=seed, schema=schema, **HOW)
    list(model.write(w))
    if w.reason == "eos":
        jsonschema.validate(json.loads(w.written), schema)
    else:
        assert w.reason == "length" and schema["type"] == "number"  # which may have any number of digits
    assert w.written == model.detokenize(w.ids[w.n_prompt :])
    cut = model.generate("the fox", seed=seed, schema=schema, **{**HOW, "max_tokens": 3})
    assert w.written.startswith(cut.rstrip("\ufffd"))


def test_any_object_and_expressions(model):
    for seed in range(12):
        found = json.loads(model.generate("a", seed=seed, schema=True, logit_bias={ord("}"): 5, ord('"'): 5}, **HOW))
        assert isinstance(found, dict)
        assert re.fullmatch(
            r"(the|hen)( [a-f]{2,4}){1,3}!", model.generate("a", seed=seed, regex="(the|hen)( [a-f]{2,4}){1,3}!", **HOW)
        )
        assert model.generate("a", seed=seed, grammar='root ::= "the " ("fox" | "hen")+ "."\n', **HOW)[:4] == "the "
        assert model.generate("a", seed=seed, grammar='start: "a" B\nB: /[0-9]{3}/', **HOW)[1:].isdecimal()
    assert model.generate("a", regex="(the)?", logit_bias={ord("t"): -100, 256: -100, 257: -100}, **HOW) == ""
    usual = model.generate("a", seed=3, schema={"type": "object"}, **HOW)
    for same in ({"schema": "true"}, {"schema": {}}, {"schema": "{}"}, {"response_format": {"type": "json_object"}}):
        assert model.generate("a", seed=3, **same, **HOW) == usual
    named = {"type": "json_schema", "json_schema": {"name": "fox", "schema": FOX, "strict": True}}
    (choice,) = model("a", seed=3, response_format=named, **HOW)["choices"]
    assert choice["finish_reason"] == "stop" and choice["text"] == model.generate("a", seed=3, schema=json.dumps(FOX), **HOW)
    assert model.generate("a", 9, seed=3, response_format={"type": "text"}) == model.generate("a", 9, seed=3)


def test_how_it_ends(model):
    """By itself where nothing can follow, also at the limit and where the end token is ignored; else as ever."""

    def ended(**how):
        w = Writer(model, "a", **{**HOW, **how})
        list(model.write(w))
        return w.written, w.reason, w.count

    assert ended(regex="[ab]{7}", seed=1)[1:] == ("eos", 7) == ended(regex="[ab]{7}", seed=1, max_tokens=7)[1:]
    assert ended(regex="[ab]{7}", seed=1, ignore_eos=True)[1:] == ("eos", 7)
    assert ended(regex="[ab]{7}", seed=1, max_tokens=6)[1:] == ("length", 6)
    assert ended(regex="a*", ignore_eos=True, max_tokens=50) == ("a" * 50, "length", 50)
    assert 0 < len(ended(regex="[ab]{1,90}", seed=2, logit_bias={261: 3})[0]) < 90
    text, reason, _ = ended(regex="[a-e]{300}", stop=["ab"], seed=4)
    assert reason == "stop" and "ab" not in text
    assert ended(grammar='start: ""')[:2] == ("", "eos")


def test_bans_hold(model):
    """A banned token is not written; where no other goes on, that is an error."""
    for seed in range(5):
        assert model.generate("a", seed=seed, regex="[ab]{20}", logit_bias={ord("a"): -100}, **HOW) == "b" * 20
    w = Writer(model, "a", regex="xyz", logit_bias={ord("y"): -100})
    with pytest.raises(ModelError, match="^regex: no token goes on here, or those that do are banned; expected .*; change it"):
        list(model.write(w))
    assert w.reason == "error" and w.written == "x"


# the same bytes


def test_the_same_bytes_however_it_is_written(model, tmp_path):
    """Alone, with guesses or without, with log-probabilities, in a batch of any, on any number of threads, called by any."""
    forms = [{"schema": FOX}, {"regex": "(the fox |a hen ){3,9}end"}, {}, {"schema": some_schema(random.Random(5))}]
    asked = [(f"the fox {n}", {**forms[n % 4], "seed": n, **HOW, "max_tokens": 60}) for n in range(12)]
    alone = [model.generate(prompt, **how) for prompt, how in asked]
    assert alone == [model.generate(prompt, lookup=False, **how) for prompt, how in asked]
    assert alone == [model.generate(prompt, logprobs=2, **how) for prompt, how in asked]
    assert alone == [model.generate(prompt, lookup=False, logprobs=0, **how) for prompt, how in asked]
    path = byte_model(tmp_path / "m.bin")
    for n_threads, places in ((1, 3), (2, 8), (3, 12)):
        other = Model(path, n_threads=n_threads, verbose=False)
        writers = [Writer(other, prompt, **how) for prompt, how in asked]
        other.finished(writers, places)
        assert [w.written for w in writers] == alone
        found = [None] * len(asked)

        def run(n, other=other, found=found):
            found[n] = other.generate(asked[n][0], **asked[n][1])

        threads = [threading.Thread(target=run, args=(n,)) for n in range(len(asked))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == alone
    again = pickle.loads(pickle.dumps(other))
    assert again.generate(asked[0][0], **asked[0][1]) == alone[0]


@pytest.mark.parametrize("kind", HYBRIDS)
def test_with_states(tmp_path, kind, passes):
    """Of models that cannot forget a guess, what is certain is read as a prompt is: the same text, in fewer passes."""
    path = byte_model(tmp_path / "m.bin", **HYBRIDS[kind])
    texts = []
    for logprobs, n_threads in ((None, 2), (0, 1)):
        m, taken = Model(path, n_threads=n_threads, verbose=False), []
        for seed in range(4):
            passes.clear()
            w = Writer(m, "the fox", schema=FOX, seed=seed, logprobs=logprobs, **HOW)
            list(m.write(w))
            jsonschema.validate(json.loads(w.written), FOX)
            texts.append(w.written)
            taken.append(len(passes) / w.count)
        one_by_one = m.scheduler.recurrent and logprobs == 0
        assert min(taken) > 0.9 if one_by_one else max(taken) < 0.5
    assert texts[:4] == texts[4:]


def test_in_a_child(model):
    want = model.generate("the", seed=1, schema=FOX, **HOW)
    ours, theirs = os.pipe()
    if not (pid := os.fork()):
        os.write(theirs, model.generate("the", seed=1, schema=FOX, **HOW).encode())
        os._exit(0)
    assert os.read(ours, 1 << 16).decode() == want and os.waitpid(pid, 0)[1] == 0
    os.close(ours), os.close(theirs)


# what is certain


def test_what_is_certain_takes_no_pass_of_its_own(model, passes):
    """Also where log-probabilities are told, as guesses that always prove right; the probabilities are those before masks."""
    told = []
    for logprobs in (None, 0):
        passes.clear()
        w = Writer(model, "the fox", schema=FOX, seed=2, logprobs=logprobs, **HOW)
        list(model.write(w))
        chosen = len(re.findall(r'[^"]*"', w.written.split('"the name": "')[1])[0]) + 8
        assert w.count > 60 and len(passes) <= chosen
        told.append([c.token for c in w.chunks])
    assert told[0] == told[1]
    said = [c.logprob for c in w.chunks if c.token is not None]
    ids, rows = w.ids, model.logits(w.ids)[w.n_prompt - 1 :, :263].astype(float)
    want = [row[i] - np.log(np.exp(row).sum()) for row, i in zip(rows, ids[w.n_prompt :])]
    np.testing.assert_allclose(said, want, atol=1e-9)


def test_a_long_certain_text(model, passes):
    """Longer than a pass, among other texts, with a limit in its middle."""
    long = "the fox and the hen " * 20
    w = [Writer(model, "a", max_tokens=n, schema={"const": long}) for n in (None, 50)]
    w += [Writer(model, "the fox", max_tokens=30, ignore_eos=True, seed=1)]
    passes.clear()
    model.finished(w, 8)
    assert w[0].written == json.dumps(long) and w[1].count == 50 and w[0].written.startswith(w[1].written)
    assert w[2].written == model.generate("the fox", 30, ignore_eos=True, seed=1) and max(passes) <= 128


# masks


def texts_of(parts):
    return ["".join(row) for row in itertools.product(*parts)]


LISTS = {
    r"(the|then|hen)( the| he|)(!|[0-9])": [["the", "then", "hen"], [" the", " he", ""], ["!", *"0123456789"]],
    r"[é🙂x]{1,2}": [["é", "🙂", "x"], ["", "é", "🙂", "x"]],
    r"(a\n|\ta)\\": [["a\n", "\ta"], ["\\"]],
}


@pytest.mark.parametrize("regex", LISTS)
@pytest.mark.parametrize("made", [byte_bpe, spm])
def test_masks_are_those_of_a_list_of_all_texts(regex, made):
    """Each token that a prefix of some text goes on with may come next, and no other; the end where the prefix is a text."""
    tokenizer = Tokenizer(made())
    texts = [text.encode() for text in texts_of(LISTS[regex])]
    pieces = [b"" if i in (tokenizer.unk, *tokenizer.stops) else tokenizer.piece(i) for i in range(tokenizer.n_vocab)]
    rng, forms, ends = random.Random(1), Forms(tokenizer), sorted(tokenizer.stops)
    for _ in range(40):
        structure, text = forms.structure(("regex", regex)), b""
        while not structure.complete:
            on = {i for i, piece in enumerate(pieces) if piece and any(t.startswith(text + piece) for t in texts)}
            want = on | (set(ends) if text in texts else set())
            found = set(structure.allowed(ends).tolist())
            assert found == want or structure.forced and found == {structure.forced[0]} <= want, text
            token = rng.choice(sorted(found))
            if token in ends:
                break
            structure.commit(token)
            text += pieces[token]
        assert text in texts


@pytest.mark.parametrize("name", ["qwen2", "llama2", "llama3"])
def test_real_tokenizers(name, tmp_path):
    """A walk along what may come next is a text that validates; what is certain is spelt as the tokenizer spells it."""
    tokenizer = real(name, tmp_path)
    forms, rng = Forms(tokenizer), random.Random(name)
    for seed in range(25):
        schema = FOX if seed < 5 else some_schema(random.Random(seed))
        structure, ids, certain = forms.structure(form_asked(schema=schema)), [], 0
        while not structure.complete and len(ids) < 300:
            certain += bool(structure.forced)
            allowed = structure.allowed([])
            if not len(allowed):
                break
            short = [i for i in allowed.tolist() if len(tokenizer.piece(i)) < 3] or allowed.tolist()
            ids.append(rng.choice(short))
            structure.commit(ids[-1])
        text = b"".join(map(tokenizer.piece, ids)).decode()
        if len(ids) < 300:
            jsonschema.validate(json.loads(text), schema)
        assert seed >= 5 or certain > 12
    found = forms.structure(("regex", "Once upon a time, there was \\w{3}")).forced
    assert b"".join(map(tokenizer.piece, found)) == b"Once upon a time, there was"
    assert name == "llama2" or found == tokenizer.encode("Once upon a time, there was", add_bos=False)


def real(name, tmp_path):
    """A tokenizer of ../shared."""
    from twofile.export.main import main

    source = {"qwen2": "qwen2/qwen.tiktoken", "llama2": "llama2/tokenizer.model", "llama3": "llama3/tokenizer.model"}[name]
    out = tmp_path / "tokenizer.bin"
    if main([str(shared(f"tokenizers/{source}")), "--tokenizer-only", "-o", str(out)]):
        pytest.skip(f"{source} cannot be exported here")
    return Tokenizer(out)


def test_control_tokens_are_no_text(model):
    """Nor where a grammar names them, or the bytes of their names are asked for."""
    ids = [c.token for c in model.stream("a", regex=re.escape("<|end|>"), **HOW)]
    assert 261 not in ids and len(ids) == 8
    for grammar in ("start: <[261]>", 'start: "a" <|end|>'):
        with pytest.raises(ModelError, match="^grammar: .*; expected a form that a text can have; change it"):
            model.generate("a", grammar=grammar, **HOW)


# what is refused


@pytest.mark.parametrize(
    "asked, says",
    [
        ({"schema": "{"}, "schema: Expecting property name"),
        ({"schema": 5}, "schema is 5, expected a JSON schema"),
        ({"schema": []}, r"schema is \[\], expected a JSON schema"),
        ({"schema": False}, "schema is False, expected a JSON schema"),
        ({"schema": {"a": object()}}, "schema: object is not JSON"),
        ({"schema": {"type": "fox"}}, "schema: "),
        ({"schema": {"type": "string", "minLength": 5, "maxLength": 2}}, "schema: "),
        ({"schema": {"type": "integer", "minimum": 5, "maximum": 2}}, "schema: "),
        ({"schema": {"$ref": "http://x.y/z"}}, "schema: "),
        ({"schema": {"type": "array", "uniqueItems": True}}, "schema: "),
        ({"regex": ""}, "regex is '', expected a regular expression"),
        ({"regex": "("}, "regex: "),
        ({"regex": r"a(?=b)"}, "regex: "),
        ({"regex": 5}, "regex is 5"),
        ({"regex": "\ud800"}, "regex: "),
        ({"grammar": " "}, "grammar is ' ', expected a Lark or GBNF"),
        ({"grammar": "root ::= fox"}, "grammar: "),
        ({"grammar": "start: fox"}, "grammar: "),
        ({"grammar": "start: /(/"}, "grammar: "),
        ({"regex": "a", "schema": {}}, "schema and regex: expected one form"),
        ({"response_format": "json"}, "response_format is 'json', expected type text"),
        ({"response_format": {"type": "json_schema"}}, "response_format is "),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format is "),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "fox"}}}}, "response_format: "),
    ],
)
def test_what_is_no_form(model, asked, says):
    """Before the first token, in four parts."""
    with pytest.raises(ModelError, match=rf"^{says}.*; [\w ]+$"):
        Writer(model, "a", **asked)


def deep(n):
    return {"type": "array", "items": deep(n - 1)} if n else {"type": "null"}


HOSTILE = {
    "deep": {"schema": deep(900)},
    "deeper JSON": {"schema": '{"items":' * 100_000 + "{}" + "}" * 100_000},
    "long strings": {"schema": {"type": "string", "minLength": 10**9}},
    "many items": {"schema": {"type": "array", "items": {"type": "integer"}, "minItems": 10**9}},
    "many items of many": {"schema": {"type": "array", "maxItems": 5000, "items": {"type": "array", "maxItems": 5000}}},
    "repeats of repeats": {"regex": "((a{1000}){1000}){1000}"},
    "states": {"regex": "(a|b)*a(a|b){200}c"},
    "alternatives": {"regex": "(" + "|".join(f"(a?){{{n}}}b" for n in range(1, 400)) + ")"},
    "itself": {"schema": {"$ref": "#"}},
    "itself, by way of another": {
        "schema": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    },
    "a rule of itself": {"grammar": "start: start"},
    "a rule before itself": {"grammar": 'start: start start | "a"'},
    "GBNF, deep": {"grammar": "root ::= " + "(" * 5000 + '"a"' + ")" * 5000},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_forms_end(model, name):
    """In an error, or in a text of at most so many tokens; soon."""
    began = time.monotonic()
    try:
        text = model.generate("a", seed=1, **{**HOW, "max_tokens": 40}, **HOSTILE[name])
        assert len(text) <= 400
    except ModelError as e:
        assert len(str(e)) < 400 and "\n" not in str(e)
    assert time.monotonic() - began < 20


def test_what_must_be_there_first(models, model, monkeypatch):
    bare = Model(models["f32"], verbose=False)
    with pytest.raises(ModelError, match="^regex: this model was exported without a tokenizer, expected one .*; name it"):
        bare.generate([5], regex="a")
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(
        ModelError, match=r'^regex: the package llguidance is not there, .*; pip install "twofile\[structure\]"$'
    ):
        model.generate("a", regex="never asked for before")


# from outside


def test_on_a_command_line(tmp_path, model):
    path = byte_model(tmp_path / "m.bin")
    (tmp_path / "fox.json").write_text(json.dumps(FOX))
    (tmp_path / "fox.gbnf").write_text('root ::= "the fox"\n')
    usual = [path, "-p", "the", "-s", "1", "-n", "300", "-q", "--temp", "2"]
    want = model.generate("the", seed=1, schema=FOX, **{**HOW, "max_tokens": 300}).encode()
    assert (
        want + b"\n"
        == call(*usual, "--json-schema", tmp_path / "fox.json").stdout
        == call(*usual, "--json-schema", json.dumps(FOX)).stdout
    )
    assert call(*usual, "--grammar", tmp_path / "fox.gbnf").stdout == b"the fox\n"
    told = json.loads(call(*usual, "--regex", "-[ab]{2}", "--best-of", "3", "--json").stdout)
    assert re.fullmatch("-[ab]{2}", told["choices"][0]["text"])
    done = call(*usual, "--regex", "(")
    assert done.returncode == 1 and done.stdout == b"" and b"error: regex: " in done.stderr
    for wrong, says in (
        (["--regex", "a", "--grammar", "x"], b"--regex and --grammar: expected one form"),
        (["--regex", "a", "--score"], b"--regex does nothing with --score"),
    ):
        done = call(*usual, *wrong)
        assert done.returncode == 2 and says in done.stderr


def test_lines(model):
    """A line's own form, in any way that it can say it, before the command's."""

    def form(line, *given):
        args = parse_args(["model.bin", "--batch", "lines", *given])
        args.form = {"regex": "[ab]{3}"} if given else {}
        made = read_request(model, args, json.dumps({"prompt": "the", "seed": 1, **line}).encode(), 0, 1)
        assert not made.failed, made.found
        return made.found.structure and made.found.structure.name

    assert form({}) is None and form({}, "--regex", "x") == "regex"
    assert form({"response_format": {"type": "text"}}, "--regex", "x") is None
    assert form({"schema": FOX}, "--regex", "x") == form({"schema": True}) == "schema"
    assert form({"grammar": 'start: "a"'}, "--regex", "x") == "grammar"
    assert form({"response_format": {"type": "json_object"}}) == "response_format"
