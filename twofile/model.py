"""What a program imports: text in, text out."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from .astreams import AsyncStream
from .callform import CallForm
from .callreader import Reader
from .calls import Tools, reader
from .chunk import Chunk
from .completions import Completions
from .engine import QUEUE, Engine
from .errors import ModelError, WrongValue, log, printable, say, shown
from .format.config import Config
from .forward import Forward
from .given import FilePath, Messages, Prompt
from .machine import total_memory
from .modelfile import ModelFile, about, check_id, open_model, sampling_said
from .options import whole_number, yes_or_no
from .promptcache import load_cache, save_cache
from .prompts import Prompts, whole_ids
from .sampler import Sampler, Sampling
from .scheduler import Scheduler
from .scores import Scores
from .streams import Stream, write_together
from .structure import Forms
from .texts import Texts
from .tokenizer.tokenizer import Tokenizer, find_tokenizer
from .writer import Writer


class Model(Texts, Completions, Scores):
    """A model file ready to run. Maps the file; the first forward loads or compiles the kernels.

    path: model.bin. tokenizer: a tokenizer.bin; None = the one inside the model file, or
    tokenizer.bin beside it. n_ctx: positions of the KV cache, 0 = the model's. n_threads: None =
    the cores this process may use, fewer while they are held up. kv: the cache's type, "f16", "f32"
    or "q8_0"; None = f32 for f32 models, else f16.
    verbose: notices (compiling, cache) on stderr; else they go to the logger "twofile". id: the
    model id that the file must have, 16 to 64 digits; then every tensor is compared with its hash.
    cache_size: bytes that the keys and values of all texts may take, None = a quarter of memory.
    cache_dir: a folder for those there is no room for, and for later runs. queue: how many texts
    may wait for a place, of which there are 16.
    Raises ModelError with a message in four parts: which file, what was found, what was expected,
    what to do.
    """

    file: ModelFile
    config: Config
    name: str  #: for messages
    tokenizer: Tokenizer | None
    sampling: dict[str, float]  #: what the file says of it
    n_threads: int
    kv: str
    notice: Callable[[str], None]

    def __init__(
        self,
        path: FilePath,
        tokenizer: FilePath | None = None,
        n_ctx: int | None = 0,
        n_threads: int | None = None,
        kv: Literal["f16", "f32", "q8_0"] | None = None,
        verbose: bool = False,
        id: str | None = None,
        cache_size: int | None = None,
        cache_dir: FilePath | None = None,
        queue: int = QUEUE,
    ) -> None:
        settings = {"path": path, "tokenizer": tokenizer, "n_ctx": n_ctx, "n_threads": n_threads}
        more = {"cache_size": cache_size, "cache_dir": cache_dir, "queue": queue}
        self.settings = {**settings, "kv": kv, "verbose": verbose, "id": id, **more}
        self.file, self.name = open_model(path), printable(str(path))
        if id is not None:
            check_id(self.file, id)
        self.config, self.sampling = self.file.config, sampling_said(self.file.config)
        self.notice = say if yes_or_no("verbose", verbose) else log
        self.engine = Engine(self.file, n_ctx, n_threads, kv, self.notice, **more)
        self.n_threads, self.kv = self.engine.threads, self.engine.kv
        self.tokenizer = find_tokenizer(self.file, tokenizer)
        prompts, self.forms = Prompts(self.engine, self.tokenizer), Forms(self.tokenizer)
        super().__init__(self.engine, Scheduler(self.engine), prompts)
        self.engine.fit()
        if self.file.size > total_memory():
            size = f"({self.file.size:,} bytes)"
            self.notice(
                f"{self.name} is larger than memory {size}: it runs at the speed of the disk"
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.settings

    def __setstate__(self, settings: dict[str, Any]) -> None:
        self.__init__(**settings)

    @property
    def n_ctx(self) -> int:
        """Most positions of a text."""
        return self.engine.n_ctx

    @property
    def forward(self) -> Forward | None:
        """The Forward of all texts, None before it is ready()."""
        return self.scheduler.forward

    @property
    def fed(self) -> list[int]:
        """The ids of the last text, whose keys and values are in the cache."""
        return self.scheduler.fed

    @property
    def info(self) -> dict[str, Any]:
        """What the file says of itself, as a dict of plain values."""
        return about(self.file, self.n_ctx, self.cache_bytes(self.n_ctx), self.tokenizer)

    @property
    def ends(self) -> set[int]:
        """The ids that end a text, a set."""
        return set(self.tokenizer.stops) if self.tokenizer else {self.config.eos}

    def ready(self) -> Forward:
        """The Forward; loads or compiles the kernels."""
        return self.scheduler.ready()

    def cache_bytes(self, n_ctx: int) -> int:
        """What the cache of one text of so many positions takes, in bytes."""
        return self.engine.cache_bytes(whole_number("n_ctx", n_ctx, 0, "a number of tokens"))

    def close(self) -> None:
        """End all texts, the threads, and give back the cache's memory; pages go to cache_dir."""
        self.scheduler.close()

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def sampler(self, how: Sampling, bias: Mapping[int, float] | None = None) -> Sampler:
        """A Sampler of this vocabulary. how: Sampling."""
        return Sampler(how, self.prompts.n_vocab, self.ready().code, bias)

    def not_finite(self, position: int) -> ModelError:
        """The ModelError for logits at that position, of the pass before, that are no numbers."""
        return self.engine.not_finite(position)

    # text and ids

    def need_tokenizer(self) -> Tokenizer:
        """The tokenizer; ModelError if there is none."""
        return self.prompts.need_tokenizer()

    def short(self, text: str) -> str:
        """text, if it could fit into the context: what its length alone rules out is refused before
        it costs time or room."""
        return self.prompts.short(text)

    def tokenize(self, text: str, add_bos: bool = True) -> list[int]:
        """-> ids; with the begin token if the model has one and add_bos."""
        return self.prompts.tokenize(text, add_bos)

    @property
    def calls(self) -> CallForm | None:
        """The CallForm in which it writes calls of tools."""
        return self.prompts.calls

    def encode_chat(
        self,
        messages: Messages,
        tools: Tools | Sequence[Mapping[str, Any]] | None = None,
        begun: str = "",
    ) -> list[int]:
        """[{"role", "content"}] -> ids up to where the assistant begins, or behind the text that it
        has begun with; see Tokenizer.encode_chat. tools: those that are told, as OpenAI has them,
        or Tools."""
        return self.prompts.conversation(messages, tools, begun)

    def reader(self, tools: Tools | Sequence[Mapping[str, Any]]) -> Reader:
        """A Reader of what a Writer with these tools writes: its push() tells texts from Calls."""
        return reader(self.calls, tools)

    def prompt(self, given: Prompt) -> list[int]:
        """str or ids -> ids; ModelError if they do not fit."""
        return self.prompts.prompt(given)

    def detokenize(self, ids: Iterable[int]) -> str:
        """-> str"""
        tokenizer, wants = self.need_tokenizer(), "token ids; give a list"
        ids, n_rows = whole_ids(ids, "ids", wants), self.config.vocab_size
        for i in ids:
            if not 0 <= i < n_rows:
                raise WrongValue(f"ids: {shown(i)}, expected ids below {n_rows}; give such")
        return tokenizer.decode(ids)

    # Writers

    def write(self, w: Writer, lookup: bool = True) -> Stream:
        """-> the Stream of a Writer: its Chunks as they are made. lookup: guess what repeats;
        changes the speed, nothing else."""
        return Stream(self.scheduler, w, lookup)

    def awrite(self, w: Writer, lookup: bool = True) -> AsyncStream:
        """As write(), for `async for`: an AsyncStream."""
        return AsyncStream(self.scheduler, w, lookup)

    def together(
        self, writers: Iterable[Writer | None], places: int = 8
    ) -> Iterator[tuple[Writer, Chunk]]:
        """Write many texts at once, the weights read once for all: yields (Writer, Chunk) as they
        come. writers: any iterable of Writers of this model, or None for "not yet"; the next one
        takes the place of one that ends. Each gets the bits that it would get alone. A beginning
        that another text has in the cache is not read again, and waited for while it is being
        read."""
        return write_together(self.scheduler, writers, places)

    def written(self, w: Writer, lookup: bool = True) -> Writer:
        """The Writer, written to its end. Raises what it met."""
        list(self.write(w, lookup))
        return self.ended([w])[0]

    def finished(self, writers: list[Writer], places: int) -> list[Writer]:
        """The Writers, written together to their ends. Raises what one of them met."""
        list(self.together(writers, places))
        return self.ended(writers)

    def ended(self, writers: list[Writer]) -> list[Writer]:
        """The Writers, if each came to an end of its own, not to the model's. Raises ModelError."""
        for w in writers:
            if w.error:
                raise w.error
            if w.reason == "closed":
                self.scheduler.check()
        return writers

    # what was read

    def save_cache(self, path: FilePath, n: int | None = None) -> None:
        """Keep what layers know of what was read and written last, or of its first n ids, in a
        file, for load_cache; where there are states, of as many ids as they were kept for."""
        save_cache(self.scheduler, self.fed, path, n)

    def load_cache(self, path: FilePath, ids: Sequence[int]) -> int:
        """Take from a file of save_cache what it has of the beginning of ids -> how many positions.
        0 if there is no such file, or it is of another model or cut or changed, which it says;
        ModelError if it is no such file at all."""
        return load_cache(self.scheduler, path, ids)
