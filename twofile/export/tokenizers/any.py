"""Which tokenizer belongs to a source, and which reader it asks for."""

import os
from pathlib import Path

from ...errors import ModelError, printable
from ...files import _read_small, open_regular
from ...format.config import NONE
from ...tokenizer.file import MOST_BYTES, TOKENIZER_MAGIC
from ...tokenizer.tokenizer import Tokenizer
from ..say import DAMAGED, read_json, say
from ..sources.ggufbytes import gguf_file
from ..template import add_chat
from .gguf import read_gguf_tokenizer
from .json import read_tokenizer_json
from .pack import finish_tokenizer
from .sentencepiece import read_llama2c_tokenizer, read_sentencepiece
from .tiktoken import read_tiktoken


def read_tokenizer(source, hints):
    """A tokenizer of any known kind -> the bytes of tokenizer.bin. source: path, or the text of a tokenizer.json.
    hints: n_vocab of the model; bos, eos, stops, add_bos where something else than the tokenizer's file decides them."""
    name = "tokenizer in the checkpoint" if isinstance(source, str) else printable(str(source))
    try:
        raw = (
            source.encode()
            if isinstance(source, str)
            else _read_small(source, "a tokenizer", MOST_BYTES)
        )
        if raw.startswith(TOKENIZER_MAGIC):
            return raw
        engine = None
        if raw[:1] == b"{":
            fields, engine = read_tokenizer_json(raw.decode("utf-8", "replace"), hints)
        elif raw[:1] == b"\n" and b"\x0a\x05<unk>" in raw[:64]:
            fields = read_sentencepiece(raw)
        elif raw[:64].split(b"\n")[0].strip().endswith(b" 0"):
            fields, engine = read_tiktoken(raw)
        else:
            fields = read_llama2c_tokenizer(raw, hints["n_vocab"])
        if hints.get("template"):
            fields = add_chat(
                fields, hints["template"], hints["special"], bool(hints.get("prefix_first"))
            )
        return finish_tokenizer(fields, engine)
    except ModelError as e:
        raise ModelError(str(e) if str(e).startswith(name) else f"{name}: {e}") from None
    except DAMAGED as e:
        text = f"{name}: no tokenizer can be read from it ({printable(repr(e))[:80]})"
        raise ModelError(f"{text}; expected one of a known kind; is it whole?") from None


def folder_hints(folder):
    """What a Hugging Face folder's other files say of its tokenizer."""
    found = [
        read_json(folder / f)
        for f in ("config.json", "generation_config.json")
        if (folder / f).exists()
    ]
    ends = [j["eos_token_id"] for j in found if isinstance(j, dict) and "eos_token_id" in j]
    ends = [i for end in ends for i in (end if isinstance(end, list) else [end])]
    stops = sorted({i for i in ends if isinstance(i, int) and 0 <= i < 1 << 22})
    template, special = find_template(folder)
    return dict(stops=stops, template=template, special=special)


def lone_tokenizer(path):
    """--tokenizer-only: from a folder, a GGUF, or a tokenizer's own file -> the bytes of tokenizer.bin."""
    hints = dict.fromkeys(("n_vocab", "bos", "eos"))
    if path.is_dir():
        names = [n for n in ("tokenizer.json", "tokenizer.model") if (path / n).exists()]
        if not names:
            raise ModelError(
                "no tokenizer in this folder; expected tokenizer.json or tokenizer.model; name the file itself"
            )
        config = read_json(path / "config.json") if (path / "config.json").exists() else {}
        first = lambda v: v[0] if isinstance(v, list) else v
        ids = {k: first(config.get(f"{k}_token_id")) for k in ("bos", "eos")}
        return read_tokenizer(path / names[0], {**hints, **ids, **folder_hints(path)})
    with os.fdopen(open_regular(path, "a tokenizer, or a folder or GGUF with one")[0], "rb") as f:
        is_gguf = f.read(4) == b"GGUF"
    if not is_gguf:
        return read_tokenizer(path, hints)
    try:
        return read_gguf_tokenizer(gguf_file(path)[0])
    except DAMAGED as e:
        raise ModelError(
            f"no tokenizer can be read ({printable(repr(e))[:80]}); expected a GGUF with a vocabulary"
        ) from None


def find_tokenizer(args, source):
    """-> the bytes of tokenizer.bin for a source, or None. With --chat-template its chat section is that template's."""
    template = None
    if args.chat_template:
        template = _read_small(args.chat_template, "a chat template in Jinja", 1 << 20).decode(
            "utf-8", "replace"
        )
    raw = source_tokenizer(args, source, template)
    if template and not (raw and Tokenizer(raw).chat):
        where = printable(args.chat_template)
        raise ModelError(
            f"{where}: cannot be put into this tokenizer; expected a template of its control tokens; leave it out"
        )
    return raw


def source_tokenizer(args, source, template):
    c = source.config
    hints = {
        "n_vocab": c.vocab_size,
        "bos": None if c.bos == NONE else c.bos,
        "eos": None if c.eos == NONE else c.eos,
    }
    hints["add_bos"] = hasattr(source, "tokenizer_json")
    folder = getattr(source, "folder", None)
    if folder:
        hints |= folder_hints(folder)
    elif getattr(source, "chat_template", None):
        hints["template"], hints["special"] = (
            source.chat_template,
            {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
        )
    if template:
        hints |= {"template": template, "special": hints.get("special") or {}}
    if args.tokenizer == "none":
        return None
    if args.tokenizer:
        return read_tokenizer(Path(args.tokenizer), hints)
    if "tokenizer.ggml.tokens" in getattr(source, "gguf", {}):
        try:
            return read_gguf_tokenizer(
                source.gguf | ({"tokenizer.chat_template": template} if template else {})
            )
        except DAMAGED as e:
            raise ModelError(
                f"{printable(args.source)}: its tokenizer is damaged ({printable(repr(e))[:80]})"
            ) from None
    if hasattr(source, "tokenizer_json"):
        return read_tokenizer(source.tokenizer_json, hints)
    if args.random:
        return None
    place = folder or Path(args.source).parent
    names = ["tokenizer.json", "tokenizer.model", "tokenizer.bin"]
    found = [place / n for n in names if (place / n).exists()] or (
        [] if folder else sorted(place.glob("tok*.bin"))
    )
    if folder and found:
        found = found[:1]
    own = [p for p in found if p.resolve() != Path(args.output).parent.resolve() / "tokenizer.bin"]
    if len(own) != 1:
        what = f"{', '.join(p.name for p in own)} are" if own else "no tokenizer is"
        raise ModelError(
            f"{printable(str(place))}: {what} beside the source; expected one; choose with --tokenizer"
        )
    say(f"tokenizer: {own[0].name}")
    return read_tokenizer(own[0], hints)


def find_template(folder):
    """-> (template or None, {"bos_token": …, "eos_token": …}) of a Hugging Face folder."""
    settings = (
        read_json(folder / "tokenizer_config.json")
        if (folder / "tokenizer_config.json").exists()
        else {}
    )
    special = {}
    for key in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = settings.get(key)
        special[key] = value.get("content", "") if isinstance(value, dict) else value or ""
    template = settings.get("chat_template")
    if isinstance(template, list):  # several by name
        template = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}.get(
            "default"
        )
    if (folder / "chat_template.jinja").exists():
        template = _read_small(folder / "chat_template.jinja", "a template", 1 << 20).decode(
            "utf-8", "replace"
        )
    return template if isinstance(template, str) else None, special
