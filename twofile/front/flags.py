"""The command line's flags."""

import argparse
import os
import re
import sys
from collections import Counter

from ..errors import ModelError, printable
from ..format.table import VERSION
from ..modelfile import MODEL_ID
from ..program.passes import WANTED_MAX
from ..sampler import Sampling


def numbers(text):
    """ "128,512" -> [128, 512]"""
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(
            f"{printable(text)!r}, expected whole numbers, separated by commas"
        )
    return [int(n) for n in text.split(",")]


EXAMPLES = """\
examples:
  python run.py model.bin -p "Once upon a time"
  python run.py model.bin --chat
  python run.py model.bin -f notes.txt -n 100 --temp 0
  echo "The fox said" | python run.py model.bin -q > story.txt
  python run.py model.bin -p "Is a fox red?" --choices yes no
  python run.py model.bin --batch requests.jsonl -o answers.jsonl
  python run.py model.bin --perplexity -f book.txt
  python run.py model.bin -p "A story, please" --json | jq .usage

exit codes: 0 done, 1 an error, 2 wrong usage, 130 Ctrl-C, 141 the reader of
the pipe has gone. stdout carries the text and nothing else.
"""
HABITS = {  # flags of llama2.c and llama.cpp that are something else here
    "-i": "the prompt is -p TEXT",
    "-y": "the system prompt is -sys TEXT",
    "-b": "give the model file as it is; the context is -c N",
    "--chat-template": "a template is compiled when a model is made: export.py SOURCE --chat-template FILE",
}
DASHED = "-p --prompt -r --stop -sys --system-prompt".split()  # whose values may begin with a dash


class Parser(argparse.ArgumentParser):
    def error(self, message):
        super().error(printable(message))


def make_parser():
    ap = Parser(
        prog="run.py",
        usage="run.py MODEL [options]",
        description="Write text with a language model.",
        epilog=EXAMPLES,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=79),
        allow_abbrev=False,
    )
    ap.add_argument("model", nargs="?", help="a model.bin, written by export.py")
    ap.add_argument("-m", "--model", dest="model_flag", metavar="FILE", help="the same, as a flag")
    ap.add_argument(
        "-z",
        "--tokenizer",
        metavar="FILE",
        help="default: inside the model, or tokenizer.bin beside it",
    )
    ap.add_argument("--version", action="version", version=f"run.py 0.1, format {VERSION}")

    text = ap.add_argument_group("text")
    text.add_argument(
        "-p", "--prompt", metavar="TEXT", help="what to answer or continue; may begin with a dash"
    )
    text.add_argument(
        "-f",
        "--file",
        metavar="FILE",
        help="read the prompt from a file, - = stdin; before -p if both",
    )
    text.add_argument(
        "-n",
        "--n-predict",
        "--max-tokens",
        type=int,
        default=-1,
        metavar="N",
        help="new tokens (default: all)",
    )
    text.add_argument(
        "-r",
        "--stop",
        action="append",
        default=[],
        metavar="STR",
        help="end before this text; repeatable",
    )
    text.add_argument("--ignore-eos", action="store_true", help="go on after the end token")
    text.add_argument("--echo", action="store_true", help="print the prompt too")
    text.add_argument(
        "--clean",
        action="store_true",
        help="take invisible characters out of prompts, and say how many",
    )
    text.add_argument("--json", action="store_true", help="one object at the end, in OpenAI's form")
    text.add_argument("--jsonl", action="store_true", help="one object a token, then that one")
    text.add_argument(
        "--logprobs",
        type=int,
        metavar="N",
        help="in JSON: log-probabilities, and the N likeliest tokens",
    )

    talk = ap.add_argument_group("conversation (of a model with a chat template)")
    talk.add_argument(
        "--chat",
        "-cnv",
        action="store_true",
        help="a conversation in the terminal; in a pipe one turn",
    )
    talk.add_argument(
        "--raw", "-no-cnv", action="store_true", help="continue the prompt itself; no template"
    )
    talk.add_argument(
        "-sys",
        "--system-prompt",
        dest="system",
        metavar="TEXT",
        help="what the model is told first",
    )
    talk.add_argument(
        "-sysf",
        "--system-prompt-file",
        dest="system_file",
        metavar="FILE",
        help="the same, from a file",
    )

    how = ap.add_argument_group("sampling")
    how.add_argument(
        "--temp",
        type=float,
        metavar="X",
        help="temperature, 0 = most likely (default the model's, or 0.8)",
    )
    how.add_argument(
        "--top-k",
        type=int,
        metavar="N",
        help="of the N likeliest, 0 = all (default the model's, or 40)",
    )
    how.add_argument(
        "--top-p",
        type=float,
        metavar="X",
        help="of the likeliest with this share (the model's, or 0.95)",
    )
    how.add_argument(
        "--min-p", type=float, metavar="X", help="at least X times the best chance (default 0.05)"
    )
    how.add_argument(
        "--repeat-penalty", type=float, metavar="X", help="against recent tokens, 1 = off (default)"
    )
    how.add_argument(
        "--repeat-last-n", type=int, metavar="N", help="how many are recent, -1 = all (default 64)"
    )
    how.add_argument(
        "-s",
        "--seed",
        type=int,
        metavar="N",
        help="same seed, same text (default: random, and reported)",
    )
    how.add_argument(
        "--best-of",
        type=int,
        metavar="N",
        help="write N texts at once, print the one the model finds likeliest",
    )
    how.add_argument(
        "--judge",
        metavar="CMD",
        help="... for which this command, given it on stdin, prints the largest number",
    )

    given = ap.add_argument_group("given texts")
    given.add_argument("--score", action="store_true", help="log-likelihood of the prompt itself")
    given.add_argument(
        "--choices",
        nargs="+",
        metavar="TEXT",
        help="print the likeliest answer to the prompt of these",
    )
    given.add_argument(
        "--perplexity",
        action="store_true",
        help="of a long prompt, as llama-perplexity's; -c sets windows",
    )

    many = ap.add_argument_group("many texts")
    many.add_argument(
        "--batch",
        metavar="FILE",
        help="JSON lines in (- = stdin), JSON lines out, many written at once",
    )
    many.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="of --batch; FILE.part until it is whole (default stdout)",
    )
    many.add_argument(
        "-np", "--parallel", type=int, default=8, metavar="N", help="at once, 1 to 16 (default 8)"
    )
    many.add_argument("--resume", action="store_true", help="go on with FILE.part")
    many.add_argument(
        "--shard", metavar="I/N", help="of N parts the I-th, from 0 (default: Slurm's array task)"
    )

    machine = ap.add_argument_group("machine")
    machine.add_argument(
        "-t", "--threads", metavar="N", help="default: the cores this process may use"
    )
    machine.add_argument(
        "-c",
        "--ctx-size",
        type=int,
        default=0,
        metavar="N",
        help="context in tokens (default: the model's)",
    )
    machine.add_argument(
        "--kv",
        choices=("f16", "f32"),
        help="type of the KV cache (default f16; f32 for f32 models)",
    )
    machine.add_argument(
        "--prompt-cache",
        metavar="FILE",
        help="keep what was computed of the prompt, and use it next time",
    )

    other = ap.add_argument_group("other")
    other.add_argument(
        "--bench", action="store_true", help="measure tokens per second; --bench -h tells more"
    )
    other.add_argument("--info", action="store_true", help="describe the model and exit")
    other.add_argument(
        "--id",
        metavar="HEX",
        help="refuse another model; 16 or more digits of what --info and export.py show",
    )
    other.add_argument(
        "--verify", action="store_true", help="check every tensor against its SHA-256 and exit"
    )
    other.add_argument(
        "--tokenize",
        action="store_true",
        help="print the prompt's tokens, an id and its text a line, and exit",
    )
    other.add_argument(
        "-q", "--quiet", action="store_true", help="nothing on stderr unless something is wrong"
    )
    other.add_argument("-v", "--verbose", action="store_true", help="say more on stderr")
    return ap


def parse_args(argv):
    ap, glued = make_parser(), []
    for arg in argv:  # a value may begin with a dash, which argparse only takes behind an =
        if glued and glued[-1] in DASHED:
            glued[-1] = (
                {"-p": "--prompt", "-r": "--stop", "-sys": "--system-prompt"}.get(
                    glued[-1], glued[-1]
                )
                + "="
                + arg
            )
        elif arg in HABITS:
            ap.error(f"{arg} is {'llama.cpp' if arg[:2] == '--' else 'llama2.c'}'s; {HABITS[arg]}")
        else:
            glued.append(arg)
    args = ap.parse_args(glued)
    if args.model_flag in ("chat", "generate"):
        ap.error(
            f"-m {args.model_flag} is llama2.c's; -m is the model file, a conversation is --chat"
        )
    if (args.model is None) == (args.model_flag is None):
        ap.error("give one model file: run.py model.bin -p TEXT")
    args.model = args.model or args.model_flag
    if re.fullmatch(r"0?\.\d+|1\.0*", args.prompt or ""):
        ap.error(
            f"-p {args.prompt}: -p is the prompt, expected text; top-p is --top-p (a prompt like this can come from -f)"
        )
    if args.threads is not None and not re.fullmatch(r"\d{1,9}", args.threads):
        ap.error(
            f"-t is {printable(args.threads)}, expected a number of threads; the temperature is --temp"
        )
    args.threads = None if args.threads is None else int(args.threads)
    if args.id is not None and not MODEL_ID.fullmatch(args.id):
        ap.error(
            f"--id is {args.id[:80]!r}, expected 16 to 64 hex digits; --info prints a model's id"
        )
    args.unseen, args.told = Counter(), set()  # for report()
    check_numbers(args, ap.error)
    check_modes(args, ap.error)
    try:
        given = {
            name: getattr(args, name.replace("temperature", "temp"))
            for name in Sampling.__dataclass_fields__
        }
        args.how = {name: value for name, value in given.items() if value is not None}
        Sampling(**args.how)  # raises for a value out of range
    except ModelError as e:
        ap.error(str(e))
    return args


def check_numbers(args, error):
    for flag, value, low, means in (
        ("-n", args.n_predict, -1, "-1 (until the end), 0 (the prompt only) or more"),
        ("-c", args.ctx_size, 0, "0 (the model's) or more"),
        ("-np", args.parallel, 1, "1 to 16"),
        ("--logprobs", args.logprobs, 0, "0 or more"),
        ("--best-of", args.best_of, 1, "1 or more"),
    ):
        if value is not None and (value < low or flag == "-np" and value > WANTED_MAX):
            error(f"{flag} is {value}, expected {means}")


def check_modes(args, error):
    """One thing at a time, and flags only where they do something; where the prompt comes from."""
    modes = {
        name: getattr(args, name)
        for name in "batch chat score choices perplexity best_of info verify tokenize".split()
    }
    args.mode, *more = [name for name, value in modes.items() if value not in (None, False)] or [
        "text"
    ]
    flag = "--" + args.mode.replace("_", "-")
    if more:
        error(
            f"{flag} and --{more[0].replace('_', '-')}: expected one of them; run them one after the other"
        )
    for name, fits in (
        ("judge", ["best_of"]),
        ("output", ["batch"]),
        ("resume", ["batch"]),
        ("shard", ["batch"]),
        ("json", "text best_of score choices perplexity info".split()),
        ("jsonl", ["text"]),
        ("logprobs", "text best_of score".split()),
        ("prompt_cache", ["text"]),
        ("echo", ["text", "best_of"]),
    ):
        if getattr(args, name) not in (None, False) and args.mode not in fits:
            error(
                f"--{name.replace('_', '-')} does nothing with {flag if args.mode != 'text' else 'plain text'}; leave it out"
            )
    if args.logprobs is not None and not (args.json or args.jsonl):
        error("--logprobs needs --json or --jsonl, which have a place for them")
    if args.resume and not args.output:
        error("--resume goes on with a file; name it with -o")
    if args.raw and (args.chat or args.system or args.system_file):
        error("--raw continues text without a template; leave out --chat and the system prompt")
    if args.mode == "batch":
        args.shard = parse_shard(args.shard, error)
    terminal = sys.stdin and sys.stdin.isatty()
    no_prompt = args.prompt is None and args.file is None and terminal
    args.repl = args.chat and no_prompt and sys.stdout.isatty()
    if no_prompt and not args.repl and args.mode not in ("batch", "info", "verify"):
        error("no prompt; give -p TEXT, -f FILE, or a pipe")


def parse_shard(text, error):
    """ "1/8" -> (1, 8); None: Slurm's array, or (0, 1)."""
    if text is None:
        task, count, least = (
            os.environ.get(f"SLURM_ARRAY_TASK_{name}", "") for name in ("ID", "COUNT", "MIN")
        )
        if not re.fullmatch(r"\d{1,9}/\d{1,9}", f"{task}/{count}"):
            return 0, 1
        text = f"{int(task) - int(least or 0)}/{count}"
    if not re.fullmatch(r"\d{1,9}/\d{1,9}", text) or not int(text.split("/")[0]) < int(
        text.split("/")[1]
    ):
        error(f"--shard is {printable(text)}, expected I/N with I from 0 to N - 1, such as 0/4")
    return tuple(map(int, text.split("/")))
