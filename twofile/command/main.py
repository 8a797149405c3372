"""The command twofile: its first word is a command, or a model that is run."""

import os
import sys

from ..errors import CALLED, RELEASE, printable, say
from ..format.table import VERSION
from ..front.habits import HABITS, OLLAMA
from ..front.main import launch, main
from ..front.modes import all_flags, make_parser
from ..front.spelling import apart
from ..options import nearest
from .bundled import bundled
from .table import COMMANDS, SHELLS

LARGER = (
    "this is the bundled model, which tells stories; for a larger one: twofile export FOLDER "
    "-o big.bin, then twofile chat big.bin; twofile help models tells more"
)
NAMES = [command.name for command in COMMANDS]


def command_line(argv):
    """The program; never returns."""
    if argv[:1] == ["serve"]:
        from ..serve.main import launch_server

        launch_server(argv[1:])
    if argv[:1] == ["export"]:
        from ..export.main import launch_exporter

        launch_exporter(argv[1:])
    launch(lambda: act(argv))


def act(argv):
    """What the words ask for -> exit code."""
    first, rest = argv[0] if argv else "", argv[1:]
    if rest[:1] in (["-h"], ["--help"]) and first in ("chat", "batch", "help", "completion"):
        return show_help([first] if first in ("chat", "batch") else [])
    if first in ("help", "-h", "--help") or not argv and sys.stdin and sys.stdin.isatty():
        return show_help(rest)
    if first in ("--version", "-V", "version"):
        print(f"{CALLED} {RELEASE}, format {VERSION}, bundled model {bundled() or 'not here'}")
        return 0
    if first == "completion":
        return show_completion(rest)
    ways = {
        "run": lambda: rest,
        "chat": lambda: chatting(rest),
        "bench": lambda: ["--bench", *rest],
        "batch": lambda: batched(rest),
    }
    if first in ways:
        words = ways[first]()
        return 2 if words is None else main(words, bundled())
    if is_bare(first) and first not in OLLAMA:
        found = f"{printable(first[:80])}: no command, nor a file that is here"
        wants = f"expected a model.bin or one of {', '.join(NAMES)}"
        near = nearest(first, NAMES)
        hint = f"did you mean {near}? " if near else ""
        return wrong(f"{found}; {wants}; {hint}a prompt is given by -p TEXT")
    return main(argv, bundled())


def is_bare(word):
    """Whether a first word looks like a command that does not exist, or like a prompt."""
    ending = os.path.splitext(word)[1]
    path = word.startswith("-") or "/" in word or os.sep in word or ending[1:].isalnum()
    return bool(word) and not path and not os.path.exists(word)


def wrong(text):
    """Wrong usage; -> exit code."""
    say(f"error: {text}")
    return 2


def chatting(argv):
    """[MODEL] and flags, as the program knows them; how to get a larger model if there is none."""
    flags, files = apart_from_files(argv)
    quiet = {"-q", "--quiet"} & set(flags)
    if bundled() and not (files or is_named(flags) or quiet):
        say(LARGER)
    return ["--chat", *argv]


def is_named(flags):
    """Whether -m names a model."""
    return any(word.partition("=")[0] in ("-m", "--model") for word in flags)


def batched(argv):
    """[MODEL] FILE and flags, in any order, as the program knows them; None if there is no such
    FILE."""
    flags, files = apart_from_files(argv)
    if {"-h", "--help"} & set(flags):
        return ["--help"]
    named = is_named(flags)
    if not 1 <= len(files) <= 2 - named:
        found = f"batch: {len(files)} files" + " beside -m" * named
        wrong(f"{found}, expected MODEL FILE, or FILE for the bundled model; give these")
        return None
    return [*flags, f"--batch={files[-1]}", "--", *files[:-1]]


def apart_from_files(argv):
    """(flags with their values, words that are files), as the program takes them; what it would
    refuse is refused."""
    return apart(argv, all_flags(), make_parser().error, HABITS)


def show_help(words):
    """help, help TOPIC; -> exit code."""
    from .topics import SCREEN_TOPICS, shown, topic_names

    if len(words) > 1 or words and words[0] not in topic_names():
        found = f"help: {printable(' '.join(words)[:80])}"
        return wrong(f"{found}: no topic; expected one of {', '.join(topic_names())}; name one")
    print(shown(words[0] if words else SCREEN_TOPICS), end="")
    return 0


def show_completion(words):
    """completion SHELL; -> exit code."""
    from .completion import completion

    if len(words) != 1 or words[0] not in SHELLS:
        found = f"completion: {printable(' '.join(words)[:80]) or 'no shell'}"
        return wrong(f"{found}, expected one of {', '.join(SHELLS)}; name one")
    print(completion(words[0]), end="")
    return 0
