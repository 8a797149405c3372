"""
Pretrain the bundled model: a small Llama on English stories.

    python train/pretrain.py --data DIR --out train/out --steps 3600
    torchrun --nproc-per-node 2 train/pretrain.py …         (the same on two processes)

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
import re
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from conversations import Conversations, window_of
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import distributed as dist
from torch import nn
from torch.nn import functional as F

SEPARATOR = "<|endoftext|>"
MARKS = [f"<|{name}|>" for name in "user assistant end system tool result think".split()]  # for what comes after pretraining
# share of each text in a batch while the rate is constant and while it falls: simplest English last
MIX = {
    "tinystories": (0.30, 0.75),
    "fairytales": (0.15, 0.08),
    "storybooks": (0.10, 0.09),
    "childrens_books": (0.45, 0.08),
}
TALK = (0.3, 0.5)  # share of the windows of short stories that is conversations, early and late
FALLS = 0.6  # of the steps, until the learning rate falls to zero in a line
GIRLS, BOYS = (
    "Lily Sue Mia Lucy Anna Sara Sally Jane Sarah Amy Molly Daisy Lila Jill Mary Emma Jen Bella Jenny Grace Lisa Ella".split(),
    "Tim Tom Ben Sam Max Jack Timmy Bob John Joe Tommy Billy Jimmy Jake Jim Andy Bobby Benny Leo Fred Peter George".split(),
)
NAME = re.compile(r"\b(?:" + "|".join(GIRLS + BOYS) + r")\b")
COPIES = 4  # of each of those stories, three of them with other names
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
        split = lambda y: y.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        q, k, v = split(F.linear(x, self.halves(self.wq))), split(F.linear(x, self.halves(self.wk))), split(self.wv(x))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (y.repeat_interleave(self.heads // self.kv_heads, dim=1) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(y.transpose(1, 2).flatten(2))

    def halves(self, linear):
        """Its weight with the even rows of each head before the odd ones: llama2.c rotates neighbouring pairs, and two halves
        far apart do it in long vectors."""
        return linear.weight.unflatten(0, (-1, self.head_dim // 2, 2)).transpose(1, 2).flatten(0, 2)


def rotate(x, cos, sin):
    """Rotary embedding (Su et al. 2021)."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1).type_as(x)


class FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.w1 = nn.Linear(c["dim"], c["hidden_dim"], bias=False)
        self.w2 = nn.Linear(c["hidden_dim"], c["dim"], bias=False)
        self.w3 = nn.Linear(c["dim"], c["hidden_dim"], bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Layer(nn.Module):
    def __init__(self, c, dropout):
        super().__init__()
        self.attention, self.feed_forward = Attention(c), FeedForward(c)
        self.attention_norm, self.ffn_norm = Norm(c["dim"], c["norm_eps"]), Norm(c["dim"], c["norm_eps"])
        self.drop = nn.Dropout(dropout)

    def forward(self, x, cos, sin):
        x = x + self.drop(self.attention(self.attention_norm(x), cos, sin))
        return x + self.drop(self.feed_forward(self.ffn_norm(x)))


class Llama(nn.Module):
    """Parameter names are those of a llama2.c checkpoint, so that one reader serves both."""

    def __init__(self, c, dropout=0.0):
        super().__init__()
        self.tok_embeddings = nn.Embedding(c["vocab_size"], c["dim"])
        self.layers = nn.ModuleList(Layer(c, dropout) for _ in range(c["n_layers"]))
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
    learning rate serves (Liu et al. 2025). Matrices of one shape go together."""

    def __init__(self, params, lr, weight_decay, dtype, momentum=0.95):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))
        self.dtype = dtype

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
                x = torch.stack([update for _, _, update in rows]).to(self.dtype)
                x /= x.norm(dim=(1, 2), keepdim=True) + 1e-7
                for _ in range(5):
                    a = x @ x.mT
                    x = 3.4445 * x + (2.0315 * a @ a - 4.7750 * a) @ x
                for (p, flat, _), update in zip(rows, x):
                    p.mul_(1 - lr * group["weight_decay"])
                    p.add_((update if flat else update.T).type_as(p), alpha=-0.2 * lr * math.sqrt(long))


def optimisers(model, lr, weight_decay=0.1, bf16=False):
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    inner = [p for name, p in model.named_parameters() if name.startswith("layers") and p.ndim == 2]
    rest = [p for name, p in model.named_parameters() if not (name.startswith("layers") and p.ndim == 2)]
    muon = Muon(inner, lr, weight_decay, torch.bfloat16 if bf16 else torch.float32)
    return muon, torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)


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
            sys.exit(f"pretrain.py: error: {path}: not found; expected one of {', '.join(MIX)}; give the folder with --data")
        raw = lzma.open(path, "rt", encoding="utf-8").read()
        texts[name] = [d.strip() for d in raw.split(SEPARATOR) if d.strip()]
    return texts


def corpus(folder, smoke=False):
    """-> {name: documents} to train on, and the documents at the end of the stories that no training sees."""
    texts, held, size = made_up_text() if smoke else read_corpus(folder), [], 2000 if smoke else HELD_OUT
    while sum(map(len, held)) < size:
        held.append(texts["tinystories"].pop())
    return texts, held


def renamed(stories, copies, seed):
    """Each story so many times, behind the first with other names, drawn as often as the stories have them: little text,
    read often, is learned by heart later when nothing in it says at once which story it is."""
    rng, seen = random.Random(seed), Counter(word for s in stories for word in NAME.findall(s))
    of = {name: names for names in (GIRLS, BOYS) for name in names if name in seen}
    out = list(stories)
    for story in stories * (copies - 1):
        new = {}
        for name in dict.fromkeys(NAME.findall(story)):
            free = [n for n in of.get(name, ()) if n in seen and n not in new.values()]
            if free:
                new[name] = rng.choices(free, [seen[n] for n in free])[0]
        out.append(NAME.sub(lambda m, new=new: new.get(m[0], m[0]), story))
    return out


def train_tokenizer(texts, size, path):
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
    """Windows of the texts by MIX, and of conversations; its state is one generator, so that a resumed run sees the same."""

    def __init__(self, data, batch, window, seed, talk=None):
        self.data, self.batch, self.window, self.rng, self.talk = data, batch, window, np.random.default_rng(seed), talk
        self.starts = {name: np.flatnonzero(ids == 0) for name, ids in data.items()}

    def next(self, progress, rank=0, ranks=1):
        """-> ids, targets int64 [batch / ranks, window]. All ranks draw alike, and each makes its part of the rows. Until the
        rate falls, windows are half as long and twice as many."""
        late = progress >= FALLS
        rows, window, size = [], self.window // (2 - late), self.batch * (2 - late)
        shares = np.array([MIX[name][late] for name in self.data])
        names = self.rng.choice(list(self.data), size, p=shares / shares.sum())
        drawn = self.rng.random(size), self.rng.random(size), self.rng.integers(2**31, size=size)
        for name, where, dice, seed in zip(names, *drawn):
            ids = self.data[name]
            at = int(where * (len(ids) - window))
            start = self.starts[name][np.searchsorted(self.starts[name], at, "right") - 1]
            if at - start < window // 2:  # near enough to begin where the story does
                at = min(start, len(ids) - window - 1)
            if len(rows) % ranks != rank:
                rows.append(None)
            elif self.talk and name in ("tinystories", "storybooks") and dice < TALK[late]:
                ids, targets = window_of(*self.talk, int(seed), window)
                rows.append((ids, [t if t >= 0 else i for t, i in zip(targets, [*ids[1:], 0])]))
            else:
                rows.append((ids[at : at + window].astype(np.int64), ids[at + 1 : at + window + 1].astype(np.int64)))
        x, y = zip(*rows[rank::ranks])
        return torch.from_numpy(np.array(x)), torch.from_numpy(np.array(y))


class Trainer:
    """A model, its optimisers and one step of them; one of several processes where torchrun started several."""

    def __init__(self, model, lr, weight_decay=0.1, bf16=False, compiled=False):
        self.model, self.lr, self.pair = model, lr, optimisers(model, lr, weight_decay, bf16)
        self.device = next(model.parameters()).device
        self.rank, self.ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)

        def loss_of(x, y):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                logits = model(x)
            return F.cross_entropy(logits.float().flatten(0, 1), y.flatten())

        self.loss_of = torch.compile(loss_of, dynamic=False) if compiled else loss_of

    def step(self, x, y, rate, seed):
        torch.manual_seed(seed + self.rank * 1_000_003)  # a resumed run drops the same
        loss = self.loss_of(x.to(self.device), y.to(self.device))
        loss.backward()
        self.update(rate)
        return loss.item()

    def update(self, rate):
        """Move by the gradients that the parameters have. rate: share of the learning rate."""
        if self.ranks > 1:
            flat = torch.cat([p.grad.flatten() for p in self.model.parameters()])
            dist.all_reduce(flat)
            for p, part in zip(self.model.parameters(), flat.split([p.numel() for p in self.model.parameters()])):
                p.grad.copy_(part.view_as(p) / self.ranks)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.pair:
            for group in optimiser.param_groups:
                group["lr"] = self.lr * rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)


def workers():
    """Join the other processes where torchrun started several -> this one's number."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        dist.init_process_group("gloo")
        torch.set_num_threads(1)
    return dist.get_rank() if dist.is_initialized() else 0


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
    model.eval()
    ids = torch.tensor([tokenizer.encode(SEPARATOR + text).ids], device=device)
    generator = torch.Generator(device).manual_seed(0)
    for _ in range(n):
        chances = F.softmax(model(ids[:, -window:])[0, -1] / 0.7, -1)
        ids = torch.cat((ids, torch.multinomial(chances, 1, generator=generator)[None]), 1)
    model.train()
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
    for name, value in dict(dim=192, layers=6, heads=3, kv_heads=3, ffn=768, vocab=4096, ctx=512).items():
        ap.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    for name, value in dict(steps=3600, batch=16, window=512, seed=1, threads=0, every=250).items():
        ap.add_argument(f"--{name}", type=int, default=value)
    ap.add_argument("--lr", type=float, default=5e-3)
    ap.add_argument("--weight-decay", type=float, default=0.5)
    ap.add_argument("--dropout", type=float, default=0.2)
    ap.add_argument("--compile", action="store_true", help="torch.compile: faster after a minute")
    ap.add_argument("--bf16", action="store_true", help="multiply in bfloat16: for a GPU, or a processor with AMX")
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
    rank = workers()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    out = Path(a.out)
    progress = Progress(out, ("step", "tokens", "seconds", "bits_per_byte"), device)
    torch.manual_seed(a.seed)
    texts, held = corpus(a.data, a.smoke)
    if rank == 0 and not (out / "tokenizer.json").exists():
        train_tokenizer(texts, a.vocab, out / "tokenizer.json")
    if dist.is_initialized():
        dist.barrier()
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    texts["tinystories"] = renamed(texts["tinystories"], COPIES, a.seed)
    data = {name: encode(tokenizer, docs) for name, docs in texts.items()}
    held_ids, held_bytes = encode(tokenizer, held), sum(len(d.encode()) for d in held)
    print({name: f"{len(ids) / 1e6:.2f}M tokens" for name, ids in data.items()}, flush=True)

    shape = dict(dim=a.dim, n_layers=a.layers, n_heads=a.heads, n_kv_heads=a.kv_heads, vocab_size=tokenizer.get_vocab_size())
    shape |= dict(hidden_dim=a.ffn, max_seq_len=a.ctx, norm_eps=1e-5, rope_theta=10000.0)
    model = Llama(shape, a.dropout).to(device)
    count = sum(p.numel() for p in model.parameters())
    trainer = Trainer(model, a.lr, a.weight_decay, a.bf16, a.compile)
    talk = (Conversations(texts["tinystories"] + texts["storybooks"], a.seed), tokenizer)
    batches, first = Batches(data, a.batch, a.window, a.seed, talk), 0
    if state := progress.resume(model, trainer.pair):
        batches.rng.bit_generator.state, first = state["batches"], state["step"]
    print(f"{count:,} parameters on {device}, {trainer.ranks} x {torch.get_num_threads()} threads", flush=True)

    def checkpoint(step):
        note = f"pretrain.py seed {a.seed}, {step} of {a.steps} steps of {a.batch} x {a.window} tokens"
        weights = {k: v.detach().cpu().float() for k, v in model.state_dict().items()}
        text = (out / "tokenizer.json").read_text()
        save({"model_args": shape, "model": weights, "tokenizer": text, "note": note}, out / "ckpt.pt")
        progress.keep(model, trainer.pair, step, batches=batches.rng.bit_generator.state)

    began = progress.began = time.perf_counter()
    for step in range(first, a.steps):
        warm, decay = min(1, (step + 1) / 100), min(1, (1 - step / a.steps) / (1 - FALLS))
        x, y = batches.next(step / a.steps, trainer.rank, trainer.ranks)
        loss = trainer.step(x, y, warm * max(decay, 0.01), a.seed + step)
        if rank:
            continue
        if (step + 1) % 20 == 0:
            took = (time.perf_counter() - began) / (step + 1 - first)
            rate, left = a.batch * a.window / took, progress.left(step + 1, first, a.steps)
            print(f"step {step + 1}/{a.steps} loss {loss:.3f} {rate:.0f} tok/s, {left:.0f} min left", flush=True)
        if (step + 1) % a.every == 0 or step + 1 == a.steps:
            bpb = bits_per_byte(model, held_ids, held_bytes, a.window, device)
            spent, tokens = time.perf_counter() - began, (step + 1) * a.batch * a.window
            progress.log(step + 1, tokens, f"{spent:.0f}", f"{bpb:.4f}")
            print(f"step {step + 1}: {bpb:.4f} bits per byte held out", flush=True)
            print(sample(model, tokenizer, a.window, device) + "\n", flush=True)
            checkpoint(step + 1)
    if rank == 0:
        plot(out / "log.csv", out / "loss.png", "tokens", "bits_per_byte", "Pretraining: held-out TinyStories", 1e6)


if __name__ == "__main__":
    main()
