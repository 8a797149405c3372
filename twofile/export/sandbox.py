"""What strangers wrote, run or read in a process of its own."""

import json
import os
import subprocess
import sys

from ..errors import ModelError, printable
from .damage import reading
from .say import need

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
        engine.no_padding()
        engine.no_truncation()
        engine.encode_special_tokens = True
        out = [engine.encode(text, add_special_tokens=False).ids for text in job["texts"]]
    else:
        import base64, tiktoken
        ranks = {base64.b64decode(piece): i for i, piece in enumerate(job["ranks"])}
        rules = {"pat_str": job["pattern"], "mergeable_ranks": ranks, "special_tokens": {}}
        engine = tiktoken.Encoding("x", **rules)
        out = [engine.encode_ordinary(text) for text in job["texts"]]
except BaseException as e:
    sys.exit(f"{type(e).__name__}: {e}")
json.dump(out, sys.stdout)
"""
CUTS = r"""
try:
    from tokenizers import Tokenizer
    model = {"type": "BPE", "vocab": {}, "merges": []}
    rules = {"version": "1.0", "model": model, "pre_tokenizer": json.loads(job["json"])}
    pre = Tokenizer.from_str(json.dumps(rules)).pre_tokenizer
    for text in job["texts"]:
        at = 0
        for _, (first, last) in pre.pre_tokenize_str(text):
            if first != at:  # it drops something, which none of ours does
                out.append(0)
            out.append(last - first)
            at = last
        if at != len(text):
            out.append(0)
except BaseException as e:
    sys.exit(f"{type(e).__name__}: {e}")
json.dump(out, sys.stdout)
"""
RENDER = r"""
import re
import time
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
def refuse(message):
    raise TemplateError(message)
loops = ["jinja2.ext.loopcontrols"]
env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=loops)
def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    how = dict(indent=indent, separators=separators, sort_keys=sort_keys)
    return json.dumps(x, ensure_ascii=ensure_ascii, default=list, **how)
env.filters["tojson"] = tojson
written = lambda form: job["date"] + form + job["date"]
today = lambda form: time.strftime(form, tuple(job["day"])) if job["day"] else written(form)
env.globals.update(raise_exception=refuse, strftime_now=today, **job["special"])
more = {"tools": None, "documents": None}  # as transformers says that there are none
try:  # a block of generation marks what training looks at
    text = re.sub(r"(\{%-?\s*)generation(\s*-?%\})", r"\1if true\2", job["template"])
    template = env.from_string(re.sub(r"(\{%-?\s*)endgeneration(\s*-?%\})", r"\1endif\2", text))
    for messages, generate, *given in job["chats"]:
        try:
            given = {**more, **(given[0] if given else {}), "add_generation_prompt": generate}
            text = template.render(messages=messages, **given)
            out.append([text, None])
        except Exception as e:
            out.append([None, str(e) or type(e).__name__])
        if sum(len(text or "") for text, _ in out) > 1 << 22:
            sys.exit("it writes too much")
except Exception as e:
    sys.exit(f"{type(e).__name__}: {e}")
json.dump(out, sys.stdout)
"""
DATE = "\ue0dd"  # stands around the format of today's date


class Refused(str):
    """Why a template renders nothing."""


def render(template, special, chats, day=None):
    """Texts of chats [(messages, with generation prompt, and what more is given, if anything)]; a
    Refused where the template refuses one. In a process of its own with a limit on time and memory,
    in jinja2's immutable sandbox: a template is a program of strangers. day: today, as of
    time.strftime; by default today's date is its format, between two DATE."""
    need("jinja2")
    job = {"template": template, "special": special, "chats": chats, "date": DATE, "day": day}
    rows = bounded(RENDER, job, 1 << 30, 5)
    with reading():
        return [Refused(why) if text is None else text for text, why in rows]


def bounded(program, job, memory, seconds):
    """What a program makes of a job, as JSON, in a process of its own with so much memory and time.
    What it reads is of strangers: it may die there, and this program goes on."""
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
    with reading():
        return json.loads(done.stdout)
