"""
A language model as a lossy compression of its text: bits per byte of texts that no training saw, beside gzip, xz and zstd.

    python train/compression.py model.bin [other.bin …] [--data DIR]

The stories are the end of the TinyStories part that pretrain.py holds out, each read from its beginning; the classic is the
first 200,000 characters of one that is in no training text. A model is measured by its log-likelihood with run.py (windows of
its own context, the last one full: Model.loglikelihood_rolling); a program that compresses, by what it makes of the whole text.
Prints a table.
"""

import argparse
import bz2
import gzip
import lzma
import math
import sys
from pathlib import Path

from pretrain import SEPARATOR, corpus

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from twofile import Model  # noqa: E402


def held_out(folder):
    """-> {name: list of documents}"""
    classics = lzma.open(Path(folder) / "classics.txt.xz", "rt", encoding="utf-8").read().split(SEPARATOR)
    return {"stories": corpus(folder)[1], "classic": [classics[0].strip()[:200_000]]}


def packers():
    yield "gzip -9", lambda raw: gzip.compress(raw, 9)
    yield "bzip2 -9", lambda raw: bz2.compress(raw, 9)
    yield "xz -9e", lambda raw: lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)
    try:
        import zstandard
    except ImportError:
        print("compression.py: no zstd: zstandard is not installed", file=sys.stderr)
        return
    yield "zstd -19", lambda raw: zstandard.ZstdCompressor(level=19).compress(raw)


def main():
    ap = argparse.ArgumentParser(description="Bits per byte of models and of compression programs.", allow_abbrev=False)
    ap.add_argument("models", nargs="+")
    ap.add_argument("--data", default=str(Path(__file__).resolve().parents[2] / "shared" / "corpus"))
    a = ap.parse_args()
    texts = held_out(a.data)
    sizes = {name: sum(len(d.encode()) for d in docs) for name, docs in texts.items()}
    print("| | size | " + " | ".join(f"{name}, {size:,} bytes" for name, size in sizes.items()) + " |")
    print("|---|---:|" + "---:|" * len(texts))
    for name, pack in packers():
        bits = [8 * len(pack("\n".join(docs).encode())) / sizes[kind] for kind, docs in texts.items()]
        print(f"| {name} | | " + " | ".join(f"{b:.3f}" for b in bits) + " |", flush=True)
    for path in a.models:
        model, bits = Model(path, verbose=False), []
        for kind, docs in texts.items():
            nats = -sum(model.loglikelihood_rolling(d) for d in docs)
            bits.append(nats / math.log(2) / sizes[kind])
        print(f"| {Path(path).stem} | {model.file.size:,} | " + " | ".join(f"{b:.3f}" for b in bits) + " |", flush=True)


if __name__ == "__main__":
    main()
