"""The program: flags, modes, signals, exit codes."""

import contextlib
import os
import signal
import sys
import threading

from ..errors import ModelError, printable
from ..model import Model
from ..modelfile import verify
from .batch import batch
from .bench import bench
from .chat import chat
from .flags import parse_args
from .show import show_choice, show_info, show_perplexity, show_score, show_tokens
from .text import as_text, read_text, screen
from .write import write_text


def main(argv=None):
    """Run the command line; -> exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if "--bench" in argv:
            return bench(argv)
        args = parse_args(argv)
        if args.system_file is not None:
            args.system = as_text(read_text(args.system_file), "the system prompt")
        elif args.system is not None:
            args.system = as_text(os.fsencode(args.system), "the system prompt")
        args.system = args.system and screen(args, args.system)
        model = Model(
            args.model,
            args.tokenizer,
            args.ctx_size,
            args.threads,
            args.kv,
            not args.quiet,
            args.id,
        )
        if args.mode == "verify":
            verify(model.file)
            print(
                f"{printable(args.model)}: all {len(model.file.tensors)} tensors match their SHA-256"
            )
        elif args.mode == "batch":
            return batch(model, args)
        elif args.repl:
            return chat(model, args)
        else:
            modes = {
                "info": show_info,
                "tokenize": show_tokens,
                "score": show_score,
                "choices": show_choice,
            }
            {**modes, "perplexity": show_perplexity}.get(args.mode, write_text)(model, args)
        sys.stdout.flush()
    except ModelError as e:
        sys.stdout.flush()
        print(f"run.py: error: {e}", file=sys.stderr)
        return 1
    except MemoryError:
        text = "-c, -n or -f: what they ask for takes more memory than there is; expected room for it; choose less"
        print(f"run.py: error: {text}", file=sys.stderr)
        return 1
    return 0


def come_again(swallowed):
    """What Ctrl-C or SIGTERM raise while an object is being freed goes no further: the signal is sent once more, soon."""
    number = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}.get(swallowed.exc_type)
    if number is None:
        return sys.__unraisablehook__(swallowed)
    threading.Timer(0.01, os.kill, (os.getpid(), number)).start()


def launch():
    """The program: streams, signals, then main(); never returns."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.unraisablehook = come_again
    with contextlib.suppress(OSError):
        while (
            os.open(os.devnull, os.O_RDWR) < 3
        ):  # a closed stream's number would go to the next file, and be read as one
            pass
    sys.stderr = sys.stderr or open(
        os.devnull, "w"
    )  # closed by 2>&-; print would take stdout instead
    try:
        if sys.stdout is None:
            raise OSError(9, "it is closed")
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        code = main()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end is near
        code = 130
        if sys.stdout.isatty():
            print()
    except OSError as e:
        code = 141 if isinstance(e, BrokenPipeError) else 1  # run.py … | head is no error
        if code == 1:
            text = f"standard output cannot be written ({e.strerror}); expected room for the text; free some"
            print(f"run.py: error: {text}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # all is said; the end of Python takes some milliseconds
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(code)
