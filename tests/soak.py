"""
Long runs with flat memory.        python tests/soak.py batch|chat [--minutes 30] [--model model.bin]

Feeds one process of run.py with requests, good and bad, long and short, for as long as asked, and prints its resident memory
every minute. Exit code 1 if the last third needed over 2 % more than the most of the second minute to the first third.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from helpers.places import ROOT
from helpers.process import start
from helpers.terminal import Terminal

WORDS = "a fox the hen story about lost shoe <|end|> <|assistant|> é 🙂 \u202e \U000e0041 \x1b[31m and".split(" ")


def resident(pid):
    """Bytes that a process holds in memory, the model file's pages too."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def words(rng, most):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, most)))


def batch(model, rng, until):
    """Lines into --batch, answers out -> (process, function that says how many lines were answered)."""
    flags = "--batch", "-", "-t", "1", "-q", "-np", "4", "--cache-size", "64M"
    p = start(model, *flags, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    answered = [0]

    def feed():
        while time.monotonic() < until:
            line = {"prompt": words(rng, 60), "max_tokens": rng.randint(0, 80), "stop": rng.choice([[], ["."], ["fox", "\n"]])}
            line |= rng.choice([{}, {}, {}, {"temperature": 0}, {"logprobs": 2}, {"seed": -1}, {"wrong": 1}])
            p.stdin.write(rng.choice([json.dumps(line).encode()] * 9 + [b"{", b"\xff" * 50]) + b"\n")
        p.stdin.close()

    def read():
        for _ in p.stdout:
            answered[0] += 1

    for work in (feed, read):
        threading.Thread(target=work, daemon=True).start()
    return p, lambda: f"{answered[0]} lines"


def chat(model, rng, until):
    """A conversation in a terminal, with commands, wrong ones and Ctrl-C."""
    t, said = Terminal(model, "-t", "1", "-n", "60", "--cache-size", "64M"), [0]
    t.until(r"> $")

    def talk():
        while time.monotonic() < until:
            dice = rng.random()
            if dice < 0.8:
                line = "Tell me " + words(rng, 12).replace("\x1b", "")
            else:
                line = rng.choice(["/regen", "/stats", "/reset", "/nonsense", "/load /no/such/file", "/help"])
            os.write(t.fd, line.encode() + b"\n")
            if dice > 0.95:
                time.sleep(0.1 * rng.random())
                t.process.send_signal(signal.SIGINT)
            t.until(r"\n> $")
            said[0] += 1
        t.process.send_signal(signal.SIGTERM)

    threading.Thread(target=talk, daemon=True).start()
    return t.process, lambda: f"{said[0]} turns"


def main():
    ap = argparse.ArgumentParser(description="Long runs with flat memory.")
    ap.add_argument("mode", choices=("batch", "chat"))
    ap.add_argument("--minutes", type=float, default=30)
    ap.add_argument("--model", default=str(ROOT / "model.bin"))
    a = ap.parse_args()
    until = time.monotonic() + 60 * a.minutes
    process, done = {"batch": batch, "chat": chat}[a.mode](a.model, random.Random(1), until)
    sizes = []
    while time.monotonic() < until:
        time.sleep(min(60, 6 * a.minutes))
        if process.poll() is not None and time.monotonic() < until:
            sys.exit(f"soak.py: ended with {process.returncode} after {done()}")
        if process.poll() is None:
            sizes.append(resident(process.pid))
        print(f"{len(sizes)}: {sizes[-1] / 2**20:.1f} MiB, {done()}", flush=True)
    code, third = process.wait(60), max(2, len(sizes) // 3)
    most = max(sizes[1:third] or sizes[:1])
    last = max(sizes[-third:])
    print(f"{a.mode}: exit code {code}, {done()}, {most / 2**20:.1f} MiB at first, {last / 2**20:.1f} MiB at last")
    sys.exit(last > 1.02 * most)


if __name__ == "__main__":
    main()
