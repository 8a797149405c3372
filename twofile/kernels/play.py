"""The kernel that plays the others, and how threads share their work."""

from ..compiler.kernel import inline, kernel
from ..program.operands import (
    FN,
    IS_FREE,
    IS_NOT,
    N_RECORDS,
    PASS_AT,
    PASS_CALL,
    PASS_END,
    PASS_FIRST,
    PASS_FOUND,
    PASS_GROUP,
    PASS_HELD,
    PASS_OPENER,
    PASS_OWN,
    PASS_RESTING,
    PASS_SLEPT,
    PASS_SPINS,
    PASS_STOP,
    PASS_TOOK,
    PASS_TRY,
    PASS_USE,
    PASS_WORKERS,
    RECORD_BYTES,
    TAKEN,
    Flat,
    Number,
    operands,
)
from ..words.memory import (
    atomic_add,
    atomic_load,
    atomic_store,
    call_kernel,
    loads_f32,
    pause,
    peek,
    poke,
    stores,
    yield_core,
)
from ..words.numbers import add, zeros4
from .tickets import GROUP_MASK, TICKETS, take_part, tickets_of
from .wait import OWN_WALL, WALL, clock, sleep, stopped, wake

IDLE = 10000  # looks for the next pass, some milliseconds, before a worker rests
TRIAL, GAP = 10_000_000, 300_000  # nanoseconds that a core must be free for; that tell it is not

SWEEP = operands(
    "Read nbytes at x as fast as can be; out takes their sum, so that it is not left out.",
    x=Flat(lambda r: r.nbytes),
    out=Flat(lambda r: 256 * r.threads, writes=True),
    nbytes=Number("a multiple of 256"),
)


@inline
def share(n, t, threads):
    return n * t // threads, n * (t + 1) // threads


@inline
def piece(n, threads):
    """How much of n a thread takes at a time by atomic_add(record + TAKEN, ...): a thread that is
    held up keeps the others waiting for no more than that."""
    return max(1, n // (8 * threads))


@inline
def taken(record, many, n):
    """-> [first, last) of the next so many of n that this thread does; empty if none are left."""
    first = atomic_add(record + TAKEN, many)
    return first, min(first + many, n)


@inline
def after(record, i, last, many, n):
    """-> the next after i, and the last of what was taken: as of taken, if i was its last."""
    if i + 1 < last:
        return i + 1, last
    return taken(record, many, n)


@inline
def alone(program, end, pas):
    for record in range(program, end, RECORD_BYTES):
        call_kernel(peek(record + FN), record, pas, 0, 1)
        poke(record + TAKEN, 0)


@inline
def call(pas):
    """Call the threads that rest."""
    atomic_add(pas + PASS_CALL, 1)
    wake(pas, pas + PASS_CALL)


@kernel()
def play(program, pas, use, threads):
    """The whole forward: every record in turn, in so many shares; of the threads that do them the
    first so many are called to come. The last record must wait."""
    end = program + peek(pas + N_RECORDS) * RECORD_BYTES
    workers, own = peek(pas + PASS_WORKERS), pas + PASS_OWN
    if workers == 0:
        alone(program, end, pas)
        return 0
    atomic_store(pas + PASS_USE, use)
    stopped(pas, own)
    began = peek(own + OWN_WALL)
    poke(pas + PASS_HELD, 0)
    poke(pas + PASS_SLEPT, 0)
    if threads == 1:
        alone(program, end, pas)
        poke(pas + PASS_HELD, stopped(pas, own))
    else:
        poke(pas + PASS_FIRST, program)
        poke(pas + PASS_END, end)
        poke(pas + PASS_OPENER, 0)
        group = (atomic_load(pas + PASS_GROUP) + 1) & GROUP_MASK
        atomic_store(pas + PASS_GROUP, group + threads * TICKETS)
        if atomic_load(pas + PASS_RESTING) > workers + 1 - use:
            call(pas)
        take_part(pas, own, 0)
    ended = clock(pas, own, WALL)
    poke(pas + PASS_TOOK, ended - began)
    poke(pas + PASS_AT, ended)
    return 0


@kernel()
def rouse(unused, pas, t, threads):
    """Call the threads that rest, to a trial or to their end."""
    call(pas)
    return 0


@inline
def is_free(pas, own):
    """Whether this thread's core is free: it is left to it for long enough."""
    last = clock(pas, own, WALL)
    end = last + TRIAL
    while last < end:
        for _ in range(64):
            pause()
        now = clock(pas, own, WALL)
        if now - last > GAP or atomic_load(pas + PASS_STOP) != 0:
            return False
        last = now
    return True


@kernel()
def serve(unused, pas, t, threads):
    """A worker's life: part of each pass that is open, while it is one of the threads to take part;
    rest until a call when none has come for a while. -> when told to stop."""
    own, quiet = pas + PASS_OWN + 64 * t, 0
    while True:
        called = atomic_load(pas + PASS_CALL)
        if atomic_load(pas + PASS_STOP) != 0:
            return 0
        wanted = t < atomic_load(pas + PASS_USE)
        if wanted and tickets_of(atomic_load(pas + PASS_GROUP)) != 0:
            take_part(pas, own, t)
            stopped(pas, own)
            quiet = 0
        elif wanted and quiet < IDLE:
            quiet += 1
            if quiet < peek(pas + PASS_SPINS):
                pause()
            else:
                yield_core()
        else:
            if atomic_load(pas + PASS_TRY) == t:
                atomic_store(pas + PASS_TRY, 0)
                atomic_store(pas + PASS_FOUND, IS_FREE if is_free(pas, own) else IS_NOT)
            atomic_add(pas + PASS_RESTING, 1)
            while atomic_load(pas + PASS_CALL) == called:
                sleep(pas, own, pas + PASS_CALL, called)
            atomic_add(pas + PASS_RESTING, -1)
            stopped(pas, own)
            quiet = 0


@kernel()
def rest(pauses, unused, t, threads):
    """Do nothing so many times, to see how long it takes."""
    for _ in range(pauses):
        pause()
    return 0


@kernel(SWEEP)
def sweep(record, pas, t, threads):
    first, last = share(peek(record + SWEEP.nbytes) // 256, t, threads)
    acc = zeros4()
    for at in range(peek(record + SWEEP.x) + 256 * first, peek(record + SWEEP.x) + 256 * last, 256):
        acc = add(acc, loads_f32(acc, at, 64))
    stores(peek(record + SWEEP.out) + 256 * t, 64, acc)
    return 0
