"""What a Hugging Face folder's other files say of its tokenizer."""

from ...errors import printable
from ..damage import theirs
from ..settings import read_json_if, read_text


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
    ends = [j["eos_token_id"] for j in found if "eos_token_id" in j]
    ends = [i for end in ends for i in (end if isinstance(end, list) else [end])]
    stops = sorted({i for i in ends if isinstance(i, int) and 0 <= i < 1 << 22})
    template, special = find_template(folder)
    return dict(stops=stops, template=template, special=special)


def find_template(folder):
    """-> (template or None, {"bos_token": …, "eos_token": …})."""
    path, special = folder / "tokenizer_config.json", {}
    settings = read_json_if(path)
    for key in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = settings.get(key)
        special[key] = value.get("content", "") if isinstance(value, dict) else value or ""
    template = settings.get("chat_template")
    if isinstance(template, list):  # several by name
        with told(path):
            named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    if (folder / "chat_template.jinja").exists():
        template = read_text(folder / "chat_template.jinja", "a template")
    return template if isinstance(template, str) else None, special
