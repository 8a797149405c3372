"""What a model thinks of a given text."""

import math
import os
import sys
import time

from ..errors import ModelError, printable
from .common import AS_JSON, GIVEN, LOGPROBS
from .mode import Flag, Mode
from .prompt import prompt_ids, read_prompt
from .text import dump, tame

SCORE = Flag("--score", action="store_true", help="log-likelihood of the prompt itself")
CHOICES = Flag(
    "--choices",
    nargs="+",
    metavar="TEXT",
    help="print the likeliest answer to the prompt of these",
)
PERPLEXITY = Flag(
    "--perplexity",
    action="store_true",
    help="of a long prompt, as llama-perplexity's; -c sets windows",
)


def show_score(model, args):
    """--score: the log-likelihood of the prompt, in nats."""
    text = read_prompt(model, args)
    ids = model.tokenize(model.short(text))
    if len(ids) < 2:
        found = f"--score: {len(ids)} tokens"
        raise ModelError(
            f"{found}, expected 2 or more (the first has nothing before it); give more text"
        )
    total = float(model.score(ids)[0].sum())
    n_bytes = sum(len(model.tokenizer.piece(i)) for i in ids[1:])
    found = {"logprob": total, "tokens": len(ids) - 1, "bytes": n_bytes}
    found["bits_per_byte"] = -total / math.log(2) / max(n_bytes, 1)
    if args.json:
        lists = model(ids, 0, echo=True, logprobs=args.logprobs or 0)["choices"][0]["logprobs"]
        sys.stdout.buffer.write(dump({**found, "logprobs": lists}))
        return
    print(f"{total:.4f}")
    if not args.quiet:
        line = (
            f"{found['tokens']} tokens, {n_bytes} bytes, {found['bits_per_byte']:.4f} bits per byte"
        )
        print(line, file=sys.stderr)


def show_choice(model, args):
    """--choices: the likeliest of them after the prompt; without a template, behind a space if no
    white space is there."""
    prompt = read_prompt(model, args)
    before = prompt_ids(model, args, prompt)
    plain = args.raw or not model.tokenizer.chat
    rows = []
    for choice in args[CHOICES]:
        if plain:
            gap = "" if not prompt or prompt[-1:].isspace() or choice[:1].isspace() else " "
            found = model.loglikelihood(prompt, gap + choice)[0]
        else:
            ids = model.tokenizer.encode(choice, add_bos=False)
            found = model.loglikelihood(before, ids)[0] if ids else -math.inf
        rows.append({"text": choice, "logprob": found})
    rows.sort(key=lambda row: -row["logprob"])
    if args.json:
        sys.stdout.buffer.write(dump({"choice": rows[0]["text"], "choices": rows}))
        return
    text = rows[0]["text"]
    sys.stdout.buffer.write(
        tame(text).encode() + b"\n" if sys.stdout.isatty() else os.fsencode(text) + b"\n"
    )
    if not args.quiet:
        print(
            " | ".join(f"{printable(row['text'])} {row['logprob']:.4f}" for row in rows),
            file=sys.stderr,
        )


def show_perplexity(model, args):
    began = time.perf_counter()

    def on_window(done, windows, ppl):
        if not args.quiet and sys.stderr.isatty():
            left = (time.perf_counter() - began) / done * (windows - done)
            print(
                f"\rwindow {done} of {windows}: {ppl:.4f}, {left:.0f} s left   ",
                end="",
                file=sys.stderr,
                flush=True,
            )

    found = model.perplexity(read_prompt(model, args), args.ctx_size or 512, on_window)
    if args.json:
        sys.stdout.buffer.write(dump(found))
        return
    print(f"Final estimate: PPL = {found['perplexity']:.4f} +/- {found['error']:.5f}")
    if not args.quiet:
        where = f"{found['tokens']} tokens of {found['windows']} windows of {found['n_ctx']}"
        end = "\r" if sys.stderr.isatty() else ""
        line = f"{found['bits_per_byte']:.4f} bits per byte, {where}"
        print(f"{end}{line}, {time.perf_counter() - began:.1f} s", file=sys.stderr)


SCORE_MODE = Mode(show_score, GIVEN, flags=(SCORE,), fits=(AS_JSON, LOGPROBS))
CHOICES_MODE = Mode(show_choice, GIVEN, flags=(CHOICES,), fits=(AS_JSON,))
PERPLEXITY_MODE = Mode(show_perplexity, GIVEN, flags=(PERPLEXITY,), fits=(AS_JSON,))
