"""A conversation without its terminal: what is computed again, what is forgotten, what is shown."""

import random
from types import SimpleNamespace

import pytest

from twofile.front.conversation import Conversation, asked_of
from twofile.front.text import tame
from twofile.model import Model


class Silent:
    """A Conversation without a terminal: what it says in a list."""

    def __init__(self, path, **args):
        self.said, defaults = [], dict(system=None, memory=None, seed=3, n_predict=12, options=dict(ignore_eos=True))
        self.model = Model(path, verbose=False)
        args, usage = SimpleNamespace(**{**defaults, **args}), SimpleNamespace(offered=None, calls_in=lambda text: [])
        self.talk = Conversation(self.model, args, self.said.append, usage)


def test_only_what_is_new_is_computed(talker):
    chat = Silent(talker, n_predict=6)
    read = []
    chat.talk.message("the fox and the hen")
    forward = chat.model.forward
    call = type(forward).__call__

    class Counting(type(forward)):
        def __call__(self, tokens, *rest):
            read.append(len(tokens))
            return call(self, tokens, *rest)

    forward.__class__ = Counting
    known = len(chat.model.fed)
    chat.talk.message("and?")
    ids = chat.model.encode_chat(chat.talk.messages[:-1])
    assert read[0] <= len(ids) - known + 8 < len(ids)  # the last answer may be spelt by other tokens when it is read


def test_the_oldest_turns_are_dropped_whole(talker):
    chat = Silent(talker, system="be kind", n_predict=10)
    for i in range(30):
        chat.talk.message(f"the fox {i}")
    assert any("forgotten" in text for text in chat.said)
    messages = chat.talk.messages
    assert messages[0] == {"role": "system", "content": "be kind"} and messages[-2]["content"] == "the fox 29"
    assert [m["role"] for m in messages[1:]] == ["user", "assistant"] * (len(messages) // 2)
    assert 3 < len(messages) < 30 and len(chat.model.encode_chat(messages[:-1])) + 10 <= chat.model.n_ctx


@pytest.mark.parametrize("n", [*range(1, 9), 40, 1000])
def test_how_many_turns_go_is_found_in_few_steps(talker, n, monkeypatch):
    """As many as if one went after the other, whatever their lengths; of thousands, few are read more than once."""
    chat, rng, read = Silent(talker, n_predict=10), random.Random(n), []
    encoded = chat.talk.encoded
    user = [asked_of("fox " * rng.randint(1, 30)) for _ in range(n)]
    turns = [message for asked in user for message in (asked, {"role": "assistant", "content": "y" * rng.randint(1, 40)})]
    turns.append(asked_of("hen " * rng.randint(1, 30)))
    chat.talk.messages = turns
    monkeypatch.setattr(chat.talk, "encoded", lambda messages, *how: read.append(len(messages)) or encoded(messages, *how))
    chat.talk.ids()
    fits = [k for k in range(max(0, n - 40), n) if len(encoded(turns[2 * k :])) + 10 <= chat.model.n_ctx]
    assert chat.talk.messages == turns[2 * min([*fits, n]) :] and sum(read) < 3 * n + 200


def test_what_a_terminal_would_obey_is_shown(talker):
    assert tame("a\x1b[31m\x07\tb\n\x9b\u202ec") == "a\\x1b[31m\\x07\tb\n\\x9b\\u202ec"
