"""
The text that the bundled model's rounding is chosen by: stories and conversations of its own training, as lines of JSON.

    python train/calibration.py [--out train/calibration.jsonl] [--data DIR]
    python export.py train/preferred3/ckpt.pt -o model.bin --type TYPE --calibrate train/calibration.jsonl

One line in four is a story of TinyStories as it stands, the others are conversations (conversations.py), as the model met them:
from the part of the stories that it was trained on, never from its end, which is kept to measure with. The same --seed writes
the same file.
"""

import argparse
import json
import random
from pathlib import Path

from conversations import Conversations
from pretrain import corpus

ROLES = ("user", "assistant")


def lines(stories, talks, seed):
    """Endless lines, each a story as it is, or (three of four) a conversation. stories: str; talks: Conversations."""
    rng = random.Random(seed)
    while True:
        if rng.random() < 0.25:
            yield {"text": rng.choice(stories)}
        else:
            yield {"messages": [{"role": ROLES[i % 2], "content": text.strip()} for i, text in enumerate(talks.next())]}


def main():
    ap = argparse.ArgumentParser(description="The text that a rounding is chosen by.", allow_abbrev=False)
    here = Path(__file__).resolve()
    ap.add_argument("--out", default=str(here.parent / "calibration.jsonl"))
    ap.add_argument("--data", default=str(here.parents[2] / "shared" / "corpus"))
    ap.add_argument("--lines", type=int, default=200)
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    texts, _ = corpus(a.data)
    made = lines(texts["tinystories"], Conversations(texts["tinystories"] + texts["storybooks"], a.seed), a.seed)
    with open(a.out, "w", encoding="utf-8", newline="\n") as f:
        for _ in range(a.lines):
            f.write(json.dumps(next(made), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
