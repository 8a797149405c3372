"""JSON lines in, JSON lines out, many texts written together."""

import os
import random
import stat
import sys
import threading
import time

from ..errors import ModelError, printable, say
from ..files import mode_there, open_regular
from ..program.operands import WANTED_MAX
from .common import MANY
from .forms import FORM_FLAGS
from .mode import Flag, Mode, unprompted
from .requests import count_lines, parse_shard, read_lines, read_request
from .text import dump, refuse_binary

BATCH = Flag(
    "--batch",
    metavar="FILE",
    help="JSON lines in (- = stdin), JSON lines out, many written at once",
)
OUTPUT = Flag(
    "-o",
    "--output",
    some=True,
    metavar="FILE",
    help="of --batch; FILE.part until it is whole (default stdout)",
)
PARALLEL = Flag(
    "-np",
    "--parallel",
    type=int,
    default=8,
    least=1,
    most=WANTED_MAX,
    means="1 to 16",
    metavar="N",
    help="at once, 1 to 16 (default 8)",
)
RESUME = Flag(
    "--resume",
    some=True,
    needs=(OUTPUT,),
    lacks="--resume goes on with a file; name it with -o",
    action="store_true",
    help="go on with FILE.part",
)
SHARD = Flag(
    "--shard",
    some=True,
    metavar="I/N",
    help="of N parts the I-th, from 0 (default: Slurm's array task)",
)


class Batch:
    """Requests in, answers out in their order.

    done: how many answers are there already. Attributes: asked, written (requests, those done
    before too), ended, failed (without them), prompt, new (tokens).
    """

    def __init__(self, model, args, out, done):
        self.model, self.args, self.out, self.done = model, args, out, done
        self.seed = random.getrandbits(32) if args.seed is None else args.seed
        self.asked, self.written, self.ended, self.failed = 0, done, 0, 0
        self.prompt, self.new = 0, 0
        self.turns = {}  # Writer -> (its turn, its Request), while it is being written
        self.waiting = {}  # turn -> answer that waits for those before it

    def writers(self, lines):
        """Yield the Writers that the lines of a queue ask for, None while there is no line yet."""
        import queue

        while True:
            try:
                item = lines.get(block=self.asked == self.ended + self.done)
            except queue.Empty:
                yield None  # others are being written meanwhile
                continue
            if item is None:
                return
            if isinstance(item, ModelError):
                raise item
            turn, self.asked = self.asked, self.asked + 1
            if turn < self.done:
                continue
            number, line = item
            request = read_request(self.model, self.args, line, number, self.seed)
            if request.failed:
                self.failed += 1
                self.end(turn, request)
            else:
                self.turns[request.found] = turn, request
                yield request.found

    def finish(self, w):
        """A Writer has ended: its answer goes out when its turn comes."""
        self.prompt, self.new = self.prompt + w.n_prompt, self.new + w.count
        turn, request = self.turns.pop(w)
        if w.error:
            request.found, self.failed = w.error, self.failed + 1
        self.end(turn, request)

    def end(self, turn, request):
        self.waiting[turn] = request.answer()
        self.ended += 1
        while self.written in self.waiting:
            self.out.write(dump(self.waiting.pop(self.written)))
            self.written += 1
        self.out.flush()


def open_output(path, resume):
    """-> (binary file, None if it is whole; FILE.part until then), lines that are in it, those of
    them that failed."""
    if path is None:
        return sys.stdout.buffer, 0, 0
    name, part = printable(path), path + ".part"
    mode_there(path)  # a pipe is no file that could be gone on with
    if os.path.exists(path) and not resume:
        raise ModelError(f"{name}: exists, expected a new name; remove it first")
    if os.path.exists(path):
        with open(path, "rb") as f:
            rows = [has_failed(line) for line in f]
        return None, len(rows), sum(rows)
    if os.path.exists(part) and not resume:
        raise ModelError(
            f"{name}.part: of a run that was interrupted; expected none; "
            "go on with --resume, or remove it"
        )
    try:
        f = open(part, "a+b")
    except OSError as e:
        raise ModelError(
            f"{name}.part: cannot be written ({e.strerror}); expected room there; choose another"
        ) from None
    try:
        import fcntl

        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass
    except OSError:
        raise ModelError(
            f"{name}.part: another run is writing it, expected none; wait, or choose another"
        ) from None
    f.seek(0)
    whole = done = failed = 0
    for line in f:
        if line.endswith(b"\n"):
            whole, done, failed = whole + len(line), done + 1, failed + has_failed(line)
    f.truncate(whole)
    return f, done, failed


def has_failed(line):
    """Whether an answer, a line of bytes, is an error."""
    import json

    return b'"error": ' in line and bool(json.loads(line).get("error"))


def batch(model, args):
    """--batch; -> exit code: 1 if a line failed."""
    import queue

    source, output, shard = args[BATCH], args[OUTPUT], parse_shard(args[SHARD])
    fd = 0 if source == "-" else open_regular(source, "a file of JSON lines", pipes=True)[0]
    is_file = source != "-" and stat.S_ISREG(os.fstat(fd).st_mode)
    if is_file:
        refuse_binary(os.read(fd, 4096), source, "JSON lines")
        os.lseek(fd, 0, os.SEEK_SET)
    out, done, failed = open_output(output, args[RESUME])
    if out is None:
        model.notice(f"{printable(output)}: is there already; nothing to do")
        return told_failures(failed, done)
    lines, began = queue.Queue(32), time.perf_counter()
    total = count_lines(fd, shard) if is_file else None
    threading.Thread(target=read_lines, args=(fd, shard, lines.put), daemon=True).start()
    state, progress = Batch(model, args, out, done), Progress(total, began, args.quiet)
    try:
        for w, chunk in model.together(state.writers(lines), args.parallel):
            if chunk.finish_reason:
                state.finish(w)
            progress.show(state)
        if output:
            os.fsync(out.fileno())
            os.replace(output + ".part", output)
    except OSError as e:
        if not output:
            raise
        found = f"{printable(output)}.part: cannot be written ({e.strerror})"
        raise ModelError(
            f"{found}; expected room for the answers; free some, and go on with --resume"
        ) from None
    args.screen.report(model.notice)
    if not args.quiet:
        batch_stats(state, time.perf_counter() - began)
    return told_failures(failed + state.failed, state.written, state.failed and not args.quiet)


def told_failures(failed, lines, told=False):
    """Say how many lines failed, unless that is told -> exit code."""
    if failed and not told:
        say(f"error: {failed} of {lines} lines failed; expected none; read their field error")
    return 1 if failed else 0


class Progress:
    """The line in a terminal that says how far it is. total: lines, None = not known; began: s."""

    def __init__(self, total, began, quiet):
        self.total, self.began, self.quiet, self.shown = total, began, quiet, 0.0

    def show(self, state):
        now = time.perf_counter()
        if not sys.stderr.isatty() or self.quiet or now - self.shown <= 0.5:
            return
        self.shown = now
        pace = (now - self.began) / max(state.written - state.done, 1)
        known = self.total and state.ended
        left = f", {(self.total - state.written) * pace:.0f} s left" if known else ""
        line = f"\r{state.written} lines of {self.total or 'a pipe'}{left}   "
        print(line, end="", file=sys.stderr, flush=True)


def batch_stats(state, seconds):
    """The line at the end."""
    rate = f"{state.new} tok {state.new / max(seconds, 1e-9):.1f} t/s"
    read = f"{state.ended} lines ({state.failed} failed) | prompt {state.prompt} tok"
    line = f"{read} | gen {rate} | {seconds:.2f} s | seed {state.seed}"
    print(("\r" if sys.stderr.isatty() else "") + line, file=sys.stderr)


def check_batch(args):
    """Its shard is one; it reads no prompt."""
    parse_shard(args[SHARD])
    unprompted(args)


BATCH_MODE = Mode(
    batch,
    MANY,
    flags=(BATCH, OUTPUT, PARALLEL, RESUME, SHARD),
    fits=FORM_FLAGS,
    check=check_batch,
)
