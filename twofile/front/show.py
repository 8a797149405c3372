"""What is printed about a model, or about how it reads a prompt."""

from ..errors import printable
from ..modelfile import verify
from .common import AS_JSON, ONLY_ID, OTHER
from .mode import Flag, Mode, unprompted
from .prompt import read_prompt
from .text import dump

INFO = Flag("--info", action="store_true", help="describe the model and exit")
VERIFY = Flag(
    "--verify", action="store_true", help="check every tensor against its SHA-256 and exit"
)
TOKENIZE = Flag(
    "--tokenize",
    action="store_true",
    help="print the prompt's tokens, an id and its text a line, and exit",
)


def show_info(model, args):
    if args.json:
        print(dump(model.info).decode(), end="")
        return
    rows = []
    for key, value in model.info.items():
        value = value if isinstance(value, dict) else {"": value}
        rows += [(f"{key} {name}".rstrip(), part) for name, part in value.items()]
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        value = (
            f"{value:,}"
            if isinstance(value, int) and value > 99999
            else "none"
            if value is None
            else printable(str(value))
        )
        print(f"{key:{width}}  {value}")


def show_tokens(model, args):
    for token in model.tokenize(read_prompt(model, args)):
        print(f"{token}\t{printable(model.tokenizer.name(token))}")


def show_verified(model, args):
    verify(model.file)
    n = len(model.file.tensors)
    print(f"{printable(args.model)}: all {n} tensors match their SHA-256")


INFO_MODE = Mode(show_info, OTHER, flags=(INFO, ONLY_ID), fits=(AS_JSON,), check=unprompted)
VERIFY_MODE = Mode(show_verified, OTHER, flags=(VERIFY,), check=unprompted)
TOKENIZE_MODE = Mode(show_tokens, OTHER, flags=(TOKENIZE,))
