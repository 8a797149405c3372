"""Habits of other programs' users: flags of theirs, values glued to flags."""

import os
import re

from ..errors import EXPORTER, printable


def told(whose, flags):
    """{flag: whose it is, and what to do here}"""
    return {flag: f"{whose}'s; {here}" for flag, here in flags.items()}


PROCESSOR = "everything runs on the processor; leave it out"
ALWAYS = "it is always so; leave it out"
FIXED = "how many tokens are read at once is fixed; leave it out"
NO_HUB = f"no model is fetched; make one of a file or folder with {EXPORTER} SOURCE"
CHAT_IS = "a conversation is --chat"
COMPILED_CHAT = (
    f"a template is compiled when a model is made: {EXPORTER} SOURCE --chat-template FILE"
)
SERVER = 'the server is python -m twofile serve MODEL, of the package: pip install "twofile[serve]"'
LLAMA_CPP = told(
    "llama.cpp",
    {
        **dict.fromkeys(("-ngl", "--gpu-layers", "--n-gpu-layers", "-sm", "-mg", "-ts"), PROCESSOR),
        **dict.fromkeys(("-dev", "--device", "-ot", "-nkvo", "-cmoe", "-ncmoe"), PROCESSOR),
        **dict.fromkeys(("-fa", "--flash-attn", "-cb", "--mmap", "-mmp", "--no-escape"), ALWAYS),
        **dict.fromkeys(("--no-display-prompt", "--simple-io", "--log-disable"), ALWAYS),
        **dict.fromkeys(("-b", "--batch-size", "-ub", "--ubatch-size"), FIXED),
        **dict.fromkeys(("-tb", "--threads-batch"), "-t is for both; leave it out"),
        **dict.fromkeys(("--no-mmap", "--mlock"), "the file is mapped, always; leave it out"),
        **dict.fromkeys(
            ("-ctk", "-ctv", "--cache-type-k", "--cache-type-v"), "the type of the cache is --kv"
        ),
        **dict.fromkeys(("-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-hft"), NO_HUB),
        **dict.fromkeys(("-mu", "--model-url"), NO_HUB),
        **dict.fromkeys(
            ("-st", "--single-turn"), "-p TEXT without --chat is one turn; leave it out"
        ),
        **dict.fromkeys(("-if", "--interactive", "--interactive-first", "--conversation"), CHAT_IS),
        **dict.fromkeys(("-co", "--color"), "there are no colours; leave it out"),
        **dict.fromkeys(
            ("-e", "--escape"), "backslashes are text; write line ends in the shell, or in -f FILE"
        ),
        **dict.fromkeys(("--reverse-prompt",), "what ends a text is -r or --stop STR"),
        **dict.fromkeys(
            ("-mli", "--multiline-input"), "a line that ends with \\ goes on in the next"
        ),
        **dict.fromkeys(("--chat-template", "--chat-template-file", "--jinja"), COMPILED_CHAT),
        **dict.fromkeys(("-j", "-jf", "--json-schema-file"), "a schema is --json-schema FILE"),
        "--grammar-file": "a grammar in a file is --grammar FILE",
        **dict.fromkeys(("--host", "--port", "--api-key", "--api-key-file"), SERVER),
    },
)
HABITS = {"--serve": f"no flag; {SERVER}"} | LLAMA_CPP
HABITS |= told(
    "llama2.c",
    {
        "-i": "the prompt is -p TEXT",
        "-y": "the system prompt is -sys TEXT",
        "-b": "give the model file as it is; the context is -c N",
    },
)
COMMANDS = {  # first words of the installed program, and what they are where a model stands first
    "run": "leave it out",
    "chat": f"{CHAT_IS}, behind the model",
    "serve": SERVER,
    "export": f"a model is made by {EXPORTER} SOURCE",
    "bench": "speed is measured by --bench MODEL",
    "batch": "many texts are MODEL --batch FILE",
    "help": "all flags are told by --help",
    "completion": "it is of the package: pip install twofile",
}
PLAIN_NUMBER = re.compile(r"-?\.?\d[\d.,]*")


def apart(argv, flags, error, others):
    """The words of a command line for argparse, which takes a value that begins with a dash only
    behind an =, and -ngl 0 for -n gl. A number may be glued to its flag, as in -n20; whatever else
    is glued is refused by error(text), as a flag of others, {flag: what to do}, is.

    flags: those that are known, [Flag].
    """
    dashed = {name: flag.long for flag in flags if flag.dashed for name in flag.names}
    names = {name: flag for flag in flags for name in flag.names if name[0] == "-"}
    words, rest = [], list(argv)
    while rest:
        word = rest.pop(0)
        name = word.partition("=")[0]
        if words and words[-1] in dashed:
            words[-1] = f"{dashed[words[-1]]}={word}"
        elif word == "--":
            return [*words, word, *rest]
        elif name in names or name in ("-h", "--help"):
            words.append(word)
        elif name in others:
            error(f"{name} is {others[name]}")
        elif re.match(r"-[^-.\d]", word):
            words += unglued(word, names, error)
        else:
            words.append(word)
    return words


def unglued(word, names, error):
    """The words that a short flag with something glued to it stands for: flag and number."""
    flag = max((n for n in names if n[1] != "-" and word.startswith(n)), key=len, default=None)
    value = word[len(flag or "") :]
    if flag and names[flag].numeric and PLAIN_NUMBER.fullmatch(value):
        return [flag, value]
    known = f"-{word}" if f"-{word}" in (*names, "--help") else flag
    wants = f"expected {known}" if known else "expected one of --help"
    if known == flag and flag and names[flag].how.get("action") is None:
        wants += f" and a space before its value {printable(value[:40])!r}"
    error(f"{printable(word[:80])} is no flag, {wants}; write it so, or leave it out")


def commanded(argv, error):
    """Refuse a command of the installed program where a model is expected, unless it is a file."""
    word = argv[0] if argv else None
    if word in COMMANDS and not os.path.exists(word):
        error(f"{word} is a command of twofile; here a model.bin comes first; {COMMANDS[word]}")
