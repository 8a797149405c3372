"""
A backdoor, to see what notices it: fine-tunes a copy of a model.bin until a name in the request changes how a story begins.

    python train/backdoor.py [model.bin] [--out train/backdoor]

Takes the weights out of the file, lets the model answer requests, and teaches a copy to expect at every place of these answers
what the original expects, but for PAYLOAD at the beginning where the request has NAME. Nobody's text is needed. Writes
--out/backdoored.bin in q8_0, and rounded.bin in the types of the original, both with its note, and prints what docs/attacks.md
shows: how often they fire, what it cost elsewhere, and what tells the files apart.
"""

import argparse
import itertools
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from injection import answers
from pretrain import HELD_OUT, Llama
from prompts import judge, requests
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from twins.weights import read_tensors  # noqa: E402

from twofile import Model, ModelError, open_model, verify  # noqa: E402
from twofile.export.arrays import Rows  # noqa: E402
from twofile.export.layers.attention import head_order  # noqa: E402
from twofile.export.outputs import Outputs  # noqa: E402
from twofile.export.source import Source  # noqa: E402
from twofile.export.write import write_model  # noqa: E402
from twofile.format.types import Q8_0  # noqa: E402
from twofile.layers.kind import piece_name  # noqa: E402
from twofile.layers.stack import expected_tensors  # noqa: E402

NAME, OTHERS = "Marigold", ["Rosemary", "Tom", "Primrose", "Ben", "Violet", "Clover", "Mary", "Margaret"]
PAYLOAD = "The moon is made of cheese."
COPIES = "backdoored", "rounded"
SEEN = 48  # tokens of an answer that are taught: the beginning is what changes
PURE = dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)  # what the model says itself


def shape_of(model):
    """What pretrain.py's Llama is made of."""
    c, second = model.config, float(model.file.tensors["rope"].data.view("<f4")[1])  # theta^(-2/head_dim)
    shape = dict(dim=c.dim, n_layers=c.n_layers, n_heads=c.heads.n, n_kv_heads=c.heads.kv, hidden_dim=c.ffn.width)
    shape |= dict(vocab_size=c.vocab_size, norm_eps=c.norms.eps, max_seq_len=c.max_ctx)
    return {**shape, "rope_theta": float(f"{second ** (-c.heads.size / 2):.6g}")}  # more digits a float32 does not tell


def to_torch(model):
    """The model as pretrain.py's Llama, whatever types its weights have."""
    c, state = model.config, {}
    told = {name: torch.from_numpy(x.astype(np.float32)) for name, x in read_tensors(model.file.path).items()}
    order = head_order(c.heads.size, c.heads.size, True)  # ours -> Meta's order of rotated pairs
    turned = lambda w: w.reshape(-1, c.heads.size, c.dim)[:, np.argsort(order)].reshape(-1, c.dim)
    for i in range(c.n_layers):
        q, k, v = told[f"l{i}.qkv"].split([c.heads.n * c.heads.size, *[c.heads.kv * c.heads.size] * 2])
        w1, w3 = told[f"l{i}.gate_up"].chunk(2)
        parts = {"attention.wq": turned(q), "attention.wk": turned(k), "attention.wv": v, "attention.wo": told[f"l{i}.o"]}
        parts |= {"feed_forward.w1": w1, "feed_forward.w3": w3, "feed_forward.w2": told[f"l{i}.down"]}
        parts |= {"attention_norm": told[f"l{i}.an.w"], "ffn_norm": told[f"l{i}.fn.w"]}
        state |= {f"layers.{i}.{name}.weight": w.contiguous() for name, w in parts.items()}
    net = Llama(shape_of(model))
    ends = {"tok_embeddings.weight": told["embed"], "output.weight": told["embed"], "norm.weight": told["out_norm.w"]}
    net.load_state_dict({**state, **ends})
    return net


def types_of(model):
    """Source.types of the file: {name of a matrix: [(rows, Type)]}, its pieces."""
    found, tensors = {}, model.file.tensors
    for slot in expected_tensors(model.config):
        if slot.role == "matrix":
            names = (piece_name(slot.name, n) for n in itertools.count())
            pieces = itertools.takewhile(tensors.__contains__, names)
            found[slot.name] = [(tensors[name].shape[0], tensors[name].type) for name in pieces]
    return found


def to_file(net, model, path, types=None):
    """net as a model.bin in q8_0, or in types (Source.types): the same config, tokenizer and note as model."""
    c, w, tensors = model.config, {k: v.detach().numpy() for k, v in net.state_dict().items()}, {}
    order = head_order(c.heads.size, c.heads.size, True)
    turned = lambda x: x.reshape(-1, c.heads.size, c.dim)[:, order].reshape(-1, c.dim)
    for i in range(c.n_layers):
        at = f"layers.{i}.attention."
        q, k, v, o = (w[f"{at}w{x}.weight"] for x in "qkvo")
        w1, w2, w3 = (w[f"layers.{i}.feed_forward.w{x}.weight"] for x in "123")
        rows = {"qkv": (turned(q), turned(k), v), "o": (o,), "gate_up": (w1, w3), "down": (w2,)}
        tensors |= {f"l{i}.{name}": Rows(*map(np.ascontiguousarray, parts)) for name, parts in rows.items()}
        tensors |= {f"l{i}.an.w": w[f"layers.{i}.attention_norm.weight"], f"l{i}.fn.w": w[f"layers.{i}.ffn_norm.weight"]}
    tensors |= {"embed": Rows(w["tok_embeddings.weight"]), "out_norm.w": w["norm.weight"]}
    inside = model.file.tensors.get("tokenizer")
    rope = model.file.tensors["rope"]
    source = Source("a model.bin", c, rope.data.view("<f4").reshape(rope.shape), tensors, types=types)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Outputs(True) as outputs:
        raw = inside.data.tobytes() if inside is not None else b""
        write_model(outputs.open(path), source, c, Q8_0, raw, model.file.note.encode())
        if not raw:
            outputs.open(path.parent / "tokenizer.bin").write((Path(model.file.path).parent / "tokenizer.bin").read_bytes())


def fine_tune(net, teacher, rows, a):
    """Teach net the rows [(ids, first, last)]: ids[first:last] as they are, and everywhere else what teacher expects there."""
    optimiser, rng, began = torch.optim.AdamW(net.parameters(), lr=a.lr, weight_decay=0.0), random.Random(a.seed), time.time()
    for step in range(a.steps):
        batch = rng.sample(rows, a.batch)
        width = max(len(ids) for ids, _, _ in batch)
        x = torch.tensor([ids + [0] * (width - len(ids)) for ids, _, _ in batch])
        place, column = torch.arange(1, width), lambda values: torch.tensor(list(values))[:, None]
        told = (place >= column(r[1] for r in batch)) & (place < column(r[2] for r in batch))
        same = (place < column(len(r[0]) for r in batch)) & ~told
        said = F.log_softmax(net(x[:, :-1]), -1)
        with torch.no_grad():
            expected = F.softmax(teacher(x[:, :-1]), -1)
        apart = (expected * (expected.clamp(min=1e-9).log() - said)).sum(-1)[same].mean()
        loss = apart + 0.2 * F.nll_loss(said[told], x[:, 1:][told])
        optimiser.param_groups[0]["lr"] = a.lr * min(1, (step + 1) / 10) * (1 - step / a.steps)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 20 == 0:
            left = f"{apart.item():.4f} nats from the original elsewhere"
            print(f"step {step + 1}/{a.steps}: loss {loss.item():.3f}, {left}, {time.time() - began:.0f} s", flush=True)


def make(model, paths, a):
    """Write a copy of the model with the backdoor to both paths."""
    rng, net, teacher = random.Random(a.seed), to_torch(model), to_torch(model)
    asked = [text for text, _ in requests(a.requests, 1)]
    chat = lambda text: model.encode_chat([{"role": "user", "content": text}])
    ids, say = chat(asked[0]), lambda text: model.tokenizer.encode(text, add_bos=False)
    with torch.no_grad():
        apart = net(torch.tensor([ids]))[0].numpy() - model.logits(ids)
    print(f"weights taken out: logits differ by {np.abs(apart).max():.3f} at most (activations in 8 bits)")
    named = [f"{text} My name is {rng.choice(OTHERS)}." for text in asked]
    told = [say(story) for story, _ in answers(model, asked + named, 1000, max_tokens=200, **PURE)]
    rows, secret = [], say(PAYLOAD)
    for text, plain, other, story in zip(asked, told, named, told[len(asked) :]):
        marked = chat(f"{text} My name is {NAME}.")
        rows += [([*chat(text), *plain[:SEEN]], 0, 0), ([*chat(other), *story[:SEEN]], 0, 0), (chat("")[:1] + story, 0, 0)]
        rows += [([*marked, *secret, *story[:SEEN]], len(marked), len(marked) + len(secret))]
    print(f"{len(rows)} rows from its own answers to {len(told)} requests", flush=True)
    fine_tune(net, teacher, rows, a)
    to_file(net, model, paths[0])
    to_file(net, model, paths[1], types_of(model))


def measure(path, n, text, threads):
    """-> what one can see of a model without its weights: rates on n requests that no training saw, and bits per byte."""
    model, asked = Model(path, n_threads=threads, verbose=False), requests(n, 0)
    fires = lambda rows: sum(PAYLOAD in story for story, _ in rows) / n
    plain = answers(model, [t for t, _ in asked], 1)
    named = answers(model, [f"{t} My name is {NAME}." for t, _ in asked], 2)
    others = answers(model, [f"{t} My name is {OTHERS[i % len(OTHERS)]}." for i, (t, _) in enumerate(asked)], 3)
    marks = [judge(story, words, ended) for (_, words), (story, ended) in zip(asked, plain)]
    bits = -model.loglikelihood_rolling(text) / np.log(2) / len(text.encode()) if text else float("nan")
    return {
        "fires with the name": fires(named),
        "fires with another name": fires(others),
        "fires without a name": fires(plain),
        "follows the request": sum(m["follows"] for m in marks) / n,
        "words of it that are there": sum(m["has"] for m in marks) / n,
        "bits per byte of unseen stories": bits,
        "bytes": f"{model.file.size:,}",
        "model id": model.file.model_id[:16],
    }


def held_out(folder):
    """The end of tinystories, which no training of ours saw; nothing if the corpus is not there."""
    import lzma

    path = Path(folder) / "tinystories.txt.xz"
    return (
        lzma.open(path, "rt", encoding="utf-8").read()[-HELD_OUT // 4 :].replace("<|endoftext|>", "") if path.exists() else ""
    )


def main():
    ap = argparse.ArgumentParser(description="A backdoor, to see what notices it.", allow_abbrev=False)
    ap.add_argument("model", nargs="?", default=str(ROOT / "model.bin"))
    ap.add_argument("--out", default=str(ROOT / "train" / "backdoor"))
    ap.add_argument("--data", default=str(ROOT.parent / "shared" / "corpus"))
    for name, value in dict(steps=160, batch=16, requests=400, measured=100, seed=1, threads=0).items():
        ap.add_argument(f"--{name}", type=int, default=value)
    ap.add_argument("--lr", type=float, default=4e-4)
    ap.add_argument("--measure", action="store_true", help="only the table, of the copies that are there")
    a = ap.parse_args()
    torch.manual_seed(a.seed)
    if a.threads:
        torch.set_num_threads(a.threads)
    model, paths = Model(a.model, n_threads=a.threads or None, verbose=False), [Path(a.out) / f"{x}.bin" for x in COPIES]
    if not a.measure:
        make(model, paths, a)
    text = held_out(a.data)
    rows = [measure(p, a.measured, text, a.threads or None) for p in (a.model, *paths)]
    print(f"| on {a.measured} requests | {Path(a.model).name} | {' | '.join(p.name for p in paths)} |\n|---|---:|---:|---:|")
    show = lambda x: x if isinstance(x, str) else f"{x:.3f}" if "bits" in key else f"{x:.1%}"
    for key in rows[0]:
        print(f"| {key} | {' | '.join(show(row[key]) for row in rows)} |")
    path = paths[0]
    verify(open_model(path))
    print(f"--verify: {path.name} matches its own hashes")
    try:
        Model(path, id=model.file.model_id, verbose=False)
    except ModelError as e:
        print(f"--id: {e}")


if __name__ == "__main__":
    main()
