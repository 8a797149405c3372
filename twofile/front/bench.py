"""Tokens per second, as llama-bench measures and prints them."""

import argparse
import itertools
import random
import re
import time

import numpy as np

from ..errors import CALLED, ModelError, printable
from ..kernels.cache import CACHE_NAMES
from ..machine import IMPORT_SECONDS, cpu_name, peak_rss
from ..machines.host import host
from ..model import Model
from ..program.operands import CHUNK
from .common import OTHER
from .habits import LLAMA_CPP
from .mode import Flag, Mode, Parser
from .speeds import Table
from .spelling import apart


def numbers(text):
    """ "128,512" -> [128, 512]"""
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError("whole numbers, separated by commas")
    return [int(n) for n in text.split(",")]


def thread_numbers(text):
    """ "1,2" -> [1, 2]; "auto" -> [None]"""
    return [None] if text == "auto" else numbers(text)


def cache_names(text):
    """ "f16,q8_0" -> ["f16", "q8_0"]"""
    names = text.split(",")
    if not set(names) <= set(CACHE_NAMES):
        wants = f"some of {', '.join(CACHE_NAMES)}, separated by commas"
        raise argparse.ArgumentTypeError(wants)
    return names


BENCH = Flag(
    "--bench", action="store_true", help="measure tokens per second; --bench -h tells more"
)
BENCH_CALLED = "run.py --bench" if CALLED == "run.py" else f"{CALLED} bench"
BENCH_FLAGS = (  # of the command line behind --bench
    Flag("--bench", action="store_true", help=argparse.SUPPRESS),
    Flag("models", nargs="*", metavar="MODEL", help="one or more model.bin"),
    Flag(
        "-p",
        type=numbers,
        default=[512],
        metavar="N,…",
        help="prompt lengths, 0 = none (default 512)",
    ),
    Flag(
        "-n",
        type=numbers,
        default=[128],
        metavar="N,…",
        help="tokens to generate, 0 = none (default 128)",
    ),
    Flag(
        "-d",
        type=numbers,
        default=[0],
        metavar="N,…",
        help="tokens in the context before (default 0)",
    ),
    Flag(
        "-t",
        type=thread_numbers,
        default=[None],
        metavar="N,…",
        help="threads; auto (default): the cores, fewer while they are held up",
    ),
    Flag(
        "--kv",
        type=cache_names,
        metavar="TYPE,…",
        help=f"type of the KV cache: {', '.join(CACHE_NAMES)} (default f16; f32 for f32 models)",
    ),
    Flag("-r", type=int, default=5, metavar="N", help="repetitions (default 5)"),
    Flag(
        "-o",
        choices=("md", "csv", "json", "jsonl"),
        default="md",
        help="output format (default md)",
    ),
    Flag("--id", metavar="HEX", help="the model id that every MODEL must have"),
)


def bench_parser():
    """The command line behind --bench."""
    ap = Parser(
        prog=BENCH_CALLED,
        description="Tokens per second, as llama-bench measures them: random tokens, no sampling, "
        "a warm-up before.",
        allow_abbrev=False,
    )
    for flag in BENCH_FLAGS:
        ap.add_argument(*flag.names, **flag.how)
    return ap


def bench(argv, usual=None):
    """The command line behind --bench; -> exit code. usual: the model that is measured when none
    is named."""
    ap = bench_parser()
    words, files = apart(argv, BENCH_FLAGS, ap.error, LLAMA_CPP)
    a = ap.parse_args(words)
    models = files or [usual]
    if models == [None]:
        ap.error(f"give one model file or more: {BENCH_CALLED} model.bin")
    if a.r < 1:
        ap.error(f"-r is {a.r}, expected 1 or more")
    table = Table(a.o, a.kv)
    for path, threads, kv in itertools.product(models, a.t, a.kv or [None]):
        model = Model(path, n_threads=threads, kv=kv, id=a.id)
        bench_model(model, tests_of(model.config, a), a.r, table.show)
    table.end()
    return 0


def tests_of(c, a):
    """The tests that are asked for, in that config -> [(tokens read, tokens generated, depth)]"""
    plan = [(n, 0, d) for d in a.d for n in a.p if n] + [(0, n, d) for d in a.d for n in a.n if n]
    plan = [(min(p, c.max_ctx - d), min(n, c.max_ctx - d), d) for p, n, d in plan]
    if any(p + n < 1 for p, n, d in plan):
        raise ModelError(
            f"-d: a depth of {max(a.d)} leaves no room in a context of {c.max_ctx}; choose less"
        )
    return plan


def bench_model(model, plan, repetitions, show):
    """Every test of plan on one model; each is shown, as a dict, as soon as it is there."""
    from .ceilings import ceilings, token_work

    began = time.perf_counter()
    forward = model.ready()
    load = time.perf_counter() - began - forward.code.compile_seconds
    ids = [random.Random(0).randrange(model.config.vocab_size) for _ in range(forward.n_ctx)]
    read, tile = ceilings(forward, model.notice)
    n_bytes, ops = token_work(forward)
    head = 2 * model.config.vocab_size * model.config.dim  # the logits of a token
    for p, n, d in plan:
        nanoseconds = measured(forward, ids, (p, n, d), repetitions)
        row = {**described(model), **row_of_test(p, n, d, nanoseconds)}
        cache = model.cache_bytes(d + n // 2) if n else 0
        show(
            {
                **row,
                "bytes_per_token": round(sum(n_bytes.values())) + cache if n else 0,
                "bytes_by_type": {name: round(size) for name, size in n_bytes.items()} if n else {},
                "read_gbps": read / 1e9,
                "gops": row["avg_ts"] * (ops - head + head / (p or 1)) / 1e9,
                "tile_gops": tile / 1e9,
                "compile_s": forward.code.compile_seconds,
                "import_s": IMPORT_SECONDS,
                "load_s": load,
                "peak_rss": peak_rss(),
            }
        )


def measured(forward, ids, test, repetitions):
    """Nanoseconds of each repetition of a test, (tokens read, tokens generated, depth)."""
    p, n, d = test
    feed(forward, ids, 0, d, CHUNK)
    nanoseconds = []
    for _ in range(repetitions + 1):  # the first is a warm-up
        start = time.perf_counter_ns()
        feed(forward, ids, d, d + p + n, CHUNK if p else 1)
        nanoseconds.append(time.perf_counter_ns() - start)
    return nanoseconds[1:]


def feed(forward, ids, first, last, step):
    """Passes over ids[first:last], step at a time; logits after the last, after each of step 1."""
    for n in range(first, last, step):
        part = ids[n : min(n + step, last)]
        wanted = [len(part) - 1] if n + step >= last or step == 1 else []
        forward(part, range(n, n + len(part)), [0] * len(part), wanted)


def described(model):
    """What a row says of machine and model, by llama-bench's names."""
    return {
        "cpu_info": cpu_name(),
        "backends": f"CPU {host().machine.name}",
        "model_filename": model.file.path,
        "model_type": f"{printable(model.config.arch_tag)} {model.info['type']}",
        "model_size": model.file.size,
        "model_n_params": model.info["parameters"],
        "n_batch": CHUNK,
        "n_threads": model.n_threads,
        "type_k": model.kv,
        "type_v": model.kv,
    }


def row_of_test(p, n, d, nanoseconds):
    """What a row says of a test, by llama-bench's names."""
    speeds = [(p + n) * 1e9 / ns for ns in nanoseconds]
    spread = lambda x: float(np.std(x, ddof=1)) if len(x) > 1 else 0.0
    return {
        "n_prompt": p,
        "n_gen": n,
        "n_depth": d,
        "test_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "avg_ns": round(np.mean(nanoseconds)),
        "stddev_ns": round(spread(nanoseconds)),
        "avg_ts": float(np.mean(speeds)),
        "stddev_ts": spread(speeds),
        "samples_ns": nanoseconds,
        "samples_ts": speeds,
    }


BENCH_MODE = Mode(group=OTHER, flags=(BENCH,), line=bench)
