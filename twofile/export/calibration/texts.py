"""What --calibrate reads: a text, or lines of texts and conversations."""

import json

from ...errors import ModelError, printable, shown
from ...front.text import read_text
from ...prompts import plain_messages
from ...tokenizer.file import CHAT_ID
from ...tokenizer.tokenizer import Tokenizer
from ..say import say

LEAST = 1000  # tokens of all texts
OF_LINES = ".jsonl"  # how the name of a file with lines of JSON ends
FIELDS_OF_TEXTS = "messages", "text", "prompt"  # of which a line has one


def read_texts(args, tokenizer):
    """-> the ids of each text of --calibrate, with what begins it, and the Tokenizer that made
    them. tokenizer: bytes."""
    name = printable(args.calibrate)
    if not tokenizer:
        found = f"--calibrate {name}: there is no tokenizer in or beside the source"
        raise ModelError(f"{found}; expected one, to read the text by; give it with --tokenizer")
    raw, known = read_text(args.calibrate), Tokenizer(tokenizer)
    if b"\0" in raw[:4096]:
        found = f"--calibrate {name}: holds bytes that are no text; expected a text in UTF-8"
        raise ModelError(f"{found}; give a file of what the model will read")
    if args.calibrate.lower().endswith(OF_LINES):
        lines = enumerate(raw.split(b"\n"), 1)
        texts = [ids_of_line(line, f"--calibrate {name}, line {n}", known) for n, line in lines]
        texts = [ids for ids in texts if ids]
    else:
        text = raw.decode("utf-8", "replace")
        if "\ufffd" in text and text.encode() != raw:
            say(f"--calibrate {name} is not all UTF-8; bytes that are not became U+FFFD")
        texts = [known.encode(text)] if text else []
    count = sum(map(len, texts))
    if count < LEAST:
        found = f"--calibrate {name}: {count:,} tokens, expected {LEAST:,} or more"
        raise ModelError(f"{found}; give a longer text, of the kind that the model will read")
    return texts, known


def ids_of_line(line, where, known):
    """A line of JSON -> the ids of its text or conversation; none of an empty line. where it
    stands: for messages. Raises ModelError."""
    if not line.strip():
        return []
    wants = "expected a text, or an object with messages or text"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        found = f"{where}: {shown(line[:40].decode('utf-8', 'replace'))} is no JSON"
        raise ModelError(f"{found}; {wants}; write one a line") from None
    value = {"text": value} if isinstance(value, str) else value
    names = [name for name in FIELDS_OF_TEXTS if isinstance(value, dict) and name in value]
    if len(names) != 1:
        found = f"{' and '.join(names) or 'none'} of {', '.join(FIELDS_OF_TEXTS)}"
        found = found if isinstance(value, dict) else shown(value)
        raise ModelError(f"{where}: {found}; {wants}; give one of them")
    given = value[names[0]]
    if names == ["messages"]:
        try:
            return ids_of_talk(given, known)
        except ModelError as e:
            raise ModelError(f"{where}: {e}; mend the line, or leave it out") from None
    if not isinstance(given, str):
        found = f"{where}: {names[0]} is {shown(given)}"
        raise ModelError(f"{found}; expected a text; mend the line, or leave it out")
    return known.encode(given) if given else []


def ids_of_talk(messages, known):
    """The ids of a conversation by the model's template. Where the last is the assistant's, up to
    the mark that ends it; of a template without such a mark, up to where it would speak again."""
    if known.chat is None:
        raise ModelError("messages, but the model has no chat template; expected a text")
    messages = plain_messages(messages)
    roles = [m["role"] if isinstance(m["content"], str) else None for m in messages]
    begun = roles[:1] == ["system"]
    turns = [("user", "assistant")[i % 2] for i in range(len(roles) - begun)]
    if roles[begun:] != turns or not turns:
        found = f"messages: roles {printable(', '.join(map(str, roles[:9])) or 'none')}"
        raise ModelError(f"{found}; expected an optional system, then user and assistant in turn")
    if roles[-1] == "user":
        return known.encode_chat(messages)
    ids = known.encode_chat([*messages, {"role": "user", "content": ""}])
    ends = lambda name: [k == CHAT_ID and x in known.stops for k, x in known.chat[name] or ()]
    count = sum(ends("a2u") + ends("gen"))
    places = [i for i, token in enumerate(ids) if token in known.stops]
    return ids[: places[-count] + 1] if any(ends("a2u")) and len(places) >= count else ids
