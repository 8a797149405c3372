"""Which tokenizer belongs to a source, and which reader it asks for."""

import os
from pathlib import Path

from ...errors import ModelError, printable
from ...files import open_regular, read_small
from ...format.fields import NONE
from ...tokenizer.file import MOST_BYTES, TOKENIZER_MAGIC
from ...tokenizer.tokenizer import Tokenizer
from ..damage import reading, worded
from ..say import say
from ..settings import read_text
from ..sources.ggufbytes import gguf_file
from ..template import add_chat
from .folder import SETTINGS, begin_and_end, folder_hints
from .gguf import read_gguf_tokenizer
from .json import read_tokenizer_json
from .merges import FILES, tokenizer_of_merges
from .pack import finish_tokenizer, fitted
from .sentencepiece import read_llama2c_tokenizer, read_sentencepiece
from .tiktoken import read_tekken, read_tiktoken

OURS = "<|endoftext|>"  # begins and ends what our trainer learns of


def read_tokenizer(source, hints):
    """A tokenizer of any known kind -> the bytes of tokenizer.bin. source: path, or the text of a
    tokenizer.json. hints: n_vocab of the model; bos, eos, stops, add_bos where something else than
    the tokenizer's file decides them; template, special, prefix_first of a chat; settings and added
    tokens of a folder."""
    inside = isinstance(source, str)
    name = "tokenizer in the checkpoint" if inside else printable(str(source))
    after = "); expected one of a known kind; is it whole?"
    try:
        with worded(f"{name}: no tokenizer can be read from it (", after):
            if inside:
                with reading():
                    raw = source.encode()
            else:
                raw = read_small(source, "a tokenizer", MOST_BYTES)
            if raw.startswith(TOKENIZER_MAGIC):
                return raw
            fields, engine = recognised(raw, hints)
            once, special = bool(hints.get("prefix_first")), hints.get("special") or {}
            fields = fitted(fields, hints["n_vocab"])
            fields = add_chat(fields, hints.get("template"), special, once, hints.get("named"))
            return finish_tokenizer(fields, engine)
    except ModelError as e:
        raise ModelError(str(e) if str(e).startswith(name) else f"{name}: {e}") from None


def recognised(raw, hints):
    """The bytes of a tokenizer -> (fields of pack_tokenizer, its engine: texts -> [ids], or
    None)."""
    if raw[:1] == b"{" and b'"token_bytes"' in raw[: 1 << 16]:
        return read_tekken(raw)
    if raw[:1] == b"{":
        return read_tokenizer_json(raw.decode("utf-8", "replace"), hints)
    if raw[:1] == b"\n" and b"\x0a\x05<unk>" in raw[:64]:
        return read_sentencepiece(raw, hints), None
    if raw[:64].split(b"\n")[0].strip().endswith(b" 0"):
        return read_tiktoken(raw)
    return read_llama2c_tokenizer(raw, hints["n_vocab"]), None


def lone_tokenizer(path):
    """--tokenizer-only: from a folder, a GGUF, or a tokenizer's own file -> the bytes of
    tokenizer.bin."""
    hints = dict.fromkeys(("n_vocab", "bos", "eos"))
    if path.is_dir():
        hints |= begin_and_end(path) | folder_hints(path)
        return read_tokenizer(tokenizer_in(path, hints)[0], hints)
    with os.fdopen(open_regular(path, "a tokenizer, or a folder or GGUF with one")[0], "rb") as f:
        is_gguf = f.read(4) == b"GGUF"
    if not is_gguf:
        if path.parent.joinpath(SETTINGS).exists():
            hints |= begin_and_end(path.parent) | folder_hints(path.parent)
        return read_tokenizer(path, hints)
    with worded("no tokenizer can be read (", "); expected a GGUF with a vocabulary"):
        return read_gguf_tokenizer(gguf_file(path)[0])


def find_tokenizer(args, source):
    """-> the bytes of tokenizer.bin for a Source, or None. With --chat-template its chat section is
    that template's. args: of the command line."""
    template = None
    if args.chat_template:
        template = read_text(args.chat_template, "a chat template in Jinja")
    raw = source_tokenizer(args, source, template)
    if template and not (raw and Tokenizer(raw).chat):
        found = f"{printable(args.chat_template)}: cannot be put into this tokenizer"
        raise ModelError(f"{found}; expected a template of its control tokens; leave it out")
    return raw


def source_hints(source, template):
    """What is known of a Source's tokenizer beside its own file. template: that of --chat-template,
    or None."""
    c = source.config
    bos, eos = (None if i == NONE else i for i in (c.bos, c.eos))
    hints = dict(n_vocab=c.vocab_size, bos=bos, eos=eos)
    hints["add_bos"] = source.tokenizer_json is not None
    if source.folder:
        hints |= folder_hints(source.folder)
    elif source.chat_template:
        hints["template"] = source.chat_template
        hints["special"] = {"bos_token": OURS, "eos_token": OURS}
    if template:
        hints |= {"template": template, "special": hints.get("special") or {}}
    return hints


def source_tokenizer(args, source, template):
    """As find_tokenizer, from where the source's kind has it."""
    hints = source_hints(source, template)
    if args.tokenizer == "none":
        return None
    if args.tokenizer:
        return read_tokenizer(Path(args.tokenizer), hints)
    if source.gguf and "tokenizer.ggml.tokens" in source.gguf:
        chat = {"tokenizer.chat_template": template} if template else {}
        with worded(f"{printable(args.source)}: its tokenizer is damaged (", ")"):
            return read_gguf_tokenizer(source.gguf | chat, source.config.vocab_size)
    if source.tokenizer_json is not None:
        return read_tokenizer(source.tokenizer_json, hints)
    if args.random:
        return None
    if source.folder:
        found, name = tokenizer_in(source.folder, hints)
    else:
        found = tokenizer_beside(args)
        name = found.name
    say(f"tokenizer: {name}")
    return read_tokenizer(found, hints)


# in a folder, the first that is there
FOLDER_FILES = ("tokenizer.json", "tokenizer.model", "tekken.json", "tokenizer.bin")


def tokenizer_in(folder, hints):
    """The tokenizer of a folder -> its path, or the text of a tokenizer.json made of its files; what
    it is called."""
    for name in FOLDER_FILES:
        if (folder / name).exists():
            return folder / name, name
    if all((folder / name).exists() for name in FILES):
        return tokenizer_of_merges(folder, hints), " and ".join(FILES)
    found = f"{printable(str(folder))}: no tokenizer is beside the source"
    wants = f"expected one of {', '.join(FOLDER_FILES)}, or {' and '.join(FILES)}"
    raise ModelError(f"{found}; {wants}; choose with --tokenizer")


def tokenizer_beside(args):
    """The one tokenizer that lies beside a file; ModelError for none or many."""
    place = Path(args.source).parent
    names = ["tokenizer.json", "tokenizer.model", "tokenizer.bin"]
    found = [place / n for n in names if (place / n).exists()]
    found = found or sorted(place.glob("tok*.bin"))
    own = [p for p in found if p.resolve() != Path(args.output).parent.resolve() / "tokenizer.bin"]
    if len(own) != 1:
        what = f"{', '.join(p.name for p in own)} are" if own else "no tokenizer is"
        found = f"{printable(str(place))}: {what} beside the source"
        raise ModelError(f"{found}; expected one; choose with --tokenizer")
    return own[0]
