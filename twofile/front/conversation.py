"""A conversation: its messages, what fits of them, answers with calls."""

import random
from bisect import bisect_left

from ..errors import ModelError
from ..options import line_seed
from ..prompts import plain_messages
from ..writer import Writer
from .recall import Recall
from .text import report
from .usage import CALLS_MAX
from .wrap import Wrapped


class Conversation:
    """Messages in OpenAI's form. show(text) is given what is written, as it comes. usage: a Usage,
    the tools that may be called. columns(): of the terminal, 0 where lines are not to be broken.
    Attributes: turns, texts that were begun; new, tokens of them in seconds; last, the Writer of
    the last; recall, what a memory pages in."""

    def __init__(self, model, args, show, usage, columns=lambda: 0):
        self.model, self.args, self.show, self.usage = model, args, show, usage
        self.columns = columns
        self.turns, self.new, self.seconds = 0, 0, 0.0
        self.seed = random.getrandbits(32) if args.seed is None else args.seed
        self.last, self.recall = None, Recall(model, args)
        self.messages = opened(args.system)

    @property
    def system(self):
        """The system message's text, or None."""
        first = self.messages[0] if self.messages else {}
        return first["content"] if first.get("role") == "system" else None

    def begin(self, system):
        self.take(opened(system))

    def take(self, messages):
        """Go on with these. Raises ModelError, and goes on as before, if no template could say
        them, or nothing fits behind their system message."""
        messages = [at_rest(m) for m in plain_messages(messages)]
        self.encoded([*messages, asked_of("")])
        kept, self.messages = self.messages, messages
        try:
            self.check_length("")
        except ModelError:
            self.messages = kept
            raise
        self.recall.forget()

    def check_length(self, text):
        """Raises ModelError if a message could never be answered, whatever is forgotten."""
        self.check_alone([asked_of(text)], told=True)

    def check_alone(self, last, told):
        """The same, of the messages since the user's last."""
        system, limit = self.messages[: int(self.system is not None)], self.model.n_ctx
        n = len(self.encoded([*system, *last], told))
        if n >= limit:
            around = len(self.encoded([*system, asked_of("")], told))
            fit, tools = limit - 1 - around, told and self.usage.offered
            parts = ["the system message"] * len(system) + ["the tools"] * bool(tools)
            if fit < 0:
                found = f"{', '.join(parts) or 'a message'} and what stands around it"
                found = f"{found} take {around:,} tokens of a context of {limit:,}; say it shorter"
                raise ModelError(f"{found}{', or begin with fewer tools' * bool(tools)}")
            what = " and ".join(parts)
            found = f"the message has {n - around:,} tokens, and {fit:,} fit"
            found += f" beside {what} ({around:,})" if what and around > limit // 2 else ""
            raise ModelError(f"{found}; nothing is forgotten for it; say it shorter")

    def encoded(self, messages, told=True):
        """Messages as ids; told: with the tools that there are."""
        return self.model.encode_chat(messages, tools=self.usage.offered if told else None)

    def ids(self, told=True):
        """The conversation as ids, without its oldest turns if it has outgrown the context. Raises
        ModelError, and forgets nothing, if its last turn does not fit."""
        limit = self.model.n_ctx
        room = (
            min(limit // 4, 256)
            if self.args.n_predict < 0
            else min(self.args.n_predict, limit // 2)
        )
        ids, dropped = self.encoded(self.messages, told), 0
        most = limit - room - self.recall.room
        if len(ids) > most:
            self.check_alone(self.messages[self.asked() :], told)
            dropped = self.too_many(most, told)
            self.messages = self.without(dropped)
            ids = self.encoded(self.messages, told)
        if dropped:
            turns = "turn was" if dropped == 1 else f"{dropped} turns were"
            self.show(f"(the context is full: the oldest {turns} forgotten)\n")
        if len(ids) >= limit:
            raise ModelError(f"the messages have {len(ids):,} tokens, expected less than {limit:,}")
        messages = self.recall(self.messages, room, self.usage.offered if told else None)
        if messages is self.messages:
            return ids
        if self.messages[-1]["role"] == "user":
            report(self.model, self.args, self.recall.text)
        return self.encoded(messages, told)

    def without(self, n):
        """The messages without the oldest n turns."""
        oldest = int(self.system is not None)
        asked = self.places()
        return [*self.messages[:oldest], *self.messages[asked[n] :]] if n else self.messages

    def too_many(self, most, told):
        """How many of the oldest turns have to go so that the others take so many tokens at most;
        all but the last, if that is too long. Whole thousands of turns are not read: first one is
        kept, then twice as many each time."""
        last = len(self.places()) - 1
        fits = lambda n: len(self.encoded(self.without(n), told)) <= most
        enough, step = last, 1
        while enough > 1 and fits(max(1, last - step)):
            enough, step = max(1, last - step), 2 * step
        first = max(1, last - step)
        return min(last, first + bisect_left(range(first, enough), True, key=fits))

    def written(self, ids, offered):
        """Write on behind ids: a text, and calls of the Tools offered, which is shown as it comes.
        Ctrl-C keeps what is there of the text -> (its text, [calls])"""
        args = self.args
        limit = None if args.n_predict < 0 else args.n_predict
        seed = line_seed(self.seed, self.turns) if self.turns else self.seed
        parts, stopped, w, wrapped = [], False, None, Wrapped(self.columns())
        reader = self.model.reader(offered) if offered else None
        more = {"tools": offered} if offered else {}
        try:
            w = Writer(self.model, ids, limit, seed=seed, **more, **args.options)
            self.turns += 1
            for chunk in self.model.write(w):
                end = chunk.finish_reason is not None
                said = reader.push(chunk.text, end) if reader else [chunk.text]
                parts += said
                self.show(wrapped("".join(part for part in said if isinstance(part, str))))
            self.show(wrapped.rest())
        except KeyboardInterrupt:
            self.show(wrapped.rest() + " (stopped)")
            stopped = True
        self.last = w or self.last
        if w and w.count:
            self.new, self.seconds = self.new + w.count, self.seconds + w.clock[2] - w.clock[1]
        text = "".join(part for part in parts if isinstance(part, str)).strip()
        calls = [part for part in parts if not isinstance(part, str)]
        if text or stopped or not calls:
            self.show("\n")
        if stopped or calls:
            return text, [] if stopped else calls
        calls = self.usage.calls_in(text) if offered else []
        return "" if calls else text, calls

    def answer(self, before, otherwise):
        """Write the answer to the last message, with what tools return for it. If nothing comes
        of it, the messages are those before; otherwise: what is told then."""
        text = ""
        try:
            text = self.with_calls()
            if text:
                self.messages.append({"role": "assistant", "content": text})
        except KeyboardInterrupt:
            self.show("(stopped)\n")
        finally:
            if not text:
                self.messages = before
                self.recall.forget()
        if not text:
            self.show(f"(no answer was written; {otherwise})\n")
        elif self.recall.sources():
            self.show(f"({self.recall.sources()})\n")

    def asked(self, otherwise="there is no message of the user's"):
        """The place of the last message of the user's. Raises ModelError if there is none."""
        places = self.places()
        if not places:
            raise ModelError(otherwise)
        return places[-1]

    def places(self):
        """The places of the user's messages."""
        return [n for n, m in enumerate(self.messages) if m["role"] == "user"]

    def with_calls(self):
        """Write, call, and write on, until there is a text without calls -> that text."""
        known, left = set(), CALLS_MAX
        while True:
            text, calls = self.written(self.ids(), self.usage.offered)
            if not calls and (text or not known):
                return text
            if left <= 0 or not calls or known.issuperset(call[:2] for call in calls):
                return self.last_word()
            ran, results = self.usage.called(calls, left)
            said = {"role": "assistant", "content": text, "tool_calls": ran}
            self.messages += [said, *results]
            left -= len(calls)
            known.update(call[:2] for call in calls)

    def last_word(self):
        """The answer of a model that goes on calling what it has called already, or too often:
        what tools returned stands under the question, and no tools are told -> its text."""
        self.usage.show("(no more calls: what was returned is put to the question)\n")
        begun = self.asked()
        parts = [m["content"] for m in self.messages[begun:] if m["role"] in ("user", "tool")]
        texts = [m for m in self.messages[:begun] if not m.get("tool_calls")]
        before = [m for m in texts if m["role"] != "tool"]
        plain = [{key: m[key] for key in ("role", "content")} for m in before]
        kept, self.messages = self.messages, [*plain, asked_of("\n\n".join(parts))]
        try:
            return self.written(self.ids(told=False), None)[0]
        finally:
            self.messages = kept

    def message(self, text):
        before, self.messages = self.messages, [*self.messages, asked_of(text)]
        self.answer(before, "your message is not kept")

    def again(self):
        """Another answer to the last message. Raises ModelError if there is none yet."""
        before, n = self.messages, self.asked("/regen: there is no answer yet")
        self.messages = before[: n + 1]
        self.answer(before, "what was there stays")

    def undo(self):
        """Take the user's last message back, and all behind it -> its text. Raises ModelError if
        there is none."""
        n = self.asked("/undo: there is no message to take back")
        self.messages, gone = self.messages[:n], self.messages[n]
        self.recall.forget()
        return gone["content"]


def opened(system):
    """The messages that a conversation begins with."""
    return [{"role": "system", "content": system}] if system else []


def at_rest(message):
    """A message of plain_messages() as it is kept: without what it has not."""
    return {key: value for key, value in message.items() if value is not None}


def asked_of(text):
    """A message of the user's."""
    return {"role": "user", "content": text}
