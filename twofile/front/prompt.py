"""The prompt, from flags, files and pipes."""

import os

from .text import as_text, read_text, report, screen


def read_prompt(model, args):
    raw = (
        read_text(args.file)
        if args.file is not None
        else read_text("-")
        if args.prompt is None
        else None
    )
    if args.prompt is not None:
        raw = (raw + b"\n" if raw is not None else b"") + os.fsencode(args.prompt)
    text = screen(args, as_text(raw, "the prompt"))
    report(model, args, text)
    return text


def prompt_ids(model, args, prompt):
    """A prompt (str, or ids) -> ids: as a user's message if the model has a chat template, or else as it is."""
    if isinstance(prompt, list):
        return prompt
    tokenizer = model.need_tokenizer()
    if args.raw or not (tokenizer.chat or args.chat or args.system):
        return tokenizer.encode(model.short(prompt))
    system = [{"role": "system", "content": args.system}] if args.system else []
    return model.encode_chat([*system, {"role": "user", "content": prompt}])
