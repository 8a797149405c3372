"""What chat templates write, by jinja2 as transformers calls it, and how our chats compare."""

import json
import re
import time

from strings import content, conversations

from twofile.errors import ModelError
from twofile.tokenizer.file import CONTROL, MARK

SPELT = re.compile(r"<[|｜/]?[^<>\s]{1,40}>|\[/?[A-Z_]{3,30}\]|<\[[^<>\s]{1,40}\]>|\]~[!b]\S*?\[|\[e~\[")
SPECIAL = re.compile(r"[|｜]|^\[|^<\[|^\]~|start_of|end_of|bos|eos|^</?s>|_TOKEN")


def environment():
    """transformers' environment of templates."""
    import jinja2
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        tags = {"generation"}

        def parse(self, parser):
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message):
        raise jinja2.exceptions.TemplateError(message)

    more = [Generation, "jinja2.ext.loopcontrols"]
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=more)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals.update(raise_exception=refuse, strftime_now=time.strftime)
    return env


class Template:
    """A chat template and the texts of its special tokens."""

    def __init__(self, text, special):
        self.text, self.special = text, special
        self.template = environment().from_string(text)

    def render(self, messages, answer=True):
        """-> the text, or None where the template refuses the conversation. answer: whether one is to follow."""
        given = dict(messages=messages, tools=None, documents=None, add_generation_prompt=answer)
        try:
            return self.template.render(**given, **self.special)
        except Exception:  # a stranger's program: any error is a refusal
            return None

    def marks(self):
        """What it writes that looks like tokens: [(text, whether special)]."""
        found = dict.fromkeys(filter(None, self.special.values()), True)
        plain = lambda roles: [{"role": role, "content": "q7q"} for role in roles.split()]
        talks = map(plain, ("user", "user assistant", "user assistant user", "system user assistant user"))
        ended = self.render(plain("user assistant"), answer=False)
        for text in filter(None, [*map(self.render, talks), ended]):
            found |= {m: bool(SPECIAL.search(m)) for m in SPELT.findall(text) if "q7q" not in m and m not in found}
        return sorted(found.items())


def compare(ours, template, oracle, rng, count, kept):
    """-> {"plain": row, "system": row, "leaks": n}; a row: refused by both, or by us and left out by the template; refused
    by us in words; where a content spells a mark; where a thought stays, if export said so (kept); differing otherwise."""
    rows = {}
    for key, system in (("plain", False), ("system", True)):
        talks = conversations(rng, count, system)
        texts = [template.render(m) for m in talks]
        wants = iter(oracle.chats([t for t in texts if t is not None]))
        both, words, spelt, stay, differ = 0, 0, 0, 0, []
        for messages, text in zip(talks, texts):
            want, got = None if text is None else next(wants), ids_of(ours, messages)
            ignored = system and text == template.render(messages[1:])
            both += got is None and (want is None or ignored)
            words += got is None and want is not None and not ignored
            if got is not None and want is not None and got != want and same_bytes(ours, got, want):
                spelt += 1
            elif got is not None and got != want and kept and any("</think>" in m["content"] for m in messages):
                stay += 1
            elif got is not None and got != want:
                differ.append((messages, text, got, want))
        rows[key] = dict(count=count, both=both, words=words, spelt=spelt, stay=stay, differ=differ)
    rows["leaks"] = leaks(ours, rng, oracle)
    return rows


def marks_of(ours):
    """The ids that no content may become."""
    return {i for i, kind in enumerate(ours.types) if kind & 15 in (CONTROL, MARK)}


def same_bytes(ours, got, want):
    """Whether ids differ only where a content spells a mark of the template, which is text in ours, as SECURITY.md has it."""
    controls = marks_of(ours)
    spell = lambda ids: b"".join(ours.pieces[i] for i in ids)
    return spell(got) == spell(want) and sum(i in controls for i in got) < sum(i in controls for i in want)


def ids_of(ours, messages):
    """Our ids of a conversation; None where it is refused in words."""
    try:
        return ours.encode_chat(messages)
    except ModelError:
        return None


def leaks(ours, rng, oracle):
    """How many of 40 conversations get more control tokens when contents spell all marks than when they do not."""
    controls = marks_of(ours)
    marks = [m for m in getattr(oracle, "marks", ()) if m] or ["<|im_start|>", "</s>"]
    count, bad = lambda messages: sum(i in controls for i in ids_of(ours, messages) or ()), 0
    others = [m for m in marks if "think" not in m.lower()]  # thoughts of the model's own answers are its own
    of = {"user": marks, "assistant": others or ["</s>"]}
    for _ in range(40):
        roles = ["user", "assistant"] * rng.randint(0, 2) + ["user"]
        spelt = [dict(role=r, content=rng.choice(of[r]) + content(rng) + rng.choice(of[r])) for r in roles]
        bad += count(spelt) != count([{**m, "content": "x"} for m in spelt])
    return bad
