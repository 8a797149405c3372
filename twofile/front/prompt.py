"""The prompt, from flags, files and pipes."""

import os

from .text import as_text, read_text


def read_prompt(model, args):
    """The prompt as text: a file's or a pipe's, with -p behind it."""
    raw = (
        read_text(args.file)
        if args.file is not None
        else read_text("-")
        if args.prompt is None
        else None
    )
    if args.prompt is not None:
        raw = (raw + b"\n" if raw is not None else b"") + os.fsencode(args.prompt)
    text = args.screen(as_text(raw, "the prompt"))
    report(model, args, text)
    return text


def read_system(args):
    """What the model is told first, from its flag or file, or None."""
    if args.system_file is not None:
        text = as_text(read_text(args.system_file), "the system prompt")
    elif args.system is not None:
        text = as_text(os.fsencode(args.system), "the system prompt")
    else:
        return None
    return args.screen(text)


def report(model, args, text):
    """Say what was found in a prompt, also which marks of the model's template stand in it."""
    marks = model.tokenizer.markers() if model.tokenizer and not args.raw else ()
    args.screen.report(model.notice, text, marks)


def prompt_ids(model, args, prompt):
    """A prompt (str, or ids) -> ids: as a user's message if the model has a chat template, or else
    as it is."""
    if isinstance(prompt, list):
        return prompt
    tokenizer = model.need_tokenizer()
    if args.raw or not (tokenizer.chat or args.mode.template or args.system):
        return tokenizer.encode(model.short(prompt))
    system = [{"role": "system", "content": args.system}] if args.system else []
    return model.encode_chat([*system, {"role": "user", "content": prompt}])
