"""
Conversations made by a program from stories (prompts.py) and from exchanges.txt: pretraining and fine-tuning read them.

    <|endoftext|><|user|>Tell me a story about a fox.<|end|><|assistant|>Once upon a time …<|end|>
"""

import random
from pathlib import Path

from prompts import notes, request

EXCHANGES = Path(__file__).resolve().parent / "exchanges.txt"


def exchanges():
    """[(ways to ask, ways to answer)]"""
    rows = []
    for block in EXCHANGES.read_text("utf-8").split("\n\n"):
        lines = [line for line in block.split("\n") if line[:3] in ("U: ", "A: ")]
        if lines:
            rows.append(tuple([line[3:] for line in lines if line[0] == side] for side in "UA"))
    return rows


class Conversations:
    """Endless conversations as lists of turns, user first; seeded."""

    def __init__(self, stories, seed):
        self.rng, self.talk = random.Random(seed), exchanges()
        self.stories = [(story, notes(story), len(story.split())) for story in stories]
        self.by_who = {}
        for row in self.stories:
            for who in row[1]["who"]:
                self.by_who.setdefault(who.split()[-1], []).append(row)

    def small_talk(self):
        ask, answer = self.rng.choice(self.talk)
        return [self.rng.choice(ask), self.rng.choice(answer)]

    def told(self, row=None):
        """A request and its story."""
        rng = self.rng
        while True:
            story, about, length = row or rng.choice(self.stories)
            asked = request(about, length, rng)
            if asked:
                return [asked, story]
            if rng.random() < 0.1 or row:
                return [rng.choice(["Tell me a story.", "Tell me a story, please.", "I want a story.", "A story!"]), story]

    def begun(self):
        """The first words of a story: the answer is the story, from its first word on."""
        story = self.rng.choice(self.stories)[0]
        words = story.split(" ")
        known = 4 if story.startswith("Once upon a time") and self.rng.random() < 0.5 else self.rng.randint(2, 10)
        return [" ".join(words[:known]).rstrip(","), story]

    def go_on(self):
        """The beginning of a story, to be continued."""
        story = self.rng.choice(self.stories)[0]
        sentences = story.replace("\n", " ").split(". ")
        cut = self.rng.randint(1, max(1, min(3, len(sentences) - 2)))
        begin = ". ".join(sentences[:cut]) + "."
        ask = self.rng.choice(["Continue this story: {}", "Go on: {}", "Finish this story: {}", "What happens next? {}"])
        return [ask.format(begin), ". ".join(sentences[cut:])]

    def shorter(self):
        """A story, then a shorter one about the same one."""
        rows = self.rng.choice([r for r in self.by_who.values() if len(r) > 1] or [self.stories])
        long, short = sorted(self.rng.sample(rows, 2) if len(rows) > 1 else rows * 2, key=lambda r: -r[2])
        ask = self.rng.choice(["Shorter, please.", "Make it shorter.", "A shorter one, please.", "That was too long."])
        return [*self.told(long), ask, short[0]]

    def next(self):
        dice = self.rng.random()
        if dice < 0.54:
            return self.told()
        if dice < 0.62:
            return self.begun()
        if dice < 0.70:
            return self.go_on()
        if dice < 0.76:
            return self.shorter()
        if dice < 0.82:
            return self.small_talk() + self.told()
        if dice < 0.86:
            return self.told() + self.small_talk()
        return self.small_talk()


def to_ids(turns, tokenizer):
    """-> ids, and for each the id to predict next, or -100 where the loss does not look."""
    mark = {name: tokenizer.token_to_id(f"<|{name}|>") for name in ("user", "assistant", "end")}
    ids, heard = [0], [False]
    for i, text in enumerate(turns):
        said = tokenizer.encode(text.strip()).ids + [mark["end"]]
        ids += [mark["assistant" if i % 2 else "user"], *said]
        heard += [False] + [i % 2 == 1] * len(said)
    return ids[:-1], [t if h else -100 for t, h in zip(ids[1:], heard[1:])]


def window_of(conversations, tokenizer, seed, size):
    """Conversations one behind the other -> size ids, and the id to predict next for each, or -100 where the user speaks."""
    conversations.rng.seed(seed)
    ids, targets = [], []
    while len(ids) < size:
        x, y = to_ids(conversations.next(), tokenizer)
        if len(x) <= size:
            ids, targets = ids + x, targets + y
    return ids[:size], targets[:size]
