"""Habits of other programs' users: flags and commands of theirs."""

import os

from ..errors import EXPORTER


def told(whose, flags):
    """{what to do here: flags of theirs} -> {flag: whose it is, and what to do here}"""
    return {flag: f"{whose}'s; {here}" for here, names in flags.items() for flag in names.split()}


PROCESSOR = "everything runs on the processor; leave it out"
ALWAYS = "it is always so; leave it out"
NEVER = "there is no such thing here; leave it out"
FIXED = "how many tokens are read at once is fixed; leave it out"
NO_HUB = f"no model is fetched; make one of a file or folder with {EXPORTER} SOURCE"
NO_DRY = "repetition is held down by --repeat-penalty and --frequency-penalty"
CHAT_IS = "a conversation is --chat"
COMPILED_CHAT = (
    f"a template is compiled when a model is made: {EXPORTER} SOURCE --chat-template FILE"
)
SERVER = 'the server is python -m twofile serve MODEL, of the package: pip install "twofile[serve]"'
PLACED = "where threads run is up to the system; how many is -t N"
SHIFTS = "where the context is full a text ends, a conversation forgets its oldest turns"
IN_FILE = "a model is read as its file says; leave it out"
MERGED = f"a model is one file; merge what changes it before {EXPORTER}"
GUESSED = "tokens are guessed from the text itself, without another model; leave it out"
NOTICES = "notices go to stderr; -q leaves them out"
THOUGHTS = "a model thinks as its template has it; leave it out"
WRAPS = "a text is as the prompt and its template have it; --raw leaves the template out"
POOL = "all texts share one cache, of --cache-size SIZE"
LLAMA_CPP = told(
    "llama.cpp",
    {
        PROCESSOR: "-ngl --gpu-layers --n-gpu-layers -sm --split-mode -mg --main-gpu -ts "
        "--tensor-split -dev --device --list-devices -ot --override-tensor -nkvo --no-kv-offload "
        "-kvo --kv-offload -cmoe --cpu-moe -ncmoe --n-cpu-moe -fit --fit -fitt --fit-target -fitc "
        "--fit-ctx --op-offload --no-op-offload -nopo --rpc --no-host -nr --no-repack --repack",
        ALWAYS: "-fa --flash-attn -cb --cont-batching --mmap -mmp --no-escape --no-display-prompt "
        "--simple-io --offline",
        NEVER: "-sp --special -gan --grp-attn-n -gaw --grp-attn-w "
        "--control-vector --control-vector-scaled --dynatemp-range --dynatemp-exp",
        "a warm-up is of --bench, always; leave it out": "--warmup --no-warmup",
        FIXED: "-b --batch-size -ub --ubatch-size",
        PLACED: "--prio --prio-batch --poll --poll-batch --numa -C --cpu-mask -Cr --cpu-range "
        "--cpu-strict -Cb --cpu-mask-batch -Crb --cpu-range-batch --cpu-strict-batch",
        SHIFTS: "--keep --context-shift --no-context-shift",
        IN_FILE: "--override-kv --swa-full --rope-scaling --rope-scale --rope-freq-base "
        "--rope-freq-scale --yarn-orig-ctx --yarn-ext-factor --yarn-attn-factor --yarn-beta-slow "
        "--yarn-beta-fast",
        MERGED: "--lora --lora-scaled --lora-base --lora-init-without-apply",
        GUESSED: "-md --model-draft --spec-draft-model --draft --draft-max --draft-n --draft-min "
        "--draft-n-min --draft-p-min --draft-p-split -ngld -cd --ctx-size-draft -devd -td -hfd "
        "-ctkd -ctvd --spec-type -lcs -lcd --lookup-cache-static --lookup-cache-dynamic",
        NOTICES: "-lv --verbosity --log-verbosity --log-verbose --log-file --log-disable "
        "--log-colors --log-prefix --log-timestamps --perf --no-perf --no-show-timings "
        "--show-timings",
        THOUGHTS: "--reasoning-budget --reasoning-format --reasoning-budget-message --reasoning "
        "-rea --chat-template-kwargs",
        WRAPS: "--in-prefix --in-suffix --in-prefix-bos",
        POOL: "-cram --cache-ram --cache-reuse -kvu --kv-unified -dt --defrag-thold "
        "-ctxcp --ctx-checkpoints --swa-checkpoints",
        "tokens are counted at the end, or by --json; leave it out": "-ptc --print-token-count",
        "it keeps what was read of the prompt: --prompt-cache FILE": "--prompt-cache-all "
        "--prompt-cache-ro",
        "the prompt is shown by --echo": "--display-prompt",
        "a file's sums are checked by --verify": "--check-tensors",
        "a model reads text alone; leave it out": "--mmproj -mm --image --audio",
        "-t is for both; leave it out": "-tb --threads-batch",
        "the file is mapped, always; leave it out": "--no-mmap --mlock -dio --direct-io",
        "keys and values are of one type, which is --kv TYPE": "-ctk -ctv --cache-type-k "
        "--cache-type-v",
        NO_HUB: "-hf -hfr --hf-repo -hff --hf-file -hft --hf-token -mu --model-url -dr "
        "--docker-repo",
        CHAT_IS: "-if --interactive --interactive-first --conversation",
        "the tokens of a prompt are shown by --tokenize": "--verbose-prompt",
        "there are no colours; leave it out": "-co --color",
        NO_DRY: "--dry-multiplier --dry-base --dry-allowed-length --dry-penalty-last-n "
        "--dry-sequence-breaker",
        "their order is fixed": "--samplers --sampling-seq --sampler-seq",
        "a line that ends with \\ goes on in the next": "-mli --multiline-input",
        COMPILED_CHAT: "--chat-template --chat-template-file --jinja --no-jinja",
        SERVER: "--host --port --api-key --api-key-file",
    },
)
LLAMA_SERVER = LLAMA_CPP | told(
    "llama-server",
    {
        "a model stands by itself: serve model.bin": "-m --model",
        "a model is named so: serve NAME=FILE": "-a --alias",
        "16 texts are written at once; leave it out": "-np --parallel",
        "the most is --max-tokens N": "-n --predict --n-predict",
        "/metrics is there; leave it out": "--metrics --slots --props",
        "/v1/embeddings is there; leave it out": "--embedding --embeddings",
        "it is --api-key FILE": "--api-key-file",
        "it is --timeout S": "-to",
    },
)
LLAMA_SERVER["-p"] = "no flag; the port is --port N"
CONVERTER = told("llama.cpp", {"it is -o FILE": "--outfile", "it is --type TYPE": "--outtype"})
HABITS = {"--serve": f"no flag; {SERVER}", "--stream": f"no flag; {ALWAYS}"} | LLAMA_CPP
HABITS |= told(
    "llama2.c",
    {
        "the prompt is -p TEXT": "-i",
        "the system prompt is -sys TEXT": "-y",
        "give the model file as it is; the context is -c N": "-b",
    },
)
HABITS |= told(
    "ollama",
    {
        "the form is --json-schema FILE; '{}' is any object": "--format",
        "a model is open while the program runs": "--keepalive",
        THOUGHTS: "--think --hidethinking",
        NO_HUB: "--insecure",
        "lines are broken in a terminal alone; leave it out": "--nowordwrap",
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
    "-l": "--logit-bias",
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
