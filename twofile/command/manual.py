"""The man page of the command, in roff."""

from ..errors import RELEASE
from ..front.common import GROUPS
from ..front.modes import EXIT_CODES, MODES
from .table import COMMANDS, flags_of, told, value
from .topics import BATCH, CACHE, MEMORY, MODELS, STRUCTURE, TOOLS

ABOUT = (
    "twofile runs language models on a processor. A model is one file, model.bin; without MODEL "
    "the one that comes with the program is run. Text goes to standard output, all else to "
    "standard error. The same seed, model and flags give the same text on every machine."
)
ABOUT_THINGS = {
    "MODELS": MODELS,
    "TEXTS OF A FORM": STRUCTURE,
    "TOOLS": TOOLS,
    "MEMORY": MEMORY,
    "BATCHES": BATCH,
    "CACHE": CACHE,
}
EXAMPLES_OF_USE = (
    'twofile -p "Once upon a time"',
    'twofile model.bin -f notes.txt -p "In short:" -n 60 > summary.txt',
    "twofile batch model.bin requests.jsonl -o answers.jsonl",
    "twofile serve model.bin --port 8000",
    "twofile export FOLDER -o model.bin --type q4_k",
)


def plain(text):
    """text as roff that shows it as it stands."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = "".join(ch if ch.isascii() else f"\\[u{ord(ch):04X}]" for ch in text)
    return f"\\&{text}" if text[:1] in (".", "'") else text


def verbatim(text):
    """Lines that are not filled."""
    return ".nf\n" + "".join(f"{plain(line)}\n" for line in text.strip("\n").split("\n")) + ".fi\n"


def entry(flag):
    """A Flag, with what it does below."""
    names, given = [plain(name) for name in flag.names], value(flag)
    if flag.long.startswith("-"):
        head = ", ".join(f"\\fB{name}\\fR" for name in names)
        head += f" \\fI{plain(given)}\\fR" if given else ""
    else:
        head = f"\\fI{plain(given)}\\fR"
    return f".TP\n{head}\n{plain(told(flag))}\n"


def entries(flags):
    """All of these Flags that are shown."""
    return "".join(entry(flag) for flag in flags if told(flag))


def manual():
    """The page."""
    text = f'.TH TWOFILE 1 "" "twofile {RELEASE}" "User Commands"\n'
    text += ".SH NAME\ntwofile \\- run a language model that is one file\n.SH SYNOPSIS\n"
    for command in COMMANDS:
        word = "" if command.name == "run" else f" {command.name}"
        more = "" if command.name in ("help", "completion") else " [\\fIoptions\\fR]"
        text += f".B twofile{word}\n{plain(command.given)}{more}\n.br\n"
    text += f".SH DESCRIPTION\n{plain(ABOUT)}\n.SH COMMANDS\n"
    for command in COMMANDS:
        text += f".TP\n\\fB{command.name}\\fR {plain(command.given)}\n{plain(command.help)}\n"
    text += ".SH OPTIONS\nOf run, chat and batch.\n"
    for group in GROUPS:
        text += f".SS {plain(group.title or 'model')}\n{entries(group.members(MODES))}"
    for name in ("serve", "export", "bench"):
        text += f".SH OPTIONS OF {name.upper()}\n{entries(flags_of(name))}"
    for title, words in ABOUT_THINGS.items():
        text += f".SH {title}\n{verbatim(words)}"
    text += f".SH EXIT STATUS\n{verbatim(EXIT_CODES.replace('exit codes: ', ''))}.SH EXAMPLES\n"
    return text + verbatim("\n".join(EXAMPLES_OF_USE))
