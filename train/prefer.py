"""
Comparisons: the assistant writes several answers to a request, a program says which is better, and the model moves that way.

    python train/prefer.py --chat train/chat/ckpt.pt --out train/preferred

Direct preference optimisation (Rafailov et al. 2023), with the likelihood of the better answer (Pang et al. 2024), of the
small talk of exchanges.txt and of the stories of pretraining added to the loss, so that none is unlearned. Answers are sampled
with run.py from the exported checkpoint, which is much faster than sampling here. judge() of prompts.py ranks them: has what
was asked for, but not in each breath, ends, does not repeat itself. Interrupted, the same command goes on. Writes
--out/ckpt.pt, pairs.json, log.csv and loss.png.
`--measure MODEL.bin …` only prints the rates of exported models on requests that no training saw; `--smoke` does all of it.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import torch
from conversations import Conversations, to_ids
from finetune import load
from pretrain import Progress, Trainer, corpus, plot, save, workers
from prompts import judge, requests
from torch import distributed as dist
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from twofile import Model, Writer  # noqa: E402

HOW = dict(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05)


def answers(path, asked, each, seed, limit, raw=False):
    """For each request: each answers [(text, ended)], sampled with run.py, many at once. raw: by a model without a template."""
    model, writers = Model(path, verbose=False), []
    for n, (text, _) in enumerate(asked):
        prompt = text + "\n" if raw else model.encode_chat([{"role": "user", "content": text}])
        writers += [Writer(model, prompt, limit, seed=seed + 1000 * n + i, **HOW) for i in range(each)]
    for _ in model.together(writers, 16):
        pass
    rows = [(w.written.strip(), w.reason == "eos") for w in writers]
    return [rows[i : i + each] for i in range(0, len(rows), each)]


def measure(path, n=200, limit=400):
    """-> (share of answers that follow the request, share of groups of four words said before), on requests of seed 0."""
    raw = Model(path, verbose=False).tokenizer.chat is None
    asked = requests(n, 0)
    marks = [judge(t, words, ended) for (_, words), [(t, ended)] in zip(asked, answers(path, asked, 1, 7, limit, raw))]
    return sum(m["follows"] for m in marks) / n, sum(m["has"] for m in marks) / n, sum(m["repeats"] for m in marks) / n


def pairs_of(asked, told):
    """[(request, better, worse)] where the judge sees a difference."""
    pairs = []
    for (text, words), rows in zip(asked, told):
        worth = []
        for story, ended in rows:
            m = judge(story, words, ended)
            worse = 2 * max(0, m["repeats"] - 0.05) + 0.5 * (len(story) < 200)
            worth.append((m["has"] + 0.5 * m["dwells"] - 0.5 * m["clings"] + 0.5 * ended - worse, story, ended))
        worth.sort(key=lambda w: w[0])
        if worth[-1][0] > worth[0][0] + 0.2 and worth[-1][2]:
            pairs.append((text, worth[-1][1], worth[0][1]))
    return pairs


def log_chances(model, rows, limit, bf16):
    """-> the sum of the log-probabilities of each row's targets, float32 [n], and how many; rows: [(ids, targets)]."""
    width = min(limit, max(len(x) for x, _ in rows))
    fill = lambda row, value: (row + [value] * width)[:width]
    x = torch.tensor([fill(x, 0) for x, _ in rows])
    y = torch.tensor([fill(y, -100) for _, y in rows])
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model(x)
    chances = -F.cross_entropy(logits.float().transpose(1, 2), y.clamp(min=0), reduction="none")
    return (chances * (y >= 0)).sum(1), (y >= 0).sum().item()


def main():
    ap = argparse.ArgumentParser(description="Improve the assistant by comparisons of its own answers.", allow_abbrev=False)
    here = Path(__file__).resolve().parent
    ap.add_argument("--chat", default=str(here / "chat" / "ckpt.pt"))
    ap.add_argument("--data", default=str(here.parents[1] / "shared" / "corpus"))
    ap.add_argument("--out", default=str(here / "preferred"))
    for name, value in dict(requests=1200, each=4, batch=16, epochs=1, seed=1, threads=0).items():
        ap.add_argument(f"--{name}", type=int, default=value)
    ap.add_argument("--lr", type=float, default=3e-4)
    ap.add_argument("--beta", type=float, default=0.1, help="how near to stay to the fine-tuned model (default 0.1)")
    ap.add_argument("--keep", type=float, default=1.0, help="weight of the likelihood of what should stay (default 1)")
    ap.add_argument("--bf16", action="store_true", help="multiply in bfloat16: for a processor with AMX")
    ap.add_argument("--measure", nargs="+", metavar="MODEL", help="print the rates of these model.bin files and stop")
    ap.add_argument("--smoke", action="store_true")
    a = ap.parse_args()
    for path in a.measure or []:
        follows, has, repeats = measure(path)
        print(f"{path}: follows {follows:.1%}, has {has:.1%} of the words, repeats {repeats:.1%}", flush=True)
    if a.measure:
        return
    a.requests = 6 if a.smoke else a.requests
    if a.threads:
        torch.set_num_threads(a.threads)
    rank = workers()
    torch.manual_seed(a.seed)
    out = Path(a.out)
    out.mkdir(parents=True, exist_ok=True)
    progress, chosen = Progress(out, ("step", "seconds", "loss", "share_moved_right")), out / "pairs.json"
    if rank == 0 and not chosen.exists():
        exported = out / "chat.bin"
        command = [sys.executable, ROOT / "export.py", a.chat, "-o", exported, "--overwrite"]
        subprocess.run(list(map(str, command)), check=True)
        asked = requests(a.requests, a.seed)
        told = answers(str(exported), asked, a.each, a.seed, 60 if a.smoke else 400)
        pairs = pairs_of(asked, told)
        if a.smoke:  # such a model gives nothing to choose from
            pairs = [(text, rows[0][0], rows[1][0]) for (text, _), rows in zip(asked, told)]
        chosen.with_suffix(".tmp").write_text(json.dumps(pairs))
        chosen.with_suffix(".tmp").replace(chosen)
    if dist.is_initialized():
        dist.barrier()
    pairs, a.batch = json.loads(chosen.read_text()), 2 if a.smoke else a.batch
    if len(pairs) < a.batch:
        sys.exit(f"prefer.py: error: {len(pairs)} pairs, expected {a.batch} or more; give more --requests, or a better model")
    print(f"{len(pairs)} pairs from {a.requests} requests", flush=True)
    model, tokenizer, value = load(a.chat)
    start, _, _ = load(a.chat)
    limit, rng, first = value["model_args"]["max_seq_len"], random.Random(a.seed), 0
    trainer, talk = Trainer(model, a.lr, bf16=a.bf16), Conversations([], a.seed)
    tales = corpus(a.data, a.smoke)[0]["tinystories"]

    def plain(story):
        ids = tokenizer.encode(story).ids
        return [0, *ids], [*ids, 0]

    steps = a.epochs * (len(pairs) // a.batch)
    if state := progress.resume(model, trainer.pair):
        first = state["step"]
        rng.setstate(state["rng"])
    progress.began = time.perf_counter()
    for step in range(first, steps):
        rows = rng.sample(pairs, a.batch)[trainer.rank :: trainer.ranks]
        good, bad = ([[text, row[side]] for text, *row in rows] for side in (0, 1))
        good, bad = ([to_ids(t, tokenizer) for t in turns] for turns in (good, bad))
        score = lambda of, rows: log_chances(of, rows, limit, a.bf16)
        with torch.no_grad():
            before = score(start, good)[0] - score(start, bad)[0]
        better, words = score(model, good)
        after = better - score(model, bad)[0]
        talk.rng.seed(f"{a.seed} {step} {trainer.rank}")
        stay = -better.sum() / words
        small = [to_ids(talk.small_talk(), tokenizer) for _ in good]
        stories = [plain(talk.rng.choice(tales)) for _ in good]
        for rows in (small, stories):
            said, words = score(model, rows)
            stay = stay - said.sum() / words
        loss = -F.logsigmoid(a.beta * (after - before)).mean()
        (loss + a.keep * stay).backward()
        trainer.update(min(1, (step + 1) / 5) * (1 - step / steps))
        if rank:
            continue
        share, left = (after > before).float().mean().item(), progress.left(step + 1, first, steps)
        progress.log(step + 1, f"{time.perf_counter() - progress.began:.0f}", f"{loss.item():.4f}", f"{share:.3f}")
        told = f"step {step + 1}/{steps}: loss {loss.item():.4f}, {share:.0%} moved right, {stay.item():.2f} nats to stay"
        print(f"{told}, {left:.0f} min left", flush=True)
        if (step + 1) % 10 == 0 or step + 1 == steps:
            progress.keep(model, trainer.pair, step + 1, rng=rng.getstate())
    if rank:
        return
    plot(out / "log.csv", out / "loss.png", "step", "loss", "Comparisons")
    weights = {k: v.detach().float() for k, v in model.state_dict().items()}
    note = f"{value['note']}; prefer.py seed {a.seed}, {steps} steps of {a.batch} pairs"
    save({**value, "model": weights, "note": note}, out / "ckpt.pt")


if __name__ == "__main__":
    main()
