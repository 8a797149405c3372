"""Tokens become whole characters."""

import codecs

from .file import PREFIX, PREFIX_UNLESS


class TextStream:
    """Tokens in, whole characters out: a character may span several tokens. start: drop the space
    that encode put first. tokenizer: None where nothing is ever pushed. names: {id: what it prints,
    though it is a control token}."""

    def __init__(self, tokenizer, start=False, names=None):
        self.names = names or {}
        self.tokenizer, self.decoder = tokenizer, codecs.getincrementaldecoder("utf-8")("replace")
        self.strip = bool(start and tokenizer and tokenizer.flags & (PREFIX | PREFIX_UNLESS))

    def push(self, token):
        """The characters that are whole with this token, as str."""
        if token in self.names:
            return self.decoder.decode(b"", final=True) + self.names[token]
        raw = self.tokenizer.piece(token)
        if self.strip and raw:
            self.strip, raw = False, raw.removeprefix(b" ")
        return self.decoder.decode(raw)

    def flush(self):
        """What is left at the end: U+FFFD for an unfinished character."""
        return self.decoder.decode(b"", final=True)
