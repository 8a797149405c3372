"""A model file on this machine: what it takes to run."""

import math
import os

from .errors import ModelError, WrongType, WrongValue, hushed_numba, printable, set_by, shown
from .forks import BUILDING
from .format.types import F32, padded
from .forward import Forward, cache_bytes, has_states
from .kernels.cache import CACHE_NAMES
from .machine import available_cores, total_memory
from .options import whole_number
from .program.operands import KEYS, WANTED_MAX
from .spill import Spill

QUEUE = 1024  # texts that may wait
MOST_PAGES = 1 << 15
SPILL_BYTES = 1 << 34  # of a cache_dir


def folder_asked(value):
    """A folder's name, or None. Raises ModelError."""
    if value is None:
        return None
    name = os.fspath(value) if isinstance(value, (str, os.PathLike)) else ""
    if not isinstance(name, str) or not name or "\0" in name:
        wrong = WrongValue if isinstance(value, (str, os.PathLike)) else WrongType
        raise wrong(f"{set_by('cache_dir')} is {shown(value)}, expected a folder; name one")
    if os.path.exists(name) and not os.path.isdir(name):
        found = f"{set_by('cache_dir')} {printable(name)}: cannot be used (it is no folder)"
        raise WrongValue(f"{found}, expected a folder to write to; choose another")
    return name


class Engine:
    """Makes the Forward of a model file, as large as this machine has room for.

    file: of open_model. n_ctx: most positions of a text, 0 = the model's. threads: None = the cores
    this process may use, fewer while they are held up. kv: one of CACHE_NAMES; None = f32 for f32
    models, else f16. notice: what is said goes there. cache_size: bytes of the cache at most, None
    = a quarter of memory. cache_dir: where pages of it are kept when there is no room, and after
    the end. queue: how many texts may wait for a place. Raises ModelError for what is out of range.
    Attributes: recurrent (whether there are states), forward (once there is one),
    marks (how many copies of states are kept), mark_every (at the end of how many pages).
    """

    def __init__(
        self, file, n_ctx, threads, kv, notice, cache_size=None, cache_dir=None, queue=QUEUE
    ):
        self.file, self.name, self.notice = file, printable(file.path), notice
        n_ctx = 0 if n_ctx is None else n_ctx
        n_ctx = whole_number("n_ctx", n_ctx, 0, "a number of tokens, or 0 for the model's")
        most, wants = file.config.max_ctx, "a number of threads, or None for the cores"
        cores = available_cores() if threads is None else threads
        cores = whole_number("n_threads", cores, -math.inf, wants)
        if kv is not None and not (isinstance(kv, str) and kv in CACHE_NAMES):
            wants = ", ".join(map(repr, CACHE_NAMES))
            raise (WrongValue if isinstance(kv, str) else WrongType)(
                f"kv is {shown(kv)}, expected {wants} or None; choose one"
            )
        if not 0 <= n_ctx <= most:
            found = f"context of {shown(n_ctx)} tokens, expected 1 to the {most} of {self.name}"
            raise WrongValue(f"{found}; choose less")
        if not 1 <= cores <= 1024:
            wants = f"expected 1 to 1024; leave it out for {available_cores()}"
            raise WrongValue(f"{shown(cores)} threads, {wants}")
        self.n_ctx, self.asked, self.threads = n_ctx or most, bool(n_ctx), cores
        self.adapts = threads is None
        self.kv = kv or ("f32" if file.tensors["embed"].type is F32 else "f16")
        self.recurrent, self.forward = has_states(file.config), None
        size = 0 if cache_size is None else cache_size
        size = whole_number("cache_size", size, 0, "bytes, or None for a quarter of memory")
        self.cache_size, self.spill_size = size, SPILL_BYTES
        self.cache_dir = folder_asked(cache_dir)
        self.queue = whole_number("queue", queue, 1, "how many texts may wait, 1 or more")

    def cache_bytes(self, n_ctx):
        """What a cache of so many positions takes."""
        return cache_bytes(self.file.config, self.kv, n_ctx)

    @property
    def shorter(self):
        """What to do about a prompt that is too long."""
        larger = self.n_ctx < self.file.config.max_ctx
        return "shorten it" + (f", or raise {set_by('n_ctx')}" if larger else "")

    def fit(self):
        """Unless a context was asked for: the model's, halved until its cache is within the
        bound."""
        n, bound = self.n_ctx, self.cache_size or total_memory() // 4
        while not self.asked and n > 512 and self.cache_bytes(n) > bound:
            n //= 2
        if n < self.n_ctx:
            would = f"{self.n_ctx} would take {self.cache_bytes(self.n_ctx):,} bytes of memory"
            self.notice(f"the context of {n} tokens; {would}; {set_by('n_ctx')} asks for more")
            self.n_ctx = n
        need = self.cache_bytes(self.n_ctx)
        if self.cache_size and need > self.cache_size:
            found = f"{set_by('cache_size')} of {self.cache_size:,} bytes"
            wants = f"expected room for one context of {self.n_ctx}, {need:,}"
            raise WrongValue(f"{found}, {wants}; give more, or a smaller {set_by('n_ctx')}")

    def build(self):
        """-> a new Forward for as many texts at once as there can be, with pages within the bound.
        Raises a ModelError that says what a context takes."""
        states, blocks = self.cache_bytes(0), padded(self.n_ctx, KEYS) // KEYS
        each, have = self.cache_bytes(KEYS) - states, total_memory()
        bound = self.cache_size or have // 4
        slots = min(WANTED_MAX, max(1, bound // 4 // states)) if states else WANTED_MAX
        self.marks = max(4, bound // 4 // states) if states else 0
        self.mark_every = max(1, -(-states // max(1, each)))
        count = max(blocks + 1, min(MOST_PAGES, bound // (2 if states else 1) // max(1, each)))
        need = self.cache_bytes(self.n_ctx)
        while True:
            try:
                if need > have:
                    raise MemoryError
                with BUILDING, hushed_numba():
                    make = (self.file, self.n_ctx, slots, self.kv, self.threads, self.notice)
                    self.forward = Forward(*make, self.adapts, count)
                return self.forward
            except MemoryError as e:
                if need <= have and (count > blocks + 1 or slots > 1):
                    count, slots = max(blocks + 1, count // 2), max(1, slots // 2)
                    continue
                need = next((n for n in e.args if isinstance(n, int)), need)
            found = f"a context of {self.n_ctx} tokens takes {need:,} bytes"
            wants = f"this machine has {have:,}; choose a smaller {set_by('n_ctx')}"
            raise ModelError(f"{found}, {wants}")

    def vector(self, name):
        """A tensor of one dimension as float32; 0 if there is none."""
        tensor = self.file.tensors.get(name)
        return 0 if tensor is None else tensor.data.view("<f4")

    def spill_of(self, cache):
        """Where pages of a Cache go that there is no room for, or None."""
        return Spill(self, cache) if self.cache_dir else None

    def not_finite(self, position):
        """The ModelError for logits at that position, of the pass before, that are no numbers."""
        where = self.forward.where_not_finite()
        found = f"NaN or infinity at position {position}" + (f", begun in {where}" if where else "")
        run = f"run {set_by('verify()')}, copy or export it again"
        return ModelError(f"{self.name}: {found}, expected finite logits; {run}")
