"""
Many prompts over a Ray cluster: each worker maps the model once and writes a batch of texts together.

    python examples/ray_batch.py prompts.jsonl answers.jsonl [--workers 2] [--max-tokens 60] [--seed 1]

prompts.jsonl: a JSON string or {"prompt": TEXT} a line. On one machine Ray starts a local cluster; on many, `ray start` first,
the two files in the same folder of each. A line's text depends on the seed and its number alone, not on who wrote it.
"""

import argparse
import json
import os
import sys
from pathlib import Path

FOLDER = os.environ.get("TWOFILE", str(Path(__file__).resolve().parent.parent))


class Writer:
    """A worker: a model, and batches {"n": numbers, "prompt": texts} -> the same with "text"."""

    def __init__(self, folder, max_tokens, seed, threads):
        sys.path.insert(0, folder)
        import run

        self.run, self.max_tokens, self.seed = run, max_tokens, seed
        self.model = run.Model(f"{folder}/model.bin", n_threads=threads, verbose=False)

    def __call__(self, batch):
        seeds = [self.run.line_seed(self.seed, int(n)) for n in batch["n"]]
        writers = [self.run.Writer(self.model, p, self.max_tokens, seed=s) for p, s in zip(batch["prompt"].tolist(), seeds)]
        for _ in self.model.together(writers, len(writers)):
            pass
        return {**batch, "text": [w.written for w in writers]}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("prompts")
    ap.add_argument("answers")
    ap.add_argument("--workers", type=int, default=2)
    ap.add_argument("--threads", type=int, default=1, help="of each worker")
    ap.add_argument("--max-tokens", type=int, default=60)
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    try:
        import ray
    except ImportError:
        sys.exit('ray_batch.py: needs Ray, which is not installed: pip install "ray[data]"')

    rows = [json.loads(line) for line in open(a.prompts, encoding="utf-8") if line.strip()]
    rows = [{"n": n, "prompt": row if isinstance(row, str) else row["prompt"]} for n, row in enumerate(rows)]
    if not ray.is_initialized():
        ray.init(num_cpus=a.workers * a.threads, include_dashboard=False, log_to_driver=False)
    found = ray.data.from_items(rows).map_batches(
        Writer,
        fn_constructor_args=(FOLDER, a.max_tokens, a.seed, a.threads),
        compute=ray.data.ActorPoolStrategy(size=a.workers),
        num_cpus=a.threads,
        batch_size=8,
    )
    with open(a.answers + ".part", "w", encoding="utf-8") as f:
        for row in sorted(found.take_all(), key=lambda row: row["n"]):
            f.write(json.dumps({"prompt": row["prompt"], "text": row["text"]}) + "\n")
    os.replace(a.answers + ".part", a.answers)


if __name__ == "__main__":
    main()
