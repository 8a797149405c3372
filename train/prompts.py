"""
Requests for stories, and a judge of the answers: programs, no model and no person.

From a story: who and what is in it, its mood and length -> a request that the story answers (finetune.py learns from those).
From two words: a request that nobody has answered yet (prefer.py and the figures use those). judge() says whether a story
has what was asked for, whether it ends, and how much of it is said twice.
"""

import random
import re
from collections import Counter

WHO = """
girl boy dog cat fox bunny rabbit bear bird duck frog fish mouse lion tiger elephant monkey horse cow pig sheep goat
chicken hen wolf owl bee butterfly ant spider snake turtle dragon princess prince king queen fairy witch giant robot
pirate farmer baker teacher doctor grandma grandpa squirrel deer crab dolphin whale penguin kitten puppy worm snail
crocodile hippo zebra giraffe hare crow goose donkey camel hunter thief soldier clown child baby brother sister man
woman bat kangaroo panda parrot dinosaur ghost knight wizard mermaid unicorn lamb pony hedgehog cricket ladybug seal
shark swan rooster leopard jackal hyena
""".split()
WHAT = """
ball shoe hat tree flower apple cake cookie car truck train boat book box key door window house castle garden park
forest river lake sea beach mountain cave bridge road star moon sun cloud rain snow wind rainbow toy doll kite balloon
bike swing slide drum bell clock lamp candle mirror ring necklace crown coin treasure map letter picture pencil paint
paper bag basket blanket pillow bed chair table cup spoon bowl plate bottle soup bread cheese milk honey jam banana
orange carrot potato tomato pie candy chocolate egg nest feather shell stone rock stick leaf seed rope ladder broom
bucket shovel hammer nail net sock coat dress shirt scarf glove boot umbrella school store market farm zoo barn fence
pond well hill island puzzle game song story magic secret surprise party present gift birthday picnic tower wagon sled
tent jar pot oven phone camera guitar piano trumpet whistle sandwich mud sand dirt hole puddle branch mushroom berry
pumpkin corn rice meat bone
""".split()
HOW = """
little big small red blue green yellow pink white black brown lost old new shiny magic hungry lonely brave lazy kind
clever funny silly sad happy angry scared tiny huge soft round broken pretty beautiful special strange young tired
greedy proud naughty friendly curious long tall fast slow golden silver dirty clean wet warm cold sweet
""".split()
HAPPY = set("happy happily smiled smile laughed glad joy fun loved proud hugged".split())
SAD = set("sad cried cry died lost sorry tears alone sadly".split())
WHO.remove("man")  # in every tale; says nothing
KNOWN = {**dict.fromkeys(WHO, "who"), **dict.fromkeys(WHAT, "what")}


def words_of(text):
    return re.findall(r"[a-z']+", text.lower())


def base(word):
    """The singular that KNOWN has, or the word."""
    for form in (word, word.removesuffix("s"), word.removesuffix("es"), word.removesuffix("ies") + "y"):
        if form in KNOWN:
            return form
    return word


def with_article(phrase):
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def notes(story):
    """-> what a request may name: who and what (phrases such as "a little fox"), name, mood."""
    words = words_of(story)
    counts, phrases = Counter(base(w) for w in words), {}
    for before, word in zip(["", *words], words):
        word = base(word)
        if word in KNOWN and counts[word] >= 2 and word not in phrases:
            phrases[word] = with_article(f"{before} {word}" if before in HOW else word)
    who = [p for w, p in phrases.items() if KNOWN[w] == "who"]
    what = [p for w, p in phrases.items() if KNOWN[w] == "what"]
    named = re.search(r"\b(girl|boy|dog|cat|bunny|rabbit|bear|bird|man|woman)s? (?:named|called) ([A-Z][a-z]+)", story)
    end = set(words[-30:])
    mood = "happy" if end & HAPPY and not end & SAD else "sad" if end & SAD and not end & HAPPY else None
    return dict(who=who[:3], what=what[:4], name=named and f"{with_article(named[1])} named {named[2]}", mood=mood)


def request(about, length, rng):
    """A request that a story with these notes answers. length: in words. None if there is nothing to name, or a kept pair."""
    who, what = list(about["who"]), list(about["what"])
    rng.shuffle(what)
    if about["name"] and rng.random() < 0.4:
        who = [about["name"]]
    names = who[: rng.randint(1, 2)] + what[: rng.choice([0, 1, 1, 2])]
    if not names or len(names) == 2 and kept([base(n.split()[-1]) for n in names]):
        return None
    size = "short " if length < 110 and rng.random() < 0.6 else "long " if length > 230 and rng.random() < 0.5 else ""
    mood = f"{about['mood']} " if about["mood"] and rng.random() < 0.3 else ""
    ending = " with a happy ending" if about["mood"] == "happy" and not mood and rng.random() < 0.25 else ""
    return phrase(names, rng, size + mood, ending)


def phrase(names, rng, kind="", ending=""):
    """names: ["a fox", "a lost shoe"] -> one of many ways to ask."""
    listed = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
    story = f"{with_article(kind)}story" if kind else "a story"
    asked = rng.choice(
        [
            f"Tell me {story} about {listed}{ending}.",
            f"Tell me {story} about {listed}{ending}.",
            f"Write {story} about {listed}{ending}.",
            f"I want {story} about {listed}{ending}.",
            f"Please tell me {story} about {listed}{ending}.",
            f"Can you tell me {story} about {listed}{ending}?",
            f"{story.capitalize()} about {listed}{ending}, please.",
            f"Tell me {story} with {listed}{ending}.",
        ]
    )
    return asked.lower().rstrip(".") if rng.random() < 0.15 else asked


def fresh(rng, seen):
    """(request, words it asks for) of a pair that is not in seen: {frozenset of words}."""
    while True:
        who, what = rng.choice(WHO), rng.choice(WHAT)
        if frozenset((who, what)) in seen:
            continue
        named = [with_article(f"{rng.choice(HOW)} {w}" if rng.random() < 0.3 else w) for w in (who, what)]
        return phrase(named, rng), (who, what)


def kept(words):
    """Whether a pair of words is one of the quarter that no training asks for."""
    return sum(map(ord, "".join(words))) % 4 == 0


def requests(n, seed):
    """n requests (text, words). Seed 0 has pairs of words that no other seed has: those are kept to measure with."""
    rng, out = random.Random(seed), []
    while len(out) < n:
        text, words = fresh(rng, set())
        if kept(words) == (seed == 0):
            out.append((text, words))
    return out


def judge(story, asked, ended):
    """-> dict: follows (all asked words are there, and it ends), has (share of them), dwells (share of them that are there
    twice or more, and are not more than a sixteenth of all words, as in 95 % of TinyStories), clings (share that are more),
    ended, repeats (share of its groups of four words that it has said before)."""
    words = words_of(story)
    have = Counter(base(w) for w in words)
    groups = list(zip(words, words[1:], words[2:], words[3:]))
    share = lambda fits: sum(fits(have[w]) for w in asked) / max(1, len(asked))
    most = max(2, len(words) / 16)
    has, repeats = share(lambda n: n > 0), 1 - len(set(groups)) / len(groups) if groups else 1.0
    dwells, clings = share(lambda n: 2 <= n <= most), share(lambda n: n > most)
    return dict(follows=has == 1 and ended, has=has, dwells=dwells, clings=clings, ended=ended, repeats=repeats)
