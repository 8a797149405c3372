"""
Fine-tune the base model into an assistant that tells the story it was asked for.

    python train/finetune.py --base train/out/ckpt.pt --data DIR --out train/chat

Conversations are made by a program from the same stories (prompts.py) and from exchanges.txt; the loss is on the assistant's
words alone. A fifth of each batch is plain text as in pretraining, so that completing does not suffer. Interrupted, the same
command goes on. Writes --out/ckpt.pt with a chat template, log.csv and loss.png. `--smoke` does all of it in a minute on a
made-up text. Conversation format, each mark one token:

    <|endoftext|><|user|>Tell me a story about a fox.<|end|><|assistant|>Once upon a time …<|end|>
"""

import argparse
import random
import sys
import time
from pathlib import Path

import torch
from pretrain import HELD_OUT, Batches, Llama, Progress, encode, made_up_text, optimisers, plot, read_corpus, sample, save
from prompts import fresh, notes, request
from torch.nn import functional as F

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system message') }}{% endif %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] | trim + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
def batch_of(conversations, tokenizer, size, limit):
    """-> ids and targets int64 [size, longest], padded; conversations longer than limit are not used."""
    rows = []
    while len(rows) < size:
        x, y = to_ids(conversations.next(), tokenizer)
        if len(x) <= limit:
            rows.append((x, y))
    width = -(-max(len(x) for x, _ in rows) // 64) * 64
    fill = lambda row, value: row + [value] * (width - len(row))
    return torch.tensor([fill(x, 0) for x, _ in rows]), torch.tensor([fill(y, -100) for _, y in rows])


@torch.no_grad()
def loss_on(model, batches):
    model.eval()
    losses = [F.cross_entropy(model(x).flatten(0, 1), y.flatten()).item() for x, y in batches]
    model.train()
    return sum(losses) / len(losses)


def load(path):
    """A checkpoint of pretrain.py or of this program -> (model, tokenizer, the whole dict)."""
    from tokenizers import Tokenizer

    value = torch.load(path, map_location="cpu", weights_only=True)
    model = Llama(value["model_args"])
    model.load_state_dict(value["model"])
    return model, Tokenizer.from_str(value["tokenizer"]), value


def main():
    ap = argparse.ArgumentParser(description="Fine-tune the base model into an assistant.", allow_abbrev=False)
    here = Path(__file__).resolve()
    ap.add_argument("--base", default=str(here.parent / "out" / "ckpt.pt"))
    ap.add_argument("--data", default=str(here.parents[2] / "shared" / "corpus"))
    ap.add_argument("--out", default=str(here.parent / "chat"))
    for name, value in dict(steps=1500, batch=16, every=100, seed=1, threads=0).items():
        ap.add_argument(f"--{name}", type=int, default=value)
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--smoke", action="store_true", help="all of it in a minute, on a made-up text")
    a = ap.parse_args()
    if not Path(a.base).exists():
        sys.exit(f"finetune.py: error: {a.base}: not found; expected a base model; run train/pretrain.py, or give --base")
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    model, tokenizer, value = load(a.base)
    texts = made_up_text() if a.smoke else read_corpus(a.data)
    held, size = [], 0
    while size < (2000 if a.smoke else HELD_OUT):  # the same stories that pretraining held out
        held.append(texts["tinystories"].pop())
        size += len(held[-1])
    a.steps, a.every = (20, 10) if a.smoke else (a.steps, a.every)
    conversations = Conversations(texts["tinystories"] + texts["storybooks"], a.seed)
    limit = value["model_args"]["max_seq_len"]
    unseen = Conversations(held, 2)
    tests = [batch_of(unseen, tokenizer, 16, limit) for _ in range(8)]
    plain = Batches({k: encode(tokenizer, docs) for k, docs in texts.items()}, a.batch // 4, min(256, limit), a.seed)
    pair, out, first = optimisers(model, a.lr), Path(a.out), 0
    progress = Progress(out, ("step", "seconds", "nats_a_token"))
    if state := progress.resume(model, pair):
        first, plain.rng.bit_generator.state = state["step"], state["plain"]
        conversations.rng.setstate(state["conversations"])
    else:
        progress.log(0, 0, f"{loss_on(model, tests):.4f}")
    ask = "<|user|>Tell me a story about a fox and a lost shoe.<|end|><|assistant|>"
    progress.began = time.perf_counter()
    for step in range(first, a.steps):
        for group in (group for optimiser in pair for group in optimiser.param_groups):
            group["lr"] = a.lr * min(1, (step + 1) / 50) * (1 - step / a.steps)
        for x, y in (batch_of(conversations, tokenizer, a.batch, limit), plain.next(1.0, "cpu")):
            part = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
            (part * (0.8 if len(x) == a.batch else 0.2)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in pair:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if (step + 1) % a.every == 0 or step + 1 == a.steps:
            loss, left = loss_on(model, tests), progress.left(step + 1, first, a.steps)
            print(f"step {step + 1}/{a.steps}: {loss:.4f} nats a token of unseen answers, {left:.0f} min left", flush=True)
            print(sample(model, tokenizer, limit, "cpu", ask), flush=True)
            progress.log(step + 1, f"{time.perf_counter() - progress.began:.0f}", f"{loss:.4f}")
            states = {"plain": plain.rng.bit_generator.state, "conversations": conversations.rng.getstate()}
            progress.keep(model, pair, step + 1, **states)
    plot(out / "log.csv", out / "loss.png", "step", "nats_a_token", "Fine-tuning: answers to unseen requests")
    weights = {k: v.detach().float() for k, v in model.state_dict().items()}
    note = f"{value['note']}; finetune.py seed {a.seed}, {a.steps} steps of {a.batch} conversations"
    save({**value, "model": weights, "note": note, "chat_template": TEMPLATE}, out / "ckpt.pt")
    print("a request that no story answered: " + fresh(random.Random(a.seed), set())[0])


if __name__ == "__main__":
    main()
