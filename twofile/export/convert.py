"""SOURCE -> model.bin and tokenizer.bin."""

import hashlib
from dataclasses import replace
from pathlib import Path

from ..errors import ModelError, printable
from ..format.types import F32, Q8_0, type_of
from ..modelfile import open_model, verify
from ..tokenizer.tokenizer import Tokenizer
from .damage import Tripped, by_words, worded
from .outputs import Outputs
from .say import say
from .sources.any import read_source
from .sources.random import random_source
from .tokenizers.any import find_tokenizer, lone_tokenizer
from .write import write_model


def export_tokenizer(args):
    """SOURCE -> tokenizer.bin alone. args: of the command line, here and below."""
    output, source = Path(args.output or "tokenizer.bin"), Path(args.source)
    try:
        raw = lone_tokenizer(source)
        with Outputs(args.overwrite) as outputs:
            outputs.open(output).write(raw)
    except OSError as e:
        where = printable(str(e.filename or args.source))
        found = f"{where}: {e.strerror or e}"
        raise ModelError(f"{found}; expected a tokenizer; check the path") from None
    known = Tokenizer(output)
    known.selftest()
    chat = "with a chat template" if known.chat else "no chat template"
    say(f"{printable(str(output))}: {known.n_vocab:,} tokens, {chat}, self-test passed")


def export(args):
    """SOURCE -> model.bin (and tokenizer.bin), verified."""
    output = Path(args.output)
    if not output.parent.is_dir():
        found = f"-o {printable(args.output)}: its folder does not exist"
        raise ModelError(f"{found}; expected one that does; create it")
    label = args.random or printable(Path(args.source).name)
    source = random_source(args.random, args.seed) if args.random else given_source(args, output)
    say(f"{source.kind}, {label}: {source.config.n_layers} layers of {source.config.dim}")
    if args.type:
        source = replace(source, types=None, notice=None)
    if source.notice:
        say(source.notice)
    tokenizer = find_tokenizer(args, source) or b""
    source = replace(source, config=config_with(args, source.config, tokenizer))
    stored = args.type or "/".join(sorted({t.name for t in (source.types or {"": Q8_0}).values()}))
    about = [f"{source.kind}, {label} as {stored}", printable(source.note or "")[:4096]]
    errors = write_files(args, source, tokenizer, "; ".join(filter(None, about)))
    report(args, errors, tokenizer)


def given_source(args, output):
    """The Source that the command line names; not the output itself."""
    path, name = Path(args.source), printable(args.source)
    beside = path.is_dir() and output.parent.resolve() == path.resolve()
    inside = beside and output.name.endswith(".safetensors")
    if inside or (output.exists() and path.exists() and output.resolve() == path.resolve()):
        found = f"-o {printable(args.output)}: is the source itself"
        raise ModelError(f"{found}; expected another file; choose another -o")
    try:
        with worded(f"{name}: cannot be read (", "); is it whole?", by_words):
            return named_source(path, name, args.allow_pickle)
    except OSError as e:
        raise ModelError(f"{name}: cannot be read ({by_words(e)}); is it whole?") from None


def named_source(path, name, allow_pickle):
    """As read_source; messages begin with the path."""
    try:
        return read_source(path, allow_pickle)
    except Tripped:
        raise
    except ModelError as e:
        raise ModelError(str(e) if str(e).startswith(str(path)) else f"{name}: {e}") from None


def config_with(args, c, tokenizer):
    """The Config of a model that goes with these bytes of a tokenizer."""
    if not tokenizer and args.embed_tokenizer:
        found = "--embed-tokenizer: there is no tokenizer to embed"
        raise ModelError(f"{found}; expected one; choose with --tokenizer FILE")
    if not tokenizer:
        return c
    known = Tokenizer(tokenizer)
    if known.n_vocab > c.vocab_size:
        found = f"the tokenizer has {known.n_vocab} tokens, the model {c.vocab_size}"
        raise ModelError(f"{found}; expected the model's own; choose with --tokenizer")
    inside = {"tokenizer": True} if args.embed_tokenizer else {}
    return c.changed(tokenizer_sha256=hashlib.sha256(tokenizer).digest(), **inside)


def write_files(args, source, tokenizer, note):
    """model.bin, and tokenizer.bin beside it if it is not inside and not there already; both or
    none. -> as write_model."""
    output, embedded = Path(args.output), tokenizer if args.embed_tokenizer else b""
    beside, type = output.parent / "tokenizer.bin", type_of(args.type or "q8_0")
    name = printable(args.source or args.random)
    after = "); expected whole matrices; is it damaged?"
    try:
        with (
            worded(f"{name}: its tensors do not fit together (", after),
            Outputs(args.overwrite) as outputs,
        ):
            f, raw = outputs.open(output), note.encode("utf-8", "replace")
            errors = write_model(f, source, source.config, type, embedded, raw)
            there = beside.exists() and beside.read_bytes() == tokenizer
            if tokenizer and not embedded and not there:
                outputs.open(beside).write(tokenizer)
            return errors
    except OSError as e:
        where = f"{printable(args.output)}: cannot be written ({e.strerror or e})"
        raise ModelError(f"{where}; nothing was changed; free space or choose another -o") from None


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


def report(args, errors, tokenizer):
    """Check what was written, and say what it is. errors: as of write_model."""
    model, name = checked(Path(args.output)), printable(args.output)
    if args.verbose:
        for t in model.tensors.values():
            print(f"{t.name:24} {t.dtype:5} {' x '.join(map(str, t.shape)):>20} {t.nbytes:>14,}")
    if errors and args.type != F32.name:
        say("relative rms error: " + ", ".join(f"{kind} {e:.2e}" for kind, e in errors.items()))
    say(f"{name}: {model.size:,} bytes, verified, id {model.model_id[:16]}")
    hint = ' -p "Once upon a time"' if tokenizer else " --info"
    say(f"next: python run.py {name}{hint}")
