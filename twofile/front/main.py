"""The program: a mode, signals, exit codes."""

import contextlib
import os
import signal
import sys
import threading

from ..errors import FLAG_OF, ModelError, say
from ..model import Model
from .forms import read_form
from .mode import SET_BY, unwritten_text
from .modes import MODES, parse_args
from .text import Textless, read_system


def main(argv=None, usual=None):
    """Run the command line; -> exit code. usual: the model that is run when none is named."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        for mode in MODES:
            if mode.line and mode.name in argv:
                return mode.line(argv, usual)
        args = parse_args(argv, usual)
        args.system, args.form = read_system(args), read_form(args)
        model = Model(
            args.model,
            args.tokenizer,
            args.ctx_size,
            args.threads,
            args.kv,
            not args.quiet,
            args.id,
            args.cache_size,
            args.cache_dir,
        )
        with model:
            code = args.mode.run(model, args)
            sys.stdout.flush()
    except ModelError as e:
        sys.stdout.flush()
        say(f"error: {e}")
        return 2 if isinstance(e, Textless) else 1
    except MemoryError:
        say(
            "error: -c, -n or -f: what they ask for takes more memory than there is; "
            "expected room for it; choose less"
        )
        return 1
    return code or 0


class Unheard:
    """A stream for notices: one that it cannot write is no error of what they tell of."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        with contextlib.suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self):
        with contextlib.suppress(OSError):
            self.stream.flush()


def come_again(swallowed):
    """What Ctrl-C or SIGTERM raise while an object is being freed goes no further: the signal is
    sent once more, soon."""
    number = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}.get(swallowed.exc_type)
    freed = getattr(swallowed.object, "__name__", "") == "__del__"
    if freed and swallowed.exc_type is AttributeError:
        return  # of an object whose making a signal has cut short
    if number is None:
        return sys.__unraisablehook__(swallowed)
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
    except (KeyboardInterrupt, SystemExit):  # sent already, while this waited for its thread
        come_again(swallowed)


def safe_streams():
    """A stream that was closed, or cannot be written, does no harm to others."""
    with contextlib.suppress(OSError):
        # a closed stream's number would go to the next file, and be read as one
        while os.open(os.devnull, os.O_RDWR) < 3:
            pass
    # closed by 2>&-; print would take stdout instead
    sys.stderr = Unheard(sys.stderr or open(os.devnull, "w"))


def launch(work=main):
    """The program: streams, signals, then work(), which gives an exit code; never returns."""
    FLAG_OF.update(SET_BY)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.unraisablehook = come_again
    safe_streams()
    try:
        if sys.stdout is None:
            raise OSError(9, "it is closed")
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        code = work()
        sys.stdout.flush()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end is near
        code = 130
        if sys.stdout.isatty():
            print()
    except OSError as e:
        code = unwritten_text(e)
    # all is said; the end of Python takes some milliseconds
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(code)
