"""SmolLM2 by run.py and by llama.cpp, of the same GGUF: python tests/real/smollm2.py [--text FILE] [--model model.bin]

The ids of 20 chats, their greedy answers, and over 2,000 tokens of text the mean divergence of the logits and the perplexity.
Skips in words without llama-cpp-python (`llama_cpp`) or the GGUF. Exit 1 beyond the bounds.
"""

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(HERE)]

from chats import Template  # noqa: E402
from fetch import fetch  # noqa: E402
from oracles import gguf_fields, library  # noqa: E402
from strings import conversations  # noqa: E402

from twofile.model import Model  # noqa: E402

MOST_KL, MOST_PPL, WINDOW = 0.002, 0.002, 500
ASKED = [
    "What is the capital of France?", "Write a short poem about the sea.", "Why is the sky blue?", "Count from one to ten.",
    "Who wrote Hamlet?", "Give me three names for a cat.", "What is 17 + 25?", "Translate 'good morning' into French.",
    "Explain gravity to a child.", "List the planets of the solar system.",
]  # fmt: skip


def exported(source, out, more):
    """Our exporter on the GGUF; what it says, on failure. more: flags."""
    embed = subprocess.run([sys.executable, str(ROOT / "export.py"), "-h"], capture_output=True, text=True).stdout
    flags = ["--embed-tokenizer"] if "--embed-tokenizer" in embed else []
    command = [sys.executable, str(ROOT / "export.py"), str(source), "-o", str(out), *flags, *more]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"export failed: {done.stderr.strip()[-300:]}")


def log_softmax(rows):
    rows = rows.astype(np.float64)
    rows -= rows.max(1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(1, keepdims=True))


def theirs(llama, ids):
    """llama.cpp's logits of a text."""
    llama.reset()
    llama.eval(ids)
    return np.array(llama.scores[: len(ids)])


def compare_text(ours, llama, ids):
    """-> mean divergence of ours from theirs, both perplexities, share of places with the same best token."""
    kl, mine, other, same, n = 0.0, 0.0, 0.0, 0, 0
    for at in range(0, len(ids) - 1, WINDOW):
        window, target = ids[at : at + WINDOW], np.array(ids[at + 1 : at + WINDOW + 1])
        a, b = log_softmax(ours.logits(window)), log_softmax(theirs(llama, window))
        kl += float((np.exp(b) * (b - a)).sum())
        same, n = same + int((a.argmax(1) == b.argmax(1)).sum()), n + len(window)
        rows = np.arange(len(target))
        mine, other = mine - float(a[rows, target].sum()), other - float(b[rows, target].sum())
    return kl / n, float(np.exp(mine / (len(ids) - 1))), float(np.exp(other / (len(ids) - 1))), same / n


def greedy(logits, ids, count, ends):
    """ids of the likeliest answer; logits(ids) -> rows."""
    out = []
    while len(out) < count:
        out.append(int(logits(ids + out)[-1].argmax()))
        if out[-1] in ends:
            break
    return out


def compare_chats(ours, llama, template, count):
    """-> how many of so many chats have other ids; the greedy answers: [(ours, theirs, the gap at the first difference)]."""
    talks = [[{"role": "user", "content": text}] for text in ASKED[:8]]
    talks += [[{"role": "system", "content": "You are terse."}, {"role": "user", "content": text}] for text in ASKED[8:]]
    talks += conversations(random.Random(5), 5, True) + conversations(random.Random(6), 5, False)
    bad, answers, talks = 0, [], talks[:count]
    for messages in talks:
        got = ours.encode_chat(messages)
        want = llama.tokenize(template.render(messages).encode(), add_bos=False, special=True)
        bad += got != want
    for messages in talks[:10]:
        ids = ours.encode_chat(messages)
        mine = greedy(ours.logits, ids, 32, ours.ends)
        other = greedy(lambda ids: theirs(llama, ids), ids, 32, ours.ends)
        at = next((i for i, (a, b) in enumerate(zip(mine, other)) if a != b), None)
        gap = None
        if at is not None:
            row = log_softmax(theirs(llama, ids + other[:at])[-1:])[0]
            gap = float(row[other[at]] - row[mine[at]])
        answers.append((ours.detokenize(mine), ours.detokenize(other), at, gap))
    return len(talks), bad, answers


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--text", metavar="FILE", help="default: the README and docs/format.md")
    ap.add_argument("--tokens", type=int, default=2000)
    ap.add_argument("--type", help="of the export, default: the exporter's")
    ap.add_argument("--chats", type=int, default=20, help="0: the text alone")
    ap.add_argument("--model", metavar="FILE", help="an export of the GGUF, default: made now")
    args = ap.parse_args()
    folder, why = fetch("smollm2")
    if folder is None or library("llama_cpp") is None or library("jinja2") is None:
        print(f"skipped: {why or 'llama-cpp-python and jinja2 are needed'}")
        return
    source = folder / "SmolLM2-135M-Instruct.Q4_1.gguf"
    with tempfile.TemporaryDirectory() as work:
        out = Path(args.model or Path(work) / "smollm2.bin")
        if not args.model:
            exported(source, out, ["--type", args.type] if args.type else [])
        ours = Model(out, verbose=False)
        llama = library("llama_cpp").Llama(str(source), n_ctx=2048, logits_all=True, verbose=False, n_threads=ours.n_threads)
        names = [Path(args.text)] if args.text else [ROOT / "README.md", ROOT / "docs" / "format.md"]
        text = "".join(p.read_text("utf-8") for p in names)[: 12 * args.tokens]
        ids = ours.tokenize(text)[: args.tokens]
        kl, mine, other, same = compare_text(ours, llama, ids)
        print(
            f"{len(ids)} tokens in windows of {WINDOW}: mean KL {kl:.6f}; perplexity {mine:.4f}, llama.cpp {other:.4f} ", end=""
        )
        print(f"({100 * (mine / other - 1):+.3f} %); the same best token at {100 * same:.1f} % of places")
        if not args.chats:
            return
        chats, bad, answers = compare_chats(
            ours, llama, Template(gguf_fields(source)["chat_template"], specials(source)), args.chats
        )
        equal = sum(a[2] is None for a in answers)
        print(f"{chats} chats: {bad} with other ids; of {len(answers)} greedy answers {equal} are the same")
        for a, b, at, gap in answers:
            if at is not None:
                print(f"  from token {at}, where theirs is likelier by {gap:.3f} nats: ours {a[:90]!r}, theirs {b[:90]!r}")
    sys.exit(kl > MOST_KL or abs(mine / other - 1) > MOST_PPL or bad > 0)


def specials(path):
    fields = gguf_fields(path)
    return {f"{k}_token": fields["ggml.tokens"][fields[f"ggml.{k}_token_id"]] for k in ("bos", "eos")}


if __name__ == "__main__":
    main()
