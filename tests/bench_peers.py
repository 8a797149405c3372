"""
run.py beside llama.cpp, llama2.c and transformers: same shapes, same machine, alternating runs.

    python tests/bench_peers.py --llama-bench PATH [--shapes 15M,110M,1.1B] [--types q8_0,q4_0] [--threads 2] [--rounds 5]
    python tests/bench_peers.py --llama-bench PATH --gguf MODEL.gguf

Builds nothing. Runs llama.cpp on a GGUF, and run.py on what export.py makes of that very file, to the bit: of each --gguf, or
of random weights of each shape and type (any of a GGUF, or q4_k_m for its mix), which the package gguf writes into --work
(several GB for 1.1B). Each round runs ours, theirs, ours, theirs; the table has the medians over all rounds. Writes --out.md,
.png and .svg.
--sequences 1,8,16 adds that many decoded together (llama-batched-bench, which must lie beside llama-bench); --lookup adds
what guessing from the text gives, against run.py without it. --runq PATH adds llama2.c's int8 program, whose tokenizer.bin must
lie beside it, and --transformers PYTHON an interpreter that has torch and transformers (float32): both in decoding alone.
"""

import argparse
import json
import os
import re
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from helpers.ggufs import random_llama

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from twofile.export.main import main  # noqa: E402
from twofile.export.sources.random import random_source  # noqa: E402
from twofile.model import Model  # noqa: E402
from twofile.writer import Writer  # noqa: E402


def write_gguf(shape, kind, path):
    """Random weights of one of export.py's shapes, as llama.cpp reads them; no vocabulary."""
    mix = re.compile(r"output\.weight|blk\.\d*[02468]\.(attn_v|ffn_down)\..*")  # what has more bits in half of the layers
    kinds = lambda name: kind if kind != "q4_k_m" else "q6_k" if mix.fullmatch(name) else "q4_k"
    random_llama(path, random_source(shape, 0).config, kinds)


def measure(command):
    """-> {"pp512": row, …} of a program that speaks llama-bench's JSON lines."""
    done = subprocess.run([*map(str, command), "-o", "jsonl"], capture_output=True, text=True, check=True)
    rows, found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")], {}
    for row in rows:
        test = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
        test += f" @ d{row['n_depth']}" if row["n_depth"] else ""
        found[test] = row
    return found


def compare(shape, kind, a):
    """-> rows (shape, type, test, ours, theirs, note) of medians. shape: of random weights, or a GGUF's path."""
    theirs = Path(shape) if kind is None else a.work / f"{shape}-{kind}.gguf"
    ours = a.work / f"{theirs.stem}.bin"
    if not theirs.exists():
        write_gguf(shape, kind, theirs)
    if not ours.exists() and main([str(theirs), "--tokenizer", "none", "-o", str(ours)]):
        raise SystemExit(1)
    tests = ["-n", "128", "-t", a.threads, "-r", "1"]
    depths = [["-d", "0", "-p", a.prompts]] + ([["-d", d, "-p", "0"] for d in a.depths.split(",")] if a.depths else [])
    samples = {}
    for _ in range(a.rounds):
        for depth in depths:
            for side, command in (
                ("ours", [sys.executable, ROOT / "run.py", "--bench", ours]),
                ("theirs", [a.llama_bench, "-m", theirs]),
            ):
                for test, found in measure([*command, *tests, *depth]).items():
                    samples.setdefault(test, {"ours": [], "theirs": []})[side].append(found)
    rows = []
    for test, sides in samples.items():
        speed = {side: statistics.median(x["avg_ts"] for x in found) for side, found in sides.items()}
        mid = lambda key, found=sides["ours"]: statistics.median(x[key] for x in found)
        if test.startswith("tg"):
            used = speed["ours"] * mid("bytes_per_token") / 1e9
            note = f"{used:.1f} GB/s, {used / mid('read_gbps'):.0%} of {mid('read_gbps'):.1f}"
        else:
            note = f"{mid('gops'):.0f} GOP/s, {mid('gops') / mid('tile_gops'):.0%} of {mid('tile_gops'):.0f}"
        name, types = sides["ours"][0]["model_type"].split(" ", 1)
        rows.append((shape if kind else theirs.stem, kind or types, test, speed["ours"], speed["theirs"], note))
        print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    return rows


def write_runq(shape, path):
    """Random weights of one of export.py's shapes as llama2.c's version 2: int8 in groups of 32, values, then scales."""
    c, rng = random_source(shape, 0).config, np.random.default_rng(0)
    ffn, kv = c.ffn.width, c.heads.kv * c.heads.size
    with open(path, "wb") as f:
        sizes = c.dim, ffn, c.n_layers, c.heads.n, c.heads.kv, c.vocab_size, 512
        f.write(struct.pack("<Ii7iBi", 0x616B3432, 2, *sizes, not c.output.own, 32).ljust(256, b"\0"))
        f.write(np.ones((2 * c.n_layers + 1) * c.dim, np.float32).tobytes())

        def matrix(rows, cols):
            f.write(rng.integers(-127, 128, rows * cols, np.int8).tobytes())
            f.write(np.full(rows * cols // 32, cols**-0.5 / 73, np.float32).tobytes())

        matrix(c.vocab_size, c.dim)
        for rows, cols in ((c.dim, c.dim), (kv, c.dim), (kv, c.dim), (c.dim, c.dim)):
            for _ in range(c.n_layers):
                matrix(rows, cols)
        for rows, cols in ((ffn, c.dim), (c.dim, ffn), (ffn, c.dim)):
            for _ in range(c.n_layers):
                matrix(rows, cols)
        if c.output.own:
            matrix(c.vocab_size, c.dim)


TRANSFORMERS = """
import sys, time, torch, transformers
threads, dim, ffn, layers, heads, kv, vocab = map(int, sys.argv[1:])
torch.set_num_threads(threads)
config = transformers.LlamaConfig(hidden_size=dim, intermediate_size=ffn, num_hidden_layers=layers, num_attention_heads=heads,
    num_key_value_heads=kv, vocab_size=vocab, tie_word_embeddings=True, eos_token_id=None)
model = transformers.LlamaForCausalLM(config).eval()
ids, cache = torch.tensor([[7]]), transformers.DynamicCache()
with torch.inference_mode():
    for n in range(136):
        if n == 8:
            start = time.perf_counter()
        ids = model(input_ids=ids, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1)
print(128 / (time.perf_counter() - start))
"""


def others(shape, kind, a):
    """-> rows of programs that only decode, each alternating with run.py."""
    c, rows = random_source(shape, 0).config, []
    ours = [sys.executable, ROOT / "run.py", "--bench", a.work / f"{shape}-{kind}.bin", "-p", "0", "-n", "128"]
    ours += ["-t", a.threads, "-r", "1"]
    peers = []
    if a.runq and kind == "q8_0":
        model = a.work / f"{shape}-runq.bin"
        if not model.exists():
            write_runq(shape, model)
        command = [a.runq, model, "-z", Path(a.runq).with_name("tokenizer.bin"), "-t", "0", "-n", "128", "-i", "a"]
        peers.append(("llama2.c runq", command, "stderr", r"achieved tok/s: ([\d.]+)"))
    if a.transformers:
        sizes = c.dim, c.ffn.width, c.n_layers, c.heads.n, c.heads.kv, c.vocab_size
        peers.append(("transformers f32", [a.transformers, "-c", TRANSFORMERS, a.threads, *sizes], "stdout", r"^([\d.]+)"))
    for name, command, stream, pattern in peers:
        samples = {"ours": [], "theirs": []}
        for _ in range(a.rounds):
            samples["ours"].append(measure(ours)["tg128"]["avg_ts"])
            env = {**os.environ, "OMP_NUM_THREADS": a.threads}
            done = subprocess.run(list(map(str, command)), capture_output=True, env=env, check=True)
            samples["theirs"].append(float(re.search(pattern, getattr(done, stream).decode(errors="replace"), re.M)[1]))
        rows.append((shape, kind, "tg128", *map(statistics.median, samples.values()), f"the rival: {name}"))
        print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    return rows


def together(shape, kind, a):
    """-> rows of several texts written together as --batch does, 32 tokens each after a prompt of 4; tokens a second in all.
    Ours chooses each token by sampling, llama-batched-bench takes it as given."""
    counts, rows = [int(n) for n in a.sequences.split(",")], []
    model = Model(a.work / f"{shape}-{kind}.bin", n_ctx=64, n_threads=int(a.threads), verbose=False)
    peer = [Path(a.llama_bench).with_name("llama-batched-bench"), "-m", a.work / f"{shape}-{kind}.gguf", "-npp", "4"]
    peer += ["-ntg", "32", "-npl", a.sequences, "-t", a.threads, "-c", str(64 * max(counts)), "--output-format", "jsonl"]
    samples = {n: {"ours": [], "theirs": []} for n in counts}
    for _ in range(a.rounds):
        for n in counts:
            chunks = model.together([Writer(model, [7 + i] * 4, 33, ignore_eos=True) for i in range(n)], n)
            next(chunks)  # all prompts are read in one pass
            start = time.perf_counter()
            for _ in chunks:
                pass
            samples[n]["ours"].append(32 * n / (time.perf_counter() - start))
        done = subprocess.run(list(map(str, peer)), capture_output=True, text=True, check=True)
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                row = json.loads(line)
                samples[row["pl"]]["theirs"].append(row["speed_tg"])
    for n in counts:
        ours, theirs = (statistics.median(samples[n][side]) for side in ("ours", "theirs"))
        alone = statistics.median(samples[counts[0]]["ours"])
        rows.append((shape, kind, f"tg32, {n} sequences", ours, theirs, f"{ours / alone:.1f} times one"))
        print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    return rows


def dictate(text):
    """A way to choose that pays no attention to the logits: the ids of text in turn."""
    coming = iter(text)
    return lambda logits: next(coming)


def lookup(shape, kind, a):
    """Prints what guessing gives: on a text that is its prompt again with each 40th token changed, and on one without
    repetition. The text is prescribed, so that random weights do; the passes are those that any text would take."""
    model = Model(a.work / f"{shape}-{kind}.bin", n_threads=int(a.threads), verbose=False)
    rng, n = np.random.default_rng(0), 256
    prompt, other = rng.integers(3, 30000, (2, n)).tolist()
    edited = [other[i] if i % 40 == 39 else token for i, token in enumerate(prompt)]
    for name, text in (("repeats its prompt", edited), ("repeats nothing", other)):
        ratios = []
        for _ in range(a.rounds + 1):
            seconds = []
            for guesses in (False, True):
                w = Writer(model, prompt, n, ignore_eos=True)
                w.choose = dictate(text)
                stream = model.write(w, guesses)
                next(stream)
                start = time.perf_counter()
                assert [chunk.token for chunk in stream][:-1] == text[1:]
                seconds.append(time.perf_counter() - start)
            ratios.append(seconds[0] / seconds[1])
        print(f"{shape} {kind}, a text that {name}: {statistics.median(ratios[1:]):.2f} times as fast with lookup", flush=True)


def table(rows):
    lines = ["| shape | type | test | run.py t/s | rival t/s | ratio | of the machine |"]
    lines.append("|---|---|---|---:|---:|---:|---|")
    for shape, kind, test, ours, theirs, note in rows:
        lines.append(f"| {shape} | {kind} | {test} | {ours:.4g} | {theirs:.4g} | {ours / theirs:.2f} | {note} |")
    return "\n".join(lines) + "\n"


def plot(rows, out):
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        print("bench_peers.py: no picture: matplotlib is not installed", file=sys.stderr)
        return
    labels = [f"{shape} {kind} {test}" for shape, kind, test, *_ in rows]
    figure, axes = pyplot.subplots(figsize=(8, 0.32 * len(rows) + 1.2))
    axes.barh(labels, [row[3] / row[4] for row in rows], color=["#356" if "tg" in row[2] else "#7ab" for row in rows])
    axes.axvline(1, color="k", linewidth=1)
    axes.invert_yaxis()
    axes.set(xlabel="tokens per second, times llama.cpp's (dark: decode, light: prefill)")
    figure.tight_layout()
    for suffix in (".png", ".svg"):
        figure.savefig(Path(out).with_suffix(suffix), dpi=120)


def bench():
    ap = argparse.ArgumentParser(description="Compare run.py with llama.cpp.", allow_abbrev=False)
    ap.add_argument("--llama-bench", required=True, metavar="PATH")
    ap.add_argument("--gguf", action="append", default=[], metavar="FILE", help="and no shapes, unless they are given")
    ap.add_argument("--shapes")
    ap.add_argument("--types", default="q8_0,q4_0")
    ap.add_argument("--prompts", default="128,512")
    ap.add_argument("--depths", default="")
    ap.add_argument("--threads", default="2")
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--sequences", default="")
    ap.add_argument("--lookup", action="store_true")
    ap.add_argument("--runq", default="", metavar="PATH")
    ap.add_argument("--transformers", default="", metavar="PYTHON")
    ap.add_argument("--work", type=Path, default=Path("bench_work"))
    ap.add_argument("--out", default="bench_work/peers")
    a = ap.parse_args()
    a.work.mkdir(exist_ok=True, parents=True)
    rows = []
    for path in a.gguf:
        rows += compare(path, None, a)
    shapes = a.shapes or ("" if a.gguf else "15M,110M")
    for shape in filter(None, shapes.split(",")):
        for kind in a.types.split(","):
            rows += compare(shape, kind, a)
            rows += others(shape, kind, a)
            rows += together(shape, kind, a) if a.sequences else []
            if a.lookup:
                lookup(shape, kind, a)
    Path(a.out).with_suffix(".md").write_text(table(rows))
    plot(rows, a.out)


if __name__ == "__main__":
    bench()
