"""Writing one text to stdout."""

import sys

from ..errors import ModelError, printable
from ..machines.host import host
from ..writer import Writer
from .prompt import prompt_ids, read_prompt
from .text import dump, tame


def stats(w, cached=0):
    """The line at the end, of a finished Writer."""
    began, first, last = w.clock
    rate = lambda n, s: f"{n} tok {n / max(s, 1e-9):.1f} t/s"
    known = f" ({cached} cached)" if cached else ""
    line = f"prompt {rate(w.n_prompt, first - began)}{known} | gen {rate(w.count, last - first)} | ttft {first - began:.2f} s"
    return f"{line} | stop: {w.reason} | seed {w.seed}"


def write_text(model, args):
    """Generate to stdout, each character as soon as it is whole; then the stats line on stderr."""
    prompt = read_prompt(model, args)
    ids = prompt_ids(model, args, prompt)
    if not ids:
        raise ModelError(
            "-p: the prompt is empty and the model has no begin token, expected text; give -p TEXT"
        )
    out, terminal = sys.stdout.buffer, sys.stdout.isatty()
    limit = None if args.n_predict < 0 else args.n_predict
    logprobs = 0 if args.logprobs is None and args.jsonl else args.logprobs
    options = dict(stop=args.stop, seed=args.seed, ignore_eos=args.ignore_eos, logprobs=logprobs)
    if args.mode == "best_of":
        return write_best(model, args, prompt, ids, limit, {**options, **args.how})

    def write(text):
        out.write((tame(text) if terminal else text).encode())
        out.flush()

    forward = model._open(
        min(model.n_ctx, len(ids) + (args.n_predict if args.n_predict >= 0 else model.n_ctx))
    )
    if args.verbose:
        machine, cpu, _ = host()
        cache = f"{model.kv} KV cache of {forward.n_ctx} positions, {model._cache_bytes(forward.n_ctx):,} bytes"
        model.notice(f"{machine.name} kernels on {cpu}, {model.n_threads} threads, {cache}")
    cached = model.load_cache(args.prompt_cache, ids) if args.prompt_cache else 0
    w = Writer(model, ids, limit, **options, **args.how)
    text = not (args.json or args.jsonl)
    if args.echo and text:
        write(prompt)
    for chunk in model.write(w):
        if text:
            write(chunk.text)
        elif args.jsonl and chunk.token is not None:
            row = {"text": chunk.text, "token": chunk.token, "logprob": chunk.logprob}
            top = [
                {"token": i, "text": model.tokenizer.name(i), "logprob": p} for i, p in chunk.top
            ]
            out.write(dump({**row, "top": top} if top else row))
            out.flush()
    if text and terminal:
        write("\n")
    elif not text:
        out.write(dump(w.completion(prompt if args.echo else "")))
    if args.prompt_cache and cached < w.n_prompt - 1:
        model.save_cache(args.prompt_cache, w.n_prompt)
    if not args.quiet:
        print(stats(w, cached), file=sys.stderr)


def write_best(model, args, prompt, ids, limit, options):
    """--best-of: the best of N texts."""
    import subprocess

    def ask(text):
        done = subprocess.run(args.judge, shell=True, input=text.encode(), stdout=subprocess.PIPE)
        try:
            return float(done.stdout)
        except ValueError:
            said = printable(done.stdout[:40].decode("utf-8", "replace"))
            raise ModelError(
                f"--judge: printed {said!r}, exit code {done.returncode}; expected a number; try it"
            ) from None

    judge = ask if args.judge else None
    places = min(args.parallel, args.best_of)
    model.fit(places)
    found = model.best_of(ids, args.best_of, judge, places, max_tokens=limit, **options)
    best, echo = found[0], prompt if args.echo else ""
    if args.json:
        rows = [
            {"text": w.written, "worth": w.worth, "stop_reason": w.reason, "seed": w.seed}
            for w in found
        ]
        sys.stdout.buffer.write(dump(best.completion(echo) | {"best_of": rows}))
    else:
        text = echo + best.written
        sys.stdout.buffer.write((tame(text) + "\n" if sys.stdout.isatty() else text).encode())
    if not args.quiet:
        worths = ", ".join(f"{w.worth:.4g}" for w in found[:8]) + (", …" if len(found) > 8 else "")
        print(f"{stats(best)} | best of {len(found)}: {worths}", file=sys.stderr)
