"""
Slow thinking, measured: how often the best of N answers does what was asked.

    python train/best_of.py model.bin [--requests 200] [--out train/best_of]

For requests that no training saw, writes 16 answers each, as `run.py --best-of` does, and takes the best of the first N by the
mean log-probability of its tokens (what --best-of does alone) and by prompts.py's judge (what --judge could do at best: it is
the same judge that counts). Prints a table and writes it with a picture.
"""

import argparse
import sys
from pathlib import Path

from prompts import judge, requests

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from twofile import Model  # noqa: E402
from twofile.options import line_seed  # noqa: E402

COUNTS = (1, 2, 4, 8, 16)


def marks_of(path, n):
    """For each request, for each of 16 answers: (mean log-probability, what the judge says)."""
    model, rows = Model(path, verbose=False), []
    for k, (text, words) in enumerate(requests(n, 0)):
        ids = model.encode_chat([{"role": "user", "content": text}])
        found = {w.seed: w for w in model.best_of(ids, max(COUNTS), places=16, seed=7000 + k, max_tokens=400)}
        order = [7000 + k, *(line_seed(7000 + k, i) for i in range(1, max(COUNTS)))]  # as they were drawn
        rows.append([(found[s].worth, judge(found[s].written, words, found[s].reason == "eos")) for s in order])
    return rows


def main():
    ap = argparse.ArgumentParser(description="The best of N answers.", allow_abbrev=False)
    ap.add_argument("model")
    ap.add_argument("--requests", type=int, default=200)
    ap.add_argument("--out", default=str(Path(__file__).resolve().parent / "best_of"))
    a = ap.parse_args()
    rows = marks_of(a.model, a.requests)
    worth = lambda mark: mark[1]["has"] + 0.5 * mark[1]["ended"] - mark[1]["repeats"]
    head = "| answers | follows, chosen by its own likelihood | repeats | follows, chosen by the judge | repeats |"
    lines = [head, "|---|" + "---:|" * 4]
    shares = []
    for n in COUNTS:
        cells = []
        for key in (lambda mark: mark[0], worth):
            best = [max(row[:n], key=key)[1] for row in rows]
            cells += [sum(m["follows"] for m in best) / len(best), sum(m["repeats"] for m in best) / len(best)]
        shares.append((cells[0], cells[2]))
        lines.append(f"| {n} | " + " | ".join(f"{c:.1%}" for c in cells) + " |")
        print(lines[-1], flush=True)
    Path(a.out + ".md").write_text("\n".join(lines) + "\n")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for i, name in enumerate(("by its own likelihood", "by the judge")):
        axes.plot(COUNTS, [100 * s[i] for s in shares], marker="o", label=f"chosen {name}")
    axes.set(xscale="log", xticks=COUNTS, xticklabels=COUNTS, xlabel="answers written", ylabel="% that follow the request")
    axes.set(ylim=(0, 100), title=f"The best of N, {a.requests} requests")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(a.out + ".png", dpi=120)


if __name__ == "__main__":
    main()
