"""A chat template is rendered here, once, and becomes fixed pieces."""

import json
import os
import random
import re
import struct
import subprocess
import sys
from types import SimpleNamespace

import numpy as np

from ..errors import ModelError, printable
from ..format.config import NONE
from ..tokenizer.file import CHAT, CHAT_DATE, CHAT_ID, CHAT_TEXT, CONTROL, _tokenizer_chat
from ..tokenizer.template import chat_parts
from .say import need, say

LIMITED = r"""
import sys
sys.path = [p for p in sys.path if p]  # never from the folder that one happens to be in
import json
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (%d, %d))
    resource.setrlimit(resource.RLIMIT_CPU, (%d, %d))
except (ImportError, ValueError, OSError):
    pass
job, out = json.load(sys.stdin), []
"""
ENGINE = r"""
try:
    if "json" in job:
        from tokenizers import Tokenizer
        engine = Tokenizer.from_str(job["json"])
        out = [engine.encode(text, add_special_tokens=False).ids for text in job["texts"]]
    else:
        import base64, tiktoken
        ranks = {base64.b64decode(piece): i for i, piece in enumerate(job["ranks"])}
        engine = tiktoken.Encoding("x", pat_str=job["pattern"], mergeable_ranks=ranks, special_tokens={})
        out = [engine.encode_ordinary(text) for text in job["texts"]]
except BaseException as e:
    sys.exit(f"{type(e).__name__}: {e}")
json.dump(out, sys.stdout)
"""
RENDER = r"""
import re
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
def refuse(message):
    raise TemplateError(message)
env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
env.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)
env.globals.update(raise_exception=refuse, strftime_now=lambda form: job["date"] + form + job["date"], **job["special"])
try:
    text = re.sub(r"(\{%-?\s*)generation(\s*-?%\})", r"\1if true\2", job["template"])  # marks what training looks at
    template = env.from_string(re.sub(r"(\{%-?\s*)endgeneration(\s*-?%\})", r"\1endif\2", text))
    for messages, generate in job["chats"]:
        try:
            out.append(template.render(messages=messages, add_generation_prompt=generate))
        except TemplateError:
            out.append(None)
        if sum(map(len, filter(None, out))) > 1 << 22:
            sys.exit("it writes too much")
except Exception as e:
    sys.exit(f"{type(e).__name__}: {e}")
json.dump(out, sys.stdout)
"""
DATE = "\ue0dd"  # stands around the format of today's date
ROLES = ("system", "user", "assistant")
SYSTEM_MARK, USER_MARK, ASSISTANT_MARK = "Ssystem7q", "Uuser%d7q", "Aassistant%d7q"


def render(template, special, chats):
    """Texts of chats [(messages, with generation prompt)], None where the template refuses one. In a process of its own with
    a limit on time and memory, in jinja2's immutable sandbox: a template is a program of strangers."""
    need("jinja2")
    return bounded(
        RENDER, {"template": template, "special": special, "chats": chats, "date": DATE}, 1 << 30, 5
    )


def bounded(program, job, memory, seconds):
    """What a program makes of a job, as JSON, in a process of its own with so much memory and time. What it reads is of
    strangers: it may die there, and this program goes on."""
    program = LIMITED % (memory, memory, seconds, seconds) + program
    try:
        env = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(job).encode(),
            capture_output=True,
            timeout=6 * seconds,
            env=env,
        )
    except subprocess.TimeoutExpired:
        raise ModelError("it does not end") from None
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1][-120:]
        raise ModelError(printable(last) or f"its program died ({done.returncode})")
    return json.loads(done.stdout)


def conversation(contents, system=None):
    """[u0, a0, u1, …] -> messages."""
    roles = [
        {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)
    ]
    return ([] if system is None else [{"role": "system", "content": system}]) + roles


def compile_chat(template, special):
    """A Jinja template -> (the pieces of text between contents, by name of CHAT; strips of system, user, assistant).

    Renders marked contents, cuts the result at the marks, and then compares 60 random conversations with the template's
    own rendering. Raises ModelError if pieces cannot say what it does.
    """
    talk = [(USER_MARK, ASSISTANT_MARK)[i % 2] % (i // 2) for i in range(5)]
    chats = [
        (conversation(talk[:1]), True),
        (conversation(talk[:1], SYSTEM_MARK), True),
        (conversation(talk[:3]), True),
    ]
    plain, led, long, *probes = render(
        template, special, chats + [chat for role in ROLES for chat in strip_probes(role)]
    )
    if plain is None or long is None:
        raise ModelError("it refuses a plain conversation")

    def cut(text, *marks):
        parts = []
        for mark in marks:
            before, found, text = text.partition(mark)
            if not found or mark in text:
                raise ModelError("it leaves a message out, or writes it twice")
            parts.append(before)
        return [*parts, text]

    first, gen = cut(plain, talk[0])
    _, u2a, a2u, _ = cut(long, *talk[:3])
    pieces = {"first": first, "u2a": u2a, "a2u": a2u, "gen": gen}
    try:
        pieces["system"], pieces["after_system"], _ = cut(led or "", SYSTEM_MARK, talk[0])
    except ModelError:
        pass  # no place for a system message, or it is part of the user's
    strips = {
        role: strips_of(role, probes[3 * i : 3 * i + 3], "system" in pieces)
        for i, role in enumerate(ROLES)
    }
    check_chat(template, special, pieces, strips)
    return pieces, strips


def strip_probes(role):
    """Conversations whose content of that role is bare, between line ends, and between spaces."""
    chats = []
    for word in ("7qword", "\n7qword\n", " 7qword "):
        talk = ["a7q", "b7q", "c7q"]
        if role != "system":
            talk[ROLES.index(role) - 1] = word
        chats.append((conversation(talk, word if role == "system" else None), True))
    return chats


def strips_of(role, texts, has_system):
    """What the template cuts off a content of this role: a number as in STRIPS."""
    if role == "system" and not has_system:
        return 0
    rows = [text.split("7qword", 1) for text in texts if text and "7qword" in text]
    if len(rows) < 3:
        raise ModelError(f"it loses what the {role} says")
    cuts = []
    for side in (0, 1):
        lines, spaces = (rows[0][side] == row[side] for row in rows[1:])
        cuts.append(1 if lines and spaces else 2 if lines else 0)
    return cuts[0] + 3 * cuts[1]


def check_chat(template, special, pieces, strips):
    """Raises ModelError if a random conversation reads otherwise when the template itself renders it."""
    rng, words = (
        random.Random(0),
        ["fox", " ", "\n", "  shoe", "é", "🙂", "\n\n", "{{x}}", "'s", "7", "<b>", "\t", "end."],
    )
    say = lambda: (
        "".join(rng.choice(words) for _ in range(rng.randint(0, 8)))
        + rng.choice(["x", "x ", "x\n"])
    )
    chats = []
    for _ in range(60):
        system = say() if "system" in pieces and rng.random() < 0.5 else None
        chats.append(
            (conversation([say() for _ in range(rng.choice([1, 1, 3, 3, 5]))], system), True)
        )
    for (messages, _), want in zip(chats, render(template, special, chats)):
        if "".join(chat_parts(messages, pieces, strips)) != want:
            raise ModelError("fixed pieces cannot say what it does")


def add_chat(fields, template, special, prefix_first):
    """The fields of a tokenizer with its section "chat"; a template that cannot be compiled is said so and left out."""
    try:
        pieces, strips = compile_chat(template, special)
    except ModelError as e:
        say(
            f"no chat: the template cannot be compiled: {printable(str(e))}; the model completes text"
        )
        return fields
    chat = pack_chat(pieces, strips, fields, prefix_first)
    after = _tokenizer_chat(
        chat, SimpleNamespace(n_vocab=len(fields["pieces"]), types=np.array(fields["types"]))
    )[0]["a2u"]
    ends = [value for kind, value in after if kind == CHAT_ID][:1]  # what an answer ends with
    return {**fields, "chat": chat, "stops": sorted({*fields.get("stops", ()), *ends})}


def pack_chat(pieces, strips, fields, prefix_first):
    """-> the section "chat" of tokenizer.bin: strips; then each piece as a count and items, a control token's id, or text."""
    kinds = enumerate(zip(fields["pieces"], fields["types"]))
    controls = [(piece.decode(), i) for i, (piece, kind) in kinds if kind == CONTROL and piece]
    forms = [re.escape(text) for text, _ in sorted(controls, key=lambda row: -len(row[0]))]
    pattern, ids = re.compile("|".join(forms + [f"{DATE}[^{DATE}]*{DATE}"])), dict(controls)
    body = bytes(strips[role] for role in ROLES) + bytes([prefix_first])
    for name in CHAT:
        items, at, text = [], 0, pieces.get(name)
        for m in pattern.finditer(text or ""):
            items += [(CHAT_TEXT, text[at : m.start()].encode())] if at < m.start() else []
            dated = m[0].startswith(DATE)
            items.append((CHAT_DATE, m[0].strip(DATE).encode()) if dated else (CHAT_ID, ids[m[0]]))
            at = m.end()
        items += [(CHAT_TEXT, text[at:].encode())] if at < len(text or "") else []
        body += struct.pack("<I", NONE if text is None else len(items))
        for kind, value in items:
            raw = struct.pack("<I", value) if kind == CHAT_ID else value
            body += struct.pack("<II", kind, len(raw)) + raw
    return body
