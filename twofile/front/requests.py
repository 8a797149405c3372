"""A line of JSON: a request, and its answer."""

import os
import re

from ..calls import answered, call_object, tools_asked
from ..errors import ModelError, printable, shown
from ..files import Unmarked
from ..noops import changes_nothing
from ..options import did_you_mean, likeliest_asked, line_seed, token_limit
from ..prompts import plain_messages
from ..sampler import RULES, Sampling
from ..writer import Writer
from .text import prompt_ids

LINE_MAX = 1 << 24  # bytes


def parse_shard(text):
    """ "1/8" -> (1, 8); None: Slurm's array, or (0, 1). Raises ModelError."""
    if text is None:
        task, count, least = (
            os.environ.get(f"SLURM_ARRAY_TASK_{name}", "") for name in ("ID", "COUNT", "MIN")
        )
        if not re.fullmatch(r"\d{1,9}/\d{1,9}", f"{task}/{count}"):
            return 0, 1
        text = f"{int(task) - int(least or 0)}/{count}"
    parts = text.split("/")
    if not re.fullmatch(r"\d{1,9}/\d{1,9}", text) or not int(parts[0]) < int(parts[1]):
        found = f"--shard is {printable(text)}"
        raise ModelError(f"{found}, expected I/N with I from 0 to N - 1, such as 0/4")
    return int(parts[0]), int(parts[1])


def read_lines(fd, shard, put):
    """Put (number, line) of each line that is not empty and in shard (i, n), then None; a line that
    is too long is None. Runs in a thread, so that a slow pipe stops no text; reads the descriptor
    itself, since a thread that waits inside sys.stdin breaks the end of the program."""
    number, index, parts, size, unmarked = 0, 0, [], 0, Unmarked("--batch")
    while True:
        try:
            block = os.read(fd, 1 << 16)
            end = not block
            block = unmarked(block, final=end)
        except ModelError as e:
            return put(e)
        except OSError as e:
            found = f"--batch: cannot be read ({e.strerror})"
            return put(ModelError(f"{found}; expected lines of JSON; check the file or pipe"))
        *lines, rest = [*block.split(b"\n"), *[b""] * end]  # the end ends a line
        for line in lines:
            whole = size + len(line) <= LINE_MAX
            line, parts, size = b"".join([*parts, line]) if whole else None, [], 0
            number += 1
            if line is None or line.strip():
                if index % shard[1] == shard[0]:
                    put((number, line))
                index += 1
        size += len(rest)
        if size <= LINE_MAX:  # the rest of a longer line is not kept
            parts.append(rest)
        if end:
            return put(None)


def count_lines(fd, shard):
    """Lines of a shard of an open file."""
    n, block = 0, b"x"
    while block:
        block = os.read(fd, 1 << 20)
        n += block.count(b"\n")
    os.lseek(fd, 0, os.SEEK_SET)
    return -(-(n - shard[0]) // shard[1])


LIMIT_FIELDS = "max_tokens", "max_completion_tokens", "n_predict"  # one thing by three names
FORM_FIELDS = {"schema": (dict, bool), "regex": str, "grammar": str, "response_format": dict}
LINE_FIELDS = {  # of a request, and of the body of one in OpenAI's form: what it must be
    **{rule.name: (int, float) for rule in RULES if rule.kind is float},
    **dict.fromkeys(LIMIT_FIELDS, int),
    **{rule.name: int for rule in RULES if rule.kind is int},
    **dict.fromkeys(("seed", "top_logprobs"), int),
    **{
        "prompt": (str, list),
        "messages": list,
        "stop": (str, list),
        "ignore_eos": bool,
        "logprobs": (int, bool),
        "logit_bias": (dict, list),
        "tools": list,
        "tool_choice": (str, dict),
        "parallel_tool_calls": bool,
        **FORM_FIELDS,
    },
}
WORDS = {str: "a text", list: "a list", bool: "true or false", dict: "an object"}
WORDS |= {int: "a whole number", float: "a number"}
CHAT_URL, TEXT_URL = "/v1/chat/completions", "/v1/completions"


class Request:
    """A line's id, whether in OpenAI's form, whether with messages; its Writer or ModelError."""

    def __init__(self, name, openai, chat, found):
        self.name, self.openai, self.chat, self.found = name, openai, chat, found

    @property
    def failed(self):
        return isinstance(self.found, ModelError)

    def answer(self):
        """What becomes of it, when its Writer is finished -> dict"""
        return self.openai_answer() if self.openai else self.own_answer()

    def openai_answer(self):
        """A line of OpenAI's output files, with the object that its url gives."""
        good = error = None
        if self.failed:
            error = {"code": "bad_request", "message": str(self.found)}
        else:
            body = self.found.chat_completion() if self.chat else self.found.completion()
            good = {"status_code": 200, "request_id": f"{self.name}", "body": body}
        number = f"batch_req_{self.name}"
        return {"id": number, "custom_id": self.name, "response": good, "error": error}

    def own_answer(self):
        if self.failed:
            return {"id": self.name, "error": str(self.found)}
        whole, (text, calls) = self.found.completion(), answered(self.found)
        (choice,) = whole["choices"]
        del whole["usage"]["prompt_tokens_details"]  # which tell of the lines before
        reason = choice["finish_reason"]
        said = {"logprobs": choice["logprobs"]} if choice["logprobs"] else {}
        said |= {"tool_calls": [call_object(call) for call in calls]} if calls else {}
        return {
            "id": self.name,
            "text": text or "",
            "finish_reason": "tool_calls" if calls and reason == "stop" else reason,
            **{key: whole[key] for key in ("stop_reason", "seed", "usage")},
            **said,
        }


def read_request(model, args, line, number, seed):
    """A line of JSON, or None for one that was too long -> Request"""
    name, openai, chat = number, False, False
    try:
        if line is None:
            raise ModelError(f"expected at most {LINE_MAX:,} bytes; make the request shorter")
        value = json_of(line)
        value = {"prompt": value} if isinstance(value, str) else value
        if not isinstance(value, dict):
            raise ModelError("expected a string or an object; write one a line")
        name = next((value[key] for key in ("custom_id", "id") if value.get(key) is not None), name)
        openai = "body" in value
        body = value["body"] if openai else value
        if not isinstance(body, dict):
            raise ModelError("body: expected an object")
        body = {key: given for key, given in body.items() if given is not None}
        chat = "messages" in body
        if openai:
            check_envelope(value, chat)
        check_fields(body)
        raw = openai and value.get("url") == TEXT_URL  # which continues a prompt, as OpenAI does
        options = line_options(model, args, body, name, seed, raw)
        return Request(name, openai, chat, Writer(model, **options))
    except ModelError as e:
        error = e
    except (ValueError, RecursionError) as e:
        found = f"cannot be read ({printable(str(e))[:80]})"
        error = ModelError(f"{found}; expected a request; change it")
    return Request(name, openai, chat, ModelError(f"line {number}: {error}"))


def json_of(line):
    """What a line of JSON, bytes, says. Raises ModelError."""
    import json

    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        found = f"{line[:40].decode('utf-8', 'replace')!r} is no JSON"
        wants = "expected a string or an object; write a text in quotes, as JSON has it"
        raise ModelError(f"{found}, {wants}") from None


def line_options(model, args, body, name, seed, raw):
    """The options of Writer that a request asks for; else they are as on the command line. raw:
    whether its prompt is continued without a template."""
    asked = {key: token_limit(body[key], key) for key in LIMIT_FIELDS if key in body}
    limits = set(asked.values()) or {args.n_predict}
    if len(limits) > 1:
        found = ", ".join(f"{key} {body[key]}" for key in asked)
        raise ModelError(f"{found}; expected one limit; leave the others out")
    own = {"stop", "ignore_eos", "seed", "logit_bias", *Sampling.__dataclass_fields__, *FORM_FIELDS}
    choice, several = (body.get(key) for key in ("tool_choice", "parallel_tool_calls"))
    tools = tools_asked(body.get("tools"), choice, several is not False)
    form = FORM_FIELDS if FORM_FIELDS.keys() & body.keys() else {}  # its own, or the command's
    return {
        **{key: value for key, value in args.options.items() if key not in form},
        "seed": line_seed(seed, name),
        **{key: body[key] for key in own & body.keys()},
        "logprobs": likeliest_asked(body.get("logprobs"), body.get("top_logprobs")),
        "max_tokens": limits.pop(),
        "prompt": asked_ids(model, args, body, tools, raw),
        "tools": tools,
    }


def check_envelope(value, chat):
    """What stands around a body is of a request that can be answered. Raises ModelError."""
    url, method = value.get("url"), value.get("method")
    usual = CHAT_URL if chat else TEXT_URL
    if url not in (None, usual):
        wants = f"expected {usual} with a field {'messages' if chat else 'prompt'}"
        if url not in (CHAT_URL, TEXT_URL):
            wants = f"expected {CHAT_URL} or {TEXT_URL}"
        raise ModelError(f"url is {shown(url)}, {wants}; change one of them")
    if method not in (None, "POST"):
        raise ModelError(f"method is {shown(method)}, expected POST; change it")


def check_fields(body):
    """The fields of a request are known, each what it must be, and each that is not known changes
    nothing. Raises ModelError."""
    for key, given in body.items():
        if key not in LINE_FIELDS:
            if key != "id" and not changes_nothing(key, given):
                found = f"field {printable(key[:40])}: unknown, expected {', '.join(LINE_FIELDS)}"
                raise ModelError(f"{found}; {did_you_mean(key, LINE_FIELDS)}")
            continue
        kind = LINE_FIELDS[key]
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(given, kinds) or isinstance(given, bool) and bool not in kinds:
            wants = " or ".join(WORDS[kind] for kind in kinds)
            raise ModelError(f"field {key}: {shown(given)}, expected {wants}; see the README")
    if ("prompt" in body) == ("messages" in body):
        raise ModelError("expected one of prompt and messages")
    if isinstance(body.get("prompt"), list) and not all(type(i) is int for i in body["prompt"]):
        raise ModelError("field prompt: expected text, or token ids")
    if "prompt" in body and body.get("tools"):
        raise ModelError("field tools: with a prompt, expected messages, which tell of them")
    if "prompt" in body and body.get("logprobs") is True:
        raise ModelError("field logprobs: true, expected a number with a prompt; give it")


def asked_ids(model, args, body, tools, raw):
    """The ids of a request's prompt, perhaps raw, or messages, which are told of Tools."""
    if "prompt" in body:
        asked = body["prompt"]
        asked = args.screen(asked) if isinstance(asked, str) else asked
        return prompt_ids(model, args, asked, raw=raw)
    messages = plain_messages(body["messages"])
    return model.encode_chat(
        [
            {**m, "content": args.screen(m["content"])} if isinstance(m["content"], str) else m
            for m in messages
        ],
        tools,
    )
