"""What a command line says, in typed fields."""

import sys

from .text import Screen


class Settings:
    """A field for what any mode may read; settings[FLAG] for a flag of a mode's own.

    given: what argparse found. model: the file. threads: None = the cores. mode: the Mode that was
    chosen. how: {a field of Sampling: its value}, of those that were given.
    """

    def __init__(self, given, model, threads, mode, how):
        self.given = given
        self.mode = mode
        self.how: dict = how
        self.screen = Screen(given.clean)

        self.model: str = model
        self.tokenizer: str | None = given.tokenizer
        self.id: str | None = given.id

        self.prompt: str | None = given.prompt
        self.file: str | None = given.file
        self.n_predict: int = given.n_predict  # -1 = until the end
        self.stop: list = given.stop
        self.ignore_eos: bool = given.ignore_eos
        self.echo: bool = given.echo
        self.json: bool = given.json
        self.jsonl: bool = given.jsonl
        self.logprobs: int | None = given.logprobs
        self.raw: bool = given.raw
        self.system: str | None = given.system  # the message; main() reads it from system_file
        self.system_file: str | None = given.system_file
        self.seed: int | None = given.seed
        self.parallel: int = given.parallel

        self.threads: int | None = threads
        self.ctx_size: int = given.ctx_size  # 0 = the model's
        self.kv: str | None = given.kv
        self.prompt_cache: str | None = given.prompt_cache
        self.quiet: bool = given.quiet
        self.verbose: bool = given.verbose

    def __getitem__(self, flag):
        return flag.value(self.given)

    @property
    def promptless(self):
        """Whether there is nothing to read a prompt from, but a terminal."""
        return self.prompt is None and self.file is None and sys.stdin and sys.stdin.isatty()
