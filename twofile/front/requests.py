"""A line of JSON: a request, and its answer."""

import os
import re

from ..errors import ModelError, printable
from ..guess import line_seed
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
    number, index, parts, size = 0, 0, [], 0
    while True:
        try:
            block = os.read(fd, 1 << 16)
        except OSError as e:
            found = f"--batch: cannot be read ({e.strerror})"
            return put(ModelError(f"{found}; expected lines of JSON; check the file or pipe"))
        *lines, rest = block.split(b"\n") if block else [b"", b""]
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
        if not block:
            return put(None)


def count_lines(fd, shard):
    """Lines of a shard of an open file."""
    n, block = 0, b"x"
    while block:
        block = os.read(fd, 1 << 20)
        n += block.count(b"\n")
    os.lseek(fd, 0, os.SEEK_SET)
    return -(-(n - shard[0]) // shard[1])


# the first that is there counts
LIMIT_FIELDS = "max_tokens", "max_completion_tokens", "n_predict"
LINE_FIELDS = {  # of a request, and of the body of one in OpenAI's form: what it must be
    **{rule.name: (int, float) for rule in RULES if rule.kind is float},
    **dict.fromkeys(LIMIT_FIELDS, int),
    **{rule.name: int for rule in RULES if rule.kind is int},
    **dict.fromkeys(("seed", "logprobs"), int),
    **{
        "prompt": (str, list),
        "messages": list,
        "stop": (str, list),
        "ignore_eos": bool,
        "id": object,
    },
    **dict.fromkeys(("model", "user", "metadata"), object),  # which change nothing
}


class Request:
    """What a line asks for: its id, whether in OpenAI's form, and its Writer or its ModelError."""

    def __init__(self, name, openai, found):
        self.name, self.openai, self.found = name, openai, found

    @property
    def failed(self):
        return isinstance(self.found, ModelError)

    def answer(self):
        """What becomes of it, when its Writer is finished -> dict"""
        if self.openai:
            body = None if self.failed else self.found.completion()
            good = {"status_code": 200, "request_id": f"{self.name}", "body": body}
            error = {"code": "bad_request", "message": str(self.found)} if self.failed else None
            return {
                "custom_id": self.name,
                "response": None if self.failed else good,
                "error": error,
            }
        if self.failed:
            return {"id": self.name, "error": str(self.found)}
        whole = self.found.completion()
        (choice,) = whole["choices"]
        said = {"logprobs": choice["logprobs"]} if choice["logprobs"] else {}
        return {
            "id": self.name,
            "text": choice["text"],
            "finish_reason": choice["finish_reason"],
            **{key: whole[key] for key in ("stop_reason", "seed", "usage")},
            **said,
        }


def read_request(model, args, line, number, seed):
    """A line of JSON, or None for one that was too long -> Request"""
    import json

    name, openai = number, False
    try:
        if line is None:
            raise ModelError(f"expected at most {LINE_MAX:,} bytes; make the request shorter")
        value = json.loads(line)
        value = {"prompt": value} if isinstance(value, str) else value
        if not isinstance(value, dict):
            raise ModelError("expected a string or an object; write one a line")
        name = value.get("custom_id", value.get("id", number))
        openai = "body" in value
        options = line_options(model, args, value["body"] if openai else value, name, seed)
        return Request(name, openai, Writer(model, **options))
    except (ValueError, RecursionError):
        found = f"{line[:40].decode('utf-8', 'replace')!r} is no JSON"
        error = ModelError(f"{found}, expected a string or an object")
    except ModelError as e:
        error = e
    return Request(name, openai, ModelError(f"line {number}: {error}"))


def line_options(model, args, value, name, seed):
    """The options of Writer that a request asks for; else they are as on the command line."""
    check_fields(value)
    limits = [value[key] for key in LIMIT_FIELDS if key in value] or [args.n_predict]
    if limits[0] < -1 or value.get("logprobs", 0) < 0:
        raise ModelError(
            f"max_tokens is {limits[0]}, expected -1 (until the end) or more, "
            "and logprobs 0 or more"
        )
    taken = {*Sampling.__dataclass_fields__, "stop", "ignore_eos", "seed", "logprobs"}
    return {
        "stop": args.stop,
        "ignore_eos": args.ignore_eos,
        "seed": line_seed(seed, name),
        **args.how,
        **{key: value[key] for key in taken & value.keys()},
        "max_tokens": None if limits[0] < 0 else limits[0],
        "prompt": asked_ids(model, args, value),
    }


def check_fields(value):
    """The fields of a request are known, and each what it must be. Raises ModelError."""
    if not isinstance(value, dict):
        raise ModelError("body: expected an object")
    for key, given in value.items():
        if key in ("n", "stream") and given in (1, False, None):
            continue
        if key not in LINE_FIELDS:
            raise ModelError(
                f"field {printable(key[:40])}: unknown, expected {', '.join(LINE_FIELDS)}"
            )
        kind = LINE_FIELDS[key]
        if kind is not object and (
            not isinstance(given, kind) or isinstance(given, bool) and kind is not bool
        ):
            raise ModelError(
                f"field {key}: {type(given).__name__}, not as expected; see the README"
            )
    if ("prompt" in value) == ("messages" in value):
        raise ModelError("expected one of prompt and messages")
    if isinstance(value.get("prompt"), list) and not all(type(i) is int for i in value["prompt"]):
        raise ModelError("field prompt: expected text, or token ids")
    if isinstance(value.get("stop"), list) and not all(isinstance(s, str) for s in value["stop"]):
        raise ModelError("field stop: expected strings")


def asked_ids(model, args, value):
    """The ids of a request's prompt or messages."""
    if "prompt" in value:
        asked = value["prompt"]
        return prompt_ids(model, args, args.screen(asked) if isinstance(asked, str) else asked)
    text = lambda m: isinstance(m, dict) and isinstance(m.get("content"), str)
    return model.encode_chat(
        [{**m, "content": args.screen(m["content"])} if text(m) else m for m in value["messages"]]
    )
