"""
The average of the weights of several checkpoints that branched off the same run: a model soup (Wortsman et al. 2022).

    python train/average.py train/a/ckpt.pt train/b/ckpt.pt --out train/base

Each branch learns its own part of the noise by heart; their average keeps what they agree on. Writes --out/ckpt.pt.
"""

import argparse
import sys
from pathlib import Path

import torch
from pretrain import save


def main():
    ap = argparse.ArgumentParser(description="Average the weights of checkpoints.", allow_abbrev=False)
    ap.add_argument("checkpoints", nargs="+", metavar="ckpt.pt")
    ap.add_argument("--out", default=str(Path(__file__).resolve().parent / "base"))
    a = ap.parse_args()
    for path in a.checkpoints:
        if not Path(path).exists():
            sys.exit(f"average.py: error: {path}: not found; expected a checkpoint of pretrain.py; train it first")
    values = [torch.load(path, map_location="cpu", weights_only=True) for path in a.checkpoints]
    if any(v["model_args"] != values[0]["model_args"] or v["tokenizer"] != values[0]["tokenizer"] for v in values):
        sys.exit("average.py: error: the checkpoints differ in shape or tokenizer; expected branches of one run")
    of = lambda name: sum(v["model"][name] for v in values) / len(values)
    note = "average of: " + "; ".join(v["note"] for v in values)
    Path(a.out).mkdir(parents=True, exist_ok=True)
    save({**values[-1], "model": {name: of(name) for name in values[0]["model"]}, "note": note}, Path(a.out) / "ckpt.pt")


if __name__ == "__main__":
    main()
