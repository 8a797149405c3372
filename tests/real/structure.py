"""JSON schemas of others, and what a model writes by them: python tests/real/structure.py MODEL FOLDER [-n 200] [--tokens 400]

FOLDER has schemas as *.json at any depth, such as the data of JSONSchemaBench (Geng et al. 2025). N of them, drawn by a seed:
each is refused, or a text is written by it, several at once; every text that ends must parse and validate, as the package
jsonschema sees it. Then some are written alone, in turn with as many tokens of free text: tokens a second of both, and what of
a token's time is spent outside of passes. Exit 1 if a text is not what its schema allows.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from twofile.errors import ModelError  # noqa: E402
from twofile.model import Model  # noqa: E402
from twofile.writer import Writer  # noqa: E402

SHOWN = 4000  # characters of a schema that the model is shown


def asked(model, schema):
    """The ids of a request for JSON by a schema."""
    text = f"Write one example of JSON by this schema:\n\n{json.dumps(schema)[:SHOWN]}"
    return model.encode_chat([{"role": "user", "content": text}]) if model.tokenizer.chat else model.tokenize(text)


def drawn(folder, n):
    """n of the schemas below a folder -> [(name, schema)]"""
    paths = sorted(p for p in folder.rglob("*.json"))
    paths = random.Random(1).sample(paths, min(n, len(paths)))
    return [(f"{p.parent.name}/{p.stem}", json.loads(p.read_text("utf-8"))) for p in paths]


def wrong(schema, text):
    """What is wrong with a text, in a line, or None."""
    import jsonschema

    try:
        value = json.loads(text)
    except ValueError as e:
        return f"no JSON: {e}"
    checks = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        error = next(checks(schema).iter_errors(value), None)
    except Exception as e:
        return f"? jsonschema: {type(e).__name__}"
    return error and f"{'/'.join(map(str, error.path))}: {error.message[:80]}"


def write(model, schemas, tokens):
    """Write a text by each schema -> (refused {name: why}, finished Writers {name: Writer})"""
    refused, writers = {}, {}

    def each():
        for n, (name, schema) in enumerate(schemas):
            try:
                writers[name] = Writer(model, asked(model, schema), tokens, seed=n, schema=schema)
                yield writers[name]
            except ModelError as e:
                refused[name] = str(e)

    for _ in model.together(each(), 8):
        pass
    return refused, writers


def speed(model, ids, tokens, **how):
    """-> (how many tokens a text has, how many a second it took after its first)"""
    w = Writer(model, ids, tokens, **how)
    list(model.write(w))
    return w.count, (w.count - 1) / max(w.clock[2] - w.clock[1], 1e-9)


def outside(model, ids, tokens, **how):
    """The share of a text's time that is spent between its passes: masks, the choice of tokens, their text."""
    spent, take = [0.0], Writer.take

    def timed(self, logits):
        began = time.perf_counter()
        take(self, logits)
        spent[0] += time.perf_counter() - began

    Writer.take = timed
    try:
        w = Writer(model, ids, tokens, **how)
        list(model.write(w))
    finally:
        Writer.take = take
    return spent[0] / (w.clock[2] - w.clock[1])


def speeds(model, schemas, tokens):
    """Print the speed of texts by schemas, of free text, and of a text of which nothing is certain."""
    ratios, shares, rest = [], [], []
    for n, (_, schema) in enumerate(schemas):
        ids = asked(model, schema)[-256:]
        speed(model, ids, 8)
        rows = []
        for _ in range(2):
            count, fast = speed(model, ids, tokens, seed=n, schema=schema)
            rows.append((fast, speed(model, ids, count, seed=n, ignore_eos=True)[1]))
        any_text = dict(seed=n, regex=r"(.|\n){99999}")
        rows2 = [(speed(model, ids, 48, **any_text)[1], speed(model, ids, 48, seed=n, ignore_eos=True)[1]) for _ in range(3)]
        ratios.append(statistics.median(a / b for a, b in rows))
        rest.append(statistics.median(a / b for a, b in rows2))
        shares.append([outside(model, ids, 48, **how) for how in (any_text, dict(seed=n, ignore_eos=True))])
    print(f"tokens a second, by schema in parts of free text: median {statistics.median(ratios):.2f}, of {len(ratios)} schemas")
    print(f"... where any text is allowed, so nothing is certain: {statistics.median(rest):.3f}")
    form, free = map(statistics.median, zip(*shares))
    print(f"between passes, of a token's time there: {form:.2%}, of free text {free:.2%}")


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("model", type=Path)
    ap.add_argument("folder", type=Path)
    ap.add_argument("-n", type=int, default=200)
    ap.add_argument("--tokens", type=int, default=400)
    ap.add_argument("--alone", type=int, default=20, help="so many are written alone too")
    args = ap.parse_args()
    model, schemas = Model(args.model, verbose=False), drawn(args.folder, args.n)
    began = time.perf_counter()
    refused, writers = write(model, schemas, args.tokens)
    seconds = time.perf_counter() - began
    ended = {name: w for name, w in writers.items() if w.reason == "eos"}
    broken = {name: found for name, w in ended.items() if (found := wrong(dict(schemas)[name], w.written))}
    for name, found in {**refused, **broken}.items():
        print(f"{name}: {found}")
    for name, w in writers.items():
        if w.error:
            print(f"{name}: {w.error}")
    print(f"{len(schemas)} schemas, {len(refused)} refused, {dict(Counter(w.reason for w in writers.values()))}")
    print(f"of {len(ended)} that ended {len(ended) - len(broken)} parse and validate")
    tokens = sum(w.count for w in writers.values())
    print(f"{tokens} tokens in {seconds:.0f} s with prompts, 8 at once")
    if args.alone:
        speeds(model, [pair for pair in schemas if pair[0] in ended][: args.alone], args.tokens)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
