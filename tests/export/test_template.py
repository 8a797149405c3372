"""Templates of the Hub, compiled into a tokenizer, and those that cannot be."""

import json
import random
import re
import time

import pytest

from helpers.hub import CASES, write_folder
from helpers.models import make_model
from helpers.talks import CHATML, DATED, MARKS, SPECIAL, TALK, rendered, show, tokenizer_with
from helpers.vocabularies import byte_bpe
from twofile.errors import ModelError
from twofile.export.main import main
from twofile.export.sandbox import render
from twofile.export.template import add_chat
from twofile.export.tokenizers.any import read_tokenizer
from twofile.export.tokenizers.pack import pack_tokenizer
from twofile.front.main import main as run
from twofile.model import Model
from twofile.tokenizer.file import BYTE_BPE, CONTROL
from twofile.tokenizer.tokenizer import Tokenizer

pytest.importorskip("jinja2")


def test_like_the_reference_tokenizer_on_the_whole_text():
    """Ids of the tokenizers library for the rendered text, control tokens and all."""
    T = pytest.importorskip("tokenizers")
    whole = T.Tokenizer(T.models.BPE())
    whole.pre_tokenizer, whole.decoder = T.pre_tokenizers.ByteLevel(add_prefix_space=False), T.decoders.ByteLevel()
    text = ["the fox and the shoe were there\n\n", "why is it so? assistant user system\n", "  two  spaces\n"] * 20
    trainer = T.trainers.BpeTrainer(
        vocab_size=400, special_tokens=MARKS, initial_alphabet=T.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    whole.train_from_iterator(text, trainer)
    hints = {"bos": 2, "eos": 3, "template": CHATML, "special": SPECIAL}
    t, rng = Tokenizer(read_tokenizer(whole.to_str(), hints)), random.Random(3)
    words = ["the fox", " ", "\n", "  ", "why", "é", "user", "system\n", "shoe", "?", "7"]
    chats = []
    for _ in range(300):
        says = ["".join(rng.choice(words) for _ in range(rng.randint(1, 7))) for _ in range(rng.choice([1, 3]))]
        chats.append([{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(says)])
    for chat, text in zip(chats, render(CHATML, SPECIAL, [(chat, True) for chat in chats])):
        assert t.encode_chat(chat) == whole.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    "template, says",
    [
        ("{% for m in messages %}", "TemplateSyntaxError|unknown tag|end of template|looking for"),
        ("{% for i in range(10**9) %}{% for k in range(10**9) %}{% endfor %}{% endfor %}", "does not end|died|Range too big"),
        ("{{ 'x' * 10**10 }}", "MemoryError|writes too much|died"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "refuses a plain conversation|unsafe"),
        ("{{ messages[0]['content'] }}{{ messages[0]['content'] }}", "leaves a message out, or writes it twice"),
        ("hello", "leaves a message out"),
        ("{{ raise_exception('never') }}", "refuses a plain conversation"),
        ("{% for m in messages %}{{ m.role ~ m.content ~ messages | length }}{% endfor %}", "fixed pieces cannot say"),
        ("{% for m in messages %}{{ m.role ~ (m.content | upper) }}{% endfor %}", "leaves a message out"),
    ],
)
def test_a_template_that_cannot_be_compiled_leaves_a_model_that_completes(template, says, capfd):
    t = tokenizer_with(template)
    err = capfd.readouterr().err
    assert re.search(says, err) and "completes text" in err and err.count("\n") == 1
    assert t.chat is None and t.encode("hi", add_bos=False)
    with pytest.raises(ModelError, match="without a chat template"):
        t.encode_chat(TALK[:1])


def test_a_model_shows_its_template(tmp_path, capsys):
    raw = pack_tokenizer
    plain = Tokenizer(byte_bpe())
    fields = dict(kind=BYTE_BPE, pieces=[*plain.pieces, b"<|im_start|>", b"<|im_end|>"], prio=[-1.0] * (plain.n_vocab + 2))
    fields |= dict(types=[*plain.types.tolist(), *[CONTROL] * 2], pretok=1, eos=261, stops=(261,), classes=plain.classes)
    tokenizer = raw(**add_chat(fields, CHATML, SPECIAL, False))
    path = make_model(tmp_path / "m.bin", "q8_0", tokenizer=tokenizer, vocab_size=300, embed=True)
    model = Model(path, verbose=False)
    assert model.encode_chat(TALK) == model.tokenizer.encode_chat(TALK)
    assert run([str(path), "--info"]) == 0
    shown = capsys.readouterr().out
    assert "chat first " in shown and r"<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n" in shown
    assert json.dumps(model.info)


@pytest.mark.parametrize("place", ["tokenizer_config.json", "list of templates", "chat_template.jinja", "--chat-template"])
def test_a_folder_of_the_hub_becomes_a_model_that_chats(place, tmp_path, capfd):
    """config.json, weights, tokenizer.json, template and generation_config.json -> two files, and a conversation."""
    T = pytest.importorskip("tokenizers")

    case = json.loads(json.dumps(CASES["qwen3"]))
    case["config"] |= {"vocab_size": 320, "bos_token_id": 2, "eos_token_id": 3, "max_position_embeddings": 256}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        case["tensors"][name][0] = [320, 32]
    folder = write_folder(tmp_path / "hf", case)
    whole = T.Tokenizer(T.models.BPE())
    whole.pre_tokenizer, whole.decoder = T.pre_tokenizers.ByteLevel(add_prefix_space=False), T.decoders.ByteLevel()
    alphabet = T.pre_tokenizers.ByteLevel.alphabet()
    trainer = T.trainers.BpeTrainer(vocab_size=300, special_tokens=MARKS, initial_alphabet=alphabet, show_progress=False)
    whole.train_from_iterator(["the fox and the shoe"] * 9, trainer)
    whole.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    if place == "tokenizer_config.json":
        settings["chat_template"] = DATED
    elif place == "list of templates":
        settings["chat_template"] = [{"name": "tools", "template": "x"}, {"name": "default", "template": DATED}]
    else:
        settings["chat_template"] = "another, older one"
        (folder / "chat_template.jinja").write_text(DATED if place[0] != "-" else "and another one")
    options = ["--chat-template", str(tmp_path / "t.jinja")] if place[0] == "-" else []
    (tmp_path / "t.jinja").write_text(DATED)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text('{"eos_token_id": [3], "temperature": 0.7}')
    assert main([str(folder), "-o", str(tmp_path / "model.bin"), *options]) == 0
    model = Model(tmp_path / "model.bin", verbose=False)
    ids = model.encode_chat(TALK)
    assert show(model.tokenizer, ids) == rendered(DATED, TALK) and model.tokenizer.name(ids[0]) == "<s>"
    assert {model.tokenizer.name(i) for i in model.tokenizer.stops} == {"</s>", "<|im_end|>"}
    assert model.sampling == {"temperature": 0.7}
    assert isinstance(model.generate(ids, max_tokens=5, seed=1), str)

    for wrong, says in (("{{ nonsense(", "cannot be put into"), (None, "not found")):
        path = tmp_path / f"{says}.jinja"
        if wrong:
            path.write_text(wrong)
        capfd.readouterr()
        assert main([str(folder), "-o", str(tmp_path / "other.bin"), "--chat-template", str(path)]) == 1
        assert says in capfd.readouterr().err and not (tmp_path / "other.bin").exists()


CUT = "{% set c = m.content %}{% if m.role == 'assistant' %}RULE{% endif %}"
RULES = {  # what a template does to an answer, and what is left of "a<think>b</think>c</think> d"
    "behind the last": ("{% set c = c.split('</think>')[-1] %}", " d"),
    "behind the first": ("{% set c = c.split('</think>', 1)[-1] %}", "c</think> d"),
    "trimmed": ("{% if '</think>' in c %}{% set c = c.split('</think>')[-1] | trim %}{% endif %}", "d"),
    "if begun": ("{% if '<think>' in c and '</think>' in c %}{% set c = c.split('</think>')[-1] %}{% endif %}", " d"),
    "between": (
        "{% set ns.o = '' %}{% for p in c.split('</think>') %}{% set ns.o = ns.o ~ p.split('<think>')[0] %}"
        "{% endfor %}{% set c = ns.o %}",
        "ac d",
    ),
    "none": ("", "a<think>b</think>c</think> d"),
    "but the last": ("{% if not loop.revindex == 2 %}{% set c = c.split('</think>')[-1] %}{% endif %}", " d"),
}


@pytest.mark.parametrize("name", RULES)
def test_thoughts_leave_former_answers_as_the_template_has_it(name, capfd):
    rule, left = RULES[name]
    template = "{% set ns = namespace(o='') %}{% for m in messages %}<|im_start|>{{ m.role }}:" + CUT.replace("RULE", rule)
    template += "{{ c }}<|im_end|>{% endfor %}<|im_start|>assistant:{{ '</think><think>'[:0] }}"
    t = tokenizer_with(template)
    answer = {"role": "assistant", "content": "a<think>b</think>c</think> d"}
    user = {"role": "user", "content": "x</think>y"}
    chat = [user, answer, user, answer, user]
    text = show(t, t.encode_chat(chat))
    assert text == rendered(template, chat) and f"assistant:{left}<|im_end|>" in text
    assert "rewrites" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "says",
    [
        "{{ m.content.replace('</think>', '!') if m.role == 'assistant' else m.content }}",
        "{{ '<think></think>' if m.role == 'assistant' and '</think>' not in m.content }}{{ m.content }}",
    ],
    ids=["in it", "in front of it"],
)
def test_thoughts_that_no_piece_can_tell_are_told_of(says, capfd):
    template = "{% for m in messages %}<|im_start|>{{ m.role }}:" + says
    t = tokenizer_with(template + "<|im_end|>{% endfor %}<|im_start|>assistant:")
    assert (
        "the template rewrites answers that hold </think>, in a way that fixed pieces cannot; here they stay"
        in capfd.readouterr().err
    )
    assert t.chat and t.thoughts is None


def test_a_rule_for_one_thought_alone_is_told_of(capfd):
    """What is between the first end and the second: answers with one are cut, and it says that others differ."""
    says = "{{ m.content.split('</think>')[1] if m.role == 'assistant' and '</think>' in m.content else m.content }}"
    template = "{% for m in messages %}<|im_start|>{{ m.role }}:" + says + "<|im_end|>{% endfor %}<|im_start|>assistant:"
    t = tokenizer_with(template)
    assert "thoughts leave answers, but for those with more than one </think>" in capfd.readouterr().err
    chat = [TALK[0], {"role": "assistant", "content": "<think>hm</think>yes"}, TALK[0]]
    assert show(t, t.encode_chat(chat)) == rendered(template, chat)


DATES = {  # a template's word about today, and whether fixed pieces can say it
    "Today {{ strftime_now('%d %B %Y') }}": True,
    "{{ strftime_now('%Y年%m月%d日, %H:%M') }}": True,
    "{{ strftime_now('%Y') }}{{ strftime_now(':%M:') }}": True,
    "{{ strftime_now('no day') }}": True,
    "{{ strftime_now('%d %B %Y') | upper }}": False,
    "{{ 'Weekend' if strftime_now('%A') in ('Saturday', 'Sunday') }}": False,
    "{{ strftime_now('%Y') | int + 1 }}": False,
    "{{ strftime_now('%d') | length }}": False,
    "{% if messages[0].role == 'system' %}{{ strftime_now('%B') | lower }}{% endif %}": False,
    "{{ strftime_now('%99999999d') }}": False,
    "{{ strftime_now('%d %') }}": False,
    "{{ strftime_now('%d' * 99) }}": False,
}


@pytest.mark.parametrize("word", DATES)
def test_a_date_is_written_as_the_template_writes_it(word, capfd):
    """Whatever stands between its numbers; what a template does to it otherwise cannot be done, and that is said."""
    t = tokenizer_with(word + CHATML)
    assert (t.chat is not None) == DATES[word], capfd.readouterr().err
    if t.chat:
        today = lambda: render(word + CHATML, SPECIAL, [(TALK, True)], time.localtime()[:9])
        before, shown = today(), show(t, t.encode_chat(TALK))
        assert [shown] in (before, today())
    else:
        assert "no chat: the template cannot be compiled: it " in capfd.readouterr().err
