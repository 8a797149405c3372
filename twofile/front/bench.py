"""Tokens per second, as llama-bench measures them, and the machine's ceilings beside them."""

import argparse
import random
import sys
import time

import numpy as np

from ..errors import ModelError, printable
from ..machine import IMPORT_SECONDS, available_cores, cpu_name, peak_rss
from ..machines.host import host
from ..model import Model
from ..program.passes import CHUNK
from .ceilings import ceilings, token_work
from .flags import Parser, numbers


def bench(argv):
    """The command line behind --bench; -> exit code."""
    ap = Parser(
        prog="run.py --bench",
        description="Tokens per second, as llama-bench measures them: random tokens, no sampling, a warm-up before.",
        allow_abbrev=False,
    )
    ap.add_argument("--bench", action="store_true", help=argparse.SUPPRESS)
    ap.add_argument("models", nargs="+", metavar="MODEL", help="one or more model.bin")
    ap.add_argument(
        "-p",
        type=numbers,
        default=[512],
        metavar="N,…",
        help="prompt lengths, 0 = none (default 512)",
    )
    ap.add_argument(
        "-n",
        type=numbers,
        default=[128],
        metavar="N,…",
        help="tokens to generate, 0 = none (default 128)",
    )
    ap.add_argument(
        "-d",
        type=numbers,
        default=[0],
        metavar="N,…",
        help="tokens in the context before (default 0)",
    )
    ap.add_argument(
        "-t",
        type=numbers,
        default=[available_cores()],
        metavar="N,…",
        help="threads (default: the cores)",
    )
    ap.add_argument("-r", type=int, default=5, metavar="N", help="repetitions (default 5)")
    ap.add_argument(
        "-o",
        choices=("md", "csv", "json", "jsonl"),
        default="md",
        help="output format (default md)",
    )
    ap.add_argument("--id", metavar="HEX", help="the model id that every MODEL must have")
    a = ap.parse_args(argv)
    if a.r < 1:
        ap.error(f"-r is {a.r}, expected 1 or more")
    rows = []
    for path in a.models:
        for threads in a.t:
            rows += bench_model(
                Model(path, n_threads=threads, id=a.id), a, lambda row: print_row(row, a.o)
            )
    if a.o == "json":
        import json

        print(json.dumps(rows, indent=2))
    return 0


def bench_model(model, a, show):
    """Every test on one model -> rows as dicts, each shown as soon as it is there."""
    c, began = model.config, time.perf_counter()
    plan = [(n, 0, d) for d in a.d for n in a.p if n] + [(0, n, d) for d in a.d for n in a.n if n]
    plan = [(min(p, c.max_ctx - d), min(n, c.max_ctx - d), d) for p, n, d in plan]
    if any(p + n < 1 for p, n, d in plan):
        raise ModelError(
            f"-d: a depth of {max(a.d)} leaves no room in a context of {c.max_ctx}; choose less"
        )
    forward = model._open(max((p + n + d for p, n, d in plan), default=1))
    load, rows = time.perf_counter() - began - forward.code.compile_seconds, []
    ids = [random.Random(0).randrange(c.vocab_size) for _ in range(forward.n_ctx)]

    def decode(first, last, step):
        for n in range(first, last, step):
            part = ids[n : min(n + step, last)]
            forward(
                part,
                range(n, n + len(part)),
                [0] * len(part),
                [len(part) - 1] if n + step >= last or step == 1 else [],
            )

    read, tile = ceilings(forward, model.notice)
    nbytes, ops = token_work(forward)
    head = 2 * c.vocab_size * c.dim
    ops -= head  # for a token without logits
    for p, n, d in plan:
        decode(0, d, CHUNK)
        nanoseconds = []
        for _ in range(a.r + 1):
            start = time.perf_counter_ns()
            decode(d, d + p + n, CHUNK if p else 1)
            nanoseconds.append(time.perf_counter_ns() - start)
        nanoseconds = nanoseconds[1:]
        speeds = [(p + n) * 1e9 / ns for ns in nanoseconds]
        cache = model._cache_bytes(d + n // 2) if n else 0
        spread = lambda x: float(np.std(x, ddof=1)) if len(x) > 1 else 0.0
        mean = float(np.mean(speeds))
        rows.append(
            {
                "cpu_info": cpu_name(),
                "backends": f"CPU {host().machine.name}",
                "model_filename": model.file.path,
                "model_type": f"{printable(c.arch_tag)} {model.info['type']}",
                "model_size": model.file.size,
                "model_n_params": model.info["parameters"],
                "n_batch": CHUNK,
                "n_threads": model.n_threads,
                "type_k": model.kv,
                "type_v": model.kv,
                "n_prompt": p,
                "n_gen": n,
                "n_depth": d,
                "test_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "avg_ns": round(np.mean(nanoseconds)),
                "stddev_ns": round(spread(nanoseconds)),
                "avg_ts": mean,
                "stddev_ts": spread(speeds),
                "samples_ns": nanoseconds,
                "samples_ts": speeds,
                "bytes_per_token": round(nbytes) + cache if n else 0,
                "read_gbps": read / 1e9,
                "gops": mean * (ops + head / (p or 1)) / 1e9,
                "tile_gops": tile / 1e9,
                "compile_s": forward.code.compile_seconds,
                "import_s": IMPORT_SECONDS,
                "load_s": load,
                "peak_rss": peak_rss(),
            }
        )
        show(rows[-1])
    return rows


def print_row(row, form):
    """One row in that form on stdout, and its background on stderr."""
    if form == "md":
        columns = "model size params backend threads test t/s".split()
        if not getattr(print_row, "header", False):
            print(
                "| " + " | ".join(columns) + " |\n| --- | ---: | ---: | --- | ---: | --- | ---: |"
            )
        size, params = row["model_size"] / 2**20, row["model_n_params"] / 1e6
        test = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
        test += f" @ d{row['n_depth']}" if row["n_depth"] else ""
        speed = f"{row['avg_ts']:.2f} ± {row['stddev_ts']:.2f}"
        cells = [
            row["model_type"],
            f"{size:.2f} MiB",
            f"{params:.2f} M",
            row["backends"],
            row["n_threads"],
            test,
            speed,
        ]
        print("| " + " | ".join(map(str, cells)) + " |")
    elif form == "csv":
        if not getattr(print_row, "header", False):
            print(",".join(row))
        print(",".join('"' + str(v).replace('"', '""') + '"' for v in row.values()))
    elif form == "jsonl":
        import json

        print(json.dumps(row))
    print_row.header = True
    sys.stdout.flush()
    if row["n_gen"]:
        used = row["avg_ts"] * row["bytes_per_token"] / 1e9
        work = f"{row['bytes_per_token'] / 1e6:.1f} MB a token, {used:.1f} GB/s, "
        work += f"{used / row['read_gbps']:.0%} of this machine's {row['read_gbps']:.1f}"
    else:
        work = f"{row['gops']:.0f} GOP/s, {row['gops'] / row['tile_gops']:.0%} of the tile's {row['tile_gops']:.0f}"
    times = f"import {row['import_s']:.2f} s, load {row['load_s']:.2f} s, compile {row['compile_s']:.1f} s"
    print(
        f"run.py: {work}; {times}; peak {row['peak_rss'] / 2**20:.0f} MiB; {row['cpu_info']}",
        file=sys.stderr,
    )
