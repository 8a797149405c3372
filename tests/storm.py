"""
Requests of all kinds from many threads at once.        python tests/storm.py [--requests 10000] [--threads 32] [--seed 1]

Whole, closed, lost, cancelled, late, scored, slow, five at once, wrong, forked: by a random model with room for three contexts,
another with states, and one whose pages go to files. Prints how many of each there were, whether every text was as if it were
alone, whether every page is free or in the tree at the end, and the memory held after each tenth. Exit code 1 if anything is
not as it should be, or the second half needed over 5 % more memory than the first.
"""

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.models import break_token, make_model  # noqa: E402
from helpers.storm import Storm, settled  # noqa: E402
from helpers.switches import HYBRIDS  # noqa: E402
from soak import resident  # noqa: E402
from twofile.model import Model  # noqa: E402


def run(name, path, a, contexts, **more):
    alone = Model(path, verbose=False)
    size = int(contexts * alone.cache_bytes(alone.n_ctx))
    model = Model(path, n_threads=2, cache_size=size, verbose=False, **more)
    storm, began, held = Storm(model, alone, a.seed, broken=92), time.monotonic(), []
    for _ in range(10):
        storm.run(a.requests // 10, a.threads)
        held.append(resident("self"))
    whole, flat = settled(model), max(held[5:]) <= 1.05 * max(held[:5])
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(storm.ended.items()))
    print(f"{name}: {sum(storm.ended.values())} in {time.monotonic() - began:.0f} s: {kinds}")
    print(f"  {len(storm.wrong)} wrong; pages {'all there' if whole else 'LOST'}, {model.scheduler.pages.count} of them")
    print(f"  MB held: {' '.join(f'{n / 1e6:.0f}' for n in held)}", flush=True)
    for what in storm.wrong[:5]:
        print("  ", what)
    model.close()
    return not storm.wrong and whole and flat


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--requests", type=int, default=10000)
    ap.add_argument("--threads", type=int, default=32)
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)  # forks of a process with threads, on purpose
    with tempfile.TemporaryDirectory() as folder:
        f = Path(folder)
        good = run("attention", break_token(make_model(f / "a.bin", "f32", max_ctx=400)), a, 3)
        states = break_token(make_model(f / "s.bin", "f32", max_ctx=400, **HYBRIDS["delta rule"]))
        good &= run("states", states, a, 8)
        good &= run("pages in files", f / "a.bin", a, 1.2, cache_dir=f / "kept")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
