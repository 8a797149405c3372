"""Flags that belong to no mode, and what a command line says."""

import os
import sys

from ..errors import CALLED, EXPORTER, RELEASE
from ..format.table import VERSION
from ..kernels.cache import CACHE_NAMES
from ..options import seed_asked, size_asked
from ..sampler import RULES
from .forms import FORM_FLAGS
from .mode import Flag, Group
from .recall import MEMORY
from .text import Screen, as_text, unescaped

MODEL = Flag("model", nargs="?", help=f"a model.bin, written by {EXPORTER}")
MODEL_FLAG = Flag("-m", "--model", dest="model_flag", metavar="FILE", help="the same, as a flag")
TOKENIZER = Flag(
    "-z",
    "--tokenizer",
    metavar="FILE",
    help="default: inside the model, or tokenizer.bin beside it",
)
SHOW_VERSION = Flag("--version", action="version", version=f"{CALLED} {RELEASE}, format {VERSION}")

PROMPT = Flag(
    "-p",
    "--prompt",
    dashed=True,
    metavar="TEXT",
    help="what to answer or continue; may begin with a dash",
)
PROMPT_FILE = Flag(
    "-f",
    "--file",
    metavar="FILE",
    help="read the prompt from a file, - = stdin; before -p if both",
)
ESCAPES = Flag(
    "-e",
    "--escape",
    action="store_true",
    help="of -p, -sys, -r, --continue: \\n is a newline, as \\t, \\r, \\xHH",
)
BEGUN = Flag(
    "--continue",
    some=True,
    dashed=True,
    dest="begun",
    metavar="TEXT",
    help="what the answer begins with: write on behind it",
)
N_PREDICT = Flag(
    "-n",
    "--n-predict",
    "--max-tokens",
    type=int,
    default=-1,
    least=-1,
    means="-1 (until the end), 0 (the prompt only) or more",
    metavar="N",
    help="new tokens (default: all)",
)
STOP = Flag(
    "-r",
    "--stop",
    dashed=True,
    action="append",
    default=[],
    metavar="STR",
    help="end before this text; repeatable",
)
IGNORE_EOS = Flag("--ignore-eos", action="store_true", help="go on after the end token")
WITH_PROMPT = Flag("--echo", some=True, action="store_true", help="print the prompt too")
CLEAN = Flag(
    "--clean",
    action="store_true",
    help="take invisible characters out of prompts, and say how many",
)
AS_JSON = Flag(
    "--json", some=True, action="store_true", help="one object at the end, in OpenAI's form"
)
AS_JSONL = Flag("--jsonl", some=True, action="store_true", help="one object a token, then that one")
LOGPROBS = Flag(
    "--logprobs",
    some=True,
    type=int,
    least=0,
    means="0 or more",
    needs=(AS_JSON, AS_JSONL),
    lacks="--logprobs needs --json or --jsonl, which have a place for them",
    metavar="N",
    help="in JSON: log-probabilities, and the N likeliest tokens",
)

RAW = Flag("--raw", "-no-cnv", action="store_true", help="continue the prompt itself; no template")
SYSTEM = Flag(
    "-sys",
    "--system-prompt",
    dashed=True,
    dest="system",
    metavar="TEXT",
    help="what the model is told first",
)
SYSTEM_FILE = Flag(
    "-sysf",
    "--system-prompt-file",
    dest="system_file",
    metavar="FILE",
    help="the same, from a file",
)

SEED = Flag(
    "-s",
    "--seed",
    type=int,
    metavar="N",
    help="same seed, same text (default, or -1: random, and reported)",
)

LOGIT_BIAS = Flag(
    "--logit-bias",
    action="append",
    metavar="ID+X",
    help="add to the logit of a token, as 15043+1.5 or 15043-100 (never); repeatable",
)

THREADS = Flag(
    "-t",
    "--threads",
    numeric=True,
    metavar="N",
    help="so many; auto (default): the cores this process may use, fewer while they are held up",
)
CTX_SIZE = Flag(
    "-c",
    "--ctx-size",
    type=int,
    default=0,
    least=0,
    means="0 (the model's) or more",
    metavar="N",
    help="context in tokens (default: the model's)",
)
KV = Flag(
    "--kv",
    choices=CACHE_NAMES,
    help="type of the KV cache (default f16; f32 for f32 models); q8_0 takes half of f16",
)
CACHE_SIZE = Flag(
    "--cache-size",
    metavar="SIZE",
    help="of the KV cache, which all texts share: 500M, 4G (default: a quarter of memory)",
)
CACHE_DIR = Flag(
    "--cache-dir",
    metavar="DIR",
    help="keep pages of it there, for which there is no room, and for later runs",
)
PROMPT_CACHE = Flag(
    "--prompt-cache",
    some=True,
    metavar="FILE",
    help="keep what was computed of the prompt, and use it next time",
)

ONLY_ID = Flag(
    "--id",
    metavar="HEX",
    help=f"refuse another model; 16 or more digits of what --info and {EXPORTER} show",
)
QUIET = Flag(
    "-q", "--quiet", action="store_true", help="nothing on stderr unless something is wrong"
)
VERBOSE = Flag("-v", "--verbose", action="store_true", help="say more on stderr")

# Where a mode's flags stand among the others, a group says by an ellipsis.
FIRST = Group(None, MODEL, MODEL_FLAG, TOKENIZER, SHOW_VERSION)
ABOUT_TEXT = Group(
    "text",
    *(PROMPT, PROMPT_FILE, ESCAPES, BEGUN, N_PREDICT, STOP, IGNORE_EOS, WITH_PROMPT, CLEAN),
    *FORM_FLAGS,
    *(AS_JSON, AS_JSONL, LOGPROBS),
)
TALK = Group(
    "conversation (of a model with a chat template)",
    *(..., RAW, SYSTEM, SYSTEM_FILE, MEMORY),
)
HOW = Group(
    "sampling",
    *(Flag(r.flag, dest=r.name, type=r.kind, metavar=r.metavar, help=r.help) for r in RULES),
    *(LOGIT_BIAS, SEED, ...),
)
GIVEN = Group("given texts", ...)
MANY = Group("many texts", ...)
MACHINE = Group("machine", THREADS, CTX_SIZE, KV, CACHE_SIZE, CACHE_DIR, PROMPT_CACHE)
OTHER = Group("other", ..., QUIET, VERBOSE)
GROUPS = (FIRST, ABOUT_TEXT, TALK, HOW, GIVEN, MANY, MACHINE, OTHER)  # as --help lists them


class Settings:
    """A field for what any mode may read; settings[FLAG] for a flag of a mode's own.

    given: what argparse found. model: the file. threads: None = auto. mode: the Mode that was
    chosen. how: {a field of Sampling: its value}, of those that were given.
    """

    def __init__(self, given, model, threads, mode, how):
        self.given = given
        self.mode = mode
        self.how: dict = how
        self.screen = Screen(given.clean)

        self.model: str = model
        self.tokenizer: str | None = given.tokenizer
        self.id: str | None = given.id

        typed = unescaped if given.escape else str
        self.prompt: str | None = given.prompt and typed(given.prompt)
        self.begun: str = as_text(os.fsencode(typed(given.begun or "")), BEGUN.long)
        self.file: str | None = given.file
        self.n_predict: int = given.n_predict  # -1 = until the end
        self.stop: list = [typed(text) for text in given.stop]
        self.ignore_eos: bool = given.ignore_eos
        self.echo: bool = given.echo
        self.json: bool = given.json
        self.jsonl: bool = given.jsonl
        self.logprobs: int | None = given.logprobs
        self.raw: bool = given.raw
        # the message; main() reads it from system_file
        self.system: str | None = given.system and typed(given.system)
        self.system_file: str | None = given.system_file
        self.memory: str | None = given.memory
        self.seed: int | None = seed_asked(given.seed)
        self.logit_bias: list = []  # [(id, number)]; parse_args() reads them
        self.form: dict = {}  # an option of a Writer; main() reads it
        self.parallel: int = given.parallel

        self.threads: int | None = threads
        self.ctx_size: int = given.ctx_size  # 0 = the model's
        self.kv: str | None = given.kv
        self.cache_size: int | None = size_asked(given.cache_size, CACHE_SIZE.long)
        self.cache_dir: str | None = given.cache_dir
        self.prompt_cache: str | None = given.prompt_cache
        self.quiet: bool = given.quiet
        self.verbose: bool = given.verbose

    def __getitem__(self, flag):
        return flag.value(self.given)

    @property
    def options(self):
        """What a Writer is told of how to write."""
        said = {"stop": self.stop, "ignore_eos": self.ignore_eos, "logit_bias": self.logit_bias}
        return {**said, **self.form, **self.how}

    @property
    def promptless(self):
        """Whether there is nothing to read a prompt from, but a terminal."""
        return self.prompt is None and self.file is None and sys.stdin and sys.stdin.isatty()
