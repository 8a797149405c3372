"""What help tells: one screen, and a topic for each thing that it leaves out."""

import argparse
import textwrap

from ..front.bench import bench_parser
from ..front.commands import CHAT_HELP
from ..front.common import ABOUT_TEXT, FIRST, GIVEN, HOW, MACHINE, MANY, OTHER, TALK
from ..front.forms import FORM_FLAGS
from ..front.mode import Parser
from ..front.modes import EXIT_CODES, MODES, all_flags, make_parser
from .table import COMMANDS

SCREEN_TOPICS = ""  # the topic of help without one
ON_SCREEN = "--prompt --file --n-predict --temp --seed --system-prompt --json --ctx-size --quiet"
SCREEN = """\
usage: twofile [COMMAND] [MODEL] [options]; without MODEL: the bundled one

{commands}
Flags that are used most:
{flags}
  twofile -p "Once upon a time"
  twofile model.bin -f notes.txt -p "In short:" -n 60 > summary.txt
  twofile export FOLDER -o model.bin; twofile chat model.bin

{topics}
"""
MODELS = """\
The bundled model has four million parameters and tells stories. A model that
answers is made of a folder of Hugging Face's or of a GGUF, by

  pip install "twofile[export]"
  twofile export FOLDER -o model.bin
  twofile chat model.bin

Its speed goes by its size: a token reads every weight once. -c and --kv say
how much memory a text takes, --info what a model is. A file that is named as
a command is, in this folder, is given with its path: twofile run ./run
"""
CACHE = """\
All texts of a process share one cache of keys and values, in pages; what two
texts begin with is kept once. Beyond --cache-size pages go to --cache-dir, and
later runs find them there. --prompt-cache keeps one prompt, in one file.
Compiled kernels are in NUMBA_CACHE_DIR, or else the user's cache folder.
"""
STRUCTURE = """\
A text that ends by itself is one that the form allows; one that is cut, by -n
or a full context, is the beginning of one. Needs llguidance:

  pip install "twofile[structure]"
  twofile -p "Who is it?" --json-schema '{"enum": ["a fox", "a hen"]}'
  twofile -p "Is it cold?" --regex "(yes|no)"

A line of batch asks for a form by schema, regex, grammar or response_format,
a request to the server by response_format, regex or grammar.
"""
TOOLS = """\
A model that talks may call these, and those of MCP servers:

  calculator      arithmetic; can reach nothing
  date            weekdays, days between dates; can reach the clock
  python          runs code, locked in: no network, no files but Python's own
  files=FOLDER    lists and reads texts below FOLDER
  search=FOLDER   finds words in the texts below FOLDER
  shell           runs commands, with all your rights

  twofile chat assistant.bin --tools calculator,date,files=notes,search

Each call is shown and asked for: once, always, never, or edited first. In a
pipe nobody can be asked: calculator, date, files and search run, others need
--yes. The same flags of twofile serve are for its page. Needs llguidance, and
--mcp the package mcp: pip install "twofile[structure,tools]"
"""
MEMORY = """\
A question is read together with the passages of the folder's texts that fit
it best, a quarter of the context at most, and the answer names where they are
from. /context shows them in a conversation; --json has them as sources.

  twofile assistant.bin --memory notes -p "When does the boat leave?"
  twofile chat assistant.bin --memory notes
  twofile serve assistant.bin --memory notes

Texts are files of UTF-8 or UTF-16 of any name. The index is in the user's
cache folder; what changed is read again before each question. It searches
words, not meanings, and needs a model with a chat template.
"""
BATCH = """\
twofile batch [MODEL] FILE: a line is {"prompt": "..."}, {"messages": [...]} or
a request of OpenAI's batch API, with fields as max_tokens, seed, stop; a line
that fails has an error in its answer, and the exit code is then 1.
"""


CHAT_KEPT = """
What is typed is kept for the arrow keys, in the file that TWOFILE_HISTORY
names (none if that is empty), or else in ~/.local/state/twofile/history.
"""
PARSERS = ("run", "serve", "export", "bench")  # all others have that of run


def parser_of(name):
    """The command line of one of PARSERS."""
    if name == "serve":
        from ..serve.main import serve_parser

        return serve_parser()
    if name == "export":
        from ..export.main import parser

        return parser("twofile export")
    return make_parser() if name == "run" else bench_parser()


def part(*groups, text="", flags=None):
    """Groups of flags as --help lists them, or these flags only, and a text behind -> () -> str"""

    def shown():
        ap = Parser(add_help=False, usage=argparse.SUPPRESS, formatter_class=narrow)
        for group in groups:
            place = ap.add_argument_group(group.title or "model")
            for flag in group.members(MODES):
                if flags is None or flag.long in flags:
                    place.add_argument(*flag.names, **flag.how)
        return "\n\n".join(filter(None, [ap.format_help().strip(), text.strip()])) + "\n"

    return shown


def narrow(prog):
    """argparse's way to write help, on a page of 80 columns."""
    return argparse.HelpFormatter(prog, width=79)


CACHE_FLAGS = ("--kv", "--ctx-size", "--cache-size", "--cache-dir", "--prompt-cache")
FORM_NAMES = tuple(flag.long for flag in FORM_FLAGS)
TOPICS = {
    "run": lambda: parser_of("run").format_help(),
    "models": part(FIRST, OTHER, text=MODELS, flags=("model", "--model", "--tokenizer", "--id")),
    "text": part(ABOUT_TEXT),
    "structure": part(ABOUT_TEXT, text=STRUCTURE, flags=FORM_NAMES),
    "chat": part(TALK, text=f"In a conversation:\n{CHAT_HELP}{CHAT_KEPT}"),
    "tools": part(TALK, text=TOOLS, flags=("--tools", "--mcp", "--yes")),
    "memory": part(TALK, text=MEMORY, flags=("--memory",)),
    "sampling": part(HOW),
    "judging": part(GIVEN),
    "batch": part(MANY, text=BATCH),
    "machine": part(MACHINE),
    "cache": part(MACHINE, text=CACHE, flags=CACHE_FLAGS),
    "other": part(OTHER),
    "serve": lambda: parser_of("serve").format_help(),
    "export": lambda: parser_of("export").format_help(),
    "formats": lambda: parser_of("export").epilog,
    "bench": lambda: parser_of("bench").format_help(),
    "exit-codes": lambda: EXIT_CODES,
    "all": lambda: "\n".join(parser_of(name).format_help() for name in PARSERS),
}


def topic_names():
    """Every TOPIC of help."""
    return list(TOPICS)


def rows(pairs):
    """Two columns, the second wherever there is room."""
    return "".join(f"  {left:28}{right}\n" for left, right in pairs)


def screen():
    """The one page."""
    used = [flag for flag in all_flags() if flag.long in ON_SCREEN.split()]
    names = [f"{', '.join(f.names[:2])} {f.how.get('metavar', '')}".strip() for f in used]
    says = [flag.how["help"].partition(" (default")[0].split(";")[0] for flag in used]
    commands = rows((f"{c.name} {c.given}", c.help) for c in COMMANDS)
    listed = f"Topics of help: {', '.join(TOPICS)}"
    topics = textwrap.fill(listed, 79, subsequent_indent=" " * 16, break_on_hyphens=False)
    return SCREEN.format(commands=commands, flags=rows(zip(names, says)), topics=topics)


def shown(topic):
    """A topic of help, or the one page for SCREEN_TOPICS -> str, which ends with a line end."""
    text = TOPICS[topic]() if topic else screen()
    return text.strip("\n") + "\n"
