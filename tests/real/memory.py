"""Sixty questions, with memory and without: python tests/real/memory.py MODEL CORPUS [--no-answers] [-v]

CORPUS is a folder with classics.txt.xz, texts between lines of <|endoftext|>, and books.tsv, their titles. They and this
project's own documents become files of one folder, which is the memory. Of each question of memory_questions.jsonl: whether a
passage that holds the answer was paged in, and whether the words of the answer are in what MODEL answers (60 of the likeliest
tokens at most) with memory, without, and given that passage alone. Every third question was
held back while the search was made.
"""

import argparse
import csv
import json
import lzma
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from twofile.memory.memory import Memory  # noqa: E402
from twofile.memory.paging import Paged  # noqa: E402
from twofile.model import Model  # noqa: E402

QUESTIONS = [json.loads(line) for line in (Path(__file__).parent / "memory_questions.jsonl").read_text("utf-8").splitlines()]
ROWS = ("paged in", "with memory", "without", "the passage alone")


def folder_of(corpus, folder):
    """Write the classics, a file each, and our documents below a folder."""
    texts = lzma.open(corpus / "classics.txt.xz", "rt", encoding="utf-8").read().split("<|endoftext|>")
    with open(corpus / "books.tsv", encoding="utf-8") as f:
        titles = [row["title"] for row in csv.DictReader(f, delimiter="\t") if row["file"] == "classics"]
    for title, text in zip(titles, texts):
        path = folder / "classics" / (re.sub(r"[^\w .'-]+", "", title).strip() + ".txt")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("train/*.md")]:
        if path.name != "memory.md":  # which tells of this
            copy = folder / path.relative_to(ROOT)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())


def plain(text):
    return " ".join(text.split())


def holds(passage, q):
    name = f"classics/{q['file']}" if q["about"] == "classics" else q["file"]
    return passage.file == name and plain(q["holds"]) in plain(passage.text)


def is_answered(text, q):
    said = text.casefold()
    return all(any(re.search(rf"\b{re.escape(w.casefold())}", said) for w in words) for words in q["words"])


def answer(model, messages, paged):
    return model.generate(model.encode_chat(paged.into(messages)), max_tokens=60, temperature=0)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("model")
    ap.add_argument("corpus", type=Path)
    ap.add_argument("--no-answers", action="store_true", help="only what is paged in, of questions that were not held back")
    ap.add_argument("-v", action="store_true", help="a line for each question")
    args = ap.parse_args()
    model, scores, seconds, sizes = Model(args.model, verbose=False), [], [], []
    with tempfile.TemporaryDirectory() as folder:
        folder_of(args.corpus, Path(folder))
        began = time.perf_counter()
        memory = Memory(folder, notice=None)
        print(f"indexed in {time.perf_counter() - began:.1f} s: {memory.store.count():,} passages")
        began = time.perf_counter()
        memory.update()
        print(f"looked again in {time.perf_counter() - began:.3f} s")
        for q in (q for q in QUESTIONS if not (args.no_answers and q["held"])):
            messages = [{"role": "user", "content": q["question"]}]
            began = time.perf_counter()
            memory.find(q["question"])
            seconds.append(time.perf_counter() - began)
            paged = memory.page(model, messages, 60)
            sizes.append(len(paged.passages))
            row = [any(holds(p, q) for p in paged.passages)]
            if not args.no_answers:
                right = next(p for p in everything(memory, q) if holds(p, q))
                for given in (paged, Paged(), Paged((right,))):
                    row.append(is_answered(answer(model, messages, given), q))
            scores.append((q, row))
            if args.v:
                ranks = [n for n, p in enumerate(memory.find(q["question"], 100), 1) if holds(p, q)]
                print(*("+" if x else "-" for x in row), ranks[:3], len(paged.passages), q["file"], q["question"])
        memory.store.delete()
    print(f"a search: median {1000 * statistics.median(seconds):.0f} ms, longest {1000 * max(seconds):.0f} ms")
    print(f"passages paged in: {statistics.mean(sizes):.1f}")
    groups = {"all": lambda q: True, "held back": lambda q: q["held"], "not held back": lambda q: not q["held"]}
    groups |= {about: lambda q, about=about: q["about"] == about for about in ("classics", "docs")}
    for name, of in groups.items():
        some = [row for q, row in scores if of(q)]
        told = (f"{ROWS[i]} {sum(row[i] for row in some)}" for i in range(len(some[0]) if some else 0))
        print(f"{name}, {len(some)}: {', '.join(told)}")


def everything(memory, q):
    """The passages of a question's file, in order."""
    from twofile.memory.passages import Passage

    name = f"classics/{q['file']}" if q["about"] == "classics" else q["file"]
    rows = memory.store.db.execute("SELECT text, line, heading, file FROM passage WHERE file = ? ORDER BY id", (name,))
    return [Passage(*row) for row in rows]


if __name__ == "__main__":
    main()
