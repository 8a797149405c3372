"""Which tokenizer belongs to a source, and which reader it asks for."""

from pathlib import Path

from ...errors import ModelError, printable
from ...files import read_small
from ...format.fields import NONE
from ...format.foreign import SOUND, refuse_foreign
from ...tokenizer.file import MOST_BYTES, TOKENIZER_MAGIC
from ...tokenizer.tokenizer import Tokenizer
from ..damage import reading, worded
from ..say import named, say
from ..settings import first_bytes, read_text
from ..sources.ggufparts import gguf_file
from ..sources.torch import read_torch
from ..template import add_chat
from .beside import is_finished, tokenizer_beside, tokenizer_in_folder
from .folder import SETTINGS, begin_and_end, folder_hints
from .gguf import read_gguf_tokenizer
from .json import read_tokenizer_json
from .merges import FILES, tokenizer_of_merges
from .pack import finish_tokenizer, fitted
from .sentencepiece import read_llama2c_tokenizer, read_sentencepiece
from .tiktoken import read_tekken, read_tiktoken

OURS = "<|endoftext|>"  # begins and ends what our trainer learns of
# what to do with a sound file in the place of a tokenizer
NO_VOCABULARY = dict.fromkeys(("model", "cache"), "give what the model was made of")
NO_VOCABULARY |= dict.fromkeys(("weights", "shard", "pickle"), "give the tokenizer's own file")


def read_tokenizer(source, hints, inside="tokenizer in the checkpoint"):
    """A tokenizer of any known kind -> the bytes of tokenizer.bin. source: path, or the text of a
    tokenizer.json, which messages call by inside. hints: n_vocab of the model; bos, eos, stops,
    add_bos where something else than the tokenizer's file decides them; template, special,
    prefix_first of a chat; settings and added tokens of a folder."""
    text = isinstance(source, str)
    name = inside if text else printable(str(source))
    after = "); expected one of a known kind; is it whole?"
    try:
        with worded(f"{name}: no tokenizer can be read from it (", after):
            if text:
                with reading():
                    raw = source.encode()
            else:
                refuse_foreign(first_bytes(source, "a tokenizer"), "a tokenizer", NO_VOCABULARY)
                raw = read_small(source, "a tokenizer", MOST_BYTES)
            if raw.startswith(TOKENIZER_MAGIC):
                Tokenizer(raw).selftest()
                return raw
            fields, engine = recognised(raw, hints)
            once, special = bool(hints.get("prefix_first")), hints.get("special") or {}
            fields = fitted(fields, hints.get("n_vocab"))
            names = hints.get("named"), hints.get("tools")
            fields = add_chat(fields, hints.get("template"), special, once, *names)
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
        return read_tokenizer(*tokenizer_in(path, hints))
    head = first_bytes(path, "a tokenizer, or a folder or GGUF with one")
    if head.startswith(b"PK\x03\x04"):
        return checkpoint_tokenizer(path)
    if not head.startswith(b"GGUF"):
        if path.parent.joinpath(SETTINGS).exists():
            hints |= begin_and_end(path.parent) | folder_hints(path.parent)
        return read_tokenizer(path, hints)
    name = printable(str(path))
    after = "); expected a GGUF with a vocabulary"
    with worded(f"{name}: no tokenizer can be read (", after), named(name):
        return read_gguf_tokenizer(gguf_file(path)[0])


def checkpoint_tokenizer(path):
    """The tokenizer inside of our trainer's checkpoint -> the bytes of tokenizer.bin."""
    name = printable(str(path))
    with worded(f"{name}: no tokenizer can be read from it (", "); is it whole?"):
        source = read_torch(path)
    if source.tokenizer_json is None:
        found = f"{name}: a checkpoint without a tokenizer"
        raise ModelError(f"{found}; expected one of train/pretrain.py; give the tokenizer's file")
    return read_tokenizer(source.tokenizer_json, source_hints(source, None))


def find_tokenizer(args, source):
    """-> the bytes of tokenizer.bin for a Source, or None. With --chat-template its chat section is
    that template's. args: of the command line."""
    template = None
    if args.chat_template:
        template = given_template(args)
    raw = source_tokenizer(args, source, template)
    if template and not (raw and Tokenizer(raw).chat):
        found = f"{printable(args.chat_template)}: cannot be put into this tokenizer"
        raise ModelError(f"{found}; expected a template of its control tokens; leave it out")
    return raw


def given_template(args):
    """The text of --chat-template."""
    path, wants = args.chat_template, "a chat template in Jinja"
    if args.tokenizer and is_finished(args.tokenizer):
        found = f"--tokenizer {printable(args.tokenizer)}: is a finished tokenizer.bin"
        wants = "expected what it was made of where --chat-template is to go into it"
        raise ModelError(f"{found}; {wants}; give that")
    todo = dict.fromkeys(SOUND, "give the template's own text")
    refuse_foreign(first_bytes(path, wants), wants, todo, f"{printable(path)}: ")
    return read_text(path, wants)


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
        hints |= {"template": template, "special": hints.get("special") or {}, "tools": None}
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
        name = printable(args.source)
        with worded(f"{name}: its tokenizer is damaged (", ")"), named(name):
            return read_gguf_tokenizer(source.gguf | chat, source.config.vocab_size)
    if source.tokenizer_json is not None:
        return read_tokenizer(source.tokenizer_json, hints)
    if args.random:
        return None
    if source.folder:
        found, hints, name = tokenizer_in(source.folder, hints)
    else:
        found = tokenizer_beside(Path(args.source))
        name = found.name
    say(f"tokenizer: {name}")
    return read_tokenizer(found, hints, name)


def tokenizer_in(folder, hints):
    """The tokenizer of a folder -> its path, or the text of a tokenizer.json made of its files; the
    hints; what it is called."""
    path = tokenizer_in_folder(folder)
    found = path or tokenizer_of_merges(folder, hints)
    return found, hints, path.name if path else " and ".join(FILES)
