"""
Scaling laws, small: one recipe at five sizes and three amounts of text, and the curve that joins them.

    python train/scaling.py --data DIR --out train/scaling        (an hour or two of CPU; an interrupted run goes on)

Each size is trained at a constant rate; for each amount of text a copy takes the last fifth with the rate falling to zero (Hu
et al. 2024), so that the amounts share their beginning. Fits loss = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022) to the
loss in nats a token on held-out stories. Writes runs.csv, fit.json and scaling.png. `--predict N D` prints what the fit says.
"""

import argparse
import copy
import csv
import itertools
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from pretrain import Batches, Llama, bits_per_byte, corpus, encode, optimisers, train_tokenizer
from torch.nn import functional as F

SIZES = {  # name: dim, layers, heads, ffn
    "40K": (16, 2, 1, 48),
    "100K": (32, 3, 1, 88),
    "330K": (64, 4, 2, 176),
    "1.1M": (112, 6, 7, 304),
    "3.0M": (192, 6, 6, 512),
}
TOKENS = (500_000, 1_500_000, 4_000_000)
CHINCHILLA = dict(E=1.69, alpha=0.34, beta=0.28)


def train(shape, data, held, held_bytes, batch, window, lr, seed=1):
    """Yield (tokens, bits per byte, seconds) for each amount of TOKENS."""
    torch.manual_seed(seed)
    model, batches, step, began = Llama(shape), Batches(data, batch, window, seed), 0, time.perf_counter()
    pair = optimisers(model, lr)

    def advance(model, pair, batches, first, last, end=None):
        for step in range(first, last):
            for group in (group for optimiser in pair for group in optimiser.param_groups):
                group["lr"] = lr * min(1, (step + 1) / 50) * (1 if end is None else (end - step) / (end - first))
            x, y = batches.next(0.0 if end is None else 1.0)  # simplest English last, as in pretrain.py
            F.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimiser in pair:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)

    for tokens in TOKENS:
        total = tokens // (batch * window)
        turn = int(0.8 * total)
        advance(model, pair, batches, step, turn)
        step = turn
        branch, its_batches = copy.deepcopy(model), copy.deepcopy(batches)
        its_pair = optimisers(branch, lr)
        for mine, theirs in zip(its_pair, pair):
            mine.load_state_dict(copy.deepcopy(theirs.state_dict()))
        advance(branch, its_pair, its_batches, turn, total, total)
        yield total * batch * window, bits_per_byte(branch, held, held_bytes, window, "cpu"), time.perf_counter() - began


def fit(rows):
    """rows: (N, D, loss) -> dict(E, A, alpha, B, beta, rms): least squares of log loss, Huber's norm, best of many starts."""
    from scipy.optimize import least_squares

    n, d, loss = (np.array(column, float) for column in zip(*rows))

    def error(p):
        e, a, alpha, b, beta = p
        return np.log(np.exp(e) + np.exp(a - alpha * np.log(n)) + np.exp(b - beta * np.log(d))) - np.log(loss)

    starts = itertools.product((-1, 0, 0.5), (2, 5), (0.3, 0.6), (2, 5), (0.3, 0.6))
    best = min((least_squares(error, start, loss="huber", f_scale=0.01) for start in starts), key=lambda r: r.cost)
    e, a, alpha, b, beta = best.x
    rms = float(np.sqrt(np.mean(error(best.x) ** 2)))
    return dict(E=math.exp(e), A=math.exp(a), alpha=alpha, B=math.exp(b), beta=beta, rms=rms)


def predict(law, n, d):
    return law["E"] + law["A"] / n ** law["alpha"] + law["B"] / d ** law["beta"]


def plot(rows, law, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    sizes = sorted({r[0] for r in rows})
    for d in sorted({r[1] for r in rows}):
        points = sorted((n, loss) for n, tokens, loss in rows if tokens == d)
        (line,) = axes.plot([n for n, _ in points], [loss for _, loss in points], "o", label=f"{d / 1e6:.1f}M tokens")
        smooth = np.geomspace(sizes[0], sizes[-1], 50)
        axes.plot(smooth, [predict(law, n, d) for n in smooth], color=line.get_color(), linewidth=1)
    axes.set(xscale="log", xlabel="parameters", ylabel="loss, nats a token", title="Held-out stories: measured, and fitted")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    ap = argparse.ArgumentParser(description="Measure a scaling law.", allow_abbrev=False)
    here = Path(__file__).resolve()
    ap.add_argument("--data", default=str(here.parents[2] / "shared" / "corpus"))
    ap.add_argument("--out", default=str(here.parent / "scaling"))
    ap.add_argument("--threads", type=int, default=0)
    ap.add_argument("--predict", nargs=2, type=float, metavar=("N", "D"), help="loss for N parameters and D tokens, by the fit")
    a = ap.parse_args()
    out = Path(a.out)
    if a.predict:
        if not (out / "fit.json").exists():
            sys.exit(f"scaling.py: error: {out / 'fit.json'}: not found; expected a fit; run scaling.py first, or give --out")
        law = json.loads((out / "fit.json").read_text())
        loss = predict(law, *a.predict)
        print(f"{loss:.3f} nats a token, {loss / math.log(2) * law['tokens_per_byte']:.3f} bits per byte")
        return
    if a.threads:
        torch.set_num_threads(a.threads)
    out.mkdir(parents=True, exist_ok=True)
    texts, held = corpus(a.data)
    tokenizer = train_tokenizer(texts, 2048, out / "tokenizer.json")
    data = {name: encode(tokenizer, docs) for name, docs in texts.items()}
    held_ids, held_bytes = encode(tokenizer, held), sum(len(d.encode()) for d in held)
    table = out / "runs.csv"
    if not table.exists():
        table.write_text("size,parameters,tokens,loss,bits_per_byte,seconds\n")
    done = {row["size"] for row in csv.DictReader(open(table)) if int(row["tokens"]) > 0.9 * TOKENS[-1]}
    for name, (dim, layers, heads, ffn) in SIZES.items():
        if name in done:
            continue
        shape = dict(dim=dim, n_layers=layers, n_heads=heads, n_kv_heads=heads, hidden_dim=ffn, vocab_size=2048)
        shape |= dict(max_seq_len=512, norm_eps=1e-5, rope_theta=10000.0)
        count = sum(p.numel() for p in Llama(shape).parameters())
        for tokens, bits, seconds in train(shape, data, held_ids, held_bytes, 8, 256, 3e-3):
            loss = bits * math.log(2) * held_bytes / len(held_ids)
            with open(table, "a") as f:
                f.write(f"{name},{count},{tokens},{loss:.4f},{bits:.4f},{seconds:.0f}\n")
            print(f"{name}: {count:,} parameters, {tokens:,} tokens: {loss:.4f} nats, {bits:.4f} bits per byte", flush=True)
    found = csv.DictReader(open(table))
    rows = list({(r["size"], r["tokens"]): (int(r["parameters"]), int(r["tokens"]), float(r["loss"])) for r in found}.values())
    law = fit(rows) | {"tokens_per_byte": len(held_ids) / held_bytes}
    (out / "fit.json").write_text(json.dumps(law, indent=1) + "\n")
    plot(rows, law, out / "scaling.png")
    shown = {k: round(v, 3) for k, v in law.items()}
    print(f"loss = E + A / N^alpha + B / D^beta: {shown}; Chinchilla's {CHINCHILLA}")


if __name__ == "__main__":
    main()
