"""
Fine-tune the base model into an assistant that tells the story it was asked for.

    python train/finetune.py --base train/out/ckpt.pt --data DIR --out train/chat

Conversations as pretraining has them (conversations.py), but the loss is on the assistant's words alone. A fifth of each batch
is plain text, so that completing does not suffer. Interrupted, the same command goes on. Writes --out/ckpt.pt with a chat
template, log.csv and loss.png. `--smoke` does all of it in a minute on a made-up text.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from conversations import Conversations, window_of
from pretrain import (
    COPIES,
    Batches,
    Llama,
    Progress,
    Trainer,
    corpus,
    encode,
    plot,
    renamed,
    sample,
    save,
    workers,
)
from tokenizers import Tokenizer
from torch.nn import functional as F

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system message') }}{% endif %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] | trim + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def batch_of(conversations, plain, tokenizer, seed, size, window, rank=0, ranks=1):
    """-> ids and targets int64 [5/4 size / ranks, window]: conversations, and a fifth of plain text."""
    rows = [window_of(conversations, tokenizer, f"{seed} {row}", window) for row in range(rank, size, ranks)]
    x, y = zip(*rows)
    text, after = plain.next(1.0, rank, ranks)
    return torch.cat((torch.tensor(x), text)), torch.cat((torch.tensor(y), after))


@torch.no_grad()
def loss_on(model, batches, bf16):
    model.eval()
    losses = []
    for x, y in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses.append(F.cross_entropy(model(x).float().flatten(0, 1), y.flatten()).item())
    model.train()
    return sum(losses) / len(losses)


def load(path, dropout=0.0):
    """A checkpoint of pretrain.py or of this program -> (model, tokenizer, the whole dict)."""
    value = torch.load(path, map_location="cpu", weights_only=True)
    model = Llama(value["model_args"], dropout)
    model.load_state_dict(value["model"])
    return model, Tokenizer.from_str(value["tokenizer"]), value


def main():
    ap = argparse.ArgumentParser(description="Fine-tune the base model into an assistant.", allow_abbrev=False)
    here = Path(__file__).resolve()
    ap.add_argument("--base", default=str(here.parent / "out" / "ckpt.pt"))
    ap.add_argument("--data", default=str(here.parents[2] / "shared" / "corpus"))
    ap.add_argument("--out", default=str(here.parent / "chat"))
    for name, value in dict(steps=130, batch=16, every=50, seed=1, threads=0).items():
        ap.add_argument(f"--{name}", type=int, default=value)
    ap.add_argument("--lr", type=float, default=3e-4)
    ap.add_argument("--weight-decay", type=float, default=0.5)
    ap.add_argument("--dropout", type=float, default=0.2)
    ap.add_argument("--compile", action="store_true", help="torch.compile: faster after a minute")
    ap.add_argument("--bf16", action="store_true", help="multiply in bfloat16: for a processor with AMX")
    ap.add_argument("--smoke", action="store_true", help="all of it in a minute, on a made-up text")
    a = ap.parse_args()
    if not Path(a.base).exists():
        sys.exit(f"finetune.py: error: {a.base}: not found; expected a base model; run train/pretrain.py, or give --base")
    if a.threads:
        torch.set_num_threads(a.threads)
    rank = workers()
    torch.manual_seed(a.seed)
    model, tokenizer, value = load(a.base, a.dropout)
    texts, held = corpus(a.data, a.smoke)
    texts["tinystories"] = renamed(texts["tinystories"], COPIES, a.seed)
    a.steps, a.every = (20, 10) if a.smoke else (a.steps, a.every)
    conversations = Conversations(texts["tinystories"] + texts["storybooks"], a.seed)
    limit = value["model_args"]["max_seq_len"]
    unseen = Conversations(held, 2)
    tests = [[torch.tensor([row]) for row in window_of(unseen, tokenizer, f"test {n}", limit)] for n in range(32)]
    plain = Batches({k: encode(tokenizer, docs) for k, docs in texts.items()}, max(1, a.batch // 4), limit, a.seed)
    trainer, out, first = Trainer(model, a.lr, a.weight_decay, a.bf16, a.compile), Path(a.out), 0
    progress = Progress(out, ("step", "seconds", "nats_a_token"))
    if state := progress.resume(model, trainer.pair):
        first, plain.rng.bit_generator.state = state["step"], state["plain"]
    elif rank == 0:
        progress.log(0, 0, f"{loss_on(model, tests, a.bf16):.4f}")
    ask = "<|user|>Tell me a story about a fox and a lost shoe.<|end|><|assistant|>"
    progress.began = time.perf_counter()
    for step in range(first, a.steps):
        seed = f"{a.seed} {step}"
        x, y = batch_of(conversations, plain, tokenizer, seed, a.batch, limit, trainer.rank, trainer.ranks)
        trainer.step(x, y, min(1, (step + 1) / 20) * (1 - step / a.steps), a.seed + step)
        if rank == 0 and ((step + 1) % a.every == 0 or step + 1 == a.steps):
            loss, left = loss_on(model, tests, a.bf16), progress.left(step + 1, first, a.steps)
            print(f"step {step + 1}/{a.steps}: {loss:.4f} nats a token of unseen answers, {left:.0f} min left", flush=True)
            print(sample(model, tokenizer, limit, "cpu", ask), flush=True)
            progress.log(step + 1, f"{time.perf_counter() - progress.began:.0f}", f"{loss:.4f}")
            progress.keep(model, trainer.pair, step + 1, plain=plain.rng.bit_generator.state)
    if rank:
        return
    plot(out / "log.csv", out / "loss.png", "step", "nats_a_token", "Fine-tuning: answers to unseen requests")
    weights = {k: v.detach().float() for k, v in model.state_dict().items()}
    note = f"{value['note']}; finetune.py seed {a.seed}, {a.steps} steps of {a.batch} windows of conversations"
    save({**value, "model": weights, "note": note, "chat_template": TEMPLATE}, out / "ckpt.pt")


if __name__ == "__main__":
    main()
