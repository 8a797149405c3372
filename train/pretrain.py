"""
Pretrain the bundled model: a small Llama on English stories.

    python train/pretrain.py --data DIR --out train/out --steps 9000

DIR holds *.txt.xz files of documents separated by lines "<|endoftext|>". Picks a GPU if there is one. Interrupted, the same
command goes on where it stopped and ends with the same weights. Writes into --out: tokenizer.json, ckpt.pt (what export.py
reads), resume.pt (with the optimiser), log.csv and loss.png. `--smoke` does all of it in a minute on a made-up text.
"""

import argparse
import csv
import lzma
import math
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

SEPARATOR = "<|endoftext|>"
MARKS = [f"<|{name}|>" for name in "user assistant end system tool result think".split()]  # for what comes after pretraining
# share of each text in a batch, for the first part of the steps and for the last 30 %: simplest English last
MIX = {
    "tinystories": (0.45, 0.75),
    "fairytales": (0.20, 0.12),
    "storybooks": (0.10, 0.08),
    "childrens_books": (0.25, 0.05),
}
HELD_OUT = 200_000  # characters at the end of tinystories that no training sees


class Norm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = c["n_heads"], c["n_kv_heads"], c["dim"] // c["n_heads"]
        self.wq = nn.Linear(c["dim"], c["dim"], bias=False)
        self.wk = nn.Linear(c["dim"], self.kv_heads * self.head_dim, bias=False)
        self.wv = nn.Linear(c["dim"], self.kv_heads * self.head_dim, bias=False)
        self.wo = nn.Linear(c["dim"], c["dim"], bias=False)

    def forward(self, x, cos, sin):  # [batch, time, dim] -> same
        split = lambda y, n: y.unflatten(-1, (n, self.head_dim)).transpose(1, 2)
        q, k, v = split(self.wq(x), self.heads), split(self.wk(x), self.kv_heads), split(self.wv(x), self.kv_heads)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (y.repeat_interleave(self.heads // self.kv_heads, dim=1) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(y.transpose(1, 2).flatten(2))


def rotate(x, cos, sin):
    """Rotary embedding of neighbouring pairs (Su et al. 2021), as llama2.c checkpoints have it."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.w1 = nn.Linear(c["dim"], c["hidden_dim"], bias=False)
        self.w2 = nn.Linear(c["hidden_dim"], c["dim"], bias=False)
        self.w3 = nn.Linear(c["dim"], c["hidden_dim"], bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.attention, self.feed_forward = Attention(c), FeedForward(c)
        self.attention_norm, self.ffn_norm = Norm(c["dim"], c["norm_eps"]), Norm(c["dim"], c["norm_eps"])

    def forward(self, x, cos, sin):
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.feed_forward(self.ffn_norm(x))


class Llama(nn.Module):
    """Parameter names are those of a llama2.c checkpoint, so that one reader serves both."""

    def __init__(self, c):
        super().__init__()
        self.tok_embeddings = nn.Embedding(c["vocab_size"], c["dim"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["n_layers"]))
        self.norm = Norm(c["dim"], c["norm_eps"])
        self.output = nn.Linear(c["dim"], c["vocab_size"], bias=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                small = name.endswith(("wo.weight", "w2.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * c["n_layers"]) if small else 0.02)
        self.output.weight = self.tok_embeddings.weight  # tied
        half = c["dim"] // c["n_heads"] // 2
        angle = torch.arange(c["max_seq_len"])[:, None] * c["rope_theta"] ** (-torch.arange(half) / half)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, ids):  # [batch, time] -> logits [batch, time, vocab]
        x = self.tok_embeddings(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.output(self.norm(x))


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix is made orthogonal by five Newton-Schulz steps (Jordan et al. 2024), scaled so that AdamW's
    learning rate serves (Liu et al. 2025). Matrices of one shape go together, in float32: on a CPU that is faster than
    torch's own, which goes one by one in bfloat16."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.1):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            lr, keep, alike = group["lr"], group["momentum"], {}
            for p in group["params"]:
                mean = self.state[p].setdefault("momentum", torch.zeros_like(p)).lerp_(p.grad, 1 - keep)
                flat = p.shape[0] <= p.shape[1]
                update = p.grad.lerp(mean, keep)  # Nesterov's look ahead
                alike.setdefault(tuple(sorted(p.shape)), []).append((p, flat, update if flat else update.T))
            for (_, long), rows in alike.items():
                x = torch.stack([update for _, _, update in rows])
                x /= x.norm(dim=(1, 2), keepdim=True) + 1e-7
                for _ in range(5):
                    a = x @ x.mT
                    x = 3.4445 * x + (2.0315 * a @ a - 4.7750 * a) @ x
                for (p, flat, _), update in zip(rows, x):
                    p.mul_(1 - lr * group["weight_decay"])
                    p.add_(update if flat else update.T, alpha=-0.2 * lr * math.sqrt(long))


def optimisers(model, lr):
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    inner = [p for name, p in model.named_parameters() if name.startswith("layers") and p.ndim == 2]
    rest = [p for name, p in model.named_parameters() if not (name.startswith("layers") and p.ndim == 2)]
    return Muon(inner, lr), torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)


def made_up_text():
    """Enough simple sentences to show that everything runs."""
    rng = random.Random(0)
    who, what, where = (
        ["a fox", "the girl", "an old man"],
        ["found", "lost", "painted"],
        ["a shoe", "the moon", "a red ball"],
    )
    say = lambda: " ".join((rng.choice(who), rng.choice(what), rng.choice(where))).capitalize() + "."
    return {name: [" ".join(say() for _ in range(12)) for _ in range(300)] for name in MIX}


def read_corpus(folder):
    """name -> list of documents."""
    texts = {}
    for name in MIX:
        path = Path(folder) / f"{name}.txt.xz"
        if not path.exists():
            sys.exit(
                f"pretrain.py: error: {path}: not found; expected one of {', '.join(MIX)}; give the folder with --data"
            )
        raw = lzma.open(path, "rt", encoding="utf-8").read()
        texts[name] = [d.strip() for d in raw.split(SEPARATOR) if d.strip()]
    return texts


def train_tokenizer(texts, size, path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[SEPARATOR, *MARKS], initial_alphabet=alphabet, show_progress=False
    )
    # as many characters of each text as its share of the batches, so that merges go where the model reads
    sample = [d for name, docs in texts.items() for d in docs[: int(len(docs) * min(1, 2 * MIX[name][0]))]]
    tokenizer.train_from_iterator(sample, trainer)
    tokenizer.save(str(path))
    return tokenizer


def encode(tokenizer, docs):
    """One uint16 array: each document behind a separator, which is also the begin token."""
    out = []
    for encoding in tokenizer.encode_batch(docs):
        out += [0, *encoding.ids]
    return np.array(out, np.uint16)


class Batches:
    """Random windows of the texts by MIX; its state is one generator, so that a resumed run sees the same batches."""

    def __init__(self, data, batch, window, seed):
        self.data, self.batch, self.window, self.rng = data, batch, window, np.random.default_rng(seed)

    def next(self, progress, device):
        shares = np.array([MIX[name][progress >= 0.7] for name in self.data])
        names = self.rng.choice(list(self.data), self.batch, p=shares / shares.sum())
        rows = []
        for name in names:
            at = self.rng.integers(0, len(self.data[name]) - self.window)
            rows.append(self.data[name][at : at + self.window + 1].astype(np.int64))
        both = torch.from_numpy(np.stack(rows)).to(device)
        return both[:, :-1], both[:, 1:]


@torch.no_grad()
def bits_per_byte(model, ids, n_bytes, window, device):
    """On held-out text, windows side by side, the first token of each unseen by none."""
    model.eval()
    nats, ids = 0.0, torch.from_numpy(ids.astype(np.int64))
    for at in range(0, len(ids) - 1, window):
        part = ids[at : at + window + 1][None].to(device)
        nats += F.cross_entropy(model(part[:, :-1])[0], part[0, 1:], reduction="sum").item()
    model.train()
    return nats / math.log(2) / n_bytes


@torch.no_grad()
def sample(model, tokenizer, window, device, text="Once upon a time", n=80):
    ids = torch.tensor([tokenizer.encode(SEPARATOR + text).ids], device=device)
    generator = torch.Generator(device).manual_seed(0)
    for _ in range(n):
        chances = F.softmax(model(ids[:, -window:])[0, -1] / 0.7, -1)
        ids = torch.cat((ids, torch.multinomial(chances, 1, generator=generator)[None]), 1)
    return tokenizer.decode(ids[0].tolist())


def save(value, path):
    """torch.save that never leaves half a file under the name."""
    temporary = path.with_suffix(".tmp")
    torch.save(value, temporary)
    os.replace(temporary, path)


def plot(log, path, x, y, title, unit=1):
    """Two columns of a log.csv as a picture."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        print(f"{path.name}: not drawn: matplotlib is not installed", file=sys.stderr)
        return
    rows = list(csv.DictReader(open(log)))
    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.plot([float(r[x]) / unit for r in rows], [float(r[y]) for r in rows], marker=".")
    axes.set(xlabel=("million " if unit == 1e6 else "") + x.replace("_", " "), ylabel=y.replace("_", " "), title=title)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


class Progress:
    """The log of a training, and what a killed run needs to go on; in a folder."""

    def __init__(self, path, columns, device="cpu"):
        self.folder, self.began, self.device = path, time.perf_counter(), device
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kept = self.folder / "resume.pt"
        if not self.kept.exists():
            (self.folder / "log.csv").write_text(",".join(columns) + "\n")

    def resume(self, model, pair):
        """Put a kept state back -> its dict, or None for a fresh start."""
        if not self.kept.exists():
            return None
        state = torch.load(self.kept, map_location=self.device, weights_only=False)
        model.load_state_dict(state["model"])
        for optimiser, saved in zip(pair, state["optimisers"]):
            optimiser.load_state_dict(saved)
        print(f"resuming at step {state['step']}", flush=True)
        return state

    def keep(self, model, pair, step, **more):
        state = {"model": model.state_dict(), "optimisers": [o.state_dict() for o in pair], "step": step}
        save(state | more, self.kept)

    def log(self, *row):
        with open(self.folder / "log.csv", "a") as f:
            f.write(",".join(map(str, row)) + "\n")

    def left(self, done, first, total):
        """Minutes, from the steps done since this run began."""
        return (time.perf_counter() - self.began) / max(done - first, 1) * (total - done) / 60


def parse_args():
    ap = argparse.ArgumentParser(description="Pretrain the bundled model.", allow_abbrev=False)
    ap.add_argument("--data", default=str(Path(__file__).resolve().parents[2] / "shared" / "corpus"))
    ap.add_argument("--out", default=str(Path(__file__).resolve().parent / "out"))
    for name, value in dict(dim=160, layers=6, heads=5, kv_heads=5, ffn=432, vocab=2048, ctx=512).items():
        ap.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    for name, value in dict(steps=16000, batch=8, window=512, seed=1, threads=0, every=500).items():
        ap.add_argument(f"--{name}", type=int, default=value)
    ap.add_argument("--lr", type=float, default=3e-3)
    ap.add_argument("--compile", action="store_true", help="torch.compile: faster after a minute")
    ap.add_argument("--smoke", action="store_true", help="all of it in a minute, on a made-up text")
    a = ap.parse_args()
    if a.smoke:
        a.dim, a.layers, a.heads, a.kv_heads, a.ffn, a.vocab, a.ctx = 64, 2, 4, 2, 160, 320, 128
        a.steps, a.batch, a.window, a.every = 60, 8, 64, 30
    return a


def main():
    a = parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    out = Path(a.out)
    progress = Progress(out, ("step", "tokens", "seconds", "bits_per_byte"), device)
    torch.manual_seed(a.seed)
    texts = made_up_text() if a.smoke else read_corpus(a.data)
    held, size = [], 0
    while size < (2000 if a.smoke else HELD_OUT):
        held.append(texts["tinystories"].pop())
        size += len(held[-1])
    if (out / "tokenizer.json").exists():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    else:
        tokenizer = train_tokenizer(texts, a.vocab, out / "tokenizer.json")
    data = {name: encode(tokenizer, docs) for name, docs in texts.items()}
    held_ids, held_bytes = encode(tokenizer, held), sum(len(d.encode()) for d in held)
    print({name: f"{len(ids) / 1e6:.2f}M tokens" for name, ids in data.items()}, flush=True)

    shape = dict(
        dim=a.dim, n_layers=a.layers, n_heads=a.heads, n_kv_heads=a.kv_heads, vocab_size=tokenizer.get_vocab_size()
    )
    shape |= dict(hidden_dim=a.ffn, max_seq_len=a.ctx, norm_eps=1e-5, rope_theta=10000.0)
    model = Llama(shape).to(device)
    count = sum(p.numel() for p in model.parameters())
    pair = optimisers(model, a.lr)
    batches, first = Batches(data, a.batch, a.window, a.seed), 0
    if state := progress.resume(model, pair):
        batches.rng.bit_generator.state, first = state["batches"], state["step"]
    step_model = torch.compile(model) if a.compile else model
    print(f"{count:,} parameters on {device}, {torch.get_num_threads()} threads", flush=True)

    def checkpoint(step):
        note = f"pretrain.py seed {a.seed}, {step} of {a.steps} steps of {a.batch} x {a.window} tokens"
        weights = {k: v.detach().cpu().float() for k, v in model.state_dict().items()}
        text = (out / "tokenizer.json").read_text()
        save({"model_args": shape, "model": weights, "tokenizer": text, "note": note}, out / "ckpt.pt")
        progress.keep(model, pair, step, batches=batches.rng.bit_generator.state)

    began = progress.began = time.perf_counter()
    for step in range(first, a.steps):
        warm, decay = min(1, (step + 1) / 100), min(1, (a.steps - step) / (0.4 * a.steps))
        for group in (group for optimiser in pair for group in optimiser.param_groups):
            group["lr"] = a.lr * warm * max(decay, 0.01)  # constant to 60 %, then down in a line
        x, y = batches.next(step / a.steps, device)
        loss = F.cross_entropy(step_model(x).flatten(0, 1), y.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in pair:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if (step + 1) % 20 == 0:
            took = (time.perf_counter() - began) / (step + 1 - first)
            rate, left = a.batch * a.window / took, progress.left(step + 1, first, a.steps)
            print(f"step {step + 1}/{a.steps} loss {loss.item():.3f} {rate:.0f} tok/s, {left:.0f} min left", flush=True)
        if (step + 1) % a.every == 0 or step + 1 == a.steps:
            bpb = bits_per_byte(model, held_ids, held_bytes, a.window, device)
            spent, tokens = time.perf_counter() - began, (step + 1) * a.batch * a.window
            progress.log(step + 1, tokens, f"{spent:.0f}", f"{bpb:.4f}")
            print(f"step {step + 1}: {bpb:.4f} bits per byte held out", flush=True)
            print(sample(model, tokenizer, a.window, device) + "\n", flush=True)
            checkpoint(step + 1)
    plot(out / "log.csv", out / "loss.png", "tokens", "bits_per_byte", "Pretraining: held-out TinyStories", 1e6)


if __name__ == "__main__":
    main()
