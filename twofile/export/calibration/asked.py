"""What --calibrate, --imatrix and --mix ask for, before matrices are rounded."""

import contextlib
from dataclasses import replace

from ...errors import printable
from ...format.types import Q8_0, type_of
from ...layers.stack import expected_tensors
from ...machine import available_cores
from ...modelfile import open_model
from ..outputs import check_room
from ..say import Progress, say
from ..write import layout, write_model
from .costs import costs_of_sums
from .imatrix import imatrix_costs
from .inputs import input_sums, windows_of
from .mix import ABOVE, measured_mix, pieces_of
from .texts import read_texts


class Aside:
    """Model files that are needed for a while beside the one that is made. outputs: Outputs;
    place: where that one will be."""

    def __init__(self, outputs, place):
        self.outputs, self.place = outputs, place

    @contextlib.contextmanager
    def model(self, source, type, tokenizer, ending):
        """The model file of a source with matrices of that Type, while the block runs."""
        f = self.outputs.aside(self.place.with_name(f"{self.place.name}.{ending}"))
        rows = layout(source.config, type, tokenizer, source.types)
        nbytes = sum(row.type.nbytes(row.shape, row.blocked) for row in rows)
        check_room(f, nbytes)
        write_model(f, source, source.config, type, tokenizer, b"", Progress(nbytes, "prepared"))
        f.flush()
        try:
            yield open_model(f.name)
        finally:
            self.outputs.drop(f)


def weighed(args, outputs, place, source, tokenizer):
    """The Source with costs, and with types if they are mixed, as the command line asks. place:
    where its model.bin will be; tokenizer: bytes."""
    if args.imatrix:
        return replace(source, costs=imatrix_costs(args.imatrix, source))
    if not args.calibrate:
        return source
    texts, known = read_texts(args, tokenizer)
    windows = windows_of(texts, known.begins, source.config.max_ctx)
    count = sum(map(len, windows))
    aside, kind = Aside(outputs, place), type_of(args.type)
    wanted = {slot.name for slot in expected_tensors(source.config)}
    pieces = pieces_of(source.config, Q8_0) if args.mix else None
    with aside.model(replace(source, types=pieces), Q8_0, tokenizer, "calibration") as exact:
        say(f"reads {count:,} tokens of {printable(args.calibrate)}")
        bar = Progress(count, "read")
        sums = input_sums(exact, windows, available_cores(), wanted, bar.add)
        tied = not source.config.output.own
        costs = {name: costs_of_sums(of, tied and name == "embed") for name, of in sums.items()}
        source = replace(source, costs=costs)
        if args.mix:
            own = replace(source, types=pieces_of(source.config, kind))
            with aside.model(own, kind, tokenizer, "mix") as rounded:
                types = measured_mix(exact, rounded, kind, windows)
            source = replace(source, types=types)
    return source


def wrong_together(args):
    """What is wrong with these flags, or None."""
    flag = "--calibrate" if args.calibrate else "--imatrix" if args.imatrix else None
    if args.calibrate and args.imatrix:
        return "--calibrate and --imatrix say the same of the model in two ways; leave one out"
    if args.mix and not args.calibrate:
        return "--mix measures on a text; give --calibrate TEXT too"
    if not flag:
        return None
    if args.random:
        return f"{flag} goes with a trained model; leave it out, or --random"
    if not args.type or not chooses(type_of(args.type)):
        found = f"--type {args.type}" if args.type else "no --type"
        return f"{flag} with {found}: expected a type of 2 to 6 bits, whose rounding is chosen"
    if args.mix and args.type not in ABOVE:
        return f"--mix with --type {args.type}: expected one of {', '.join(ABOVE)}"
    return None


def chooses(kind):
    """Whether there is anything to choose when floats are rounded to a Type."""
    return kind.quantised and kind is not Q8_0
