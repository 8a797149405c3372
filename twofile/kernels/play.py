"""The kernel that plays the others, and what threads share and wait for."""

from ..compiler.kernel import inline, kernel
from ..program.operands import (
    FN,
    N_RECORDS,
    PASS_BARRIER,
    PASS_DONE,
    PASS_JOB,
    PASS_OWN,
    PASS_SPINS,
    PASS_STOP,
    PROGRAM,
    RECORD_BYTES,
    TAKEN,
    WAIT,
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

LEAST = 4  # pauses before a thread lets others run, up to PASS_SPINS
IDLE = 10000  # looks for the next pass, some milliseconds, before a worker sleeps

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
def untake(first, last):
    for record in range(first, last, RECORD_BYTES):
        poke(record + TAKEN, 0)


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
def barrier(pas, own, threads, first, last):
    """Wait until all threads are here; what they wrote before is then visible to all. Of records
    from the address first to last nothing is taken then.

    own: address of this thread's patience. It halves when letting others run was what ended the
    wait, because then they share this core, and doubles when the wait was shorter.
    """
    p = pas + PASS_BARRIER
    if threads == 1:
        untake(first, last)
    else:
        round_, spins, patience = atomic_load(p + 64), 0, max(LEAST, peek(own))
        if atomic_add(p, 1) == threads - 1:
            untake(first, last)
            atomic_store(p, 0)
            atomic_store(p + 64, round_ + 1)
            return
        while atomic_load(p + 64) == round_:
            if spins < patience:
                pause()
            else:
                yield_core()
            spins += 1
        if spins <= patience:
            poke(own, min(peek(pas + PASS_SPINS), 2 * patience))
        elif spins == patience + 1:
            poke(own, patience // 2)


@kernel()
def play(program, pas, t, threads):
    """The whole forward: every record in turn, all threads in each."""
    first = program
    for i in range(peek(pas + N_RECORDS)):
        record = program + i * RECORD_BYTES
        call_kernel(peek(record + FN), record, pas, t, threads)
        if peek(record + WAIT) != 0:
            barrier(pas, pas + PASS_OWN + 64 * t + 8, threads, first, record + RECORD_BYTES)
            first = record + RECORD_BYTES
    if t == 0:
        poke(pas + PASS_DONE, atomic_load(pas + PASS_JOB))
    return 0


@kernel()
def post(pas, unused, t, threads):
    """Announce the pass to the workers."""
    return atomic_add(pas + PASS_JOB, 1)


@kernel()
def serve(play_address, pas, t, threads):
    """A worker's life: play each pass that is posted. -> 0 when none has come for a while, 1 when
    told to stop."""
    quiet = 0
    while quiet < IDLE:
        job = atomic_load(pas + PASS_JOB)
        if job == peek(pas + PASS_OWN + 64 * t):
            quiet += 1
            if quiet < peek(pas + PASS_SPINS):
                pause()
            else:
                yield_core()
        else:
            poke(pas + PASS_OWN + 64 * t, job)
            if peek(pas + PASS_STOP) != 0:
                return 1
            call_kernel(play_address, peek(pas + PROGRAM), pas, t, threads)
            quiet = 0
    return 0


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
