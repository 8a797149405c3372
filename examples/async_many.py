"""
Several prompts at once in asyncio, each with a time limit of its own.

    python examples/async_many.py [PROMPT ...] [--seconds 10] [--max-tokens 40] [--seed 1]

They are written together: the weights are read once for all of them, and other tasks go on meanwhile. A task that is cancelled
gives its place back, whether by a time limit, by Ctrl-C or because another was faster.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

FOLDER = Path(os.environ.get("TWOFILE", Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(FOLDER))

from run import Model, ModelError  # noqa: E402


async def written(model, prompt, seconds, **options):
    """-> (what was written in so many seconds, whether that is all)."""
    pieces = []

    async def read():
        async for chunk in model.astream(prompt, **options):
            pieces.append(chunk.text)

    try:
        await asyncio.wait_for(read(), seconds)
    except asyncio.TimeoutError:
        return "".join(pieces), False
    return "".join(pieces), True


async def first(*tasks):
    """What the fastest gives; the others are cancelled."""
    tasks = [asyncio.ensure_future(task) for task in tasks]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def main(a):
    with Model(FOLDER / "model.bin", verbose=False) as model:
        options = {"max_tokens": a.max_tokens, "seed": a.seed}
        found = await asyncio.gather(*[written(model, prompt, a.seconds, **options) for prompt in a.prompts])
        for prompt, (text, whole) in zip(a.prompts, found):
            print(f"{prompt!r}: {text!r}" + ("" if whole else " (time is up)"))
        short = written(model, a.prompts[0], a.seconds, max_tokens=2, seed=a.seed)
        endless = written(model, a.prompts[0], a.seconds, ignore_eos=True, seed=a.seed)
        print("the first:", repr((await first(endless, short))[0]))


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("prompts", nargs="*", metavar="PROMPT", default=["Once upon a time", "One day, a fox", "There was a hen"])
    ap.add_argument("--seconds", type=float, default=10)
    ap.add_argument("--max-tokens", type=int, default=40)
    ap.add_argument("--seed", type=int, default=1)
    try:
        asyncio.run(main(ap.parse_args()))
    except ModelError as e:
        sys.exit(f"async_many.py: {e}")
    except KeyboardInterrupt:
        sys.exit(130)
