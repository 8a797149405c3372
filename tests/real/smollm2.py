"""SmolLM2 by run.py and by llama.cpp, of the same GGUF: python tests/real/smollm2.py [--text FILE ...] [--chats N]

The GGUF holds Q4_1, which llama.cpp multiplies with activations of 8 bits. So its own run is no exact one: beside it stand
its runs of the same weights as F32, which it makes of the file itself, and as Q8_0. Over 2,000 tokens of each text the mean
divergence of the logits and the perplexity; the ids of 20 chats; their greedy answers. Skips in words without
llama-cpp-python (`llama_cpp`) or the GGUF. Exit 1 beyond the bounds.
"""

import argparse
import ctypes
import lzma
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
from fetch import cache, fetch  # noqa: E402
from oracles import gguf_fields, library  # noqa: E402
from strings import conversations  # noqa: E402

from twofile.model import Model  # noqa: E402

EXACT_KL, EXACT_PPL = 1e-5, 1e-3  # ours with f32 from llama.cpp with F32
MOST_KL = 2  # ours as exported by default from llama.cpp with F32, in what llama.cpp's own run of the Q4_1 is from it
WINDOW, ANSWER = 500, 64
EXPORTS = {"ours, f32": ["--type", "f32"], "ours, as exported (Q4_1, kept)": []}
GGUFS = {"llama.cpp, F32": 0, "llama.cpp, Q8_0": 7, "llama.cpp, the file (Q4_1)": None}  # None: as it is; its file types
EXACT, DEFAULT = EXPORTS
F32, _, Q4_1 = GGUFS
ASKED = [
    "What is the capital of France?", "Write a short poem about the sea.", "Why is the sky blue?", "Count from one to ten.",
    "Who wrote Hamlet?", "Give me three names for a cat.", "What is 17 + 25?", "Translate 'good morning' into French.",
    "Explain gravity to a child.", "List the planets of the solar system.",
]  # fmt: skip


def exported(source, out, more):
    """Our exporter on the GGUF; what it says, on failure. more: flags."""
    command = [sys.executable, str(ROOT / "export.py"), str(source), "-o", str(out), *more]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"export failed: {done.stderr.strip()[-300:]}")


def requantised(source, kind):
    """llama.cpp's own copy of the GGUF, of another file type."""
    out = cache() / f"{source.stem}.as-{kind}.gguf"
    if not out.exists():
        lib, part = library("llama_cpp"), out.with_suffix(".part")
        how = lib.llama_model_quantize_default_params()
        how.ftype, how.allow_requantize = kind, True
        if lib.llama_model_quantize(str(source).encode(), str(part).encode(), ctypes.byref(how)):
            sys.exit(f"llama.cpp could not make {out.name}")
        part.rename(out)
    return out


class Theirs:
    """llama.cpp on a GGUF."""

    def __init__(self, path, threads):
        self.llama = library("llama_cpp").Llama(str(path), n_ctx=2048, logits_all=True, verbose=False, n_threads=threads)

    def logits(self, ids):
        self.llama.reset()
        self.llama.eval(ids)
        return np.array(self.llama.scores[: len(ids)])

    def answer(self, ids, ends):
        out, row = [], self.logits(ids)[-1]
        while len(out) < ANSWER and int(row.argmax()) not in ends:
            out.append(int(row.argmax()))
            self.llama.eval(out[-1:])
            row = self.llama.scores[len(ids) + len(out) - 1]
        return out


class Ours:
    """run.py on a model.bin."""

    def __init__(self, path):
        self.model = Model(path, verbose=False)
        self.logits = self.model.logits

    def answer(self, ids, ends):
        return [c.token for c in self.model.stream(ids, ANSWER, temperature=0) if c.token is not None]


def log_softmax(rows):
    rows = rows.astype(np.float64)
    rows -= rows.max(1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(1, keepdims=True))


def believed(engine, ids):
    """float32 [len(ids), vocabulary]: the logarithms of what it believes follows, in windows."""
    rows = [log_softmax(engine.logits(ids[at : at + WINDOW])) for at in range(0, len(ids), WINDOW)]
    return np.concatenate([row.astype(np.float32) for row in rows])


def perplexity(rows, ids):
    at = [i for i in range(len(ids) - 1) if i % WINDOW != WINDOW - 1]
    return float(np.exp(-rows[at, np.array(ids)[np.array(at) + 1]].astype(np.float64).mean()))


def divergence(a, b):
    """Mean KL(a || b); 500 rows at a time."""
    total = sum(float((np.exp(x) * (x - y)).sum(dtype=np.float64)) for x, y in zip(*(np.array_split(r, 8) for r in (a, b))))
    return total / len(a)


def table(rows, ids):
    """The measures of a text in Markdown. -> {name: (divergence from F32, perplexity)}"""
    out = {}
    print("| | KL from llama.cpp's F32 | KL from its run of the file | perplexity | same best token |\n|---|---|---|---|---|")
    for name, row in rows.items():
        far, near = divergence(rows[F32], row), divergence(rows[Q4_1], row)
        same, out[name] = (row.argmax(1) == rows[F32].argmax(1)).mean(), (far, perplexity(row, ids))
        print(f"| {name} | {far:.7f} | {near:.7f} | {out[name][1]:.4f} | {100 * same:.2f} % |")
    return out


def asked(ours, llama, template, count):
    """The ids of so many conversations. -> (of each, how many are other ids by llama.cpp)"""
    talks = [[{"role": "user", "content": text}] for text in ASKED[:8]]
    talks += [[{"role": "system", "content": "You are terse."}, {"role": "user", "content": text}] for text in ASKED[8:]]
    talks += conversations(random.Random(5), 5, True) + conversations(random.Random(6), 5, False)
    got = [ours.encode_chat(messages) for messages in talks[:count]]
    texts = [template.render(messages).encode() for messages in talks[:count]]
    return got, sum(a != llama.tokenize(text, add_bos=False, special=True) for a, text in zip(got, texts))


def answered(ours, other, asked):
    """Greedy answers side by side, in words: how many are the same, and where the others part."""
    same, parts, (ends, text) = 0, [], (ours.model.ends, ours.model.detokenize)
    for ids in asked:
        a, b = ours.answer(ids, ends), other.answer(ids, ends)
        at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        same += a == b
        if a == b:
            continue
        row = log_softmax(other.logits(ids + b[:at])[-1:])[0]
        best = np.sort(row)[-2:]
        parts.append(f"  at token {at}, where theirs has {best[1] - best[0]:.4f} nats between its two best")
        parts[-1] += f": {text(a[at : at + 6])!r} for {text(b[at : at + 6])!r}"
    print(f"{same} of {len(asked)} greedy answers of {ANSWER} tokens are the same", *parts, sep="\n")


def read(path):
    path = Path(path)
    return lzma.open(path, "rt", encoding="utf-8").read() if path.suffix == ".xz" else path.read_text("utf-8")


def specials(path):
    fields = gguf_fields(path)
    return {f"{k}_token": fields["ggml.tokens"][fields[f"ggml.{k}_token_id"]] for k in ("bos", "eos")}


def judged(rows):
    """What is beyond the bounds, in words."""
    far, lost = rows[EXACT][0], rows[DEFAULT][0] / rows[Q4_1][0]
    off = abs(rows[EXACT][1] / rows[F32][1] - 1)
    if far > EXACT_KL or off > EXACT_PPL:
        yield f"ours with f32 is {far:.1e} from llama.cpp with F32, its perplexity {off:.1e}"
    if lost > MOST_KL:
        yield f"ours loses {lost:.2f} times what llama.cpp loses"


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument(
        "--text", metavar="FILE", nargs="*", default=[], help="more texts, .xz too, beside README.md and docs/format.md"
    )
    ap.add_argument("--tokens", type=int, default=2000, help="of each text")
    ap.add_argument("--chats", type=int, default=20, help="0: the texts alone")
    args = ap.parse_args()
    folder, why = fetch("smollm2")
    if folder is None or library("llama_cpp") is None or library("jinja2") is None:
        print(f"skipped: {why or 'llama-cpp-python and jinja2 are needed'}")
        return
    source, wrong = folder / "SmolLM2-135M-Instruct.Q4_1.gguf", []
    with tempfile.TemporaryDirectory() as work:
        engines = {}
        for i, (name, more) in enumerate(EXPORTS.items()):
            exported(source, Path(work) / f"{i}.bin", more)
            engines[name] = Ours(Path(work) / f"{i}.bin")
        model = engines[EXACT].model
        file = Theirs(source, model.n_threads)  # the first: llama.cpp is quiet from then on
        for name, kind in GGUFS.items():
            engines[name] = file if kind is None else Theirs(requantised(source, kind), model.n_threads)
        texts = [("README.md and docs/format.md", read(ROOT / "README.md") + read(ROOT / "docs" / "format.md"))]
        for name, text in texts + [(Path(path).name, read(path)) for path in args.text]:
            ids = model.tokenize(text[: 12 * args.tokens])[: args.tokens]
            print(f"{len(ids)} tokens of {name}, in windows of {WINDOW}:\n", flush=True)
            wrong += judged(table({name: believed(engine, ids) for name, engine in engines.items()}, ids))
        template = Template(gguf_fields(source)["chat_template"], specials(source))
        chats, bad = asked(model, engines[Q4_1].llama, template, args.chats)
        print(f"\n{len(chats)} chats: {bad} with other ids than llama.cpp's")
        wrong += ["other ids"] * bool(bad)
        for mine, other in ((EXACT, F32), (DEFAULT, Q4_1)) if chats else ():
            print(f"\n{mine} beside {other}: ", end="", flush=True)
            answered(engines[mine], engines[other], chats)
    print(*wrong, sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
