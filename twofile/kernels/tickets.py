"""Tickets: who does which share of what is played, and who waits for whom."""

from ..compiler.kernel import inline
from ..program.operands import (
    FN,
    PASS_END,
    PASS_FINISHED,
    PASS_FIRST,
    PASS_GROUP,
    PASS_HELD,
    PASS_OPENER,
    PASS_SINCE,
    PASS_SLEEPERS,
    PASS_SLEPT,
    PASS_SPINS,
    RECORD_BYTES,
    TAKEN,
    WAIT,
)
from ..words.memory import atomic_add, atomic_load, atomic_store, call_kernel, pause, peek, poke
from .wait import OWN_SLEPT, OWN_WALL, WALL, clock, sleep, stopped, wake

# In PASS_GROUP, from the lowest bit: the number of the group, its tickets, those taken.
GROUP_MASK, TICKETS, TAKE = (1 << 40) - 1, 1 << 40, 1 << 52


@inline
def untake(first, last):
    for record in range(first, last, RECORD_BYTES):
        poke(record + TAKEN, 0)


@inline
def tickets_of(state):
    return (state >> 40) & 0xFFF


@inline
def ticket(pas):
    """-> the word of the open group, and which of its tickets this thread has taken; -1: none is
    left, or no group is open."""
    state = atomic_load(pas + PASS_GROUP)
    if (state >> 52) & 0xFFF < tickets_of(state):
        # of whichever group is open by now; of one that has none left nobody counts further
        state = atomic_add(pas + PASS_GROUP, TAKE)
        many, nth = tickets_of(state), (state >> 52) & 0xFFF
        if nth < many:
            return state, (nth + peek(pas + PASS_OPENER)) % many
    return state, -1


@inline
def count_sleep(pas, own, sleepers):
    """So many threads have been waiting for this one."""
    off, now = stopped(pas, own), peek(own + OWN_WALL)
    slept = max(0, now - peek(pas + PASS_SINCE))
    poke(pas + PASS_SINCE, now)
    poke(pas + PASS_SLEPT, peek(pas + PASS_SLEPT) + sleepers * slept)
    poke(pas + PASS_HELD, peek(pas + PASS_HELD) + min(off, slept))


@inline
def done(pas, own, t, first, behind, many):
    """This thread, t, has done one of so many tickets of the records from first to behind. If it is
    the last, nothing of them is taken any more, and the next group is open.
    -> its ticket of that group, or -1."""
    if atomic_add(pas + PASS_FINISHED, 1) < many - 1:
        return -1
    untake(first, behind)
    poke(pas + PASS_FINISHED, 0)
    sleepers = atomic_load(pas + PASS_SLEEPERS)
    if sleepers != 0:
        count_sleep(pas, own, sleepers)
    state = (atomic_load(pas + PASS_GROUP) + 1) & GROUP_MASK
    more = behind != peek(pas + PASS_END)
    if more:
        poke(pas + PASS_FIRST, behind)
        poke(pas + PASS_OPENER, t % many)
        state += many * TICKETS + TAKE  # this thread has the first
    atomic_store(pas + PASS_GROUP, state)
    if atomic_load(pas + PASS_SLEEPERS) != 0:
        wake(pas, pas + PASS_GROUP)
    return t % many if more else -1


@inline
def await_group(pas, own, group):
    """Until another is open, or none: for a moment at work, then asleep."""
    for _ in range(peek(pas + PASS_SPINS)):
        if atomic_load(pas + PASS_GROUP) & GROUP_MASK != group:
            return
        pause()
    since = clock(pas, own, WALL)
    poke(pas + PASS_SINCE, since)
    atomic_add(pas + PASS_SLEEPERS, 1)
    while atomic_load(pas + PASS_GROUP) & GROUP_MASK == group:
        sleep(pas, own, pas + PASS_GROUP, group)
    atomic_add(pas + PASS_SLEEPERS, -1)
    poke(own + OWN_SLEPT, peek(own + OWN_SLEPT) + clock(pas, own, WALL) - since)


@inline
def take_part(pas, own, t):
    """Do tickets of the pass until no group is open. Who is stopped holds up those that wait for
    the tickets that he has; who has none, or never came, nobody."""
    state, mine = ticket(pas)
    many = tickets_of(state)
    while many != 0:
        if mine < 0:
            await_group(pas, own, state & GROUP_MASK)
        else:
            first = record = peek(pas + PASS_FIRST)
            call_kernel(peek(record + FN), record, pas, mine, many)
            while peek(record + WAIT) == 0:
                record += RECORD_BYTES
                call_kernel(peek(record + FN), record, pas, mine, many)
            mine = done(pas, own, t, first, record + RECORD_BYTES, many)
        if mine < 0:
            state, mine = ticket(pas)
            many = tickets_of(state)
