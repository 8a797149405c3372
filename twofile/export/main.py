"""The program: flags, exit codes."""

import argparse
import hashlib
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import ModelError, printable
from ..format.config import FLAGS
from ..format.types import MATRIX_TYPES
from ..front.flags import Parser
from ..front.main import come_again
from ..modelfile import open_model, verify
from ..tokenizer.tokenizer import Tokenizer
from .outputs import Outputs
from .say import DAMAGED, say
from .sources.any import read_source
from .sources.random import SHAPES, random_source
from .tokenizers.any import find_tokenizer, lone_tokenizer
from .write import write_model


def export_tokenizer(args):
    """SOURCE -> tokenizer.bin alone."""
    output, source = Path(args.output or "tokenizer.bin"), Path(args.source)
    try:
        raw = lone_tokenizer(source)
        with Outputs(args.overwrite) as outputs:
            outputs.open(output).write(raw)
    except OSError as e:
        where = printable(str(e.filename or args.source))
        raise ModelError(
            f"{where}: {e.strerror or e}; expected a tokenizer; check the path"
        ) from None
    known = Tokenizer(output)
    known.selftest()
    chat = "with a chat template" if known.chat else "no chat template"
    say(f"{printable(str(output))}: {known.n_vocab:,} tokens, {chat}, self-test passed")


def stored_types(source):
    return "/".join(sorted(set((getattr(source, "types", None) or {"": "q8_0"}).values())))


def export(args):
    """SOURCE -> model.bin (and tokenizer.bin), verified."""
    output = Path(args.output)
    beside = output.parent / "tokenizer.bin"
    if not output.parent.is_dir():
        raise ModelError(
            f"-o {printable(args.output)}: its folder does not exist; expected one that does; create it"
        )
    if args.random:
        source, label = random_source(args.random, args.seed), args.random
    else:
        path, label = Path(args.source), printable(Path(args.source).name)
        inside = (
            path.is_dir()
            and output.parent.resolve() == path.resolve()
            and output.name.endswith(".safetensors")
        )
        if inside or (output.exists() and path.exists() and output.resolve() == path.resolve()):
            raise ModelError(
                f"-o {printable(args.output)}: is the source itself; expected another file; choose another -o"
            )
        try:
            source = read_source(path, args.allow_pickle)
        except ModelError as e:
            raise ModelError(
                str(e) if str(e).startswith(str(path)) else f"{printable(args.source)}: {e}"
            ) from None
        except (OSError, *DAMAGED) as e:
            raise ModelError(
                f"{printable(args.source)}: cannot be read ({printable(str(e))[:100]}); is it whole?"
            ) from None
    say(f"{source.kind}, {label}: {source.config.n_layers} layers of {source.config.dim}")
    if args.type:
        source.types = None
    elif getattr(source, "notice", ""):
        say(source.notice)
    dtype = args.type or "q8_0"
    tokenizer = find_tokenizer(args, source) or b""
    c = source.config
    if tokenizer:
        known = Tokenizer(tokenizer)
        if known.n_vocab > c.vocab_size:
            sizes = f"the tokenizer has {known.n_vocab} tokens, the model {c.vocab_size}"
            raise ModelError(f"{sizes}; expected the model's own; choose with --tokenizer")
        c = replace(c, tokenizer_sha256=hashlib.sha256(tokenizer).digest())
        c = replace(c, flags=c.flags | FLAGS["tokenizer"]) if args.embed_tokenizer else c
    elif args.embed_tokenizer:
        raise ModelError(
            "--embed-tokenizer: there is no tokenizer to embed; expected one; choose with --tokenizer FILE"
        )
    made = f"{source.kind}, {label} as {args.type or stored_types(source)}"
    note = "; ".join(filter(None, (made, printable(getattr(source, "note", ""))[:4096])))
    embedded = tokenizer if args.embed_tokenizer else b""
    try:
        with Outputs(args.overwrite) as outputs:
            errors = write_model(
                outputs.open(output), source, c, dtype, embedded, note.encode("utf-8", "replace")
            )
            if (
                tokenizer
                and not embedded
                and not (beside.exists() and beside.read_bytes() == tokenizer)
            ):
                outputs.open(beside).write(tokenizer)
    except OSError as e:
        where = f"{printable(args.output)}: cannot be written ({e.strerror or e})"
        raise ModelError(f"{where}; nothing was changed; free space or choose another -o") from None
    except DAMAGED as e:
        found = f"its tensors do not fit together ({printable(repr(e))[:80]})"
        raise ModelError(
            f"{printable(args.source or label)}: {found}; expected whole matrices; is it damaged?"
        ) from None
    model = open_model(output)
    verify(model)
    if args.verbose:
        for t in model.tensors.values():
            print(f"{t.name:24} {t.dtype:5} {' x '.join(map(str, t.shape)):>20} {t.nbytes:>14,}")
    if errors and dtype != "f32":
        say("relative rms error: " + ", ".join(f"{kind} {e:.2e}" for kind, e in errors.items()))
    say(f"{printable(args.output)}: {model.size:,} bytes, verified, id {model.model_id[:16]}")
    hint = ' -p "Once upon a time"' if tokenizer else " --info"
    say(f"next: python run.py {printable(args.output)}{hint}")


EXAMPLES = """\
examples:
  python export.py stories15M.bin --tokenizer tokenizer.model
  python export.py TinyLlama-1.1B/ -o tiny.bin --type q4_0 --embed-tokenizer
  python export.py --random 1.1B -o random.bin
"""


def main(argv=None):
    """Run the command line; -> exit code."""
    ap = Parser(
        prog="export.py",
        description="Turn a trained model into model.bin and tokenizer.bin, which run.py runs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    ap.add_argument(
        "source",
        nargs="?",
        help="llama2.c .bin or .pt, our trainer's ckpt.pt, or a Hugging Face folder",
    )
    ap.add_argument("-o", "--output", metavar="FILE", help="default model.bin")
    ap.add_argument(
        "--type",
        choices=MATRIX_TYPES,
        help="of the matrices (default q8_0; of a GGUF, what it holds)",
    )
    ap.add_argument(
        "--tokenizer", metavar="FILE", help="or none; default: what lies in or beside the source"
    )
    ap.add_argument(
        "--tokenizer-only",
        action="store_true",
        help="write just tokenizer.bin, from any source or tokenizer file",
    )
    ap.add_argument("--chat-template", metavar="FILE", help="Jinja; default: the source's")
    ap.add_argument(
        "--embed-tokenizer", action="store_true", help="put the tokenizer into the model file"
    )
    ap.add_argument(
        "--allow-pickle",
        action="store_true",
        help="read pytorch_model.bin and .pth (without running their code)",
    )
    ap.add_argument("--overwrite", action="store_true", help="replace an existing output")
    ap.add_argument(
        "--random",
        choices=SHAPES,
        help="random weights of a Llama shape instead of a source, to measure speed",
    )
    ap.add_argument("--seed", type=int, default=0, help="of --random (default 0)")
    ap.add_argument("-v", "--verbose", action="store_true", help="list the tensors")
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
        print(f"export.py: error: {e}", file=sys.stderr)
        return 1
    except MemoryError:
        text = f"{printable(args.source or args.random)}: takes more memory than there is; expected room for its largest matrix"
        print(f"export.py: error: {text}; close other programs", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def launch():
    """The program: signals, then main(); never returns."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.unraisablehook = come_again
    sys.exit(main())
