"""
python -m twofile serve beside llama-server: the same GGUF, the same machine, alternating rounds.

    python tests/bench_servers.py --llama-server PATH --gguf MODEL.gguf [--clients 1,2,4,8,16] [--rounds 3] [--threads 2]

Builds nothing; ours serves what export.py makes of that very file. Each client asks one request after the other, of prompts of
20 to 800 tokens (the same for both, each new to the server), and reads the stream: 64 tokens, whatever they are. The table has
tokens a second of all clients together (medians over rounds), the time to the first token, and that between two (p50, p95).
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEW = 64  # tokens of an answer
LENGTHS = 20, 50, 100, 200, 400, 800  # of prompts


def prompts(seed):
    """Endless prompts: pieces of this project's documents, of about so many tokens."""
    text = " ".join(path.read_text() for path in sorted(ROOT.glob("**/*.md"))).split()
    rng = random.Random(seed)
    while True:
        for n in rng.sample(LENGTHS, len(LENGTHS)):
            size = int(n * 0.5)  # words of these have two tokens
            begin = rng.randrange(len(text) - size)
            yield " ".join(text[begin : begin + size])


async def ask(port, prompt):
    """A request -> (seconds to the first token, [seconds between two], tokens)."""
    body = {"prompt": prompt, "max_tokens": NEW, "stream": True, "ignore_eos": True, "temperature": 0.8, "seed": 1}
    raw = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n"
    )
    began = time.perf_counter()
    writer.write(head.encode() + b"Connection: close\r\n\r\n" + raw)
    times = []
    while line := await reader.readline():
        if line.startswith(b"data: {") and b'"text":"' in line.replace(b'"text": "', b'"text":"'):
            times.append(time.perf_counter())
        elif line.startswith(b"HTTP/1.1") and b" 200 " not in line:
            raise RuntimeError(line)
    writer.close()
    return times[0] - began, [b - a for a, b in zip(times, times[1:])], NEW


async def load(port, clients, seconds, seed):
    """-> (tokens a second, [times to the first], [times between]) of so many clients."""
    end, done = time.perf_counter() + seconds, []

    async def client(number):
        given = prompts(seed * 1000 + number)
        while time.perf_counter() < end:
            done.append(await ask(port, next(given)))

    began = time.perf_counter()
    await asyncio.gather(*map(client, range(clients)))
    took = time.perf_counter() - began
    return sum(d[2] for d in done) / took, [d[0] for d in done], [gap for d in done for gap in d[1]]


def start(command, port):
    """A server that answers."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                if answer.status == 200:
                    return process
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{command[0]} does not answer")


def percent(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def commands(a, mine, most):
    """{name: (command, port)}; slots of a rival's server have room for what is asked."""
    ours = [sys.executable, "-m", "twofile", "serve", mine, "--port", "8761", "-t", str(a.threads), "-c", "2048", "-q"]
    theirs = [a.llama_server, "-m", a.gguf, "--port", "8762", "-t", str(a.threads), "-c", str(2048 * most), "-np", str(most)]
    return {"ours": (ours, 8761), "theirs": (theirs + ["--no-webui"] * a.no_webui + a.more, 8762)}


def main(a):
    mine = a.mine or a.gguf.with_suffix(".bin")
    if not mine.exists():
        subprocess.run([sys.executable, "export.py", a.gguf, mine], cwd=ROOT, check=True)
    found, counts = {}, [int(n) for n in a.clients.split(",")]
    for number in range(a.rounds):
        for clients in counts:
            for name, (command, port) in commands(a, mine, clients).items():
                process = start([str(word) for word in command], port)
                try:
                    asyncio.run(load(port, clients, 1, 99))  # it is warm
                    found.setdefault((clients, name), []).append(asyncio.run(load(port, clients, a.seconds, number)))
                finally:
                    process.terminate()
                    process.wait(60)
                rate, first, gaps = found[clients, name][-1]
                print(f"{clients:3} {name:7} {rate:8.1f} t/s", flush=True)
    rows = [
        "| clients | tokens/s | llama-server | ratio | first token, p50, p95, ms | llama-server | between, ms | llama-server |"
    ]
    rows += ["|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for clients in counts:
        ours, theirs = found[clients, "ours"], found[clients, "theirs"]
        rate = [statistics.median(r[0] for r in side) for side in (ours, theirs)]
        ratio = statistics.median(o[0] / t[0] for o, t in zip(ours, theirs))
        cells = [f"{clients}", *(f"{r:.0f}" for r in rate), f"{ratio:.2f}"]
        for place in (1, 2):
            for side in (ours, theirs):
                values = [v for r in side for v in r[place]]
                cells.append(", ".join(f"{1000 * percent(values, p):.1f}" for p in (0.5, 0.95)))
        rows.append("| " + " | ".join(cells) + " |")
    print("\n".join(rows))


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--llama-server", required=True)
    ap.add_argument("--gguf", type=Path, required=True)
    ap.add_argument("--mine", type=Path, help="what export.py made of it")
    ap.add_argument("--clients", default="1,2,4,8,16")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--seconds", type=float, default=12)
    ap.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    ap.add_argument("--no-webui", action="store_true")
    ap.add_argument("more", nargs="*", help="more of llama-server's flags, behind --")
    main(ap.parse_args())
