"""The program: flags, exit codes."""

import argparse
import gc
import signal
import sys
import traceback
from pathlib import Path

import numpy as np

from ..errors import ModelError, printable
from ..format.types import MATRIX_TYPES
from ..front.habits import CONVERTER
from ..front.main import come_again, safe_streams
from ..front.mode import Flag, Parser
from ..front.spelling import apart
from .calibration.asked import wrong_together
from .convert import export, export_tokenizer
from .say import called
from .sources.random import SHAPES

MORE = """\
sources, recognised by looking at them:
  FOLDER/           Hugging Face: config.json, model.safetensors or its parts, the
                    tokenizer's files; pytorch_model.bin with --allow-pickle
  NAME.gguf         a GGUF, with its tokenizer and chat template; of a split one
                    (NAME-00001-of-00003.gguf) any part
  NAME.bin, NAME.pt llama2.c's checkpoints, version 0, 1 and 2
  FOLDER/           Meta's: params.json, consolidated.*.pth, with --allow-pickle
  ckpt.pt           of train/pretrain.py, with its tokenizer
  --random SHAPE    random weights

tokenizers, in or beside the source, or FILE of --tokenizer:
  tokenizer.json, vocab.json with merges.txt, tokenizer.model (SentencePiece,
  tiktoken), *.tiktoken, tekken.json, llama2.c's tokenizer.bin, a tokenizer.bin

Some need more packages, and it says which: pip install "twofile[export]" has all.

types, by bits of a weight:
  f32, f16, bf16    32, 16, 16
  q8_0, q6_k        8.5, 6.6
  q5_k, q5_1, q5_0  5.6, 6, 5.5
  q4_k, q4_1, q4_0  4.6, 5, 4.5
  iq4_nl, iq4_xs    4.5, 4.3
  q3_k, q2_k        3.6, 2.6

examples:
  python export.py TinyLlama-1.1B/ -o tiny.bin --type q4_0
  python export.py Qwen3-0.6B-Q8_0.gguf -o qwen.bin
  python export.py stories15M.bin -o stories.bin --tokenizer tokenizer.model
  python export.py --random 1.1B -o random.bin
"""

EXPORT_FLAGS = (
    Flag("source", nargs="?", help="a file or folder, as listed below"),
    Flag(
        "-o",
        "--output",
        metavar="FILE",
        help="default model.bin; with --tokenizer-only tokenizer.bin",
    ),
    Flag(
        "--type",
        choices=[t.name for t in MATRIX_TYPES],
        metavar="TYPE",
        help="of the matrices, listed below (default q8_0; of a GGUF, what it holds)",
    ),
    Flag(
        "--calibrate",
        metavar="TEXT",
        help="choose the rounding by what the matrices are given while the model reads "
        "this; NAME.jsonl: texts and conversations",
    ),
    Flag("--imatrix", metavar="FILE", help="choose it by a file of llama.cpp's llama-imatrix"),
    Flag(
        "--mix",
        action="store_true",
        help="with --calibrate: more bits where the model feels it most, a third of a bit a weight",
    ),
    Flag("--tokenizer", metavar="FILE", help="or none; default: what lies in or beside the source"),
    Flag(
        "--tokenizer-out",
        metavar="FILE",
        help="write the tokenizer there, and not into the model file",
    ),
    Flag(
        "--tokenizer-only",
        action="store_true",
        help="write just the tokenizer, of any source or tokenizer's file",
    ),
    Flag("--chat-template", metavar="FILE", help="Jinja; default: the source's"),
    # what is done anyway; once it was not
    Flag("--embed-tokenizer", action="store_true", help=argparse.SUPPRESS),
    Flag(
        "--allow-pickle",
        action="store_true",
        help="read pytorch_model.bin and .pth (without running their code)",
    ),
    Flag(
        "--overwrite",
        action="store_true",
        help="replace the files that -o and --tokenizer-out name",
    ),
    Flag(
        "--random",
        choices=SHAPES,
        help="random weights of a Llama shape instead of a source, to measure speed",
    ),
    Flag("--seed", type=int, default=0, help="of --random (default 0)"),
    Flag("-v", "--verbose", action="store_true", help="list the tensors"),
)


def parser(prog=None):
    """The command line."""
    prog = prog or called()
    ap = Parser(
        prog=prog,
        usage=f"{prog} SOURCE [-o model.bin] [options]",
        description="Turn a trained model into model.bin, the one file that run.py runs.",
        epilog=MORE if prog == "export.py" else MORE.replace("python export.py", prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for flag in EXPORT_FLAGS:
        ap.add_argument(*flag.names, **flag.how)
    return ap


def together(args):
    """What is wrong with flags that were given together, or None."""
    if bool(args.source) == bool(args.random):
        return "give one source: a checkpoint, a folder, or --random SHAPE"
    none = args.tokenizer == "none" or (args.random and not args.tokenizer)
    without = "--tokenizer none" if args.tokenizer == "none" else "--random"
    if args.tokenizer_only:
        if args.random:
            return "--random has no tokenizer; give a source with --tokenizer-only"
        for flag in ("tokenizer", "tokenizer_out", "type", "calibrate", "imatrix", "mix"):
            if getattr(args, flag) not in (None, False):
                name = f"--{flag.replace('_', '-')}"
                return f"{name} goes with a whole export; leave it out, or --tokenizer-only"
        if args.chat_template:
            return "--chat-template goes into a whole export; leave out --tokenizer-only"
    elif none and args.tokenizer_out is not None:
        return f"--tokenizer-out: there is no tokenizer with {without}; leave one of them out"
    elif none and args.embed_tokenizer:
        return f"--embed-tokenizer: there is no tokenizer with {without}; leave one of them out"
    elif none and args.chat_template:
        return f"--chat-template: there is no tokenizer with {without}; leave one of them out"
    if args.embed_tokenizer and args.tokenizer_out is not None:
        return "--embed-tokenizer puts it inside, --tokenizer-out beside; leave one of them out"
    return wrong_together(args)


def main(argv=None):
    """Run the command line; -> exit code."""
    ap = parser()
    argv = sys.argv[1:] if argv is None else argv
    words, sources = apart(argv, EXPORT_FLAGS, ap.error, CONVERTER)
    args = ap.parse_args(words)
    if sources[1:]:
        ap.error(f"{len(sources)} sources, expected one; give one, and what is made of it by -o")
    args.source = sources[0] if sources else None
    np.seterr(all="ignore")  # what is not finite is refused in words
    if wrong := together(args):
        ap.error(wrong)
    try:
        (export_tokenizer if args.tokenizer_only else export)(args)
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
    print(f"{called()}: {text}", file=sys.stderr)
    return 1


def place(e):
    """Where an exception was raised: the last line of ours that it came through."""
    frames = traceback.extract_tb(e.__traceback__)
    ours = Path(__file__).resolve().parent.parent
    own = [f for f in frames if ours in Path(f.filename).resolve().parents] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}"


def launch_exporter(argv=None):
    """The program: signals, then main(); never returns."""
    gc.set_threshold(100_000, 50, 100)  # of vocabularies there is much, and nothing to collect
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.unraisablehook = come_again
    safe_streams()
    sys.exit(main(argv))
