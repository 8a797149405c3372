"""The modes of the program in one tuple, and its command line.

Order: of two that are asked for, the one that stands first is named first; modes of one group
stand so in --help; the last one has no flag and is what is done without any.
"""

import argparse
import os
import re

from ..errors import CALLED, ModelError, printable
from ..modelfile import MODEL_ID
from ..options import bias_pair
from ..sampler import RULES, Sampling
from .batch import BATCH_MODE
from .bench import BENCH_MODE
from .chat import CHAT_MODE
from .common import GROUPS, LOGIT_BIAS, Settings
from .forms import check_form
from .habits import HABITS, commanded
from .mode import Parser
from .show import (
    CHOICES_MODE,
    INFO_MODE,
    PERPLEXITY_MODE,
    PROGRAM_MODE,
    SCORE_MODE,
    TOKENIZE_MODE,
    VERIFY_MODE,
)
from .spelling import apart
from .write import BEST_OF_MODE, TEXT_MODE

MODES = (
    BATCH_MODE,
    CHAT_MODE,
    SCORE_MODE,
    CHOICES_MODE,
    PERPLEXITY_MODE,
    BEST_OF_MODE,
    BENCH_MODE,
    INFO_MODE,
    PROGRAM_MODE,
    VERIFY_MODE,
    TOKENIZE_MODE,
    TEXT_MODE,
)


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

a server, for programs and for the browser: python -m twofile serve model.bin
"""
EXIT_CODES = """\
exit codes: 0 done, 1 an error, 2 wrong usage, 130 Ctrl-C, 141 the reader of
the pipe has gone. stdout carries the text and nothing else.
"""
COMMAND = "python run.py" if CALLED == "run.py" else CALLED


def all_flags():
    """Every Flag, as --help lists them."""
    return [flag for group in GROUPS for flag in group.members(MODES)]


def make_parser():
    ap = Parser(
        prog=CALLED,
        usage="run.py MODEL [TEXT] [options]"
        if CALLED == "run.py"
        else "twofile [MODEL [TEXT]] [options]",
        description="Write text with a language model.",
        epilog=f"{EXAMPLES}\n{EXIT_CODES}".replace("python run.py", COMMAND),
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=79),
        allow_abbrev=False,
    )
    for group in GROUPS:
        place = ap.add_argument_group(group.title) if group.title else ap
        for flag in group.members(MODES):
            place.add_argument(*flag.names, **flag.how)
    return ap


def parse_args(argv, usual=None):
    """The words of a command line -> Settings; wrong ones end the program with exit code 2. usual:
    the model that is run when none is named."""
    ap, flags = make_parser(), all_flags()
    commanded(argv, ap.error)
    words, plain = apart(argv, flags, ap.error, HABITS)
    given = ap.parse_args(words)
    given.model, given.prompt = placed(plain, given, ap.error)
    if given.model_flag in ("chat", "generate"):
        ap.error(
            f"-m {given.model_flag} is llama2.c's; -m is the model file, a conversation is --chat"
        )
    if given.model is None and given.model_flag is None:
        given.model = usual
    if given.model is not None and given.model_flag is not None:
        found = f"{printable(given.model[:80])!r} beside -m is a file too"
        ap.error(f"{found}; give one model file; a prompt that is a file's name is -p TEXT")
    if given.model is given.model_flag is None:
        ap.error(f"give one model file: {CALLED} model.bin -p TEXT")
    check_habits(given, ap.error)
    check_numbers(given, flags, ap.error)
    mode = chosen(given, flags, ap.error)
    values = {rule.name: getattr(given, rule.name) for rule in RULES}
    how = {name: value for name, value in values.items() if value is not None}
    threads = None if given.threads in (None, "auto") else int(given.threads)
    settings = Settings(given, given.model or given.model_flag, threads, mode, how)
    try:
        if settings.raw and (mode.template or settings.system or settings.system_file):
            raise ModelError(
                "--raw continues text without a template; leave out --chat and the system prompt"
            )
        mode.check(settings)
        check_form(settings)
        Sampling(**how)  # raises for a value out of range
        settings.logit_bias = [bias_pair(text, LOGIT_BIAS.long) for text in given.logit_bias or ()]
    except ModelError as e:
        ap.error(str(e))
    return settings


def placed(plain, given, error):
    """Words that are no flags -> the model and the prompt, which may stand behind it."""
    if given.model_flag is not None and plain and not os.path.exists(plain[0]):
        plain = [None, *plain]
    model = plain[0] if plain else None
    if not plain[1:]:
        return model, given.prompt
    said = printable(plain[-1][:40])
    if plain[2:]:
        error(f"{said!r} is one word too many, expected MODEL and TEXT; put the text in quotes")
    if given.prompt is not None:
        error(f"{said!r} beside -p, expected one prompt; leave one out")
    return plain


def check_habits(given, error):
    """Values that show a flag was taken for another's."""
    if re.fullmatch(r"0?\.\d+|1\.0*", given.prompt or ""):
        error(
            f"-p {given.prompt}: -p is the prompt, expected text; top-p is --top-p "
            "(a prompt like this can come from -f)"
        )
    if given.threads is not None and not re.fullmatch(r"\d{1,9}|auto", given.threads):
        found = printable(given.threads)
        error(f"-t is {found}, expected a number of threads or auto; the temperature is --temp")
    if given.id is not None and not MODEL_ID.fullmatch(given.id):
        error(
            f"--id is {given.id[:80]!r}, expected 16 to 64 hex digits; --info prints a model's id"
        )


def check_numbers(given, flags, error):
    """Numbers within the ranges of their flags."""
    for flag in (flag for flag in flags if flag.means):
        value = flag.value(given)
        if value is not None and not flag.least <= value <= flag.most:
            error(f"{flag.names[0]} is {value}, expected {flag.means}")


def chosen(given, flags, error):
    """The Mode that is asked for: one thing at a time, and flags only where they do something."""
    mode, *more = [mode for mode in MODES if mode.is_asked_for(given)] or [MODES[-1]]
    if more:
        error(f"{mode.name} and {more[0].name}: expected one of them; run them one after the other")
    for flag in flags:
        if flag.some and flag.is_given(given) and not mode.takes(flag):
            wants = " or ".join(other.name for other in MODES if other.takes(flag))
            error(f"{flag.long} does nothing with {mode.name}, expected {wants}; leave it out")
    for flag in (flag for flag in flags if flag.needs):
        if flag.is_given(given) and not any(need.value(given) for need in flag.needs):
            error(flag.lacks)
    return mode
