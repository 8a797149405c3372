"""What a Hugging Face folder's other files say of its tokenizer."""

from ...errors import printable
from ..damage import reading, theirs
from ..settings import read_json_if, read_text

SETTINGS, MAP = "tokenizer_config.json", "special_tokens_map.json"


def told(path):
    """Around the reading of a file of settings."""
    after = "; expected what transformers writes; is it whole?"
    return theirs(f"{printable(str(path))}: ", after)


def begin_and_end(folder):
    """{"bos": id or None, "eos": the same}, as config.json says."""
    config, first = read_json_if(folder / "config.json"), lambda v: v[0] if v else None
    ids = {k: config.get(f"{k}_token_id") for k in ("bos", "eos")}
    return {k: first(v) if isinstance(v, list) else v for k, v in ids.items()}


def folder_hints(folder):
    """-> the tokens that end an answer, the chat template, and the texts of its special tokens."""
    names = ("config.json", "generation_config.json")
    found = [read_json_if(folder / name) for name in names]
    parts = [j["text_config"] for j in found if isinstance(j.get("text_config"), dict)]
    ends = [j["eos_token_id"] for j in found + parts if "eos_token_id" in j]
    ends = [i for end in ends for i in (end if isinstance(end, list) else [end])]
    stops = sorted({i for i in ends if isinstance(i, int) and 0 <= i < 1 << 22})
    settings, special = read_json_if(folder / SETTINGS), special_texts(folder)
    hints = dict(stops=stops, special=special, settings=settings)
    hints["added"] = added_tokens(folder, settings, special)
    return hints | dict(zip(("template", "named", "tools"), find_template(folder, settings)))


def content(value):
    """The text of a token, which settings write as such or with how it is found; else None."""
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def special_texts(folder):
    """{"bos_token": text, …}: tokenizer_config.json's, else special_tokens_map.json's."""
    out = {}
    for name in (MAP, SETTINGS):
        rows = read_json_if(folder / name)
        extra = rows.get("extra_special_tokens")
        rows |= extra if isinstance(extra, dict) else {}
        found = {key: content(v) for key, v in rows.items() if key.endswith("_token")}
        out |= {key: text for key, text in found.items() if text is not None}
    return out


def added_tokens(folder, settings, special):
    """[{"id", "content", "special", …}] that stand in files of their own: added_tokens_decoder's,
    then added_tokens.json's; what names a special token is one."""
    path, other = folder / SETTINGS, folder / "added_tokens.json"
    map_of = folder / MAP
    with told(path):
        rows = dict(settings.get("added_tokens_decoder") or {})
        found = [{**row, "id": int(i)} for i, row in rows.items()]
        named = named_by(settings) | set(special.values())
    with told(map_of):
        named |= named_by(read_json_if(map_of))
    known = {t["id"] for t in found}
    with told(other):
        for text, i in read_json_if(other).items():
            if int(i) not in known:
                found.append({"id": int(i), "content": text, "special": text in named})
    with told(path):
        return [t for t in found if isinstance(t["content"], str)]


def named_by(rows):
    """The texts of the special tokens that settings list."""
    return {content(t) for t in rows.get("additional_special_tokens") or ()}


def find_template(folder, settings):
    """-> (template or None, its name among several or None, the one of them for tools or None):
    chat_template.jinja, else tokenizer_config.json's, else chat_template.json's."""
    if (folder / "chat_template.jinja").exists():
        return read_text(folder / "chat_template.jinja", "a template"), None, None
    beside = folder / "chat_template.json"
    for path, rows in ((folder / SETTINGS, settings), (beside, read_json_if(beside))):
        with told(path):
            found, *names = one_template(rows.get("chat_template"))
        if found:
            return found, *names
    more = sorted(folder.glob("*.jinja"))
    one = (read_text(more[0], "a template"), more[0].name) if len(more) == 1 else (None, None)
    return *one, None


def one_template(value):
    """A template, or the one to chat with of several: a table of names, or a list of them -> it or
    None, its name or None, the one for tools or None."""
    if isinstance(value, str):
        return value or None, None, None
    if isinstance(value, list):
        value = {t["name"]: t["template"] for t in value}
    plain = [name for name in value or {} if name not in ("tool_use", "rag")]
    for name in ("default", "chat", *plain, *(value or {})):
        if isinstance((value or {}).get(name), str):
            tools = value.get("tool_use")
            return value[name], name, tools if isinstance(tools, str) else None
    return None, None, None


def merge_rows(raw):
    """merges.txt -> [[a, b]]."""
    with reading():
        lines = [line for line in raw.decode().split("\n") if line]
        rows = [line.split(" ") for line in lines if not line.startswith("#version")]
        return [[a, b] for a, b in rows]
