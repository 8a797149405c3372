"""
run.py and llama.cpp beside busy loops: tokens a second against how many programs keep the cores busy meanwhile.

    python tests/busy.py --llama-bench PATH [--shape 110M] [--type q8_0] [--loops 0,1,2,3] [--rounds 10] [--out bench_work/busy]
    python tests/busy.py --redraw bench_work/busy.json --svg docs/busy.svg

A busy loop is `python -c "while 1: pass"`. Decodes 128 tokens of a Llama of random weights, which bench_peers.py makes, with
run.py (-t auto, -t 1) and llama.cpp (one thread, and as many as there are cores), in turn, so many rounds. Writes OUT.json (all
run), OUT.md (medians, and the worst run in brackets) and OUT.svg. Without --llama-bench only run.py is measured.
Two more rows: two run.py at once, each beside one alone; and -t 16 beside as many threads as there are cores.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench_peers import ROOT, main, measure, write_gguf
from twofile.machine import available_cores

CORES = str(available_cores())
OURS = {"run.py -t auto": "auto", "run.py -t 1": "1"}
THEIRS = {"llama.cpp -t 1": "1", f"llama.cpp -t {CORES}": CORES}
COLOURS = "#356", "#7ab", "#c63", "#ea8"
WIDE, HIGH, LEFT, TOP = 560, 300, 56, 24  # of the picture


class Loops:
    """So many busy loops, while it lasts."""

    def __init__(self, n):
        self.n = n

    def __enter__(self):
        self.processes = [subprocess.Popen([sys.executable, "-c", "while 1: pass"]) for _ in range(self.n)]
        time.sleep(0.3)

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()


def ours(model, threads):
    return [sys.executable, ROOT / "run.py", "--bench", model, "-t", threads]


def speed(command):
    return measure([*command, "-p", "0", "-n", "128", "-r", "1"])["tg128"]["avg_ts"]


def at_once(command):
    """Two of them -> both speeds."""
    both = [
        subprocess.Popen([*map(str, command), "-p", "0", "-n", "512", "-r", "1", "-o", "jsonl"], stdout=-1) for _ in range(2)
    ]
    return [json.loads(process.communicate()[0].splitlines()[0])["avg_ts"] for process in both]


def measured(a):
    """-> {"name, loops": [tokens a second of each run]}"""
    a.work.mkdir(parents=True, exist_ok=True)
    gguf = a.work / f"{a.shape}-{a.type}.gguf"
    model = gguf.with_suffix(".bin")
    if not gguf.exists():
        write_gguf(a.shape, a.type, gguf)
    if not model.exists() and main([str(gguf), "--tokenizer", "none", "-o", str(model)]):
        raise SystemExit(1)
    programs = {name: ours(model, threads) for name, threads in OURS.items()}
    if a.llama_bench:
        programs |= {name: [a.llama_bench, "-m", gguf, "-t", threads] for name, threads in THEIRS.items()}
    found = {}
    for n in range(a.rounds):
        for loops in map(int, a.loops.split(",")):
            for name, command in programs.items():
                with Loops(loops):
                    found.setdefault(f"{name}, {loops}", []).append(speed(command))
        found.setdefault("two at once", []).extend(at_once(ours(model, "auto")))
        for threads in (CORES, "16"):
            found.setdefault(f"run.py -t {threads}", []).append(speed(ours(model, threads)))
        print(f"round {n + 1} of {a.rounds}", file=sys.stderr, flush=True)
    return found


def rows(found):
    """[(name, {loops: runs})], and what is no row of the table."""
    table, rest = {}, {}
    for key, runs in found.items():
        name, comma, loops = key.rpartition(", ")
        if comma:
            table.setdefault(name, {})[int(loops)] = runs
        else:
            rest[key] = runs
    return table, rest


def text(found):
    table, rest = rows(found)
    loops = sorted({n for runs in table.values() for n in runs})
    lines = ["| busy loops | " + " | ".join(table) + " |", "|---:|" + "---:|" * len(table)]
    told = lambda runs: f"{statistics.median(runs):.0f} ({min(runs):.0f})" if runs else ""
    lines += [f"| {n} | " + " | ".join(told(runs.get(n)) for runs in table.values()) + " |" for n in loops]
    lines += [""] + [f"{name}: {told(runs)}" for name, runs in rest.items()]
    return "\n".join(lines) + "\n"


def svg(found):
    """Lines of medians, and every run as a dot."""
    table, _ = rows(found)
    loops = sorted({n for runs in table.values() for n in runs})
    most = max(max(runs) for of in table.values() for runs in of.values())
    x = lambda n: LEFT + 20 + (WIDE - LEFT - 190) * loops.index(n) / max(1, len(loops) - 1)
    y = lambda v: TOP + (HIGH - TOP - 44) * (1 - v / most)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" role="img" '
        'font-family="sans-serif" font-size="12" fill="#555">',
        "<title>Tokens a second against busy loops</title>",
        f'<rect width="{WIDE}" height="{HIGH}" fill="#fff"/>',
        f'<text x="{LEFT - 44}" y="14">tokens a second</text>',
        f'<text x="{x(loops[-1]):.0f}" y="{HIGH - 8}" text-anchor="end">busy loops beside it</text>',
    ]
    step = next(s for s in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if most / s <= 7)
    for v in range(0, int(most) + 1, step):
        out.append(f'<path d="M{LEFT} {y(v):.1f}H{x(loops[-1]) + 14:.0f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v}</text>')
    out += [f'<text x="{x(n):.0f}" y="{HIGH - 26}" text-anchor="middle">{n}</text>' for n in loops]
    for i, (name, of) in enumerate(table.items()):
        points = " ".join(f"{x(n):.1f},{y(statistics.median(of[n])):.1f}" for n in loops if n in of)
        out.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[i]}" stroke-width="2"/>')
        dots = [(n, v) for n in of for v in of[n]]
        out += [f'<circle cx="{x(n):.1f}" cy="{y(v):.1f}" r="2" fill="{COLOURS[i]}" fill-opacity=".5"/>' for n, v in dots]
        out.append(f'<path d="M{WIDE - 136} {TOP + 20 * i + 6}h18" stroke="{COLOURS[i]}" stroke-width="2"/>')
        out.append(f'<text x="{WIDE - 112}" y="{TOP + 20 * i + 10}">{name}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def busy():
    ap = argparse.ArgumentParser(description="Measure beside busy loops.", allow_abbrev=False)
    ap.add_argument("--llama-bench", metavar="PATH")
    ap.add_argument("--shape", default="110M")
    ap.add_argument("--type", default="q8_0")
    ap.add_argument("--loops", default="0,1,2,3")
    ap.add_argument("--rounds", type=int, default=10)
    ap.add_argument("--work", type=Path, default=Path("bench_work"))
    ap.add_argument("--out", type=Path, default=Path("bench_work/busy"))
    ap.add_argument("--redraw", type=Path, metavar="JSON", help="measure nothing: the table and the picture of this")
    ap.add_argument("--svg", type=Path, metavar="FILE", help="where the picture goes")
    a = ap.parse_args()
    found = json.loads(a.redraw.read_text()) if a.redraw else measured(a)
    if not a.redraw:
        a.out.with_suffix(".json").write_text(json.dumps(found))
        a.out.with_suffix(".md").write_text(text(found))
    (a.svg or a.out.with_suffix(".svg")).write_text(svg(found))
    print(text(found))


if __name__ == "__main__":
    busy()
