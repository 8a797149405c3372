"""A model file on this machine: what it takes to run, and its prompts."""

import math

from .errors import ModelError, printable
from .forks import BUILDING
from .format.types import F32
from .forward import Forward, cache_bytes, has_states
from .guess import alike
from .kernels.cache import CACHE_NAMES
from .machine import available_cores, total_memory
from .options import shown, whole_number
from .program.operands import WANTED_MAX


class Engine:
    """Makes the Forwards of a model file, as many and as large as this machine has room for.

    file: of open_model. n_ctx: most positions of a text, 0 = the model's. threads: None = the cores
    this process may use, fewer while they are held up. kv: one of CACHE_NAMES; None = f32 for f32
    models, else f16. notice: what is said goes there. Raises ModelError for what is out of range.
    Attributes: recurrent (whether there are states), playing (the Forward of the last pass).
    """

    def __init__(self, file, n_ctx, threads, kv, notice):
        self.file, self.name, self.notice = file, printable(file.path), notice
        n_ctx = whole_number("n_ctx", n_ctx or 0, 0, "a number of tokens, or 0 for the model's")
        most, wants = file.config.max_ctx, "a number of threads, or None for the cores"
        cores = available_cores() if threads is None else threads
        cores = whole_number("n_threads", cores, -math.inf, wants)
        if kv not in (None, *CACHE_NAMES):
            wants = ", ".join(map(repr, CACHE_NAMES))
            raise ModelError(f"kv is {shown(kv)}, expected {wants} or None; choose one")
        if not 0 <= n_ctx <= most:
            found = f"context of {n_ctx} tokens, expected 1 to the {most} of {self.name}"
            raise ModelError(f"{found}; choose less")
        if not 1 <= cores <= 1024:
            wants = f"expected 1 to 1024; leave it out for {available_cores()}"
            raise ModelError(f"{cores} threads, {wants}")
        self.n_ctx, self.asked, self.threads = n_ctx or most, bool(n_ctx), cores
        self.adapts = threads is None
        self.kv = kv or ("f32" if file.tensors["embed"].type is F32 else "f16")
        self.recurrent, self.playing, self.spare = has_states(file.config), None, []

    def cache_bytes(self, n_ctx):
        """What a cache of so many positions takes."""
        return cache_bytes(self.file.config, self.kv, n_ctx)

    def fit(self, places):
        """Unless a context was asked for: the model's, halved until the cache of so many texts
        takes half of memory."""
        n = self.n_ctx
        while not self.asked and n > 512 and places * self.cache_bytes(n) > total_memory() // 2:
            n //= 2
        if n < self.n_ctx:
            need = places * self.cache_bytes(self.n_ctx)
            what = f"{places} contexts" if places > 1 else "the context"
            would = f"{self.n_ctx} would take {need:,} bytes of memory"
            self.notice(f"{what} of {n} tokens; {would}; -c asks for more")
            self.n_ctx = n

    def build(self, n_ctx, places):
        """A new Forward of so many contexts, or a ModelError that says what they take."""
        need, have = places * self.cache_bytes(n_ctx), total_memory()
        try:
            if need > have:
                raise MemoryError
            with BUILDING:
                return Forward(
                    self.file, n_ctx, places, self.kv, self.threads, self.notice, self.adapts
                )
        except MemoryError as e:
            need = next((n for n in e.args if isinstance(n, int)), need)
            what, less = f"a context of {n_ctx} tokens takes", "-c or -n"
            if places > 1:
                what, less = f"{places} contexts of {n_ctx} tokens take", "-c or -np"
            raise ModelError(
                f"{what} {need:,} bytes, this machine has {have:,}; choose a smaller {less}"
            ) from None

    def borrow(self, places):
        """A Forward of so many slots, each of the whole context: a spare one, or new. It comes back
        by give_back()."""
        if not 1 <= places <= WANTED_MAX:
            found = f"{places} texts at once, expected 1 to {WANTED_MAX}"
            raise ModelError(f"{found}; choose less, the others wait")
        for n, forward in enumerate(self.spare):
            if forward.n_slots == places:
                return self.spare.pop(n)
        return self.build(self.n_ctx, places)

    def give_back(self, forward):
        """Take a Forward of borrow() for the next who wants one."""
        self.spare.append(forward)

    def play(self, forward, tokens, positions, slots, wanted):
        """A pass of one of the Forwards -> logits float32 [len(wanted), vocab_size]."""
        self.playing = forward
        return forward(tokens, positions, slots, wanted)

    def not_finite(self, position):
        """The ModelError for logits at that position, of the pass before, that are no numbers."""
        where = self.playing.where_not_finite()
        found = f"NaN or infinity at position {position}" + (f", begun in {where}" if where else "")
        return ModelError(
            f"{self.name}: {found}, expected finite logits; run --verify, copy or export it again"
        )

    def of_use(self, ids, others):
        """How many of the ids of a cache are of use for others: all that are alike; of states, all
        or none."""
        n = alike(ids, others)
        return n if not self.recurrent or n == len(ids) else 0
