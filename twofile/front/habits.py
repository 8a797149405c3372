"""Habits of other programs' users: flags and commands of theirs."""

import os

from ..errors import EXPORTER


def told(whose, flags):
    """{flag: whose it is, and what to do here}"""
    return {flag: f"{whose}'s; {here}" for flag, here in flags.items()}


PROCESSOR = "everything runs on the processor; leave it out"
ALWAYS = "it is always so; leave it out"
FIXED = "how many tokens are read at once is fixed; leave it out"
NO_HUB = f"no model is fetched; make one of a file or folder with {EXPORTER} SOURCE"
NO_DRY = "repetition is held down by --repeat-penalty and --frequency-penalty"
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
            ("-ctk", "-ctv", "--cache-type-k", "--cache-type-v"),
            "keys and values are of one type, which is --kv TYPE",
        ),
        **dict.fromkeys(("-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-hft"), NO_HUB),
        **dict.fromkeys(("-mu", "--model-url"), NO_HUB),
        **dict.fromkeys(("-if", "--interactive", "--interactive-first", "--conversation"), CHAT_IS),
        "--verbose-prompt": "the tokens of a prompt are shown by --tokenize",
        **dict.fromkeys(("-co", "--color"), "there are no colours; leave it out"),
        **dict.fromkeys(("--dry-multiplier", "--dry-base", "--dry-allowed-length"), NO_DRY),
        **dict.fromkeys(("--dry-penalty-last-n", "--dry-sequence-breaker"), NO_DRY),
        **dict.fromkeys(("--samplers", "--sampling-seq", "--sampler-seq"), "their order is fixed"),
        **dict.fromkeys(
            ("-mli", "--multiline-input"), "a line that ends with \\ goes on in the next"
        ),
        **dict.fromkeys(("--chat-template", "--chat-template-file", "--jinja"), COMPILED_CHAT),
        **dict.fromkeys(("--host", "--port", "--api-key", "--api-key-file"), SERVER),
    },
)
LLAMA_SERVER = LLAMA_CPP | told(
    "llama-server",
    {
        **dict.fromkeys(("-m", "--model"), "a model stands by itself: serve model.bin"),
        **dict.fromkeys(("-a", "--alias"), "a model is named so: serve NAME=FILE"),
        **dict.fromkeys(("-np", "--parallel"), "16 texts are written at once; leave it out"),
        **dict.fromkeys(("-n", "--predict", "--n-predict"), "the most is --max-tokens N"),
        **dict.fromkeys(("--metrics", "--slots", "--props"), "/metrics is there; leave it out"),
        **dict.fromkeys(("--embedding", "--embeddings"), "/v1/embeddings is there; leave it out"),
        "--api-key-file": "it is --api-key FILE",
        "-to": "it is --timeout S",
    },
)
LLAMA_SERVER["-p"] = "no flag; the port is --port N"
CONVERTER = told("llama.cpp", {"--outfile": "it is -o FILE", "--outtype": "it is --type TYPE"})
HABITS = {"--serve": f"no flag; {SERVER}", "--stream": f"no flag; {ALWAYS}"} | LLAMA_CPP
HABITS |= told(
    "llama2.c",
    {
        "-i": "the prompt is -p TEXT",
        "-y": "the system prompt is -sys TEXT",
        "-b": "give the model file as it is; the context is -c N",
    },
)
MEANT = {  # names of llama.cpp's, and of others, for flags that are here, and do the same
    "-V": "--version",
    "--prompt-file": "--file",
    "--system": "--system-prompt",
    "--temperature": "--temp",
    "--predict": "--n-predict",
    "--reverse-prompt": "--stop",
    "--typical-p": "--typical",
    "--top-nsigma": "--top-n-sigma",
    "-j": "--json-schema",
    "-jf": "--json-schema",
    "--json-schema-file": "--json-schema",
    "--grammar-file": "--grammar",
}
COMMANDS = {  # first words of the installed program, and what they are where a model stands first
    "run": "leave it out",
    "chat": f"{CHAT_IS}, behind the model",
    "serve": SERVER,
    "export": f"a model is made by {EXPORTER} SOURCE",
    "bench": "speed is measured by --bench MODEL",
    "batch": "many texts are MODEL --batch FILE",
    "help": "all flags are told by --help",
    "version": "it is told by --version",
    "completion": "it is of the package: pip install twofile",
}


FILES_ARE_MODELS = "a model is a file, where you have it"
OLLAMA = {  # its first words, and what there is here
    **dict.fromkeys(("pull", "push"), NO_HUB),
    **dict.fromkeys(("list", "ls", "rm", "cp"), FILES_ARE_MODELS),
    "create": f"a model is made by {EXPORTER} SOURCE",
    "show": "a model is described by MODEL --info",
    **dict.fromkeys(("ps", "stop"), "a server tells it at /api/ps, and closes a model by --idle"),
}


def commanded(argv, error):
    """Refuse a command of ollama's, and of the installed program where a model is expected, unless
    it is a file."""
    word = argv[0] if argv else None
    if word in OLLAMA and not os.path.exists(word):
        error(f"{word} is ollama's; {OLLAMA[word]}")
    if word in COMMANDS and not os.path.exists(word):
        error(f"{word} is a command of twofile; here a model.bin comes first; {COMMANDS[word]}")
