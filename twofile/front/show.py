"""What is printed of a model, or of a given text."""

import math
import os
import sys
import time

from ..errors import ModelError, printable
from ..logprobs import label
from ..modelfile import verify
from ..program.program import listing, record_times
from .common import AS_JSON, GIVEN, LOGPROBS, ONLY_ID, OTHER
from .mode import Flag, Mode, unprompted
from .text import dump, prompt_ids, read_prompt, tame

INFO = Flag("--info", action="store_true", help="describe the model and exit")
VERIFY = Flag(
    "--verify", action="store_true", help="check every tensor against its SHA-256 and exit"
)
TOKENIZE = Flag(
    "--tokenize",
    action="store_true",
    help="print the prompt's tokens, an id and its text a line, and exit",
)


def show_info(model, args):
    if args.json:
        print(dump(model.info).decode(), end="")
        return
    rows = []
    for key, value in model.info.items():
        value = value if isinstance(value, dict) else {"": value}
        rows += [(f"{key} {name}".rstrip(), part) for name, part in value.items()]
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        value = (
            f"{value:,}"
            if isinstance(value, int) and value > 99999
            else "none"
            if value is None
            else printable(str(value))
        )
        print(f"{key:{width}}  {value}")


def show_tokens(model, args):
    for token in model.tokenize(read_prompt(model, args)):
        print(f"{token}\t{printable(label(model.tokenizer, token))}")


def show_verified(model, args):
    verify(model.file)
    n = len(model.file.tensors)
    print(f"{printable(args.model)}: all {n} tensors match their SHA-256")


INFO_MODE = Mode(show_info, OTHER, flags=(INFO, ONLY_ID), fits=(AS_JSON,), check=unprompted)
VERIFY_MODE = Mode(show_verified, OTHER, flags=(VERIFY,), check=unprompted)
TOKENIZE_MODE = Mode(show_tokens, OTHER, flags=(TOKENIZE,))


PROGRAM_FLAG = Flag(
    "--program",
    action="store_true",
    help="list the forward, a kernel a line, and exit; -v: with shares of the time",
)


def show_program(model, args):
    """A line a record: place, kernel, operands; with -v also its share of the time of one token
    and of a prompt of 128."""
    forward = model.ready()
    rows = listing(forward.program)
    shares = [
        [f"{100 * t / sum(found):5.1f}%" for t in found] for found in times_measured(forward, args)
    ]
    wide = [max(len(row[i]) for row in rows) for i in range(2)]
    if shares:
        print("  one  128  place, kernel, operands")
    for n, (place, kernel, given) in enumerate(rows):
        before = "".join(f"{column[n]} " for column in shares)
        print(f"{before}{place:{wide[0]}}  {kernel:{wide[1]}}  {given}".rstrip())


def times_measured(forward, args):
    """With -v: seconds of each record, for one token and for 128 (or a full context)."""
    return [record_times(forward, n) for n in (1, min(128, forward.n_ctx))] if args.verbose else []


PROGRAM_MODE = Mode(show_program, OTHER, flags=(PROGRAM_FLAG,), check=unprompted)


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
    if "" in args[CHOICES]:
        raise ModelError("--choices: one of them is empty, expected answers; give text")
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
