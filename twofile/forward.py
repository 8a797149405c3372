"""A model ready to run: recorded once, played for every pass."""

import weakref

import numpy as np

from .compiler.code import Code
from .forks import RENEWED
from .format.types import GROUP, padded
from .kernels.cache import cache_type
from .kernels.pick import pick
from .kernels.play import play, rest, rouse, serve
from .layers.recorder import Recorder
from .layers.stack import bind, keeps, record_model
from .machine import total_memory
from .program.cache import part_bytes
from .program.operands import CHUNK, IDS, KEYS, N_PAIRS, N_TOKENS, N_WANTED, WAIT, WANTED_MAX
from .program.player import Player
from .program.program import Sizes
from .tuned import tuned

ENTRIES = (play, rest, rouse, serve, pick)  # kernels that are no step of a program


class Forward:
    """One model ready to run: cache, recorded program, worker threads.

    __call__(tokens, positions, slots, wanted) -> logits float32 [len(wanted), vocab_size], valid
    until the next call. A slot is the cache of one sequence of up to n_ctx positions, in pages of
    64. kv: the type of the cache by name. adapts: whether fewer threads play while they are held
    up. pages: of all slots, 0 = as many as they can have. Raises
    MemoryError(bytes) where there is too little, ModelError.
    """

    NAMES = "token", "position", "slot", "wanted"  # of IDS, one of each
    players = Player  # what plays a pass

    def __init__(
        self,
        model,
        n_ctx,
        n_slots=1,
        kv="f16",
        threads=1,
        notice=print,
        adapts=False,
        pages=0,
    ):
        c = self.config = model.config
        self.model, self.n_ctx, self.n_slots, self.threads = model, n_ctx, n_slots, threads
        self.chosen = c.experts.chosen if c.experts else 0  # experts of a token
        self.limits = c.vocab_size, n_ctx, n_slots  # of tokens, positions, slots
        pages = pages or n_slots * (padded(n_ctx, KEYS) // KEYS)
        sizes = Sizes(n_slots, n_ctx, threads, c.vocab_size, CHUNK * self.chosen, pages)
        kept = {i: keeps(c, i) for i in range(c.n_layers)}
        self.program = Recorder(c, sizes, cache_type(kv), kept)
        self.cache = self.program.cache
        ids = self.program.room("ids", 8 * CHUNK * len(IDS))
        logits = record_model(self.program, bind(c, model.tensors), ids)
        self.program.make(total_memory())
        self.cache.begin()
        self.nbytes = self.program.nbytes
        self.code, self.ids = Code(self.kernels(), notice), ids
        self.tuned = tuned(self.code, self.kernels(), notice)
        rows = logits.room.view(np.float32, WANTED_MAX, padded(c.vocab_size, 16))
        self.logit_rows = rows[:, : c.vocab_size]
        self.player, self.close, self.adapts = None, None, adapts
        self.begin()

    def begin(self):
        """Start the threads; close() ends them."""
        self.player = self.players(self.program, self.ids, self.code, self.tuned, self.adapts)
        self.close = weakref.finalize(self, self.player.stop)
        RENEWED.add(self)

    def forked(self):
        """In a child: the threads begin when a pass is played. What the cache holds is there."""
        self.close.detach()  # the parent ends its own
        self.player = None

    def kernels(self):
        """Those of the program and those that play it, each once, by name."""
        found = {record.kernel.name: record.kernel for record in self.program.records}
        found |= {kernel.name: kernel for kernel in ENTRIES}
        return [found[name] for name in sorted(found)]

    def state(self, slot):
        """See Cache.state."""
        return self.cache.state(slot)

    @property
    def stream(self):
        """What the last layer made of the tokens of the last pass: float32 [CHUNK, dim], before the
        norm of the output; a view that the next pass overwrites."""
        dim = self.config.dim
        return self.program.x.room.view(np.float32, CHUNK, padded(dim, GROUP))[:, :dim]

    def __call__(self, tokens, positions, slots, wanted):
        """One pass over at most CHUNK tokens. tokens, positions, slots: ints [n]; wanted: indices
        into them, at most WANTED_MAX. -> logits float32 [len(wanted), vocab_size], a view that the
        next pass overwrites. Where layers keep states, the tokens of a slot stand in their order,
        each once, from position 0 on."""
        n = len(tokens)
        if not 0 < n <= CHUNK or len(wanted) > WANTED_MAX:
            found = f"{n} tokens and {len(wanted)} logits in a pass"
            raise ValueError(f"{found}, expected 1..{CHUNK} and up to {WANTED_MAX}")
        if self.player is None:
            self.begin()
        player = self.player
        limits = *self.limits, n
        given = tokens, positions, slots, wanted
        for name, row, values, limit in zip(self.NAMES, player.ids, given, limits):
            if len(values) and not 0 <= min(values) <= max(values) < limit:
                found = f"{name} {min(values)} to {max(values)}"
                raise ValueError(f"{found}, expected 0 to {limit - 1}")
            row[: len(values)] = values
        player.words[N_TOKENS // 8], player.words[N_WANTED // 8] = n, len(wanted)
        player.words[N_PAIRS // 8] = n * self.chosen
        player.run()
        return self.logit_rows[: len(wanted)]

    def where_not_finite(self):
        """Where in the last pass a number first was none: "layer 3", "embedding" or "output"; None
        if all are finite. Plays it again, record by record: with the same tokens at the same
        places every pass leaves the same keys and values."""
        words, rows, first = self.player.words, self.player.program, 0
        stream = self.stream[: int(words[N_TOKENS // 8])]
        for last in range(len(rows)):
            if rows[last, WAIT // 8]:
                self.player.run(rows[first : last + 1])
                first = last + 1
                if not np.isfinite(stream).all():
                    return self.program.records[last].place
        wanted = int(words[N_WANTED // 8])
        return None if np.isfinite(self.logit_rows[:wanted]).all() else "output"


def cache_bytes(c, kv, n_ctx):
    """Of one sequence: keys and values of so many positions, and states. kv: a type's name."""
    kind = cache_type(kv)
    return sum(part_bytes(part, kind, n_ctx) for i in range(c.n_layers) for part in keeps(c, i))


def has_states(c):
    """Whether some layers keep what cannot be cut to fewer positions."""
    return not all(part.cut for i in range(c.n_layers) for part in keeps(c, i))
