"""The commands of twofile: what each is given, what it does, its flags."""

from typing import NamedTuple

FILES = ("FILE", "MODEL", "SOURCE", "TEXT")  # metavars of what may be a file
FOLDERS = ("DIR", "FOLDER")


class Command(NamedTuple):
    """A first word: what stands behind it, and what it does."""

    name: str
    given: str
    help: str


COMMANDS = (
    Command("run", "[MODEL] -p TEXT", "write text; the word run may be left out"),
    Command("chat", "[MODEL]", "a conversation"),
    Command("serve", "[MODEL ...]", "a server, for programs and for the browser"),
    Command("export", "SOURCE -o FILE", "make a model.bin of a folder or a GGUF"),
    Command("bench", "[MODEL ...]", "measure tokens per second"),
    Command("batch", "[MODEL] FILE", "many texts: JSON lines in, JSON lines out"),
    Command("help", "[TOPIC]", "all that this page leaves out"),
    Command("completion", "SHELL", "what bash, zsh or fish needs to complete this"),
)
SHELLS = ("bash", "zsh", "fish")


def flags_of(name):
    """The Flags of a command, those of places first; run, chat and batch have the same."""
    if name == "serve":
        from ..serve.main import SERVE_FLAGS

        return SERVE_FLAGS
    if name == "export":
        from ..export.main import EXPORT_FLAGS

        return EXPORT_FLAGS
    if name == "bench":
        from ..front.bench import BENCH_FLAGS

        return BENCH_FLAGS
    if name in ("run", "chat", "batch"):
        from ..front.modes import all_flags

        return all_flags()
    return ()


def told(flag):
    """The help of a Flag; None for one that is not shown."""
    text = flag.how.get("help", "")
    return {"==SUPPRESS==": None}.get(text, text or "print the version")


def value(flag):
    """What a Flag is followed by, as help names it; "" for nothing."""
    if flag.how.get("action") in ("store_true", "version"):
        return ""
    choices = flag.how.get("choices")
    return flag.how.get("metavar") or ",".join(map(str, choices or [flag.long.upper()]))


def kind(flag):
    """What a shell may complete behind a Flag: "files", "folders", a list of words, or None for a
    value that it cannot know; "" if nothing follows."""
    if not value(flag):
        return ""
    if flag.how.get("choices"):
        return list(flag.how["choices"])
    places = {"files": FILES, "folders": FOLDERS}
    found = value(flag).split(",")[0]
    return next((what for what, names in places.items() if found in names), None)
