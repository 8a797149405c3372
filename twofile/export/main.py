"""The program: flags, exit codes."""

import argparse
import signal
import sys
import traceback
from pathlib import Path

import numpy as np

from ..errors import ModelError, printable
from ..format.types import MATRIX_TYPES
from ..front.main import come_again
from ..front.mode import Parser
from .convert import export, export_tokenizer
from .sources.random import SHAPES

EXAMPLES = """\
examples:
  python export.py stories15M.bin --tokenizer tokenizer.model
  python export.py TinyLlama-1.1B/ -o tiny.bin --type q4_0 --embed-tokenizer
  python export.py --random 1.1B -o random.bin
"""


def parser():
    """The flags."""
    ap = Parser(
        prog="export.py",
        description="Turn a trained model into model.bin and tokenizer.bin, which run.py runs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = ap.add_argument
    what = "llama2.c .bin or .pt, our trainer's ckpt.pt, or a Hugging Face folder"
    add("source", nargs="?", help=what)
    add("-o", "--output", metavar="FILE", help="default model.bin")
    types = [t.name for t in MATRIX_TYPES]
    add("--type", choices=types, help="of the matrices (default q8_0; of a GGUF, what it holds)")
    what = "or none; default: what lies in or beside the source"
    add("--tokenizer", metavar="FILE", help=what)
    what = "write just tokenizer.bin, from any source or tokenizer file"
    add("--tokenizer-only", action="store_true", help=what)
    add("--chat-template", metavar="FILE", help="Jinja; default: the source's")
    what = "put the tokenizer into the model file"
    add("--embed-tokenizer", action="store_true", help=what)
    what = "read pytorch_model.bin and .pth (without running their code)"
    add("--allow-pickle", action="store_true", help=what)
    add("--overwrite", action="store_true", help="replace an existing output")
    what = "random weights of a Llama shape instead of a source, to measure speed"
    add("--random", choices=SHAPES, help=what)
    add("--seed", type=int, default=0, help="of --random (default 0)")
    add("-v", "--verbose", action="store_true", help="list the tensors")
    return ap


def main(argv=None):
    """Run the command line; -> exit code."""
    ap = parser()
    args = ap.parse_args(argv)
    np.seterr(all="ignore")  # what is not finite is refused in words
    if bool(args.source) == bool(args.random):
        ap.error("give one source: a checkpoint, a folder, or --random SHAPE")
    if args.tokenizer_only and args.random:
        ap.error("--random has no tokenizer; give a source with --tokenizer-only")
    if args.tokenizer_only and args.chat_template:
        ap.error("--chat-template goes into a whole export; leave out --tokenizer-only")
    try:
        if args.tokenizer_only:
            export_tokenizer(args)
        else:
            args.output = args.output or "model.bin"
            export(args)
    except ModelError as e:
        return failed(f"error: {e}")
    except MemoryError:
        found = f"{printable(args.source or args.random)}: takes more memory than there is"
        return failed(f"error: {found}; expected room for its largest matrix; close other programs")
    except KeyboardInterrupt:
        return 130
    except Exception as e:  # a bug of ours: what a file can do wrong is a ModelError
        if args.verbose:
            traceback.print_exc()
        return failed(f"internal: {printable(repr(e))[:200]} at {place(e)}; please report it")
    return 0


def failed(text):
    print(f"export.py: {text}", file=sys.stderr)
    return 1


def place(e):
    """Where an exception was raised: the last line of ours that it came through."""
    frames = traceback.extract_tb(e.__traceback__)
    ours = Path(__file__).resolve().parent.parent
    own = [f for f in frames if ours in Path(f.filename).resolve().parents] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}"


def launch():
    """The program: signals, then main(); never returns."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.unraisablehook = come_again
    sys.exit(main())
