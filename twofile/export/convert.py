"""SOURCE -> model.bin, or its tokenizer alone."""

import functools
import hashlib
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import ModelError, printable
from ..format.types import F32, Q8_0, type_of
from ..modelfile import open_model, verify
from ..tokenizer.tokenizer import Tokenizer
from .calibration.asked import weighed
from .damage import by_words, worded
from .outputs import Outputs, check_room, refuse_inputs, same_file, unwritten
from .say import advising, called, named, say
from .sources.any import read_source
from .sources.random import random_source
from .tokenizers.any import find_tokenizer, lone_tokenizer
from .tokenizers.packages import check_packages
from .write import layout, write_model

ODD = "is the source what its makers published?"  # where it asks for what run.py does not do
OTHER = "choose another with --tokenizer"


def export_tokenizer(args):
    """SOURCE -> tokenizer.bin alone. args: of the command line, here and below."""
    output, asked = named_output(args, "tokenizer.bin")
    refuse_inputs(args, [("-o", output)])
    with Outputs(args.overwrite) as outputs:
        f = outputs.open(output, "-o", asked)
        check_packages(args)
        with advising("give another"):
            raw = lone_tokenizer(Path(args.source))
            known = Tokenizer(raw)
            known.selftest()
        written(f, raw, output)
    chat = "with a chat template" if known.chat else "no chat template"
    say(f"{printable(str(output))}: {known.n_vocab:,} tokens, {chat}, self-test passed")


def named_output(args, otherwise):
    """-> where -o says, and whether it says so."""
    asked = args.output is not None
    return Path(args.output if asked else otherwise), asked


def export(args):
    """SOURCE -> model.bin, verified; its tokenizer inside, or in --tokenizer-out."""
    output, asked = named_output(args, "model.bin")
    apart = Path(args.tokenizer_out) if args.tokenizer_out is not None else None
    places = [("-o", output)] + ([("--tokenizer-out", apart)] if apart else [])
    refuse_inputs(args, places)
    if args.random:  # numpy.random, before there is a file: a signal is swallowed while it comes
        np.random.default_rng(0)
    with Outputs(args.overwrite) as outputs:
        f = outputs.open(output, "-o", asked)
        beside = outputs.open(apart, "--tokenizer-out") if apart else None
        check_packages(args)
        source, tokenizer, note = understood(args)
        try:
            source = weighed(args, outputs, output, source, tokenizer)
            errors = write_file(args, f, source, b"" if apart else tokenizer, note)
        except ModelError:  # also of a file that is not there
            raise
        except OSError as e:
            raise unwritten(output, e) from None
        if beside:
            written(beside, tokenizer, apart, "--tokenizer-out")
    report(args, output, errors, tokenizer)


def understood(args):
    """All of a model but the numbers -> its Source, whose config is the file's, the bytes of its
    tokenizer, and the note."""
    label = args.random or printable(Path(args.source).name)
    source = random_source(args.random, args.seed) if args.random else given_source(args)
    say(f"{source.kind}, {label}: {source.config.n_layers} layers of {source.config.dim}")
    if args.type:
        source = replace(source, types=None, notice=None)
    if source.notice:
        say(source.notice)
    with advising(OTHER):
        tokenizer = find_tokenizer(args, source) or b""
        source = replace(source, config=config_with(args, source.config, tokenizer))
    types = {kind.name for pieces in (source.types or {}).values() for _, kind in pieces}
    stored = args.type or "/".join(sorted(types)) or Q8_0.name
    how = " by --calibrate" * bool(args.calibrate) + " by --imatrix" * bool(args.imatrix)
    about = [f"{source.kind}, {label} as {stored}{how}", printable(source.note or "")[:4096]]
    return source, tokenizer, "; ".join(filter(None, about))


def given_source(args):
    """The Source that the command line names."""
    path, name = Path(args.source), printable(args.source)
    try:
        with worded(f"{name}: cannot be read (", "); is it whole?", by_words):
            with named(name), advising(ODD):
                return read_source(path, args.allow_pickle)
    except OSError as e:
        raise ModelError(f"{name}: cannot be read ({by_words(e)}); is it whole?") from None


def config_with(args, c, tokenizer):
    """The Config of a model that goes with these bytes of a tokenizer."""
    if not tokenizer:
        return c
    known = known_tokenizer(tokenizer)
    if known.n_vocab > c.vocab_size:
        where = printable(args.tokenizer or args.source or args.random)
        found = f"{where}: its tokenizer has {known.n_vocab} tokens, the model {c.vocab_size}"
        raise ModelError(f"{found}; expected the model's own; {OTHER}")
    inside = {} if args.tokenizer_out is not None else {"tokenizer": True}
    return c.changed(tokenizer_sha256=hashlib.sha256(tokenizer).digest(), **inside)


@functools.lru_cache(1)
def known_tokenizer(raw):
    """The Tokenizer of these bytes; a large one takes half a second."""
    return Tokenizer(raw)


def write_file(args, f, source, tokenizer, note):
    """A model.bin into the open file f, with these bytes of a tokenizer inside. -> as write_model.
    Raises ModelError, OSError."""
    type, name = type_of(args.type or "q8_0"), printable(args.source or args.random)
    rows = layout(source.config, type, tokenizer, source.types)
    after = "); expected whole matrices; is it damaged?"
    with worded(f"{name}: its tensors do not fit together (", after), advising(ODD):
        check_room(f, sum(row.type.nbytes(row.shape, row.blocked) for row in rows))
        raw = note.encode("utf-8", "replace")
        return write_model(f, source, source.config, type, tokenizer, raw)


def written(f, raw, path, flag="-o"):
    """Write bytes; ModelError where they cannot be."""
    try:
        f.write(raw)
        f.flush()
    except OSError as e:
        raise unwritten(path, e, flag) from None


def checked(path):
    """The model file at path, verified; begun anew if another export replaces it meanwhile."""
    while True:
        model = open_model(path)
        try:
            verify(model)
            return model
        except ModelError:
            if open_model(path).model_id == model.model_id:
                raise


def report(args, output, errors, tokenizer):
    """Check what was written, and say what it is. errors: as of write_model."""
    model, name = checked(output), printable(str(output))
    if args.verbose:
        for t in model.tensors.values():
            print(f"{t.name:24} {t.dtype:5} {' x '.join(map(str, t.shape)):>20} {t.nbytes:>14,}")
    if errors and args.type != F32.name:
        say("relative rms error: " + ", ".join(f"{kind} {e:.2e}" for kind, e in errors.items()))
    say(f"{name}: {model.size:,} bytes, verified, id {model.model_id[:16]}")
    apart = ""
    if args.tokenizer_out is not None:
        say(f"{printable(args.tokenizer_out)}: its tokenizer, {len(tokenizer):,} bytes")
        found = same_file(Path(args.tokenizer_out), output.parent / "tokenizer.bin")
        apart = "" if found else f" -z {quoted(args.tokenizer_out)}"
    hint = ' -p "Once upon a time"' if tokenizer else " --info"
    if tokenizer and known_tokenizer(tokenizer).chat:
        hint = " --chat"
    run = "python run.py" if called() == "export.py" else "twofile"
    say(f"next: {run} {quoted(str(output))}{apart}{hint}")


def quoted(name):
    """The name of a file as a shell takes it."""
    return shlex.quote(printable(name))
