"""How threads sleep until a word changes, and what they know of time."""

from ..compiler.kernel import inline
from ..program.operands import PASS_SYSTEM
from ..program.system import CONDITION, FUTEX, ON_ADDRESS, SYSTEM_WORDS
from ..words.memory import atomic_load, call_c, peek, poke, yield_core

WAY, WAIT_BY, WAKE_BY, LOCK_BY, UNLOCK_BY, LOCK, SIGNAL, CLOCK, WALL, RAN, UNIT = range(
    PASS_SYSTEM, PASS_SYSTEM + 8 * len(SYSTEM_WORDS), 8
)
FUTEX_WAIT, FUTEX_WAKE = 128, 129  # private to this process
LOW, EVERY_ONE, FOR_EVER = (1 << 32) - 1, (1 << 31) - 1, (1 << 32) - 1

# A thread's own words: when it looked at the clocks last, how long it had run by then, how long it
# slept since; where a clock writes.
OWN_WALL, OWN_RAN, OWN_SLEPT, OWN_STAMP = range(0, 32, 8)


@inline
def sleep(pas, own, at, seen):
    """Sleep while the low 32 bits at that address are those of seen. It may end early."""
    way = peek(pas + WAY)
    if way == FUTEX:
        call_c(peek(pas + WAIT_BY), peek(pas + WAKE_BY), at, FUTEX_WAIT, seen & LOW, 0)
    elif way == ON_ADDRESS:
        poke(own + OWN_STAMP, seen)
        call_c(peek(pas + WAIT_BY), at, own + OWN_STAMP, 4, FOR_EVER, 0)
    elif way == CONDITION:
        lock = peek(pas + LOCK)
        call_c(peek(pas + LOCK_BY), lock, 0, 0, 0, 0)
        if (atomic_load(at) ^ seen) & LOW == 0:
            call_c(peek(pas + WAIT_BY), peek(pas + SIGNAL), lock, 0, 0, 0)
        call_c(peek(pas + UNLOCK_BY), lock, 0, 0, 0, 0)
    else:
        yield_core()


@inline
def wake(pas, at):
    """Whoever sleeps for the sake of that address."""
    way = peek(pas + WAY)
    if way == FUTEX:
        call_c(peek(pas + WAIT_BY), peek(pas + WAKE_BY), at, FUTEX_WAKE, EVERY_ONE, 0)
    elif way == ON_ADDRESS:
        call_c(peek(pas + WAKE_BY), at, 0, 0, 0, 0)
    elif way == CONDITION:
        lock = peek(pas + LOCK)
        call_c(peek(pas + LOCK_BY), lock, 0, 0, 0, 0)
        call_c(peek(pas + WAKE_BY), peek(pas + SIGNAL), 0, 0, 0, 0)
        call_c(peek(pas + UNLOCK_BY), lock, 0, 0, 0, 0)


@inline
def clock(pas, own, which):
    """Nanoseconds by one of the clocks: WALL, or RAN, this thread's time on a processor."""
    stamp, kind = own + OWN_STAMP, peek(pas + which)
    call_c(peek(pas + CLOCK), kind if kind >= 0 else stamp, stamp, 0, 0, 0)
    return peek(stamp) * peek(pas + UNIT) + peek(stamp + 8)


@inline
def stopped(pas, own):
    """For how many nanoseconds this thread was off the processor, but for its sleep, since it asked
    last; where that cannot be known, how many have passed."""
    wall, ran = clock(pas, own, WALL), 0
    if peek(pas + RAN) >= 0:
        ran = clock(pas, own, RAN)
    off = wall - peek(own + OWN_WALL) - (ran - peek(own + OWN_RAN)) - peek(own + OWN_SLEPT)
    poke(own + OWN_WALL, wall)
    poke(own + OWN_RAN, ran)
    poke(own + OWN_SLEPT, 0)
    return max(0, off)
