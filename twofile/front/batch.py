"""JSON lines in, JSON lines out, many texts written together."""

import os
import random
import sys
import threading
import time
from types import SimpleNamespace

from ..errors import ModelError, printable
from ..files import open_regular
from ..guess import line_seed
from ..sampler import Sampling
from ..writer import Writer
from .prompt import prompt_ids
from .text import dump, report, screen

LINE_FIELDS = {  # of a request, and of the body of one in OpenAI's form: what it must be
    **dict.fromkeys("temperature top_p min_p repeat_penalty".split(), (int, float)),
    **dict.fromkeys(
        "max_tokens max_completion_tokens n_predict top_k repeat_last_n seed logprobs".split(), int
    ),
    **{
        "prompt": (str, list),
        "messages": list,
        "stop": (str, list),
        "ignore_eos": bool,
        "id": object,
    },
    **dict.fromkeys("model user metadata".split(), object),  # which change nothing
}
LINE_MAX = 1 << 24  # bytes


def request(model, args, line, number, seed):
    """A line of JSON -> (id, Writer or ModelError, whether it is in OpenAI's form)."""
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
        return (
            name,
            Writer(
                model, **line_options(model, args, value["body"] if openai else value, name, seed)
            ),
            openai,
        )
    except (ValueError, RecursionError):
        error = ModelError(
            f"{line[:40].decode('utf-8', 'replace')!r} is no JSON, expected a string or an object"
        )
    except ModelError as e:
        error = e
    return name, ModelError(f"line {number}: {error}"), openai


def line_options(model, args, value, name, seed):
    """The options of Writer that a request asks for; what it leaves out is as on the command line."""
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
    limits = [
        value[k] for k in ("max_tokens", "max_completion_tokens", "n_predict") if k in value
    ] or [args.n_predict]
    if limits[0] < -1 or value.get("logprobs", 0) < 0:
        raise ModelError(
            f"max_tokens is {limits[0]}, expected -1 (until the end) or more, and logprobs 0 or more"
        )
    taken = {*Sampling.__dataclass_fields__, "stop", "ignore_eos", "seed", "logprobs"}
    return {
        **{
            "stop": args.stop,
            "ignore_eos": args.ignore_eos,
            "seed": line_seed(seed, name),
            **args.how,
        },
        **{key: value[key] for key in taken & value.keys()},
        "max_tokens": None if limits[0] < 0 else limits[0],
        "prompt": asked_ids(model, args, value),
    }


def asked_ids(model, args, value):
    """The ids of a request's prompt or messages."""
    if "prompt" in value:
        asked = value["prompt"]
        return prompt_ids(model, args, screen(args, asked) if isinstance(asked, str) else asked)
    text = lambda m: isinstance(m, dict) and isinstance(m.get("content"), str)
    return model.encode_chat(
        [{**m, "content": screen(args, m["content"])} if text(m) else m for m in value["messages"]]
    )


def answer(name, found, openai):
    """What becomes of a request: found is its finished Writer, or its error -> dict."""
    failed = isinstance(found, ModelError)
    if openai:
        response = (
            None
            if failed
            else {"status_code": 200, "request_id": f"{name}", "body": found.completion()}
        )
        error = {"code": "bad_request", "message": str(found)} if failed else None
        return {"custom_id": name, "response": response, "error": error}
    if failed:
        return {"id": name, "error": str(found)}
    whole = found.completion()
    (choice,) = whole["choices"]
    kept = {key: whole[key] for key in ("stop_reason", "seed", "usage")}
    said = {"logprobs": choice["logprobs"]} if choice["logprobs"] else {}
    return {
        "id": name,
        "text": choice["text"],
        "finish_reason": choice["finish_reason"],
        **kept,
        **said,
    }


def read_lines(fd, shard, put):
    """Put (number, line) of each line that is not empty and in shard (i, n), then None; a line that is too long is None. Runs
    in a thread, so that a slow pipe stops no text; reads the descriptor itself, since a thread that waits inside sys.stdin
    breaks the end of the program."""
    number, index, parts, size = 0, 0, [], 0
    while True:
        try:
            block = os.read(fd, 1 << 16)
        except OSError as e:
            return put(
                ModelError(
                    f"--batch: cannot be read ({e.strerror}); expected lines of JSON; check the file or pipe"
                )
            )
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


def open_output(path, resume):
    """-> (binary file, lines that are in it). A file is called FILE.part until it is whole; (None, 0) if it is."""
    if path is None:
        return sys.stdout.buffer, 0
    name, part = printable(path), path + ".part"
    if os.path.exists(path) and not resume:
        raise ModelError(f"{name}: exists, expected a new name; remove it first")
    if os.path.exists(path):
        return None, 0
    if os.path.exists(part) and not resume:
        raise ModelError(
            f"{name}.part: of a run that was interrupted; expected none; go on with --resume, or remove it"
        )
    try:
        f = open(part, "a+b")
    except OSError as e:
        raise ModelError(
            f"{name}.part: cannot be written ({e.strerror}); expected room there; choose another"
        ) from None
    try:
        import fcntl

        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass
    except OSError:
        raise ModelError(
            f"{name}.part: another run is writing it, expected none; wait, or choose another"
        ) from None
    f.seek(0)
    whole = done = 0
    for line in f:
        if line.endswith(b"\n"):
            whole, done = whole + len(line), done + 1
    f.truncate(whole)
    return f, done


def batch(model, args):
    """--batch; -> exit code: 1 if a line failed."""
    import queue

    seed = random.getrandbits(32) if args.seed is None else args.seed
    model.fit(args.parallel)
    out, skip = open_output(args.output, args.resume)
    if out is None:
        model.notice(f"{printable(args.output)}: is there already; nothing to do")
        return 0
    fd = 0 if args.batch == "-" else open_regular(args.batch, "a file of JSON lines")[0]
    lines, found, began, shown = (
        queue.Queue(32),
        {},
        time.perf_counter(),
        0.0,
    )  # found: answers that wait for their turn
    total = count_lines(fd, args.shard) if args.batch != "-" else None
    threading.Thread(target=read_lines, args=(fd, args.shard, lines.put), daemon=True).start()
    state = SimpleNamespace(asked=0, written=skip, ended=0, failed=0, prompt=0, new=0)

    def writers():
        while True:
            try:
                item = lines.get(block=state.asked == state.ended + skip)
            except queue.Empty:
                yield None  # others are being written meanwhile
                continue
            if item is None:
                return
            if isinstance(item, ModelError):
                raise item
            n, state.asked = state.asked, state.asked + 1
            if n >= skip:
                name, w, openai = request(model, args, item[1], item[0], seed)
                if isinstance(w, ModelError):
                    end(n, answer(name, w, openai))
                    state.failed += 1
                else:
                    w.turn = n, name, openai
                    yield w

    def end(n, value):
        found[n] = value
        state.ended += 1
        while state.written in found:
            out.write(dump(found.pop(state.written)))
            state.written += 1
        out.flush()

    try:
        for w, chunk in model.together(writers(), args.parallel):
            if chunk.finish_reason:
                n, name, openai = w.turn
                state.prompt, state.new = state.prompt + w.n_prompt, state.new + w.count
                end(n, answer(name, w, openai))
            now = time.perf_counter()
            if sys.stderr.isatty() and not args.quiet and now - shown > 0.5:
                shown = now
                pace = (now - began) / max(state.written - skip, 1)
                left = (
                    f", {(total - state.written) * pace:.0f} s left"
                    if total and state.ended
                    else ""
                )
                print(
                    f"\r{state.written} lines of {total or 'a pipe'}{left}   ",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
        if args.output:
            os.fsync(out.fileno())
            os.replace(args.output + ".part", args.output)
    except OSError as e:
        if not args.output:
            raise
        found = f"{printable(args.output)}.part: cannot be written ({e.strerror})"
        raise ModelError(
            f"{found}; expected room for the answers; free some, and go on with --resume"
        ) from None
    report(model, args)
    if not args.quiet:
        batch_stats(state, time.perf_counter() - began, seed)
    return 1 if state.failed else 0


def batch_stats(state, seconds, seed):
    rate = f"{state.new} tok {state.new / max(seconds, 1e-9):.1f} t/s"
    line = f"{state.ended} lines ({state.failed} failed) | prompt {state.prompt} tok | gen {rate} | {seconds:.2f} s"
    print(("\r" if sys.stderr.isatty() else "") + f"{line} | seed {seed}", file=sys.stderr)


def count_lines(fd, shard):
    """Lines of a shard of an open file."""
    n, block = 0, b"x"
    while block:
        block = os.read(fd, 1 << 20)
        n += block.count(b"\n")
    os.lseek(fd, 0, os.SEEK_SET)
    return -(-(n - shard[0]) // shard[1])
