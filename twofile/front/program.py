"""--program: what was recorded for a model, a line a record."""

from ..program.listing import listing, record_times
from .common import OTHER
from .mode import Flag, Mode, unprompted

PROGRAM_FLAG = Flag(
    "--program",
    action="store_true",
    help="list the forward, a kernel a line, and exit; -v: with shares of the time",
)


def show_program(model, args):
    """A line a record: place, kernel, operands; with -v also its share of the time of one token
    and of a prompt of 128."""
    forward = model.ready(min(model.n_ctx, 256))
    rows = listing(forward.program)
    shares = [
        [f"{100 * t / sum(found):5.1f}%" for t in found] for found in times_measured(forward, args)
    ]
    wide = [max(len(row[i]) for row in rows) for i in range(2)]
    if shares:
        print("  one  128  place, kernel, operands")
    for n, (place, kernel, given) in enumerate(rows):
        before = "".join(f"{column[n]} " for column in shares)
        print(f"{before}{place:{wide[0]}}  {kernel:{wide[1]}}  {given}".rstrip())


def times_measured(forward, args):
    """With -v: seconds of each record, for one token and for 128 (or a full context)."""
    return [record_times(forward, n) for n in (1, min(128, forward.n_ctx))] if args.verbose else []


PROGRAM_MODE = Mode(show_program, OTHER, flags=(PROGRAM_FLAG,), check=unprompted)
