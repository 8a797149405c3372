"""What other libraries' arguments may be: a text, or a ModelError in words; never another error, nothing without a word."""

import re
from collections import UserList, deque
from types import MappingProxyType

import numpy as np
import pytest

from twofile.calls import tools_asked
from twofile.errors import ModelError
from twofile.front.requests import check_fields
from twofile.model import Model
from twofile.noops import SAME_AS_NONE, WITHOUT_EFFECT
from twofile.sampler import RULES, Sampling
from twofile.writer import Writer


@pytest.fixture(scope="module")
def model(talker):
    return Model(talker, verbose=False, n_threads=1)


ASK = [{"role": "user", "content": "the fox"}]
WAYS = {
    "generate": lambda m, **how: m.generate("the", **how),
    "stream": lambda m, **how: list(m.stream("the", **how)),
    "__call__": lambda m, **how: m("the", **how),
    "create_chat_completion": lambda m, **how: m.create_chat_completion(ASK, **how),
    "batch": lambda m, **how: m.batch(["the", "a"], **how),
    "best_of": lambda m, **how: m.best_of("the", 2, **how),
}
OPTIONS = ["max_tokens", "stop", "seed", "ignore_eos", "logprobs", "logit_bias", *(rule.name for rule in RULES)]


@pytest.mark.parametrize("way", WAYS)
def test_none_is_as_if_left_out(way, model):
    for name in OPTIONS:
        assert WAYS[way](model, **{"max_tokens": 3, name: None}) is not None
    assert WAYS[way](model, **{**dict.fromkeys(OPTIONS), "max_tokens": 2}) is not None


@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_value_of_an_option_is_refused_by_name(way, model):
    for name in OPTIONS:
        if name == "ignore_eos":
            continue  # true or not, as Python has it
        for wrong in ("many" if name != "stop" else 5, {}, object(), -700 if name != "seed" else 1.5, [1.5], float("nan")):
            if name in ("stop", "logit_bias") and wrong == {}:
                continue
            with pytest.raises(ModelError, match=rf"^{name} is .*, expected .+; \w+"):
                WAYS[way](model, **{"max_tokens": 2, name: wrong})


def test_limits(model):
    """-1 and None: until the end; 0: nothing; what is no whole number is refused."""
    until = model.generate("the", seed=1)
    assert until and until == model.generate("the", -1, seed=1) == model.generate("the", None, seed=1)
    assert model.generate("the", np.int64(4), seed=1) == model.generate("the", 4, seed=1) and model.generate("the", 0) == ""
    for wrong in (-2, 4.0, True, "4", 1e9):
        with pytest.raises(ModelError, match="^max_tokens is .*, expected a whole number of new tokens, or None or -1"):
            model.generate("the", wrong)


def test_seeds(model):
    """-1 is a random one, as in llama.cpp; the Writer says which."""
    seeds = {Writer(model, "the", 1, seed=seed).seed for seed in (None, -1, None, -1)}
    assert len(seeds) == 4 and min(seeds) >= 0
    assert Writer(model, "the", 1, seed=-2).seed == -2 and Writer(model, "the", 1, seed=0).seed == 0
    assert model.batch(["the"] * 3, 9, seed=-1, temperature=3.0) != model.batch(["the"] * 3, 9, seed=-1, temperature=3.0)


def test_stops(model):
    free = model.generate("the", 30, seed=2, ignore_eos=True)
    for stop in (free[5:7], [free[5:7]], (free[5:7], ""), {free[5:7]}):
        assert model.generate("the", 30, seed=2, ignore_eos=True, stop=stop) == free.split(free[5:7])[0]
    for nothing in (None, "", [], (), [""]):
        assert model.generate("the", 30, seed=2, ignore_eos=True, stop=nothing) == free
    for wrong in (b"x", 7, [None], ["a", 3], {"a": 1}):
        with pytest.raises(ModelError, match="^stop is .*, expected a text, or a list of texts"):
            model.generate("the", stop=wrong)


def test_biases(model):
    """By id, as JSON has it too, or in pairs; -100 is never; log-probabilities are those before."""
    how = dict(max_tokens=30, seed=2, ignore_eos=True, temperature=2.0)
    ids = lambda **more: [c.token for c in model.stream("the", **how, **more)]
    free = ids()
    e = free[4]
    assert free == ids(logit_bias={}) == ids(logit_bias=[])
    never = [ids(logit_bias=bias) for bias in ({e: -100}, {f"{e}": -1e9}, [[e, False]], [(e, -np.inf)])]
    assert never == [never[0]] * 4 and e not in never[0]
    assert ids(logit_bias={e: 100})[:5] == [e] * 5
    told = [model("the", 1, logprobs=1, seed=1, logit_bias=bias)["choices"][0]["logprobs"] for bias in (None, {e: 100})]
    assert told[0]["top_logprobs"] == told[1]["top_logprobs"]
    assert told[1]["token_logprobs"][0] < min(told[0]["top_logprobs"][0].values())


NONE = [{266: 1}, {-1: 1}, {"x": 1}, {"²": 1}, {5: 101}, {5: "1"}, {5: True}, {5: None}, {5: float("nan")}]


@pytest.mark.parametrize("wrong", NONE)
def test_biases_that_are_none(model, wrong):
    for value in (wrong, list(wrong.items())):
        with pytest.raises(ModelError, match=r"^logit_bias: .*, expected .+; \w+"):
            model.generate("the", 2, logit_bias=value)
    with pytest.raises(ModelError, match="^logit_bias bans all 266 tokens, expected one that is left; leave one"):
        model.generate("the", 2, logit_bias=dict.fromkeys(range(266), -100))


def test_options_of_others_that_change_nothing(model):
    """In a request they are taken at their defaults, at any other value refused by name; to Python they are no options."""
    assert len(SAME_AS_NONE) > 20
    for name, values in SAME_AS_NONE.items():
        for value in values:
            check_fields({"prompt": "the", name: value})
        if name != "tool_choice":  # which a line may have
            with pytest.raises(ModelError, match=rf"^{name} is 0.5, which cannot be done here; expected .*; leave it out"):
                check_fields({"prompt": "the", name: 0.5})
    for name in WITHOUT_EFFECT:
        check_fields({"prompt": "the", name: True})
    for name, hint in (("max_token", "did you mean max_tokens?"), ("frobnicate" * 999, "leave it out"), ("", "leave it out")):
        with pytest.raises(ModelError, match=f"^field .*: unknown, expected .*; {re.escape(hint)}$"):
            check_fields({"prompt": "the", name: 1})
    for way in WAYS.values():
        with pytest.raises(TypeError, match="unexpected keyword argument 'frobnicate'"):
            way(model, frobnicate=1)


def test_numbers_of_numpy_are_numbers(model):
    usual = model.generate("the", 5, seed=3, temperature=0.5, top_k=7)
    assert usual == model.generate("the", 5, seed=np.int32(3), temperature=np.float64(0.5), top_k=np.int64(7))
    assert model.generate("the", 5, seed=3, temperature=1) == model.generate("the", 5, seed=3, temperature=np.float32(1))
    for wrong in (True, 7.0, "7"):
        with pytest.raises(ModelError, match="^top_k is .*, expected 0 to"):
            model.generate("the", 5, top_k=wrong)


@pytest.mark.parametrize("wrong", [None, 5, b"the", {"a": 1}, [1.5], ["1"], [None], [[1]], np.zeros((2, 2), int), object()])
def test_what_is_no_prompt(wrong, model):
    for way in (model.generate, model, model.logits, model.score, lambda p: model.best_of(p, 2), lambda p: model.batch([p])):
        with pytest.raises(ModelError, match="^prompt is .*, expected text or token ids; give"):
            way(wrong)
    for name, way in (
        ("ids", model.detokenize),
        ("text", model.loglikelihood_rolling),
        ("context", lambda x: model.loglikelihood(x, [1])),
        ("continuation", lambda x: model.loglikelihood([1], x)),
    ):
        if not isinstance(wrong, str):
            with pytest.raises(ModelError, match=f"^{name} is "):
                way(wrong)
    with pytest.raises(ModelError, match="^text is .*, expected a str"):
        model.tokenize(wrong)


def test_ids_that_are_none(model):
    for ids in ([-1], [1, 2, 10**30], [266]):
        for way in (model.generate, model.logits, lambda ids: model.score([1, *ids])):
            with pytest.raises(ModelError, match=rf"^prompt: id {ids[-1]}, expected"):
                way(ids)
    for wrong in ([-5], [266], [5, 10**30]):
        with pytest.raises(ModelError, match=f"^ids: {wrong[-1]}, expected ids below 266"):
            model.detokenize(wrong)
    with pytest.raises(ModelError, match="^continuation is 'the', expected token ids, or texts both"):
        model.loglikelihood([1, 2], "the")
    with pytest.raises(ModelError, match="^continuation is None, expected a text"):
        model.loglikelihood("a", None)
    assert model.generate(np.array([5, 6]), 3, seed=1) == model.generate((5, 6), 3, seed=1) == model.generate([5, 6], 3, seed=1)


@pytest.mark.parametrize("wrong", ["the fox", b"x", None, 5])
def test_what_is_no_list_of_prompts(wrong, model):
    """A text would be a prompt for each of its characters."""
    with pytest.raises(ModelError, match="^prompts is .*, expected a list of them"):
        model.batch(wrong, 2)
    assert model.batch([], 2) == [] and len(model.batch(("the", "a"), 2)) == 2 == len(model.batch(iter(["the", "a"]), 2))


@pytest.mark.parametrize("wrong", [None, "8", 2.5, 0, -1, True])
def test_how_many(wrong, model):
    for way in (lambda: model.batch(["the"], 2, places=wrong), lambda: model.best_of("the", 2, places=wrong)):
        with pytest.raises(ModelError, match="^places is .*, expected how many texts at once"):
            way()
    with pytest.raises(ModelError, match="^n is .*, expected how many texts"):
        model.best_of("the", wrong)
    with pytest.raises(ModelError, match="^n_ctx is "):
        model.perplexity("the", wrong)


def test_how_a_model_is_opened(talker):
    assert Model(talker, n_ctx=None, n_threads=None, kv=None, id=None, verbose=False).n_ctx == 200
    for name, wrong in (("n_ctx", "5"), ("n_ctx", 1.5), ("n_ctx", -1), ("n_threads", "2"), ("n_threads", 1.5), ("kv", "f8")):
        with pytest.raises(ModelError, match=rf"^{name} is {re.escape(repr(wrong))}, expected "):
            Model(talker, verbose=False, **{name: wrong})
    with pytest.raises(ModelError, match="^None: cannot be opened"):
        Model(None)


# conversations


def texts(*parts):
    return [{"role": "user", "content": [*parts]}]


def test_contents_in_parts_and_developers(model):
    """As OpenAI's clients send them: texts a line each; a developer says what a system did."""
    part = lambda text: {"type": "text", "text": text}
    ids = model.encode_chat([{"role": "user", "content": "the\nfox"}])
    assert ids == model.encode_chat(texts(part("the"), part("fox"))) == model.encode_chat(texts("the", part("fox")))
    assert model.encode_chat(texts(part("the fox"))) == model.encode_chat(ASK)
    told = model.encode_chat([{"role": "system", "content": "be kind"}, *ASK])
    assert told == model.encode_chat([{"role": "developer", "content": "be kind"}, *ASK])
    turn = {"role": "assistant", "content": "a", "refusal": None, "tool_calls": [], "function_call": None, "audio": None}
    plain = [*ASK, {"role": "assistant", "content": "a"}, *ASK]
    assert model.encode_chat([*ASK, turn, {**ASK[0], "name": None}]) == model.encode_chat(plain)


@pytest.mark.parametrize(
    "messages, says",
    [
        (None, "messages is None, expected a list"),
        ("the fox", "messages is 'the fox', expected a list"),
        (["the fox"], "messages: 'the fox', expected an object"),
        ([], "roles none"),
        ([{"role": "user"}], "messages: content is None, expected a text"),
        ([{"role": "user", "content": None}], "messages: content is None, expected a text"),
        ([{"role": "user", "content": 5}], "messages: content is 5, expected a text"),
        ([{"role": "tool", "content": "x"}], "role tool"),
        (texts({"type": "image_url", "image_url": {"url": "x"}}), "a part of type 'image_url', expected text"),
        (texts({"type": "text"}), "a part of type 'text'"),
        (texts(5), "a part of type 'int'"),
        ([{**ASK[0], "name": "Ann"}], "name is 'Ann', which cannot be said here"),
        ([*ASK, {"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}, *ASK], "tool_calls has .*, expected a"),
    ],
)
def test_conversations_that_cannot_be_said(messages, says, model):
    with pytest.raises(ModelError, match=f"^messages.*{says}|^{says}"):
        model.create_chat_completion(messages, 2)


def test_numpys_numbers_are_pythons(model):
    """Of any width, unsigned too: the text is that of the plain number."""
    how = dict(max_tokens=20, seed=3, ignore_eos=True)
    wide = how | {"repeat_penalty": 1.5, "temperature": 3.0}
    assert model.generate("the", repeat_last_n=np.uint32(10), **wide) == model.generate("the", repeat_last_n=10, **wide)
    for value in (np.int8(5), np.uint8(5), np.uint64(5)):
        assert model.generate("the", top_k=value, **how) == model.generate("the", top_k=5, **how)
    same = dict(max_tokens=np.uint8(20), seed=np.uint32(3), logprobs=np.int8(2), logit_bias={np.uint16(5): np.float16(1)})
    plain = dict(max_tokens=20, seed=3, logprobs=2, logit_bias={5: 1.0})
    assert model("the", **same)["choices"] == model("the", **plain)["choices"]
    sampling = Sampling(**{rule.name: np.dtype(f"{'f' if rule.kind is float else 'i'}4").type(1) for rule in RULES})
    assert {type(getattr(sampling, rule.name)) for rule in RULES} == {int, float} and Sampling(temperature=1).temperature == 1
    assert "np." not in repr(sampling)


def test_a_generator_of_ids_is_used_once(model):
    ids, how = [5, 6, 7], dict(max_tokens=4, seed=1)
    for options in (dict(echo=True), dict(echo=True, logprobs=1)):
        assert model(iter(ids), **how, **options)["choices"] == model(ids, **how, **options)["choices"]
    texts = [
        "".join(chunk["choices"][0]["text"] for chunk in model(given, echo=True, stream=True, **how))
        for given in (iter(ids), ids)
    ]
    assert texts[0] == texts[1] != ""
    assert [w.written for w in model.best_of(iter(ids), 3, **how)] == [w.written for w in model.best_of(ids, 3, **how)]
    assert model.loglikelihood(iter(ids), iter(ids)) == model.loglikelihood(ids, ids)
    assert np.array_equal(model.score(iter(ids))[0], model.score(ids)[0])


def test_mappings_and_sequences(model):
    """What the types allow."""
    pytest.importorskip("llguidance")
    how, view = dict(max_tokens=9, seed=2), MappingProxyType
    assert model.generate("the", stop=deque(["e"]), **how) == model.generate("the", stop=["e"], **how)
    assert model.generate("the", logit_bias=view({5: 3}), **how) == model.generate("the", logit_bias={5: 3}, **how)
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    seen = view({**schema, "properties": view({"a": view({"enum": (1, 2)})}), "required": UserList(["a"])})
    whole = dict(max_tokens=60, seed=2)
    assert model.generate("the", schema=seen, **whole) == model.generate("the", schema=schema, **whole)
    form = view({"type": "json_schema", "json_schema": view({"schema": seen})})
    assert model.generate("the", response_format=form, **whole) == model.generate("the", schema=schema, **whole)
    tool, seen_tool = {"name": "f", "parameters": schema}, view({"function": view({"name": "f", "parameters": seen})})
    said = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}]}
    result = {"role": "tool", "content": "x"}
    call = view({"id": "1", "function": view({"name": "f", "arguments": view({"a": 1})})})
    ids = model.encode_chat([*ASK, said, result], [tool])
    assert ids == model.encode_chat(
        UserList([view(ASK[0]), view(said | {"tool_calls": (call,)}), result]), UserList([seen_tool])
    )
    parts = view({"role": "user", "content": UserList([view({"type": "text", "text": "the fox"})])})
    assert model.encode_chat((parts,)) == model.encode_chat(ASK)
    options, chosen = view({"include_usage": True}), view({"function": view({"name": "f"})})
    *_, last = model("the", 2, stream=True, stream_options=options)
    assert last["usage"]["completion_tokens"] <= 2
    assert tools_asked([tool], chosen) == tools_asked([tool], {"function": {"name": "f"}})


def test_texts_are_scored_as_their_ids(model):
    ids = model.tokenize("the fox")
    assert np.array_equal(model.logits("the fox"), model.logits(ids))
    assert np.array_equal(model.score("the fox")[0], model.score(ids)[0])


def test_what_an_assistant_did_not_say(model):
    """None is no text; of a refusal, what it says."""
    talk = lambda **said: model.encode_chat([*ASK, {"role": "assistant", **said}, *ASK])
    assert talk(content=None) == talk(content="") and talk(content=None, refusal="no") == talk(content="no")


def test_a_share_of_nothing_is_the_likeliest(model):
    """As llama.cpp and OpenAI have it; of every rule, both ends of its range are taken."""
    likeliest = model.generate("the", 9, temperature=0)
    for more in ({}, {"xtc_probability": 1e-9}, {"temperature": 3.0}):
        assert model.generate("the", 9, seed=1, top_p=0, **more) == likeliest
    for rule in RULES:
        for end in (rule.least, rule.most):
            assert isinstance(model.generate("the", 2, seed=1, **{rule.name: end}), str)
    with pytest.raises(ModelError, match="^top_k is -1, expected 0 to 2147483648, int; change it"):
        Sampling(top_k=-1)
