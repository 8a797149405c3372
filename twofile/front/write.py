"""Writing one text to stdout, or the best of several."""

import sys

from ..errors import ModelError, printable, say
from ..logprobs import label
from ..machines.host import host
from ..program.operands import KEYS
from ..writer import Writer
from .common import AS_JSON, AS_JSONL, BEGUN, HOW, LOGPROBS, PROMPT_CACHE, WITH_PROMPT
from .forms import FORM_FLAGS
from .mode import Flag, Mode, prompted
from .recall import MEMORY, Recall, check_recall
from .text import dump, ended, prompt_ids, read_prompt, report, tame

BEST_OF = Flag(
    "--best-of",
    type=int,
    least=1,
    means="1 or more",
    metavar="N",
    help="write N texts at once, print the one the model finds likeliest",
)
JUDGE = Flag(
    "--judge",
    some=True,
    metavar="CMD",
    help="... for which this command, given it on stdin, prints the largest number",
)


def warn_of_cut(w, args):
    """Say that a text which was to have a form is only the beginning of one."""
    if args.form and w.reason in ("length", "context"):
        more = "-n" if w.reason == "length" else "-c"
        flag = next(flag.long for flag in FORM_FLAGS if args[flag] is not None)
        found = f"{flag}: cut after {w.count} tokens, which is the beginning of such a text"
        say(f"{found}; expected a whole one; raise {more}")


def stats(w):
    """The line at the end, of a finished Writer."""
    began, first, last = w.clock
    rate = lambda n, s: f"{n} tok {n / max(s, 1e-9):.1f} t/s"
    known = f" ({w.cached} cached)" if w.cached else ""
    read, written = rate(w.n_prompt, first - began), rate(w.count, last - first)
    line = f"prompt {read}{known} | gen {written} | ttft {first - began:.2f} s"
    return f"{line} | stop: {w.reason} | seed {w.seed}"


def asked_for(model, args, recall=None):
    """-> (the prompt with a begun answer, its ids, how many new tokens at most or None, other
    options of a Writer)"""
    prompt = read_prompt(model, args)
    limit = None if args.n_predict < 0 else args.n_predict
    remember = (lambda messages: recall(messages, limit)) if recall and recall.memory else None
    ids = prompt_ids(model, args, prompt, remember)
    if not ids:
        raise ModelError(
            "-p: the prompt is empty and the model has no begin token, expected text; give -p TEXT"
        )
    logprobs = 0 if args.logprobs is None and args.jsonl else args.logprobs
    more = {"seed": args.seed, "logprobs": logprobs}
    return prompt + args.begun, ids, limit, {**args.options, **more}


def write_text(model, args):
    """Generate to stdout, each character as soon as it is whole; then the stats line on stderr."""
    out, terminal = sys.stdout.buffer, sys.stdout.isatty()
    recall = Recall(model, args)
    prompt, ids, limit, options = asked_for(model, args, recall)
    report(model, args, recall.text)

    def write(text):
        out.write((tame(text) if terminal else text).encode())
        out.flush()

    forward = model.ready()
    if args.verbose:
        machine, cpu, _ = host()
        pages = forward.cache.pages
        size = f"{KEYS * pages:,} positions, {pages * forward.cache.page_bytes:,} bytes"
        cache = f"{model.kv} KV cache of {size} at most"
        model.notice(f"{machine.name} kernels on {cpu}, {model.n_threads} threads, {cache}")
        ahead, spins = forward.tuned
        model.notice(f"tuned: weights asked for {ahead} bytes ahead, {spins} pauses before a sleep")
    cached = model.load_cache(args.prompt_cache, ids) if args.prompt_cache else 0
    w = Writer(model, ids, limit, **options)
    text = not (args.json or args.jsonl)
    if args.echo and text:
        write(prompt)
    for chunk in model.write(w):
        if text:
            write(chunk.text)
        elif args.jsonl and chunk.token is not None:
            out.write(dump(token_row(model, chunk)))
            out.flush()
    if text:
        write(ended((prompt if args.echo else "") + w.written))
        warn_of_cut(w, args)
    else:
        out.write(dump(w.completion(prompt if args.echo else "") | recall.told()))
    pace = forward.player.pace
    if args.verbose and pace and pace.given_up:
        times = f"given up {pace.given_up} times, taken back {pace.taken_back} times"
        model.notice(f"threads: {times}, because other programs held them up; now {pace.use}")
    if args.prompt_cache and cached < w.n_prompt - 1:
        model.save_cache(args.prompt_cache, w.n_prompt)
    if not args.quiet:
        print(*filter(None, (recall.sources(), stats(w))), sep="\n", file=sys.stderr)


def token_row(model, chunk):
    """A Chunk as --jsonl prints it -> dict"""
    row = {"text": chunk.text, "token": chunk.token, "logprob": chunk.logprob}
    top = [{"token": i, "text": label(model.tokenizer, i), "logprob": p} for i, p in chunk.top]
    return {**row, "top": top} if top else row


def write_best(model, args):
    """--best-of: the best of N texts."""
    n, command = args[BEST_OF], args[JUDGE]
    prompt, ids, limit, options = asked_for(model, args)
    judge = (lambda text: judged(command, text)) if command else None
    places = min(args.parallel, n)
    found = model.best_of(ids, n, judge, places, max_tokens=limit, **options)
    best, echo = found[0], prompt if args.echo else ""
    if args.json:
        rows = [
            {"text": w.written, "worth": w.worth, "stop_reason": w.reason, "seed": w.seed}
            for w in found
        ]
        sys.stdout.buffer.write(dump(best.completion(echo) | {"best_of": rows}))
    else:
        text = echo + best.written
        text += ended(text)
        sys.stdout.buffer.write((tame(text) if sys.stdout.isatty() else text).encode())
        warn_of_cut(best, args)
    if not args.quiet:
        worths = ", ".join(f"{w.worth:.4g}" for w in found[:8]) + (", …" if len(found) > 8 else "")
        print(f"{stats(best)} | best of {len(found)}: {worths}", file=sys.stderr)


def judged(command, text):
    """The number that a shell command prints about a text which it is given on stdin."""
    import subprocess

    done = subprocess.run(command, shell=True, input=text.encode(), stdout=subprocess.PIPE)
    try:
        return float(done.stdout)
    except ValueError:
        said = printable(done.stdout[:40].decode("utf-8", "replace"))
        raise ModelError(
            f"--judge: printed {said!r}, exit code {done.returncode}; expected a number; try it"
        ) from None


BEST_OF_MODE = Mode(
    write_best,
    HOW,
    flags=(BEST_OF, JUDGE),
    fits=(AS_JSON, LOGPROBS, WITH_PROMPT, BEGUN, *FORM_FLAGS),
)


def check_text(args):
    """It reads a prompt, and may remember texts."""
    prompted(args)
    check_recall(args)


TEXT_MODE = Mode(  # what is done when no flag asks for another
    write_text,
    fits=(AS_JSON, AS_JSONL, LOGPROBS, PROMPT_CACHE, WITH_PROMPT, BEGUN, MEMORY, *FORM_FLAGS),
    check=check_text,
)
